"""Current and voltage sensors: each fault is named, a sound sensor is not, whatever the chunks."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.sensor_report import SensorReport
from edged.sensor_welder import WelderMeter
from tests.support.cell import S

Samples = NDArray[np.float64]
RATE_HZ = 10_000.0
SCALE = (0.02, 0.005, 0.001)
SPEC = StreamSpec(
    "welder", "welder", RATE_HZ, (3,), "int16", ("current", "voltage", "wire_feed_speed"), ("A", "V", "m/min"), SCALE
)
ON_S, ARC_S, TOTAL_S = 0.5, 1.5, 2.4
ARC = ((round(ON_S * S), round((ON_S + ARC_S) * S)),)


def sound(noise: float = 1.0, seed: int = 1) -> Samples:
    """Rest, an arc of 200 A and 24 V with a slow ripple of 20 A and 2 V, rest; sensor noise of 0.6 A and 0.05 V."""
    t = np.arange(round(TOTAL_S * RATE_HZ)) / RATE_HZ
    burns = (t >= ON_S) & (t < ON_S + ARC_S)
    ripple = np.sin(2 * np.pi * 70 * t)
    waves = np.stack([200 + 20 * ripple, 24 - 2 * ripple, np.full(len(t), 8.0)], 1) * burns[:, None]
    return waves + noise * np.random.default_rng(seed).standard_normal(waves.shape) * (0.6, 0.05, 0.012)


def measured(waves: Samples, cuts: tuple[int, ...] = (), spec: StreamSpec = SPEC) -> SensorReport:
    raw = np.clip(np.rint(waves / SCALE), -32768, 32767).astype(np.int16)
    meter = WelderMeter(spec, ARC[0][0], 15.0)
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(raw)}), len(raw)]
    for seq, (a, b) in enumerate(itertools.pairwise(edges)):
        meter.add(Chunk("welder", seq, a, 0, 0, raw[a:b], ClockParams(0, 0, 1e9 / spec.rate_hz)))
    return meter.report(ARC)


def found(report: SensorReport) -> dict[str, str]:
    return {problem.code: problem.state for problem in report.problems}


def at(second: float) -> int:
    return round(second * RATE_HZ)


def test_a_sound_sensor_has_no_problem_and_its_noise_is_measured() -> None:
    report = measured(sound())
    assert found(report) == {}
    assert 10 ** (report.figures["current_noise"].value / 20) == pytest.approx(0.6, rel=0.05)
    assert 10 ** (report.figures["voltage_noise"].value / 20) == pytest.approx(0.05, rel=0.05)
    assert report.figures["current_level"].value == pytest.approx(100 * np.log(200 / 8), abs=0.1)


def stuck(channel: int, seconds: float) -> Callable[[Samples], None]:
    def change(waves: Samples) -> None:
        waves[at(1.0) : at(1.0 + seconds), channel] = waves[at(1.0), channel]

    return change


def clipped(waves: Samples) -> None:
    waves[at(1.0) : at(1.01), 0] = 700.0


def offset(channel: int, value: float) -> Callable[[Samples], None]:
    def change(waves: Samples) -> None:
        waves[:, channel] += value

    return change


def pickup(waves: Samples) -> None:
    waves[:, 1] += 3.0 * np.sin(2 * np.pi * 60 * np.arange(len(waves)) / RATE_HZ)


def white(channel: int, sigma: float) -> Callable[[Samples], None]:
    def change(waves: Samples) -> None:
        waves[at(ON_S) : at(ON_S + ARC_S), channel] += sigma * np.random.default_rng(3).standard_normal(at(ARC_S))

    return change


@pytest.mark.parametrize(
    ("change", "code", "state"),
    [
        (stuck(0, 0.4), "current_stuck", "fault"),
        (stuck(1, 0.4), "voltage_stuck", "fault"),
        (stuck(2, 0.4), "wire_feed_speed_stuck", "warning"),
        (clipped, "current_clipped", "fault"),
        (offset(0, 6.0), "current_offset", "warning"),
        (offset(0, 12.0), "current_offset", "fault"),
        (offset(1, 5.0), "voltage_offset", "fault"),
        (pickup, "voltage_pickup", "fault"),
        (white(0, 6.0), "current_noise", "fault"),
        (white(1, 0.6), "voltage_noise", "fault"),
    ],
)
def test_each_fault_is_named(change: Callable[[Samples], None], code: str, state: str) -> None:
    waves = sound()
    change(waves)
    assert found(measured(waves)) == {code: state}


@pytest.mark.parametrize("change", [stuck(0, 0.1), offset(0, 2.0), white(0, 0.5)])
def test_small_changes_are_none(change: Callable[[Samples], None]) -> None:
    waves = sound()
    change(waves)
    assert found(measured(waves)) == {}


def test_a_source_that_stays_on_between_welds_has_no_voltage_offset() -> None:
    waves = sound()
    waves[: at(ON_S), 1] = waves[at(ON_S + ARC_S) :, 1] = 60.0
    assert found(measured(waves)) == {}


def test_open_circuit_voltage_before_the_arc_is_none_either() -> None:
    waves = sound()
    waves[at(ON_S - 0.45) : at(ON_S), 1] = 32.0
    assert found(measured(waves)) == {}


def test_missing_data_is_not_a_stuck_channel() -> None:
    """What stood still for 0.2 s before a gap and for 0.2 s after it did not stand still for 0.4 s."""
    waves = sound()
    waves[at(0.8) : at(1.0), 0] = waves[at(1.5) : at(1.7), 0] = 200.0
    raw = np.rint(waves / SCALE).astype(np.int16)
    meter = WelderMeter(SPEC, ARC[0][0], 15.0)
    for seq, (a, b) in enumerate([(0, at(1.0)), (at(1.5), len(raw))]):
        meter.add(Chunk("welder", seq, a, 0, 0, raw[a:b], ClockParams(0, 0, 1e9 / RATE_HZ)))
    assert found(meter.report(ARC)) == {}


def test_held_samples_are_a_fault_of_the_sensor() -> None:
    """Half of the samples repeat the one before; a coarse converter's do so too, by themselves."""
    waves = sound()
    lost = np.random.default_rng(7).random(len(waves)) < 0.5
    lost[0] = False
    source = np.maximum.accumulate(np.where(lost, 0, np.arange(len(waves))))
    report = measured(waves[source])
    assert {code: state for code, state in found(report).items() if "held" in code} == {
        "current_held": "fault",
        "voltage_held": "fault",
    }
    coarse = found(measured(np.rint(sound() / (2.0, 0.25, 0.1)) * (2.0, 0.25, 0.1)))
    assert not [code for code in coarse if "held" in code]


def test_rest_begins_after_the_arc_before() -> None:
    """The window begins where that arc ended, and its current falls for 90 ms more; here nothing comes after."""
    waves = sound()
    fall = np.arange(at(0.09))
    begins = at(ON_S - 0.26)
    waves[begins : begins + len(fall), 0] += 200 * np.exp(-fall / at(0.04))
    raw = np.rint(waves / SCALE).astype(np.int16)
    meter = WelderMeter(SPEC, ARC[0][0], 15.0, ARC[0][0])
    meter.add(Chunk("welder", 0, begins, 0, 0, raw[begins : at(ON_S + ARC_S)], ClockParams(0, 0, 1e9 / RATE_HZ)))
    report = meter.report(ARC)
    assert found(report) == {}


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 24_000), max_size=30).map(tuple))
def test_a_report_does_not_depend_on_the_chunks(cuts: tuple[int, ...]) -> None:
    waves = sound()
    stuck(0, 0.4)(waves)
    whole, cut = measured(waves), measured(waves, cuts)
    assert found(cut) == found(whole) == {"current_stuck": "fault"}
    assert cut.problems[0].value == whole.problems[0].value
    for name, figure in whole.figures.items():
        assert cut.figures[name].value == pytest.approx(figure.value, rel=1e-9), name


def test_a_slow_log_is_judged_by_what_it_shows() -> None:
    spec = StreamSpec("welder", "welder", 9.0, (3,), "int16", SPEC.channels, SPEC.units, SCALE)
    meter = WelderMeter(spec, 2 * S, 15.0)
    rng = np.random.default_rng(1)
    waves = np.zeros((90, 3))
    waves[18:72] = (200.0, 24.0, 8.0)
    waves += rng.standard_normal(waves.shape) * (2.0, 0.2, 0.05)
    raw = np.rint(waves / SCALE).astype(np.int16)
    for k in range(len(raw)):
        meter.add(Chunk("welder", k, k, 0, 0, raw[k : k + 1], ClockParams(0, 0, 1e9 / 9)))
    report = meter.report(((2 * S, 8 * S),))
    assert found(report) == {}
    assert "current_noise" not in report.figures
