"""Frames of the arc camera: integrated arc power row by row; gain, bloom, cover glass; twins share frames."""

import dataclasses
import functools
import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.sim.arc import ARC_HZ, ArcTrace, simulate_arc
from drivers.sim.arc_camera import (
    EXPOSURE_MS,
    EXPOSURE_S,
    GAIN_RANGE,
    READOUT_S,
    exposed_power,
    frame_starts_s,
    next_gain,
    render_frames,
)
from drivers.sim.arc_draw import bloom
from drivers.sim.arc_scene import ROOT_WANDER_MM, SPATTER_BASE, Scene
from drivers.sim.arc_stage import BLACK_COUNTS, NOISE_COUNTS, SEAMS_A_SESSION, cover_glass, glass_spots
from drivers.sim.faults import FAULTS, apply_fault, fault_of
from drivers.sim.programs import PROGRAMS
from drivers.sim.seam import IMAGE_PRESETS, ImagePreset
from drivers.sim.sessions import Session, session_named
from drivers.sim.variation import Latents, draw_latents

SMALL = IMAGE_PRESETS["small"]
TINY = ImagePreset(arc_px=(60, 96), view_px=SMALL.view_px, arc_fps=SMALL.arc_fps, jpeg_quality=95)
SESSION = dataclasses.replace(session_named("session-01"), lens_spots=3)
LEAD_S, TAIL_S = 0.8, 0.5
ONSET_S = 1.5
SEED = 6


def state_of(program: str, fault: str | None = None) -> Latents:
    state = draw_latents(PROGRAMS[program], SESSION, SEED)
    if fault is not None:
        apply_fault(state, fault_of(fault, 5, ONSET_S, ONSET_S + (FAULTS[fault].extent_s or 20.0)), PROGRAMS[program])
    return state


@functools.cache
def trace_of(program: str, fault: str | None = None) -> ArcTrace:
    return simulate_arc(PROGRAMS[program], SESSION, state_of(program, fault), SEED)


def steady(power_w: NDArray[np.float64] | float) -> ArcTrace:
    """A spray arc of that power that never shorts."""
    trace = trace_of("spray-lap-5")
    none = np.zeros(0)
    return dataclasses.replace(
        trace,
        power_w=np.ones(len(trace.power_w)) * power_w,
        shorted=np.zeros_like(trace.shorted),
        ruptures_s=none,
        detachments_s=none,
    )


def frames_of(
    program: str, trace: ArcTrace, state: Latents, session: Session = SESSION, preset: ImagePreset = TINY
) -> NDArray[np.float64]:
    """All frames, (frames, rows, cols)."""
    jpegs = render_frames(PROGRAMS[program], session, state, trace, SEED, LEAD_S, TAIL_S, preset)
    return np.array([cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE) for jpeg in jpegs], float)


@functools.cache
def seam(program: str, fault: str | None = None) -> NDArray[np.float64]:
    return frames_of(program, trace_of(program, fault), state_of(program, fault))


def starts_of(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    return frame_starts_s(len(frames), TINY.arc_fps, LEAD_S)


def lit(program: str, frames: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Frames between full size of the pool and the crater fill."""
    starts = starts_of(frames)
    return np.asarray((starts > 0.8) & (starts < state_of(program).arc_s - 0.4))


def scene_of(program: str, fault: str | None) -> Scene:
    starts = frame_starts_s(150, TINY.arc_fps, LEAD_S)
    return Scene(
        PROGRAMS[program], state_of(program, fault), trace_of(program, fault), SEED, starts, EXPOSURE_MS * 1e-3
    )


def test_the_full_preset_is_the_camera_of_the_specification() -> None:
    assert IMAGE_PRESETS["full"].arc_px == (600, 960)
    assert IMAGE_PRESETS["full"].arc_fps == 30.0


def test_a_frame_is_there_when_its_last_row_has_been_read() -> None:
    starts = frame_starts_s(90, 30.0, LEAD_S)
    assert starts + EXPOSURE_S + READOUT_S == pytest.approx(np.arange(90) / 30.0 - LEAD_S)


def test_exposed_power_is_the_integral_over_each_rows_own_exposure() -> None:
    trace = trace_of("short-butt-3")
    starts = np.array([-0.002, 1.0, 2.0051, len(trace.power_w) / ARC_HZ - 0.004])
    rows = exposed_power(trace, starts, 13)
    plasma = trace.power_w * (trace.shorted == 0)
    for k, start_s in enumerate(starts):
        for row in range(13):
            begin, end = ((start_s + READOUT_S * row / 12 + late_s) * ARC_HZ for late_s in (0.0, EXPOSURE_S))
            inside = np.arange(max(int(begin), 0), min(int(np.ceil(end)), len(plasma)))
            share = np.minimum(inside + 1, end) - np.maximum(inside, begin)
            brute = float((plasma[inside] * share).sum()) / (ARC_HZ * EXPOSURE_S)
            assert rows[k, row] == pytest.approx(brute, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("program", ["short-butt-3", "globular-fillet-6"])
def test_a_frame_below_saturation_is_linear_in_its_exposed_power(program: str) -> None:
    sums = {}
    for gain in (0.04, 0.08):
        session = dataclasses.replace(SESSION, arc_gain=gain)
        frames = frames_of(program, trace_of(program), state_of(program), session)
        inside = lit(program, frames)
        rows = frames[inside].mean(axis=(0, 2)) - BLACK_COUNTS
        # A row counts for as much as it shows of the arc: the shutter opens the rows one after another.
        power = exposed_power(trace_of(program), starts_of(frames), 60)[inside] @ (rows / rows.sum())
        bright = frames[inside].mean(axis=(1, 2)) - BLACK_COUNTS
        open_frames = frames[inside].max(axis=(1, 2)) < 250
        assert open_frames.all()
        power, bright = power[open_frames], bright[open_frames]
        assert np.corrcoef(power, bright)[0, 1] > 0.95
        slope, rest = np.polyfit(power, bright, 1)
        # What is not proportional is the pool's own glow.
        assert abs(rest) < 0.25 * bright.mean()
        sums[gain] = slope
    assert sums[0.08] / sums[0.04] == pytest.approx(2.0, rel=0.12)


def test_a_short_circuit_darkens_the_rows_that_were_exposed_during_it() -> None:
    trace = steady(4000.0)
    whole = frames_of("spray-lap-5", trace, state_of("spray-lap-5"))
    k = 60
    begin_s = starts_of(whole)[k] + 0.007
    shorted = trace.shorted.copy()
    shorted[int(begin_s * ARC_HZ) : int((begin_s + 0.004) * ARC_HZ)] = 1
    banded = frames_of("spray-lap-5", dataclasses.replace(trace, shorted=shorted), state_of("spray-lap-5"))
    # Off the saturated arc.
    share = (banded[k, :, :20].mean(axis=1) - BLACK_COUNTS) / (whole[k, :, :20].mean(axis=1) - BLACK_COUNTS)
    opens_s = np.linspace(0, READOUT_S, 60)
    dark = np.clip(np.minimum(opens_s + EXPOSURE_S, 0.011) - np.maximum(opens_s, 0.007), 0, None) / EXPOSURE_S
    visible = np.arange(60) > 10
    assert np.corrcoef(share[visible], 1 - dark[visible])[0, 1] > 0.95
    assert share[visible & (dark > 0.6)].mean() < 0.5
    assert share[visible & (dark == 0)].mean() == pytest.approx(1.0, abs=0.08)
    assert np.abs(banded[k - 1] - whole[k - 1]).max() == 0


def test_frames_before_the_arc_are_the_noise_floor() -> None:
    for program in ("short-butt-3", "spray-lap-5"):
        frames = seam(program)
        dark = frames[starts_of(frames) + EXPOSURE_MS * 1e-3 < 0]
        assert len(dark) > 15
        assert dark.mean() == pytest.approx(BLACK_COUNTS, abs=0.4)
        assert dark.std() < 1.3 * NOISE_COUNTS
        assert dark.max() < BLACK_COUNTS + 8 * NOISE_COUNTS
        assert frames[lit(program, frames)].mean() > 4 * dark.mean()


def test_the_arc_saturates_and_the_plate_does_not() -> None:
    for program, most in (("short-butt-3", 0.05), ("globular-fillet-6", 0.08), ("spray-lap-5", 0.25)):
        frames = seam(program)[lit(program, seam(program))]
        assert 0.002 < (frames > 250).mean() < most
        assert np.median(frames) < 80
    # Ten times the light is white, not wrapped round.
    glare = frames_of("spray-lap-5", steady(60_000.0), state_of("spray-lap-5"))[60]
    assert (glare == 255).mean() > 0.2


def test_auto_exposure_is_slow_and_keeps_its_range() -> None:
    gains = [1.0]
    for _ in range(200):
        gains.append(next_gain(gains[-1], 150.0))
    assert gains[-1] == GAIN_RANGE[0]
    assert gains[5] > 0.86
    assert all(0 < a - b < 0.04 for a, b in itertools.pairwise(gains) if b > GAIN_RANGE[0])
    for _ in range(200):
        gains.append(next_gain(gains[-1], 2.0))
    assert gains[-1] == GAIN_RANGE[1]
    assert next_gain(1.0, 60.0) == 1.0


def test_auto_exposure_takes_light_away_after_a_bright_start() -> None:
    means = frames_of("spray-lap-5", steady(12_000.0), state_of("spray-lap-5"))[:, :12, :20].mean(axis=(1, 2))
    strike = int(LEAD_S * TINY.arc_fps)
    early, late = means[strike + 2 : strike + 5].mean(), means[strike + 60 : strike + 90].mean()
    assert 0.6 < (late - BLACK_COUNTS) / (early - BLACK_COUNTS) < 0.95


def test_bloom_spills_only_what_is_over_full_well_and_less_with_distance() -> None:
    image = np.full((240, 384), 200.0, np.float32)
    before = image.copy()
    bloom(image, 255.0, 16.0)
    assert np.array_equal(image, before)
    image[100:140, 180:220] = 2000.0
    before = image.copy()
    bloom(image, 255.0, 16.0)
    rise = (image - before)[120, 224:]
    assert rise[0] > 10
    assert np.all(np.diff(rise[:48]) <= 1e-3)
    assert rise[100] < 0.01 * rise[0]


def test_what_pulses_faster_than_the_frames_beats_at_the_aliased_rate() -> None:
    pulse_hz = 95.0
    n = len(trace_of("spray-lap-5").power_w)
    power = 5000.0 * (1 + 0.9 * np.sin(2 * np.pi * pulse_hz * np.arange(n) / ARC_HZ))
    frames = frames_of("spray-lap-5", steady(power), state_of("spray-lap-5"))
    bright = frames[lit("spray-lap-5", frames)][:, 30:34, :20].mean(axis=(1, 2))
    wave = bright - np.convolve(np.pad(bright, 7, "edge"), np.full(15, 1 / 15), "valid")
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    beat_hz = float(np.fft.rfftfreq(len(wave), 1 / TINY.arc_fps)[int(spectrum.argmax())])
    assert beat_hz == pytest.approx(abs(pulse_hz - 3 * TINY.arc_fps), abs=0.5)


def test_spots_on_the_cover_glass_only_grow_within_a_session() -> None:
    session = dataclasses.replace(SESSION, lens_growth=0.4)
    counts = [glass_spots(session, seed) for seed in range(200)]
    assert counts == [glass_spots(session, seed) for seed in range(200)]
    assert min(counts) == session.lens_spots
    assert max(counts) == session.lens_spots + int(0.4 * SEAMS_A_SESSION) - 1
    assert {glass_spots(dataclasses.replace(session, lens_growth=0.0), seed) for seed in range(20)} == {3}
    clean = cover_glass(session, 0, 240, 384)
    assert np.all(clean == 1)
    for spots in range(12):
        dirtier = cover_glass(session, spots + 1, 240, 384)
        assert np.all(dirtier <= clean)
        assert 0 < (dirtier < clean).mean() < 0.2
        clean = dirtier
    other = cover_glass(dataclasses.replace(session, lens_seed=1), 12, 240, 384)
    assert not np.array_equal(other, clean)


def test_spots_on_the_glass_darken_the_frames() -> None:
    trace, state = trace_of("spray-lap-5"), state_of("spray-lap-5")
    clean, dirty = (
        frames_of("spray-lap-5", trace, state, dataclasses.replace(SESSION, lens_spots=spots, lens_growth=0.0))[60]
        for spots in (0, 20)
    )
    glass = cover_glass(SESSION, 20, 60, 96)
    shown = clean < 200
    assert dirty[shown & (glass < 0.8)].sum() < 0.9 * clean[shown & (glass < 0.8)].sum()


SHOWN = [row.type for row in FAULTS.values() if row.family in ("both", "process") and row.type != "crater_crack"]


@pytest.mark.parametrize("fault", SHOWN)
def test_frames_are_the_good_twins_until_the_onset(fault: str) -> None:
    good, bad = seam("short-butt-3"), seam("short-butt-3", fault)
    before = starts_of(good) + EXPOSURE_MS * 1e-3 < ONSET_S
    assert before.sum() > 40
    assert np.array_equal(good[before], bad[before])
    assert not np.array_equal(good[~before], bad[~before])


def test_gas_loss_throws_spatter_and_subsurface_pores_throw_none() -> None:
    for program in ("short-butt-3", "spray-lap-5"):
        good, dry, porous = (scene_of(program, f) for f in (None, "gas_loss", "subsurface_pores"))
        after = slice(int((LEAD_S + ONSET_S) * TINY.arc_fps) + 3, 140)
        assert dry.spatter[after].mean() > 3 * good.spatter[after].mean() + 1
        assert dry.fume[after].mean() > 2 * good.fume[after].mean()
        # A grain less or more comes of other short circuits.
        assert porous.spatter[after].mean() == pytest.approx(good.spatter[after].mean(), abs=0.35)
        assert np.abs(np.diff(porous.glow[after])).mean() > 2 * np.abs(np.diff(good.glow[after])).mean()


@pytest.mark.parametrize("fault", ["lack_of_fusion", "subsurface_pores", "tip_wear"])
def test_the_size_of_the_images_does_not_tell_a_hidden_fault(fault: str) -> None:
    program = PROGRAMS["short-butt-3"]
    after = slice(int((LEAD_S + ONSET_S) * TINY.arc_fps) + 3, 150)
    size = []
    for kind in (None, fault):
        state, trace = state_of(program.name, kind), trace_of(program.name, kind)
        jpegs = render_frames(program, SESSION, state, trace, SEED, LEAD_S, TAIL_S, SMALL)
        size.append(np.array([len(jpeg) for jpeg in jpegs[after]], float))
    assert size[1].mean() == pytest.approx(size[0].mean(), rel=0.02)


def test_burn_through_sinks_the_pool_and_takes_the_light() -> None:
    good, bad = seam("spray-lap-5"), seam("spray-lap-5", "burn_through")
    k = int((LEAD_S + ONSET_S + 0.5) * TINY.arc_fps)
    assert bad[k].mean() < 0.8 * good[k].mean()
    # The opening is dark where the good pool is white.
    assert ((good[k] > 240) & (bad[k] < 100)).sum() > 15
    long_after = int((LEAD_S + ONSET_S + 1.6) * TINY.arc_fps)
    assert bad[long_after].mean() == pytest.approx(good[long_after].mean(), rel=0.15)


def test_light_goes_with_the_source_and_glow_with_the_power() -> None:
    program, state = PROGRAMS["spray-lap-5"], state_of("spray-lap-5")
    power = trace_of("spray-lap-5").power_w.copy()
    off_s = state.arc_s - 0.3
    power[int(off_s * ARC_HZ) :] = 0.0
    trace = dataclasses.replace(trace_of("spray-lap-5"), power_w=power)
    frames = frames_of("spray-lap-5", trace, state)
    starts = starts_of(frames)
    out = (starts > off_s) & (starts < state.arc_s)
    assert out.sum() >= 8
    assert frames[out].mean() < 0.1 * frames[lit("spray-lap-5", frames) & (starts < off_s - 0.05)].mean()
    glow = Scene(program, state, trace, SEED, starts, EXPOSURE_MS * 1e-3).glow
    cooling = glow[starts > off_s]
    ratio = cooling[1:6] / cooling[:5]
    assert ratio == pytest.approx(np.exp(-1 / TINY.arc_fps / 0.18), abs=0.03)


def test_every_transfer_mode_has_its_wander_and_its_spatter() -> None:
    modes = {program.transfer for program in PROGRAMS.values()} | {"pulsed"}
    assert modes <= ROOT_WANDER_MM.keys()
    assert modes <= SPATTER_BASE.keys()
    good = scene_of("globular-fillet-6", None)
    assert good.drop_mm[60:].max() > 1.0
    assert scene_of("spray-lap-5", None).drop_mm[60:].max() < 0.8
