"""The electrical model against what is known of gas metal arc welding (virtual-cell.md, "Checks")."""

import dataclasses
from functools import cache

import numpy as np
import pytest

from drivers.sim.arc import ARC_HZ, ArcTrace, simulate_arc
from drivers.sim.programs import PROGRAMS
from drivers.sim.sessions import session_named
from drivers.sim.sound import arc_pressure
from drivers.sim.variation import draw_latents

SEEDS = (3, 4, 5)
BY_TRANSFER = {program.transfer: name for name, program in reversed(PROGRAMS.items())}


@cache
def good_trace(transfer: str, seed: int) -> ArcTrace:
    program, session = PROGRAMS[BY_TRANSFER[transfer]], session_named(f"session-{seed:02d}")
    return simulate_arc(program, session, draw_latents(program, session, seed), seed)


def shorts(trace: ArcTrace) -> list[slice]:
    """Whole short circuits after the start of the arc has settled."""
    edges = np.diff(trace.shorted.astype(int))
    begins, ends = np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1
    pairs = [slice(b, ends[np.searchsorted(ends, b)]) for b in begins if b < (ends[-1] if len(ends) else 0)]
    return [s for s in pairs if s.start > 0.3 * ARC_HZ]


@pytest.mark.parametrize("seed", SEEDS)
def test_short_circuits_come_as_often_last_as_long_and_peak_as_high_as_measured(seed: int) -> None:
    trace = good_trace("short_circuit", seed)
    bridges = shorts(trace)
    seconds = len(trace.current_a) / ARC_HZ - 0.3
    durations_ms = np.array([(s.stop - s.start) / ARC_HZ * 1e3 for s in bridges])
    peaks = np.array([trace.current_a[s].max() for s in bridges])
    volts = np.array([np.median(trace.voltage_v[s]) for s in bridges])
    assert 30 <= len(bridges) / seconds <= 150
    assert np.percentile(durations_ms, 2) >= 1
    assert np.percentile(durations_ms, 98) <= 5
    assert 250 <= np.median(peaks) <= 450
    assert peaks.max() <= 450
    assert np.percentile(volts, 5) >= 2
    assert np.percentile(volts, 95) <= 6


@pytest.mark.parametrize("seed", SEEDS)
def test_spray_drops_come_at_100_to_300_per_second_without_shorts(seed: int) -> None:
    trace = good_trace("spray", seed)
    assert 100 <= len(trace.detachments_s) / (len(trace.current_a) / ARC_HZ) <= 300
    assert len(shorts(trace)) == 0


@pytest.mark.parametrize("transfer", ["short_circuit", "globular", "spray"])
def test_mean_current_and_voltage_match_the_set_points(transfer: str) -> None:
    program = PROGRAMS[BY_TRANSFER[transfer]]
    inner = slice(int(0.5 * ARC_HZ), -int(0.4 * ARC_HZ))
    current = np.mean([good_trace(transfer, seed).current_a[inner].mean() for seed in SEEDS])
    voltage = np.mean([good_trace(transfer, seed).voltage_v[inner].mean() for seed in SEEDS])
    assert current == pytest.approx(program.current_a, rel=0.06)
    assert voltage == pytest.approx(program.voltage_v, rel=0.04)


def test_current_falls_as_contact_tip_moves_away() -> None:
    program, session = PROGRAMS[BY_TRANSFER["spray"]], session_named("session-00")
    means = []
    for extra_mm in (-2.0, 0.0, 2.0):
        state = draw_latents(program, session, 8)
        state.ctwd_mm = state.ctwd_mm + extra_mm
        means.append(simulate_arc(program, session, state, 8).current_a.mean())
    assert means[0] > means[1] > means[2]


def test_sound_of_the_three_modes_stands_as_published() -> None:
    def rms(transfer: str) -> float:
        program = PROGRAMS[BY_TRANSFER[transfer]]
        return float(np.mean([arc_pressure(program, good_trace(transfer, s))[24000:-12000].std() for s in SEEDS]))

    short = rms("short_circuit")
    assert rms("globular") / short == pytest.approx(133 / 80, rel=0.15)
    assert rms("spray") / short == pytest.approx(39 / 80, rel=0.15)


@pytest.mark.parametrize(
    ("quantity", "value"), [("gas_l_min", -1.0), ("wire_feed_m_min", 60.0), ("plate_mm", 0.0), ("gap_max_mm", 4.0)]
)
def test_impossible_set_points_are_refused_with_quantity_value_and_range(quantity: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{quantity} is {value}; it must lie in .*–"):
        dataclasses.replace(PROGRAMS["short-butt-3"], **{quantity: value})
