"""What goods of a known law teach of the way from process to result, and what a swapped result then looks like."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipelines.features.geometry import GeoMap
from pipelines.features.result import ResultMap
from pipelines.mismatch import Mismatch, fit_mismatch
from pipelines.patches import PatchOneClass, fit_patches
from pipelines.skip import MODES, Skip, fit_skip
from tests.support.law_seams import law_seam

N, ROWS, K, D = 240, 28, 16, 12
DIRECTION = np.random.default_rng(1).standard_normal(K)


def seams(n: int = N, seed: int = 0, follows: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Summaries, rows, programs, sessions; rows 8 to 19 follow the first number of the summary."""
    rng = np.random.default_rng(seed)
    cause = rng.standard_normal(n)
    summaries = rng.standard_normal((n, MODES, D))
    summaries[:, 0, 0] = 5 + cause
    rows = 0.5 * rng.standard_normal((n, 1, K)) + rng.standard_normal((n, ROWS, K))
    rows[:, 8:20] += follows * (0.5 * cause + 0.2 * rng.standard_normal(n))[:, None, None] * DIRECTION
    return summaries, rows, np.arange(n) % 2, np.arange(n) * 12 // n


def fitted() -> Skip:
    return fit_skip(*seams(), 2)


def test_the_skip_path_finds_the_rows_and_the_direction() -> None:
    skip = fitted()
    assert skip.correlation[0, 0] > 0.8
    share = skip.along[:, 0]
    assert (share[:, 9:19].min(1) > 3 * share[:, :6].max(1)).all()
    summaries, rows, program, _ = seams(seed=1)
    told = np.stack([skip.predict(s, p) for s, p in zip(summaries, program, strict=True)])
    shown, told_there = rows[:, 10:18] @ DIRECTION, told[:, 10:18] @ DIRECTION
    assert np.corrcoef(shown.mean(1), told_there.mean(1))[0, 1] > 0.8


def test_nothing_is_told_where_there_is_nothing_to_tell() -> None:
    skip = fit_skip(*seams(follows=0.0), 2)
    assert (skip.correlation < 0.25).all()


def test_a_swapped_result_shows_in_the_mismatch() -> None:
    skip = fitted()
    summaries, rows, program, _ = seams(seed=1)
    told = np.stack([skip.predict(s, p) for s, p in zip(summaries, program, strict=True)])
    mismatch, explained, _ = fit_mismatch(
        skip, [skip] * 120, rows[:120], told[:120], program[:120], np.arange(120) // 10, 2
    )
    assert explained[0, 0] > 0.6
    again = Mismatch.from_tensors(mismatch.tensors())
    own = [again.score(Skip.from_tensors(skip.tensors()), rows[i], told[i], i % 2)[0] for i in range(120, N)]
    swapped = [mismatch.score(skip, rows[i - 2], told[i], i % 2)[0] for i in range(122, N)]
    for figure, least in (("residual", 0.7), ("mismatch", 0.75)):
        values = [s[figure] for s in (*own, *swapped)]
        assert roc_auc_score([0] * len(own) + [1] * len(swapped), values) > least


def test_a_mark_shows_in_the_patches_and_the_light_of_the_day_does_not() -> None:
    rng = np.random.default_rng(4)
    goods = [law_seam(rng, i) for i in range(60)]
    program, sessions = np.zeros(60, np.int64), np.arange(60) // 6
    patches, _ = fit_patches([g.views for g in goods], program, sessions, 1)
    patches = PatchOneClass.from_tensors(patches.tensors())
    fresh = [law_seam(rng, i) for i in range(15)]
    brighter = [law_seam(rng, i, shown_heat=6.0) for i in range(15)]
    marked = [law_seam(rng, i, spot=1.5) for i in range(15)]
    z = [np.mean([patches.score(s.views, 0)["top.fine"] for s in group]) for group in (fresh, brighter, marked)]
    assert abs(z[0]) < 1.5
    assert abs(z[1] - z[0]) < 1.0
    assert z[2] > z[0] + 3


@pytest.mark.parametrize("kind", ["light", "slopes"])
def test_a_film_of_oil_shows_in_the_light_and_a_scratch_in_the_slopes(kind: str) -> None:
    rng = np.random.default_rng(5)

    def seam(mark: float) -> dict[str, ResultMap | GeoMap]:
        """Photograph or scan whose maps of lite0 show nothing."""
        top = law_seam(rng, 0).views["top"]
        pixels = 0.5 + 0.02 * rng.standard_normal((112, 112, 3))
        if kind == "light":
            pixels[40:46, 50:53] *= 1 - mark
            return {"top": dataclasses.replace(top, profile=pixels.astype(np.float16))}
        pixels[56:58, 20:80, 1] += mark
        return {"scan": GeoMap(top.fine, top.coarse, pixels.astype(np.float16), np.ones((14, 28), np.bool_))}

    name = "top" if kind == "light" else "scan"
    patches, _ = fit_patches([seam(0.0) for _ in range(40)], np.zeros(40, np.int64), np.arange(40) // 5, 1)
    good, bad = (PatchOneClass.from_tensors(patches.tensors()).score(seam(mark), 0) for mark in (0.0, 0.2))
    assert bad[f"{name}.{kind}"] > good[f"{name}.{kind}"] + 3
    assert bad[f"{name}.fine"] < 3
