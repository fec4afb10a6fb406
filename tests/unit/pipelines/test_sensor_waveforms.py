"""What only raw waveforms show, and energy per mm: known waves give known numbers; a slow log leaves them unknown."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Chunk, ClockParams, StreamSpec
from pipelines.features.extractor import SeamExtractor
from pipelines.features.finite import FiniteCounts
from pipelines.features.sensor import SENSOR_FEATURES, WAVEFORM, SensorSteps
from tests.support import seam_chunks as cell
from tests.support.backbone import TinyBackbone

ON_NS, RATE_HZ, SECONDS = 5_000_000_000, 10_000.0, 2.0
WELDER = StreamSpec("welder", "welder", RATE_HZ, (2,), "float32", ("current", "voltage"))
MOTION = StreamSpec("motion", "motion", 100.0, (1,), "float32", ("tcp_speed",))
STEPS = round(SECONDS * 100)
T = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ


def chunk(spec: StreamSpec, data: np.ndarray) -> Chunk:
    return Chunk(spec.name, 0, 0, 0, 0, data.astype(np.float32), ClockParams(0, ON_NS, spec.dt_ns))


def columns(
    current: np.ndarray, voltage: np.ndarray, speed: np.ndarray | None = None, spec: StreamSpec = WELDER
) -> dict[str, np.ndarray]:
    """Values by name, NaN where unknown."""
    steps = SensorSteps(ON_NS, (spec, MOTION))
    steps.push(chunk(spec, np.stack([current, voltage], 1)))
    if speed is not None:
        steps.push(chunk(MOTION, speed[:, None]))
    values, known = steps.get(0, STEPS)
    return dict(zip(SENSOR_FEATURES, np.where(known, values, np.nan).T, strict=True))


def shorting(rate_hz: float, jitter: float = 0.3, seed: int = 0) -> np.ndarray:
    """Voltage that falls to 4 V for 2.5 ms at this rate, its periods scattered as an arc's are."""
    rng = np.random.default_rng(seed)
    periods = (1 + jitter * rng.uniform(-1, 1, round(2 * rate_hz * SECONDS))) / rate_hz
    begins = np.cumsum(periods)
    since = T - begins[np.clip(np.searchsorted(begins, T, "right") - 1, 0, None)]
    return np.where((since >= 0) & (since < 2.5e-3), 4.0, 19.0)


@pytest.mark.parametrize("rate_hz", [20.0, 80.0, 150.0])
def test_short_circuits_are_counted(rate_hz: float) -> None:
    found = columns(np.full(T.shape, 150.0), shorting(rate_hz))
    assert np.mean(found["short_rate_hz"]) == pytest.approx(rate_hz, rel=0.05)
    assert np.mean(found["short_circuit"]) == pytest.approx(2.5e-3 * rate_hz, rel=0.05)


def test_without_current_nothing_is_shorted() -> None:
    assert columns(np.full(T.shape, 5.0), shorting(80.0))["short_rate_hz"].max() == 0.0


def test_a_pulsed_current_has_its_peak_base_and_rms() -> None:
    pulses = np.where(np.arange(T.size) % 50 < 20, 400.0, 60.0)  # 200 Hz, 40 % on
    found = columns(pulses, np.full(T.shape, 24.0))
    assert found["current_peak"] == pytest.approx(400.0, rel=1e-3)
    assert found["current_base"] == pytest.approx(60.0, rel=1e-3)
    assert found["current_rms"] == pytest.approx(np.sqrt(0.4 * 400**2 + 0.6 * 60**2), rel=0.01)
    assert found["voltage_rms"] == pytest.approx(24.0, rel=1e-4)
    assert found["voltage_slope"].max() == 0.0


def test_slopes_are_per_millisecond() -> None:
    saw = 100.0 + 20.0 * ((T * 1e3) % 10)  # 20 A a ms for 10 ms, falling by 200 A between two steps
    found = columns(saw, np.full(T.shape, 24.0))
    assert np.median(found["current_slope"]) == pytest.approx(20.0, rel=0.02)


def test_a_9_hz_log_has_levels_and_no_waveform() -> None:
    slow = dataclasses.replace(WELDER, rate_hz=9.0)
    found = columns(np.full(18, 150.0), np.full(18, 20.0), np.full(200, 5.0), slow)
    assert found["current_mean"] == pytest.approx(150.0)
    assert found["power_mean"] == pytest.approx(3000.0)
    assert found["energy_j_mm"] == pytest.approx(600.0)
    for name in WAVEFORM:
        assert np.isnan(found[name]).all(), name


def test_energy_per_mm_is_power_over_speed_and_unknown_while_the_robot_stands() -> None:
    speed = np.where(np.arange(STEPS) < 50, 0.0, 8.0)
    found = columns(np.full(T.shape, 200.0), np.full(T.shape, 20.0), speed)
    assert np.isnan(found["energy_j_mm"][:50]).all()
    assert found["energy_j_mm"][50:] == pytest.approx(4000.0 / 8.0)
    assert np.isnan(columns(np.full(T.shape, 200.0), np.full(T.shape, 20.0))["energy_j_mm"]).all()


def test_energy_is_of_instantaneous_power() -> None:
    wave = np.where(np.arange(T.size) % 2 == 0, 300.0, 100.0)
    found = columns(wave, wave / 10, np.full(STEPS, 10.0))
    assert found["energy_j_mm"] == pytest.approx((300 * 30 + 100 * 10) / 2 / 10)  # not 200 A · 20 V / 10


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_what_is_not_finite_does_not_depend_on_the_cut_either(data: st.DataObject) -> None:
    wide = dataclasses.replace(cell.WELDER, dtype="float32", scale=(), offset=())
    (whole,) = cell.seam_chunks(np.random.default_rng(0), 0.6)["welder"]
    physical = cell.WELDER.physical(whole.data)
    rng = np.random.default_rng(data.draw(st.integers(0, 5)))
    physical[rng.random(len(physical)) < 0.04, 0] = np.nan
    physical[4_000:4_300, 1] = np.inf
    whole = dataclasses.replace(whole, data=physical)

    def found(pieces: list[Chunk]) -> tuple[np.ndarray, str]:
        extractor = SeamExtractor(cell.seam(), (wide,), TinyBackbone())
        counts = FiniteCounts(cell.ON_NS, (wide,))
        for piece in pieces:
            extractor.push(piece)
            counts.push(piece)
        features = extractor.finish(dataclasses.replace(cell.window(np.random.default_rng(1), 0.6), views={}))
        with pytest.raises(ValueError, match=r"\d+ of \d+ samples of stream welder") as said:
            counts.check("s", 2)  # the first 0.2 s, where the gap lies
        return features.sensor, str(said.value)

    cuts = sorted(data.draw(st.sets(st.integers(1, whole.n - 1), max_size=8)))
    pieces = [whole.cut(a, b) for a, b in zip([0, *cuts], [*cuts, whole.n], strict=True)]
    values, said = found(pieces)
    wanted, wanted_said = found([whole])
    np.testing.assert_array_equal(values, wanted)
    assert np.isfinite(values).all()
    assert said == wanted_said
