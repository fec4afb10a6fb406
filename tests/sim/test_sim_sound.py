"""The microphone: loudness of the transfer modes, the way to it, its preamplifier, and what else it hears."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.sim.arc import ARC_HZ, ArcTrace, simulate_arc
from drivers.sim.faults import apply_fault, fault_of
from drivers.sim.programs import PROGRAMS
from drivers.sim.sessions import Session, session_named
from drivers.sim.sound import AGC_LIMITS, AUDIO_HZ, SPEED_OF_SOUND_M_S, arc_pressure, gain_control, render_sound
from drivers.sim.variation import Latents, draw_latents

SEEDS = (3, 4, 5)
LEAD_S, TAIL_S, ONSET_S = 0.8, 0.5, 1.5
QUIET: dict[str, object] = {"neighbour_level": 0.0, "mic_agc": False}


def session(**changes: object) -> Session:
    return dataclasses.replace(session_named("session-03"), **(QUIET | changes))  # type: ignore[arg-type]


@cache
def seam(name: str, seed: int, fault: str | None = None, severity: int = 5) -> tuple[Latents, ArcTrace]:
    program = PROGRAMS[name]
    state = draw_latents(program, session(), seed)
    if fault:
        apply_fault(state, fault_of(fault, severity, ONSET_S, 20.0), program)
    return state, simulate_arc(program, session(), state, seed)


def heard(name: str, seed: int, fault: str | None = None, severity: int = 5, **changes: object) -> NDArray[np.int16]:
    state, trace = seam(name, seed, fault, severity)
    return render_sound(PROGRAMS[name], session(**changes), state, trace, seed, LEAD_S, TAIL_S)[:, 0]


def loudness(sound: NDArray[np.int16], from_s: float, to_s: float) -> float:
    return float(sound[int((LEAD_S + from_s) * AUDIO_HZ) : int((LEAD_S + to_s) * AUDIO_HZ)].astype(float).std())


def rms(transfer: str) -> float:
    names = [name for name, program in PROGRAMS.items() if program.transfer == transfer]
    inner = slice(int(0.5 * AUDIO_HZ), -int(0.3 * AUDIO_HZ))
    return float(np.mean([arc_pressure(PROGRAMS[n], seam(n, s)[1])[inner].std() for n in names for s in SEEDS]))


@pytest.mark.parametrize(("transfer", "share"), [("globular", 133 / 80), ("spray", 39 / 80)])
def test_the_modes_stand_as_published_over_all_their_programs(transfer: str, share: float) -> None:
    assert rms(transfer) / rms("short_circuit") == pytest.approx(share, rel=0.15)


def test_a_pulsed_arc_is_louder_than_spray_and_no_louder_than_globular() -> None:
    assert rms("spray") < rms("pulsed") < rms("globular")


def test_a_pulsed_arc_sings_at_its_pulse_frequency() -> None:
    trace = seam("pulsed-lap-4", 3)[1]
    power = np.abs(np.fft.rfft(arc_pressure(PROGRAMS["pulsed-lap-4"], trace)[48000:144000])) ** 2
    hertz = np.fft.rfftfreq(96000, 1 / AUDIO_HZ)
    low = (hertz > 40) & (hertz < 200)
    pulses = np.diff(trace.pulses_s[(trace.pulses_s > 1) & (trace.pulses_s < 3)])
    assert hertz[low][power[low].argmax()] == pytest.approx(1 / np.median(pulses), rel=0.15)


@pytest.mark.parametrize("distance_m", [0.2, 0.5, 1.5])
def test_sound_comes_later_and_weaker_by_the_distance(distance_m: float) -> None:
    near = heard("spray-lap-5", 3, mic_distance_m=0.2).astype(float)
    far = heard("spray-lap-5", 3, mic_distance_m=distance_m).astype(float)
    stretch = slice(int(2.0 * AUDIO_HZ), int(2.5 * AUDIO_HZ))
    lag = max(range(300), key=lambda d: float(near[stretch] @ far[stretch.start + d : stretch.stop + d]))
    # The hiss does not move: its source is the whole nozzle's jet, all around the arc.
    assert lag / AUDIO_HZ == pytest.approx((distance_m - 0.2) / SPEED_OF_SOUND_M_S, abs=3e-5)
    late = far[stretch.start + lag : stretch.stop + lag]
    assert float(near[stretch] @ late / (near[stretch] @ near[stretch])) == pytest.approx(0.2 / distance_m, rel=0.1)


def test_what_lies_above_the_microphones_band_does_not_alias_into_it() -> None:
    program = PROGRAMS["spray-lap-5"]
    t = np.arange(int(2 * ARC_HZ)) / ARC_HZ
    none = np.zeros(0)
    loud = {}
    for hertz in (3000.0, 31000.0):
        # Equal amplitude of the power's change.
        power = 1000 * np.sin(2 * np.pi * hertz * t) / hertz
        trace = ArcTrace(power, power, power, np.zeros(len(t), np.uint8), none, none, none)
        loud[hertz] = arc_pressure(program, trace)[4800:-4800].std()
    assert loud[31000.0] < 0.02 * loud[3000.0]


def test_gain_control_is_causal_slow_and_evens_out_loudness() -> None:
    noise = np.random.default_rng(0).standard_normal(96_000)
    quiet, loud = 1000 * noise, np.where(np.arange(96_000) < 48_000, 1000, 12_000) * noise
    np.testing.assert_array_equal(gain_control(quiet)[:48_048], gain_control(loud)[:48_048])
    gain = gain_control(loud)
    assert AGC_LIMITS[0] <= gain.min() < gain.max() <= AGC_LIMITS[1]
    before, after = (loud * gain)[40_000:48_000].std(), (loud * gain)[-8_000:].std()
    assert after / before < 0.5 * 12
    assert np.abs(np.diff(gain)).max() < 0.05


def test_gain_control_brings_loud_and_soft_modes_together() -> None:
    def spread(agc: bool) -> float:
        levels = [loudness(heard(name, 3, mic_agc=agc), 2, 4) for name in ("globular-fillet-6", "spray-lap-5")]
        return levels[0] / levels[1]

    assert spread(True) < 0.8 * spread(False)


def test_a_hot_microphone_clips_softly_and_never_wraps() -> None:
    sound = heard("globular-fillet-6", 3, mic_gain=60.0).astype(int)
    assert np.abs(sound).max() <= 32767
    assert (np.abs(sound) > 32000).mean() > 0.01
    mild = heard("globular-fillet-6", 3, mic_gain=1.0).astype(int)
    big = np.abs(mild) > 2000
    assert (np.sign(sound[big]) == np.sign(mild[big])).mean() > 0.98


@pytest.mark.parametrize("name", ["short-butt-3", "spray-lap-5", "pulsed-lap-4"])
def test_a_hole_is_louder(name: str) -> None:
    bad = [loudness(heard(name, s, "burn_through"), ONSET_S + 0.2, ONSET_S + 2) for s in SEEDS]
    good = [loudness(heard(name, s), ONSET_S + 0.2, ONSET_S + 2) for s in SEEDS]
    assert np.mean(bad) > 1.15 * np.mean(good)


def test_hiss_falls_with_the_gas_that_leaves_the_nozzle() -> None:
    def hiss(fault: str | None) -> float:
        # After the arc: gas flows on, and nothing else is left but the hall.
        sound = heard("spray-lap-5", 3, fault)[-int(0.3 * AUDIO_HZ) :].astype(float)
        return float(np.diff(sound).std())

    assert hiss("gas_loss") < 0.5 * hiss(None)


def test_the_booth_rings_after_the_arc_and_a_neighbour_is_heard() -> None:
    state, trace = seam("short-butt-3", 3)
    sound = heard("short-butt-3", 3).astype(float)
    end = int((LEAD_S + state.arc_s + 0.002) * AUDIO_HZ)
    assert sound[end : end + 1200].std() > 1.2 * sound[end + 9600 : end + 19200].std()
    beside = heard("short-butt-3", 3, neighbour_level=0.5).astype(float)
    assert np.abs(beside - sound).max() > 500
    assert len(trace.ruptures_s) > 100


@pytest.mark.parametrize("agc", [False, True])
def test_a_twin_sounds_the_same_to_the_bit_until_the_fault_sets_in(agc: bool) -> None:
    bad, good = heard("short-butt-3", 3, "gas_loss", mic_agc=agc), heard("short-butt-3", 3, mic_agc=agc)
    onset = int((LEAD_S + ONSET_S - 0.001) * AUDIO_HZ)
    np.testing.assert_array_equal(bad[:onset], good[:onset])
    assert not np.array_equal(bad, good)
