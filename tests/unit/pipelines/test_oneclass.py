"""s_P: what a Gaussian of good processes finds, and on which scale."""

import numpy as np
import pytest

from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.normaliser import Process
from pipelines.oneclass import ProcessOneClass, fit_process

TOKENS, N, SESSIONS = 60, 80, 8
S = len(SENSOR_FEATURES)


def process(rng: np.random.Generator, step: float = 0.0, at: int = 30, level: float = 0.0) -> Process:
    """Seams differ by their own level; `step` is added to one feature from token `at` on."""
    values = rng.standard_normal(S) + level + 0.3 * rng.standard_normal((10 * TOKENS, S))
    values[10 * at :, 3] += step
    steps = np.concatenate([values, np.ones_like(values)], axis=1).astype(np.float32)
    nothing = np.zeros(TOKENS, np.bool_)
    return Process(steps, np.zeros((TOKENS, 4), np.float32), nothing, np.zeros((TOKENS, 4), np.float32), nothing)


@pytest.fixture(scope="module")
def fitted() -> ProcessOneClass:
    rng = np.random.default_rng(0)
    goods = [process(rng) for _ in range(N)]
    found, signals = fit_process(goods, np.zeros(N, np.int64), np.arange(N) * SESSIONS // N, 1)
    assert set(signals) == set(found.parts)
    assert all(abs(np.nanmedian(z)) < 0.2 for z in signals.values())  # standardised on these very goods
    return found


def mean_z(fitted: ProcessOneClass, n: int = 8, **fault: float) -> dict[str, float]:
    rng = np.random.default_rng(1)
    found = [fitted.score(process(rng, **fault), 0)[0] for _ in range(n)]  # type: ignore[arg-type]
    return {key: float(np.mean([z[key] for z in found])) for key in found[0]}


def test_a_step_in_mid_seam_is_found_as_a_change_and_not_by_the_levels(fitted: ProcessOneClass) -> None:
    """Half of what seams differ by anyway: no level is odd, its moving is."""
    found, good = mean_z(fitted, step=0.7), mean_z(fitted)
    assert abs(good["sensor.change_1s"]) < 1.0
    assert found["sensor.change_1s"] > 4.0
    assert found["sensor.seam"] < 2.0
    assert found["sensor.change_1s"] > max(z for key, z in found.items() if "change" not in key) + 2.0


def test_another_level_of_the_whole_seam_is_no_change(fitted: ProcessOneClass) -> None:
    found = mean_z(fitted, level=3.0)
    assert found["sensor.seam"] > 3.0
    assert abs(found["sensor.change_1s"] - mean_z(fitted)["sensor.change_1s"]) < 0.5


def test_a_step_at_the_very_ends_belongs_to_head_and_tail(fitted: ProcessOneClass) -> None:
    at_end = mean_z(fitted, step=15.0, at=56)
    assert at_end["sensor.change_1s"] < 1.0
    assert at_end["sensor.tail"] > 3.0
    assert at_end["sensor.head"] < 1.0


def test_a_short_seam_has_no_change(fitted: ProcessOneClass) -> None:
    whole = process(np.random.default_rng(2))
    short = Process(
        whole.steps[:250], *(part[:25] for part in (whole.video, whole.video_known, whole.audio, whole.audio_known))
    )
    found, live = fitted.score(short, 0)
    assert "sensor.change_1s" not in found
    assert {"sensor.seam", "sensor.window_2s"} <= found.keys()
    assert live.shape == (25,)


def test_the_live_score_shows_when(fitted: ProcessOneClass) -> None:
    bad = process(np.random.default_rng(3), step=8.0, at=40)
    live = fitted.score(bad, 0)[1]
    assert live[44:].min() > live[4:40].max()


def test_it_survives_the_disk(fitted: ProcessOneClass) -> None:
    again = ProcessOneClass.from_tensors(fitted.tensors())
    bad = process(np.random.default_rng(4), step=1.0)
    assert again.score(bad, 0)[0] == fitted.score(bad, 0)[0]
    assert set(again.parts) == {
        f"sensor.{s}" for s in ("seam", "window_2s", "window_05s", "head", "tail", "change_1s")
    }
