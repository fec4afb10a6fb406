"""Arc statistics of closed-form waveforms: energy to 1e-6, short circuits exactly, whatever the chunks."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.arc import ArcDetector
from edged.arc_stats import ArcStats, WaveMeter, transfer_mode
from edged.config import ArcConfig
from edged.verdict import arc_figures
from pipelines.window import Seam
from tests.support.cell import S

Samples = NDArray[np.float64]
RATE_HZ = 10_000.0
DT_NS = 1e9 / RATE_HZ


def seconds(duration_s: float, rate_hz: float = RATE_HZ) -> Samples:
    return np.arange(round(duration_s * rate_hz)) / rate_hz


def measured(
    current_a: Samples, voltage_v: Samples, rate_hz: float = RATE_HZ, cuts: tuple[int, ...] = ()
) -> ArcStats:
    """Through the arc detector, as a float stream with silence around the arc."""
    spec = StreamSpec("w", "welder", rate_hz, (2,), "float32", ("current", "voltage"), ("A", "V"))
    quiet = np.zeros((max(round(0.1 * rate_hz), 4), 2))
    data = np.concatenate([quiet, np.stack([current_a, voltage_v], 1), quiet]).astype(np.float32)
    detector = ArcDetector(spec, ArcConfig(hold_ms=5.0))
    clock = ClockParams(0, 0, 1e9 / rate_hz)
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    events = [
        event
        for seq, (a, b) in enumerate(itertools.pairwise(edges))
        for event in detector.feed(Chunk("w", seq, a, 0, 0, data[a:b], clock))
    ]
    (stats,) = [event.stats for event in events if event.stats is not None]
    return stats


def test_direct_current() -> None:
    stats = measured(np.full(20_000, 200.0), np.full(20_000, 25.0))
    assert stats.energy_j == pytest.approx(200 * 25 * 2.0, rel=1e-6)
    assert stats.mean_power_w == pytest.approx(5000.0, rel=1e-6)
    assert (stats.shorts, stats.pulses, stats.dips) == (0, 0, 0)
    assert transfer_mode(stats) == "spray"


def test_sine_on_direct_current_is_not_the_product_of_means() -> None:
    """u = U + u₁ sin, i = I + i₁ sin in phase: mean power is U·I + u₁·i₁/2, RMS is √(I² + i₁²/2)."""
    wave = np.sin(2 * np.pi * 100 * seconds(2.0))
    stats = measured(200 + 50 * wave, 25 + 4 * wave)
    assert stats.energy_j == pytest.approx((200 * 25 + 50 * 4 / 2) * 2.0, rel=1e-6)
    assert stats.current.rms == pytest.approx(math.sqrt(200**2 + 50**2 / 2), rel=1e-6)
    assert stats.mean_current_a == pytest.approx(200.0, rel=1e-6)
    assert stats.mean_voltage_v == pytest.approx(25.0, rel=1e-6)


def test_square_pulses() -> None:
    """100 Hz, a quarter of the time 400 A and 30 V, else 60 A and 22 V."""
    high = (np.arange(20_000) % 100) < 25
    stats = measured(np.where(high, 400.0, 60.0), np.where(high, 30.0, 22.0))
    assert stats.energy_j == pytest.approx((0.25 * 400 * 30 + 0.75 * 60 * 22) * 2.0, rel=1e-6)
    assert stats.mean_current_a == pytest.approx(145.0, rel=1e-6)
    assert stats.pulse_hz == pytest.approx(100.0, rel=0.01)
    assert stats.pulse_intervals_s.mean == pytest.approx(0.01, rel=1e-6)
    assert stats.current_quantile_a(0.95) == pytest.approx(400.0, abs=0.5)
    assert stats.current_quantile_a(0.05) == pytest.approx(60.0, abs=0.5)
    assert transfer_mode(stats) == "pulsed"


def shorting(period: int, low: int) -> tuple[Samples, Samples]:
    """2 s at 10 kHz: every `period` samples the voltage is 4 V for `low` samples, at the period's end."""
    short = np.arange(20_000) % period >= period - low
    return np.where(short, 260.0, 140.0), np.where(short, 4.0, 18.0)


def test_short_circuits_are_counted_exactly() -> None:
    stats = measured(*shorting(125, 30))
    assert stats.shorts == 160
    assert stats.short_circuit_hz == 80.0
    assert stats.short_circuit_ms == pytest.approx(3.0, rel=1e-9)
    assert stats.calm.mean == pytest.approx(18.0)
    assert transfer_mode(stats) == "short_circuit"


def test_occasional_shorts_are_globular_and_so_is_a_restless_voltage() -> None:
    assert transfer_mode(measured(*shorting(2000, 30))) == "globular"
    restless = 24 + 3 * np.sin(2 * np.pi * 8 * seconds(2.0))
    assert transfer_mode(measured(np.full(20_000, 210.0), restless)) == "globular"


def test_a_short_that_chatters_between_the_two_levels_is_one() -> None:
    voltage = np.full(10_000, 18.0)
    voltage[5000:5040] = np.where(np.arange(40) % 2, 11.0, 5.0)
    assert measured(np.full(10_000, 150.0), voltage).shorts == 1


def test_slow_logs_have_energy_but_no_waveform() -> None:
    stats = measured(np.full(40, 150.0), np.full(40, 20.0), rate_hz=9.0)
    assert stats.energy_j == pytest.approx(150 * 20 * 40 / 9, rel=1e-6)
    assert (stats.short_circuit_hz, stats.pulse_hz, transfer_mode(stats)) == (None, None, None)


def test_dips_inside_the_hold_time_are_counted_and_belong_to_the_arc() -> None:
    current = np.full(10_000, 150.0)
    current[2000:2030] = current[6000:6010] = 0.0
    stats = measured(current, np.full(10_000, 20.0))
    assert (stats.dips, stats.samples) == (2, 10_000)


def test_missing_samples_count_as_none_and_break_no_sum() -> None:
    meter = WaveMeter(RATE_HZ, 15.0, has_voltage=True)
    current = np.full(1000, 100.0)
    current[300:400] = np.nan
    meter.push(current, np.full(1000, 20.0), DT_NS)
    stats = meter.stats()
    assert (stats.samples, stats.mean_current_a) == (900, 100.0)
    assert stats.energy_j == pytest.approx(100 * 20 * 0.09)


def test_no_pulse_interval_spans_a_gap() -> None:
    meter = WaveMeter(RATE_HZ, 15.0, has_voltage=True)
    wave = np.where(np.arange(1000) % 100 < 25, 400.0, 60.0)
    meter.push(wave, np.full(1000, 25.0), DT_NS)
    before = meter.stats().pulse_intervals_s.n
    meter.push(wave, np.full(1000, 25.0), DT_NS, after_gap=True)
    assert meter.stats().pulse_intervals_s.n == before + 9, "ten more pulses, nothing between the eighth and them"
    assert meter.stats().pulse_intervals_s.mean == pytest.approx(0.01)


@given(
    seed=st.integers(0, 99),
    cuts=st.lists(st.integers(0, 6000), max_size=40).map(tuple),
)
def test_figures_do_not_depend_on_the_chunks(seed: int, cuts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.choice([0.0, 60.0, 150.0, 400.0], 400)
    current = np.concatenate([[200.0], np.repeat(levels, 10), [200.0] * 10])
    voltage = np.concatenate([[20.0], np.repeat(rng.choice([4.0, 10.0, 25.0], 400), 10), [20.0] * 10])
    # No stretch without current may be longer than the hold time, or it would be two arcs.
    current[::40] = 200.0
    whole, cut = measured(current, voltage), measured(current, voltage, cuts=cuts)
    assert (cut.samples, cut.shorts, cut.pulses, cut.dips) == (whole.samples, whole.shorts, whole.pulses, whole.dips)
    assert cut.histogram == whole.histogram
    for a, b in ((cut.energy_j, whole.energy_j), (cut.short_s, whole.short_s), (cut.current.rms, whole.current.rms)):
        assert a == pytest.approx(b, rel=1e-9)
    assert cut.pulse_intervals_s.total == pytest.approx(whole.pulse_intervals_s.total, rel=1e-9)


def test_memory_does_not_grow_with_the_arc() -> None:
    spec = StreamSpec("w", "welder", RATE_HZ, (2,), "float32", ("current", "voltage"), ("A", "V"))
    detector = ArcDetector(spec, ArcConfig())
    data = np.tile(np.array([[150.0, 20.0]], np.float32), (100, 1))
    for seq in range(500):
        detector.feed(Chunk("w", seq, seq * 100, 0, 0, data, ClockParams(0, 0, DT_NS)))
        assert sum(len(piece[0]) for piece in detector._sure + detector._dip) <= 1100


def test_figures_of_a_seam_of_two_arcs_with_a_gap_in_the_data() -> None:
    """Two arcs of 2 s with 0.5 s between them; a tenth of the samples is missing, the energy is whole."""
    meter = WaveMeter(RATE_HZ, 15.0, has_voltage=True)
    meter.push(np.full(18_000, 200.0), np.full(18_000, 25.0), DT_NS)
    stats = meter.stats() + meter.stats()
    seam = Seam("s", "c", "1", "p", 0, ((0, 2 * S), (5 * S // 2, 9 * S // 2)), travel_speed_mm_s=8.0)
    figures = arc_figures(seam, stats, 0.8)
    assert (figures.arc_s, figures.pause_s, figures.restrikes) == (4.0, 0.5, 1)
    assert (figures.length_mm, figures.length_is_nominal, figures.travel_speed_mm_s) == (32.0, True, None)
    assert figures.arc_energy_j == pytest.approx(200 * 25 * 4.0)
    assert figures.arc_energy_j_mm == pytest.approx(625.0)
    assert figures.heat_input_kj_mm == pytest.approx(0.5)
    measured_mm = arc_figures(seam, stats, 0.8, 30.0)
    assert (measured_mm.length_mm, measured_mm.travel_speed_mm_s) == (30.0, 7.5)
