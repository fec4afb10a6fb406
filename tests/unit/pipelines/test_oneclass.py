"""s_P: what a Gaussian of good processes finds, on which scale, and what a noisy sensor changes."""

import dataclasses

import numpy as np
import pytest

from pipelines.normaliser import Process
from pipelines.oneclass import ProcessOneClass, fit_process

TOKENS, N, SESSIONS = 60, 80, 8
LEVELS, WAVES, AUDIO = 11, 12, 4
NOISE_A = 0.5


def process(rng: np.random.Generator, step: float = 0.0, at: int = 30, level: float = 0.0, **seen: float) -> Process:
    """Seams differ by their own level; `step` is added to one figure of a waveform from token `at` on.

    `seen`: hiss, added to every finely sampled figure; sound, added to all of the microphone's.
    """
    levels, waves, audio = (
        rng.standard_normal(d) + 0.3 * rng.standard_normal((TOKENS, d)) for d in (LEVELS, WAVES, AUDIO)
    )
    levels += level
    waves += level + seen.get("hiss", 0.0)
    levels[at:, 3] += step
    waves[at:, 3] += step
    audio += seen.get("sound", 0.0)
    nothing, known = np.zeros(TOKENS, np.bool_), np.ones(TOKENS, np.bool_)
    tables = {"levels": (levels.astype(np.float32), known), "waves": (waves.astype(np.float32), known)}
    tables["places"] = (np.zeros((TOKENS, 3), np.float32), nothing)
    noise_a = NOISE_A * (1 + 0.1 * rng.random()) * (20.0 if seen.get("hiss") else 1.0)
    steps, video = np.zeros((10 * TOKENS, 8), np.float32), np.zeros((TOKENS, 4), np.float32)
    return Process(steps, video, nothing, audio.astype(np.float32), known, tables, noise_a)


@pytest.fixture(scope="module")
def fitted() -> ProcessOneClass:
    rng = np.random.default_rng(0)
    goods = [process(rng) for _ in range(N)]
    found, signals = fit_process(goods, np.zeros(N, np.int64), np.arange(N) * SESSIONS // N, 1)
    there = [z for z in signals.values() if not np.isnan(z).all()]
    assert {key for key, z in signals.items() if not np.isnan(z).all()} == {*WAVEFORM, "audio.change_1s"}
    assert all(abs(np.median(z)) < 0.2 for z in there)  # standardised on these very goods
    return found


WAVEFORM = {f"waveform.{s}" for s in ("seam", "window_3s", "window_05s", "tail", "change_1s")}


def mean_z(fitted: ProcessOneClass, n: int = 8, **fault: float) -> dict[str, float]:
    rng = np.random.default_rng(1)
    found = [fitted.score(process(rng, **fault), 0)[0] for _ in range(n)]  # type: ignore[arg-type]
    return {key: float(np.mean([z[key] for z in found])) for key in found[0]}


def test_a_step_in_mid_seam_is_found_as_a_change_and_not_by_the_levels(fitted: ProcessOneClass) -> None:
    """Half of what seams differ by anyway: no level is odd, its moving is."""
    found, good = mean_z(fitted, step=0.7), mean_z(fitted)
    assert abs(good["waveform.change_1s"]) < 1.0
    assert found["waveform.change_1s"] > 3.0
    assert found["waveform.seam"] < 2.0
    assert found["waveform.change_1s"] > max(z for key, z in found.items() if "change" not in key) + 1.5


def test_another_level_of_the_whole_seam_is_no_change(fitted: ProcessOneClass) -> None:
    found = mean_z(fitted, level=3.0)
    assert found["waveform.seam"] > 3.0
    assert abs(found["waveform.change_1s"] - mean_z(fitted)["waveform.change_1s"]) < 0.5


def test_a_step_at_the_very_end_belongs_to_the_tail(fitted: ProcessOneClass) -> None:
    at_end = mean_z(fitted, step=15.0, at=56)
    assert at_end["waveform.change_1s"] < 1.0
    assert at_end["waveform.tail"] > 3.0


def test_another_level_of_sound_is_no_fault_of_the_weld(fitted: ProcessOneClass) -> None:
    """A microphone that stands elsewhere; the score asks sound for its changes only."""
    found, good = mean_z(fitted, sound=5.0), mean_z(fitted)
    assert found.keys() == good.keys()
    assert all(abs(found[key] - good[key]) < 0.01 for key in found)


def test_a_noisy_current_is_judged_by_its_levels(fitted: ProcessOneClass) -> None:
    noisy, good = mean_z(fitted, hiss=8.0), mean_z(fitted)
    assert {key.partition(".")[0] for key in noisy} == {"levels", "audio"}
    assert all(abs(z) < 1.0 for z in noisy.values())
    assert {key.partition(".")[0] for key in good} == {"waveform", "audio"}
    quiet = process(np.random.default_rng(5), hiss=8.0)
    trusted = fitted.score(dataclasses.replace(quiet, noise_a=NOISE_A), 0)[0]
    assert trusted["waveform.seam"] > 5.0  # what the noise would have been taken for
    assert mean_z(fitted, hiss=8.0, level=3.0)["levels.seam"] > 3.0  # and a fault is still seen


def test_a_slow_log_is_judged_by_its_levels(fitted: ProcessOneClass) -> None:
    fine = process(np.random.default_rng(6))
    waves = fine.tables["waves"][0]
    slow = dataclasses.replace(
        fine, tables={**fine.tables, "waves": (waves, np.zeros(TOKENS, np.bool_))}, noise_a=None
    )
    assert {key.partition(".")[0] for key in fitted.score(slow, 0)[0]} == {"levels", "audio"}


def test_a_short_seam_has_no_change(fitted: ProcessOneClass) -> None:
    whole = process(np.random.default_rng(2))
    short = Process(
        whole.steps[:250],
        *(part[:25] for part in (whole.video, whole.video_known, whole.audio, whole.audio_known)),
        {name: (values[:25], known[:25]) for name, (values, known) in whole.tables.items()},
    )
    found, live = fitted.score(short, 0)
    assert "waveform.change_1s" not in found
    assert {"waveform.seam", "waveform.window_3s"} <= found.keys()
    assert live.shape == (25,)


def test_the_live_score_shows_when(fitted: ProcessOneClass) -> None:
    bad = process(np.random.default_rng(3), step=8.0, at=40)
    live = fitted.score(bad, 0)[1]
    assert live[44:].min() > live[4:40].max()


def test_it_survives_the_disk(fitted: ProcessOneClass) -> None:
    again = ProcessOneClass.from_tensors(fitted.tensors())
    for bad in (process(np.random.default_rng(4), step=1.0), process(np.random.default_rng(4), hiss=8.0)):
        assert again.score(bad, 0)[0] == fitted.score(bad, 0)[0]
    assert again.parts.keys() == fitted.parts.keys()


def test_without_a_told_noise_the_waveform_is_trusted_and_the_model_is_finite() -> None:
    rng = np.random.default_rng(0)
    goods = [dataclasses.replace(process(rng), noise_a=None) for _ in range(N)]
    found, _ = fit_process(goods, np.zeros(N, np.int64), np.arange(N) * SESSIONS // N, 1)
    assert all(np.isfinite(value).all() for value in found.tensors().values())
    assert "waveform.seam" in found.score(process(rng, hiss=8.0), 0)[0]
