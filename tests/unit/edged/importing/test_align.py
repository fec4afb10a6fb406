"""Offsets that were put into synthetic runs are found again, through noise, hiss, spikes and missing ends."""

import numpy as np
import pytest

from edged.importing.align import (
    AlignError,
    Span,
    align_light,
    align_sound,
    current_span,
    light_span,
    sound_span,
)
from tests.support.weld_dataset import HEADER_HZ, SOUND_HZ, VIDEO_HZ, Run, light, log_text, sound

LOG_STEP_S = 0.2
EDGE_S = 0.06
"""Half the smoother of the sound's features and a frame; below the log's own step."""


def log_span(run: Run) -> Span:
    rows = [line.split(",") for line in log_text(run).splitlines()[1:]]
    seconds = [sum(float(x) * f for x, f in zip(r[1].split(":"), (3600, 60, 1), strict=True)) for r in rows]
    t_s = np.array(seconds) - seconds[0]
    return current_span(t_s, np.array([float(row[6]) for row in rows]))


@pytest.mark.parametrize("seed", range(4))
def test_the_current_gives_the_arc_within_a_row(seed: int) -> None:
    span = log_span(Run(seed=seed))
    assert span.on_s == pytest.approx(6.0, abs=LOG_STEP_S)
    assert span.off_s == pytest.approx(20.0, abs=LOG_STEP_S)


@pytest.mark.parametrize("hiss", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("lead_s", [0.7, 1.9])
def test_hiss_as_loud_as_the_arc_does_not_move_arc_on(hiss: float, lead_s: float) -> None:
    run = Run(hiss=hiss, sound_lead_s=lead_s, seed=round(10 * hiss))
    span = sound_span(sound(run), SOUND_HZ, 14.05)
    assert span.on_s == pytest.approx(6.0 - lead_s, abs=EDGE_S)
    assert span.off_s == pytest.approx(20.0 - lead_s, abs=EDGE_S)


def test_plain_energy_is_fooled_by_that_hiss() -> None:
    run = Run(hiss=4.0)
    energy = (sound(run).astype(float).reshape(-1, 160) ** 2).mean(axis=1)
    first = np.flatnonzero(energy > np.percentile(energy, 95) / 4)
    assert (first[first > 200][0]) * 0.01 < 6.0 - run.sound_lead_s - 0.5


@pytest.mark.parametrize("hiss", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("end_s", [12.0, 17.0])
def test_sound_that_ends_within_the_arc_is_aligned_on_arc_on_alone(end_s: float, hiss: float) -> None:
    run = Run(sound_s=end_s, hiss=hiss, seed=5)
    span = sound_span(sound(run), SOUND_HZ, 14.0)
    assert span.on_s == pytest.approx(6.0 - run.sound_lead_s, abs=EDGE_S)
    assert span.off_s is None
    alignment = align_sound(Span(6.0, 20.0), span, SOUND_HZ)
    assert alignment.truncated
    assert alignment.residual_ms is None
    assert alignment.lead_s == pytest.approx(run.sound_lead_s, abs=EDGE_S)


@pytest.mark.parametrize("seed", range(3))
def test_sound_comes_to_lie_on_the_log(seed: int) -> None:
    run = Run(seed=seed, hiss=2.0, arc_s=9.0 + 6 * seed)
    log = log_span(run)
    assert log.off_s is not None
    alignment = align_sound(log, sound_span(sound(run), SOUND_HZ, log.off_s - log.on_s), SOUND_HZ)
    assert alignment.start_s == pytest.approx(run.sound_lead_s, abs=LOG_STEP_S / 2 + EDGE_S)
    assert alignment.residual_ms is not None
    assert abs(alignment.residual_ms) < 250


def test_sound_without_an_arc_is_refused() -> None:
    noise = np.random.default_rng(0).normal(0, 100, SOUND_HZ * 25).astype(np.int16)
    with pytest.raises(AlignError, match="stands out"):
        sound_span(noise, SOUND_HZ, 14.0)
    with pytest.raises(AlignError, match="too short"):
        sound_span(noise[:SOUND_HZ], SOUND_HZ, 14.0)


def test_the_video_rate_is_fitted_and_the_header_s_is_not_believed() -> None:
    run = Run()
    alignment = align_light(Span(6.0, 20.0), light_span(light(run)), HEADER_HZ, 29.8)
    assert alignment.rate_hz == pytest.approx(VIDEO_HZ, rel=0.005)
    assert alignment.start_s == pytest.approx(run.video_lead_s, abs=0.05)
    assert alignment.residual_ms == pytest.approx((14 * VIDEO_HZ / HEADER_HZ - 14) * 1e3, abs=60)


def test_a_video_that_ends_within_the_arc_gets_the_typical_rate() -> None:
    run = Run()
    alignment = align_light(Span(6.0, 20.0), light_span(light(run)[:400]), HEADER_HZ, 29.8)
    assert alignment.truncated
    assert alignment.rate_hz == 29.8
    assert alignment.start_s == pytest.approx(run.video_lead_s, abs=0.05)


def test_light_that_is_no_arc_is_refused() -> None:
    with pytest.raises(AlignError, match="no arc light"):
        light_span(np.full(500, 30.0))
    with pytest.raises(AlignError, match="begins within"):
        light_span(light(Run())[300:])
    with pytest.raises(AlignError, match="fps and not about"):
        align_light(Span(6.0, 20.0), Span(100.0, 200.0), HEADER_HZ, 29.8)


def test_restrikes_are_one_seam_and_a_dead_log_is_refused() -> None:
    t_s = np.arange(100) / 9
    current = np.where((t_s > 2) & (t_s < 8), 150.0, 0.0)
    current[40:44] = 0.0
    span = current_span(t_s, current)
    assert span.off_s == pytest.approx(8, abs=0.12)
    with pytest.raises(AlignError, match="no current"):
        current_span(t_s, np.zeros(100))
    with pytest.raises(AlignError, match="cut off"):
        current_span(t_s, np.full(100, 150.0))
