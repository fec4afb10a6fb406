"""The electrical model against what is known of gas metal arc welding (virtual-cell.md, "Electrical")."""

from functools import cache

import numpy as np
import pytest

from drivers.sim import arc, arc_kernel
from drivers.sim.arc import ARC_HZ, WELDER_HZ, WELDER_SCALE, ArcTrace, sample_welder, simulate_arc
from drivers.sim.arc_kernel import RATE_BAND
from drivers.sim.faults import apply_fault, fault_of
from drivers.sim.programs import PROGRAMS, WIRE_AREA_MM2
from drivers.sim.sessions import session_named
from drivers.sim.variation import LATENT_HZ, draw_latents

SEEDS = (3, 4, 5)
ONSET_S, END_S = 1.5, 2.9


def named(transfer: str) -> list[str]:
    return [name for name, program in PROGRAMS.items() if program.transfer == transfer]


@cache
def trace_of(name: str, seed: int, fault: str | None = None, severity: int = 5) -> ArcTrace:
    """A seam, good or with a fault from `ONSET_S` on."""
    program, session = PROGRAMS[name], session_named(f"session-{seed:02d}")
    state = draw_latents(program, session, seed)
    if fault is not None:
        apply_fault(state, fault_of(fault, severity, ONSET_S, END_S), program)
    return simulate_arc(program, session, state, seed)


def shorts(trace: ArcTrace, from_s: float = 0.3, to_s: float = 60.0) -> list[slice]:
    """Whole short circuits that begin within the time."""
    edges = np.diff(trace.shorted.astype(int))
    begins, ends = np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1
    pairs = [slice(b, ends[np.searchsorted(ends, b)]) for b in begins if b < (ends[-1] if len(ends) else 0)]
    return [s for s in pairs if from_s * ARC_HZ < s.start < to_s * ARC_HZ]


def test_the_compiled_loop_has_the_constants_that_others_read() -> None:
    # They stand there too, because a compiled function on disk knows changes of its own file only.
    assert arc_kernel.WIRE_AREA_MM2 == WIRE_AREA_MM2
    for name in ("ARC_V_PER_MM", "ARC_OHM", "POOL_RAD_S", "POOL_DAMPING"):
        assert getattr(arc_kernel, name) == getattr(arc, name)


def within(trace: ArcTrace) -> slice:
    """The steps in which a fault is fully in force."""
    return slice(int((ONSET_S + 0.2) * ARC_HZ), int((END_S - 0.2) * ARC_HZ))


def short_rate(trace: ArcTrace) -> float:
    return len(shorts(trace, ONSET_S + 0.2, END_S - 0.2)) / (END_S - ONSET_S - 0.4)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", named("short_circuit"))
def test_short_circuits_come_as_often_last_as_long_and_peak_as_high_as_measured(name: str, seed: int) -> None:
    trace = trace_of(name, seed)
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
@pytest.mark.parametrize("name", named("spray"))
def test_spray_drops_come_at_100_to_300_per_second_without_shorts(name: str, seed: int) -> None:
    trace = trace_of(name, seed)
    assert 100 <= len(trace.detachments_s) / (len(trace.current_a) / ARC_HZ) <= 300
    assert len(shorts(trace)) == 0


@pytest.mark.parametrize("name", named("globular"))
def test_globular_drops_are_larger_than_the_wire_and_some_of_them_short(name: str) -> None:
    traces = [trace_of(name, seed) for seed in SEEDS]
    seconds = sum(len(t.current_a) for t in traces) / ARC_HZ
    drops = sum(len(t.detachments_s) + len(t.ruptures_s) for t in traces)
    wire_mm3_s = PROGRAMS[name].wire_feed_m_min * 1000 / 60 * 1.131
    # A drop as wide as the 1.2 mm wire holds 0.9 mm³.
    assert wire_mm3_s / (drops / seconds) > 1.5 * 0.9
    assert 1 <= sum(len(t.ruptures_s) for t in traces) / seconds <= 30


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", named("pulsed"))
def test_each_pulse_detaches_one_drop_and_the_frequency_stays_within_its_limits(name: str, seed: int) -> None:
    program, trace = PROGRAMS[name], trace_of(name, seed)
    assert program.pulse is not None
    seconds = len(trace.current_a) / ARC_HZ
    pulses, drops = (t[(t > 0.3) & (t < seconds - 0.3)] for t in (trace.pulses_s, trace.detachments_s))
    rate_hz = 1 / np.diff(pulses)
    assert len(drops) / len(pulses) == pytest.approx(1.0, abs=0.06)
    per_pulse = np.histogram(drops, pulses)[0]
    assert (per_pulse == 1).mean() > 0.9
    # Wire wander moves the synergic line by up to 12 %.
    assert rate_hz.min() >= RATE_BAND[0] * 0.88 * program.pulse.frequency_hz
    assert rate_hz.max() <= RATE_BAND[1] * 1.12 * program.pulse.frequency_hz
    assert np.median(rate_hz) == pytest.approx(program.pulse.frequency_hz, rel=0.15)
    assert len(shorts(trace)) <= 2


@pytest.mark.parametrize("name", named("pulsed"))
def test_a_pulse_reaches_its_peak_at_a_finite_slope_and_returns_to_base(name: str) -> None:
    program, trace = PROGRAMS[name], trace_of(name, 3)
    assert program.pulse is not None
    settled = trace.current_a[int(0.5 * ARC_HZ) : -int(0.5 * ARC_HZ)]
    assert np.percentile(settled, 99) == pytest.approx(program.pulse.peak_a, rel=0.03)
    assert np.percentile(settled, 5) == pytest.approx(program.pulse.base_a, rel=0.05)
    slope_a_ms = np.abs(np.diff(settled)) * ARC_HZ / 1e3
    assert 150 <= slope_a_ms.max() <= 600


@pytest.mark.parametrize("name", PROGRAMS)
def test_mean_current_and_voltage_match_the_set_points(name: str) -> None:
    program = PROGRAMS[name]
    inner = slice(int(0.5 * ARC_HZ), -int(0.4 * ARC_HZ))
    current = np.mean([trace_of(name, seed).current_a[inner].mean() for seed in SEEDS])
    voltage = np.mean([trace_of(name, seed).voltage_v[inner].mean() for seed in SEEDS])
    assert current == pytest.approx(program.current_a, rel=0.06)
    assert voltage == pytest.approx(program.voltage_v, rel=0.04)


@pytest.mark.parametrize("name", ["short-butt-3", "globular-butt-8", "spray-lap-5", "pulsed-fillet-5"])
def test_current_falls_by_2_to_9_amperes_per_millimetre_of_contact_tip_distance(name: str) -> None:
    program, session = PROGRAMS[name], session_named("session-00")
    means = []
    for extra_mm in (-2.0, 0.0, 2.0):
        state = draw_latents(program, session, 8)
        state.ctwd_mm = state.ctwd_mm + extra_mm
        means.append(simulate_arc(program, session, state, 8).current_a.mean())
    assert means[0] > means[1] > means[2]
    assert 2 <= (means[0] - means[2]) / 4 <= 9


def test_what_the_sampler_cannot_resolve_does_not_alias_into_its_band() -> None:
    program, session = PROGRAMS["spray-lap-5"], session_named("session-00")
    state = draw_latents(program, session, 8)
    t = np.arange(round(state.arc_s * ARC_HZ)) / ARC_HZ
    seen = {}
    for hertz in (1000.0, 7000.0):
        tone = 200 + 100 * np.sin(2 * np.pi * hertz * t)
        none = np.zeros(0)
        trace = ArcTrace(tone, tone / 10, tone, np.zeros(len(t), np.uint8), none, none, none)
        raw = sample_welder(program, session, state, trace, 8, 0.6, 0.5) * np.array(WELDER_SCALE)
        seen[hertz] = raw[int(0.9 * WELDER_HZ) : int(3.9 * WELDER_HZ), 0].std()
    assert seen[1000.0] == pytest.approx(100 / np.sqrt(2), rel=0.05)
    assert seen[7000.0] < 0.02 * seen[1000.0]


@pytest.mark.parametrize("name", ["short-butt-3", "short-fillet-4", "globular-fillet-6"])
def test_over_a_hole_short_circuits_drop_out_and_current_falls_slightly(name: str) -> None:
    bad, good = ([trace_of(name, seed, fault) for seed in SEEDS] for fault in ("burn_through", None))
    assert np.mean([short_rate(t) for t in bad]) < 0.5 * np.mean([short_rate(t) for t in good])
    ratio = np.mean([t.current_a[within(t)].mean() for t in bad]) / np.mean(
        [t.current_a[within(t)].mean() for t in good]
    )
    assert 0.75 < ratio < 0.995


@pytest.mark.parametrize("name", ["short-butt-3", "spray-lap-5", "pulsed-lap-4"])
def test_a_worn_tip_loses_contact_the_more_often_the_more_it_flickers(name: str) -> None:
    def breaks(severity: int | None) -> int:
        """Jumps of the terminal voltage while no bridge stands: what no drop makes."""
        found = 0
        for seed in SEEDS:
            trace = trace_of(name, seed, "tip_wear" if severity else None, severity or 5)
            here = within(trace)
            jumps = np.flatnonzero(np.diff(trace.voltage_v[here]) > 7)
            bridged = np.convolve(trace.shorted[here], np.ones(41), "same") > 0
            found += int((~bridged[jumps]).sum())
        return found

    assert breaks(None) <= 0.25 * breaks(5)
    assert breaks(2) < breaks(4) < breaks(5)


def test_a_source_without_voltage_lets_the_arc_go_out_for_good() -> None:
    for name in ("short-butt-3", "globular-butt-8", "spray-lap-5", "pulsed-lap-4"):
        program, session = PROGRAMS[name], session_named("session-00")
        state = draw_latents(program, session, 8)
        state.source_v[-250:] = 0.0
        state.wire_mm_s[-250:] = 0.0
        trace = simulate_arc(program, session, state, 8)
        good = simulate_arc(program, session, draw_latents(program, session, 8), 8)
        begin = len(trace.current_a) - round(250 / LATENT_HZ * ARC_HZ) - 100
        np.testing.assert_array_equal(trace.current_a[:begin], good.current_a[:begin])
        dead = slice(-int(0.2 * ARC_HZ), None)
        assert trace.current_a[dead].max() == 0.0
        assert trace.voltage_v[dead].max() == 0.0
        assert good.current_a[dead].mean() > 20


@pytest.mark.parametrize("name", ["short-butt-3", "globular-fillet-6", "spray-lap-5"])
def test_without_gas_the_arc_voltage_rises(name: str) -> None:
    def arc_v(fault: str | None) -> float:
        means = []
        for seed in SEEDS:
            trace = trace_of(name, seed, fault)
            here = within(trace)
            burning = (trace.shorted[here] == 0) & (trace.current_a[here] > 20)
            means.append((trace.voltage_v[here] - 0.02 * trace.current_a[here])[burning].mean())
        return float(np.mean(means))

    assert arc_v("gas_loss") > arc_v(None) + 0.1


@pytest.mark.parametrize("name", ["short-butt-3", "short-lap-3"])
def test_without_gas_short_circuits_come_less_evenly(name: str) -> None:
    def unevenness(fault: str | None) -> float:
        steps = [
            np.diff([s.start for s in shorts(trace_of(name, k, fault), ONSET_S + 0.2, END_S - 0.2)]) for k in SEEDS
        ]
        return float(np.mean([step.std() / step.mean() for step in steps]))

    assert unevenness("gas_loss") > 1.15 * unevenness(None)


@pytest.mark.parametrize("name", ["short-butt-3", "globular-fillet-6"])
def test_a_drop_over_the_work_lead_takes_arc_voltage_and_brings_short_circuits(name: str) -> None:
    bad, good = ([trace_of(name, seed, fault) for seed in SEEDS] for fault in ("convexity", None))
    assert np.mean([short_rate(t) for t in bad]) > 1.3 * np.mean([short_rate(t) for t in good])

    def plasma_v(trace: ArcTrace) -> float:
        here = within(trace)
        return float(trace.power_w[here].sum() / trace.current_a[here].sum())

    assert np.mean([plasma_v(t) for t in bad]) < np.mean([plasma_v(t) for t in good]) - 0.5


@pytest.mark.parametrize("fault", ["gas_loss", "burn_through", "tip_wear", "convexity"])
@pytest.mark.parametrize("name", ["short-butt-3", "pulsed-lap-4"])
def test_a_twin_is_bit_identical_until_the_fault_sets_in(name: str, fault: str) -> None:
    bad, good = trace_of(name, 3, fault), trace_of(name, 3)
    onset = int(ONSET_S * ARC_HZ)
    for field in ("current_a", "voltage_v", "power_w"):
        np.testing.assert_array_equal(getattr(bad, field)[:onset], getattr(good, field)[:onset])
    assert not np.array_equal(bad.current_a, good.current_a)
