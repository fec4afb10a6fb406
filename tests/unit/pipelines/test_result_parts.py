"""One kind of result with its own skip path, distances and mismatch: on the disk and back, and only where it is."""

import numpy as np
import pytest

from pipelines.result_parts import ResultPart, fit_part, fit_told
from pipelines.skip import MODES

N, Q, K, D, PROGRAMS = 96, 56, 10, 8, 2
PLACE = (28, 56)
DIRECTION = np.random.default_rng(5).standard_normal(K)


def law(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summaries, rows (n, Q, K) of which the second half follows the process, programs."""
    rng = np.random.default_rng(seed)
    cause = rng.standard_normal(n)
    summaries = rng.standard_normal((n, MODES, D))
    summaries[:, 0, 0] = cause
    rows = rng.standard_normal((n, Q, K))
    rows[:, 36:48] += cause[:, None, None] * DIRECTION
    return summaries, rows.astype(np.float32), np.arange(n) % PROGRAMS


@pytest.fixture(scope="module")
def fitted() -> ResultPart:
    summaries, rows, program = law(N, 0)
    groups = np.arange(N) * 12 // N
    known = np.ones((N, Q), np.bool_)
    own = rows[:, PLACE[0] : PLACE[1]]
    skip, told, blind = fit_told(summaries, own, program, groups, PROGRAMS)
    assert told.shape == own.shape
    predicted = np.zeros_like(rows)
    predicted[:, PLACE[0] : PLACE[1]] = told
    found = fit_part(PLACE, skip, blind, rows, known, rows, predicted, program, groups, PROGRAMS)
    assert found.explained[0, 0] > 0.3  # what the process tells
    assert set(found.evidence) == set(range(N))
    return found.part


def asked(part: ResultPart, summary: np.ndarray, rows: np.ndarray, known: np.ndarray) -> object:
    predicted = np.zeros((Q, K))
    predicted[part.rows] = part.skip.predict(summary, 0)
    return part.score(rows.astype(np.float64), known, rows.astype(np.float64), predicted, 0)


def test_tensors_survive_the_disk(fitted: ResultPart) -> None:
    again = ResultPart.from_tensors(fitted.tensors())
    assert (again.first, again.last, again.rows) == (*PLACE, slice(*PLACE))
    summaries, rows, _ = law(3, 7)
    known = np.ones(Q, np.bool_)
    for i in range(3):
        was, now = (asked(part, summaries[i], rows[i], known) for part in (fitted, again))
        assert was is not None
        assert (was.s_r, was.s_rp) == (now.s_r, now.s_rp)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(was.distance, now.distance)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(was.residual, now.residual)  # type: ignore[attr-defined]
    # The model file is float32.
    narrow = ResultPart.from_tensors({k: v.astype(np.float32) for k, v in fitted.tensors().items()})
    stored = asked(narrow, summaries[0], rows[0], known)
    assert stored.s_r == pytest.approx(asked(fitted, summaries[0], rows[0], known).s_r, abs=1e-3)  # type: ignore[attr-defined]


def test_a_seam_without_this_kind_has_nothing_to_say(fitted: ResultPart) -> None:
    summaries, rows, _ = law(1, 8)
    known = np.ones(Q, np.bool_)
    known[PLACE[0] :] = False
    assert asked(fitted, summaries[0], rows[0], known) is None


def test_rows_of_another_kind_do_not_count(fitted: ResultPart) -> None:
    summaries, rows, _ = law(1, 9)
    other = rows.copy()
    other[:, : PLACE[0]] += 100.0
    known = np.ones(Q, np.bool_)
    was, now = (asked(fitted, summaries[0], r[0], known) for r in (rows, other))
    assert was.s_r == now.s_r  # type: ignore[attr-defined]
    assert was.s_rp == now.s_rp  # type: ignore[attr-defined]


def test_a_result_of_another_process_shows_in_its_residual(fitted: ResultPart) -> None:
    summaries, rows, _ = law(40, 10)
    known = np.ones(Q, np.bool_)
    own = [asked(fitted, summaries[i], rows[i], known).s_rp["residual"] for i in range(40)]  # type: ignore[attr-defined]
    swapped = [asked(fitted, summaries[i], rows[(i + 2) % 40], known).s_rp["residual"] for i in range(40)]  # type: ignore[attr-defined]
    assert np.mean(swapped) > np.mean(own) + 0.8
