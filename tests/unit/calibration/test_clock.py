"""Clock models against simulated devices whose true times are known."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.clock import ArrivalClock, ClockModel, make_clock
from drivers.base import ClockParams, StreamSpec

RATE_HZ = 48_000.0
N = 480
T0_NS = 7_000_000_000
SECOND = 1_000_000_000


def delays_ns(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Delays as measured on a loaded machine: exponential with 1.5 ms, rarely 20 ms more."""
    return np.asarray(rng.exponential(1.5e6, n) + np.where(rng.random(n) < 0.02, 20e6, 0.0))


@dataclasses.dataclass
class Stamped:
    """One chunk: what it was stamped with and where its first item and its end truly lay."""

    params: ClockParams
    counter: int
    true_start_ns: float
    true_end_ns: float

    @property
    def error_ns(self) -> float:
        return self.params.t_ns(self.counter + N) - self.true_end_ns


def run(
    model: ClockModel,
    seconds: float,
    ppm: float = 37.0,
    seed: int = 1,
    delay: Callable[[float], float] = lambda t_s: 0.0,
    pause: Callable[[float], float] = lambda t_s: 0.0,
    jump: Callable[[float], int] = lambda t_s: 0,
    start_s: float = 0.0,
) -> list[Stamped]:
    """A device of RATE_HZ·(1+ppm); at t it is `delay` s late, has paused for `pause` s, its counter off by `jump`."""
    rng = np.random.default_rng(seed)
    item_ns = 1e9 / RATE_HZ / (1 + ppm * 1e-6)
    count = round(seconds * RATE_HZ / N)
    jitter = delays_ns(rng, count)
    stamped, last_arrival_ns = [], 0.0
    for i in range(count):
        t_s = start_s + i * N / RATE_HZ
        first = round(t_s * RATE_HZ)
        true_start_ns = T0_NS + first * item_ns + pause(t_s) * 1e9
        true_end_ns = true_start_ns + N * item_ns
        arrival_ns = max(true_end_ns + jitter[i] + delay(t_s) * 1e9, last_arrival_ns + 1)
        last_arrival_ns = arrival_ns
        counter = first + jump(t_s)
        params = model.update(counter + N, round(arrival_ns), N)
        stamped.append(Stamped(params, counter, true_start_ns, true_end_ns))
    return stamped


def errors(stamped: Iterable[Stamped]) -> NDArray[np.float64]:
    return np.array([chunk.error_ns for chunk in stamped])


def overlaps_ns(stamped: list[Stamped]) -> NDArray[np.int64]:
    """How far each chunk begins before the end of the one before it."""
    ends = [chunk.params.t_ns(chunk.counter + N) for chunk in stamped[:-1]]
    starts = [chunk.params.t_ns(chunk.counter) for chunk in stamped[1:]]
    return np.asarray(ends, np.int64) - np.asarray(starts, np.int64)


@pytest.mark.parametrize("ppm", [37.0, 50.0, -50.0, 0.0])
def test_a_minute_gives_the_rate_within_1_ppm_and_the_offset_within_100_us(ppm: float) -> None:
    model = ClockModel(RATE_HZ)
    last = errors(run(model, 70.0, ppm)[-1000:])
    assert model.drift_ppm == pytest.approx(ppm, abs=1.0)
    assert abs(last.mean()) < 100_000
    assert last.std() < 20_000
    assert 1_000 <= model.residual_ns < 100_000
    assert model.steps == 0


def test_settles_from_the_first_chunk_on() -> None:
    stamped = run(ClockModel(RATE_HZ), 20.0, 50.0)
    late = errors(stamped)
    assert late.min() > -200_000, "nothing is stamped before it was measured"
    assert late[0] < 25e6
    assert late[200:].max() < 400_000
    assert late[1000:].max() < 200_000


def test_stamps_are_one_continuous_growing_line() -> None:
    stamped = run(ClockModel(RATE_HZ), 30.0)
    assert np.abs(overlaps_ns(stamped)).max() <= 1
    spacing = np.array([chunk.params.ns_per_count for chunk in stamped])
    assert np.abs(spacing[400:] * RATE_HZ / 1e9 - 1).max() < 500e-6


def test_the_latency_is_subtracted() -> None:
    plain, late = run(ClockModel(RATE_HZ), 5.0), run(ClockModel(RATE_HZ, latency_ns=3_000_000), 5.0)
    assert np.allclose(errors(plain) - errors(late), 3e6, atol=200_000)


def test_a_backlog_at_opening_is_worked_off_without_overlap() -> None:
    stamped = run(ClockModel(RATE_HZ), 10.0, delay=lambda t: max(0.0, 0.8 - t))
    assert overlaps_ns(stamped).max() <= 1
    assert errors(stamped)[-500:].max() < 200_000


def test_a_stall_of_the_host_moves_no_stamp() -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 60.0, delay=lambda t: max(0.0, 35.0 - t) if t >= 30.0 else 0.0)
    assert model.steps == 0
    assert np.abs(errors(stamped)[500:]).max() < 300_000


def test_bursts_of_backlog_do_not_bend_the_line() -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 70.0, delay=lambda t: max(0.0, 0.7 - t % 7.0))
    assert model.drift_ppm == pytest.approx(37.0, abs=2.0)
    assert np.abs(errors(stamped)[2000:]).max() < 300_000


def test_a_device_that_paused_is_found_within_two_seconds() -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 60.0, pause=lambda t: 5.0 if t >= 30.0 else 0.0)
    assert model.steps == 1
    assert overlaps_ns(stamped).max() <= 1
    late = errors(stamped)
    assert late[3001] == pytest.approx(-5e9, abs=1e7), "stamped early until it is known"
    assert np.abs(late[3000 + 200 :]).max() < 25e6
    assert np.abs(late[-500:]).max() < 300_000


def test_samples_lost_without_a_count_are_found() -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 60.0, pause=lambda t: 0.010 if t >= 30.0 else 0.0)
    assert model.steps == 1
    assert np.abs(errors(stamped)[-2000:]).max() < 3e6


@pytest.mark.parametrize("jump", [48_000, 4_800, -480_000])
def test_a_counter_step_begins_a_new_line_at_once(jump: int) -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 60.0, jump=lambda t: jump if t >= 30.0 else 0)
    assert model.steps == 1
    late = errors(stamped)
    assert np.abs(late[3000:]).max() < 30e6
    assert np.abs(late[-500:]).max() < 300_000
    starts = [chunk.params.t_ns(chunk.counter) for chunk in stamped]
    assert np.diff(starts).min() > 0


def test_a_counter_that_restarts_at_zero_after_reset() -> None:
    model = ClockModel(RATE_HZ)
    run(model, 10.0)
    model.reset()
    again = run(model, 10.0, jump=lambda t: -round(15.0 * RATE_HZ), start_s=15.0)
    assert model.steps == 0
    assert np.abs(errors(again)).max() < 30e6
    assert np.abs(errors(again)[-200:]).max() < 300_000


def test_losses_that_are_counted_are_no_step() -> None:
    model = ClockModel(RATE_HZ)
    run(model, 10.0)
    stamped = run(model, 10.0, start_s=14.0)
    assert model.steps == 0
    assert np.abs(errors(stamped)).max() < 1e6


def test_a_rate_beyond_500_ppm_is_not_believed() -> None:
    model = ClockModel(RATE_HZ)
    run(model, 3.5, ppm=5_000.0)
    assert model.drift_ppm == pytest.approx(500.0, abs=1.0)


@given(
    chunks=st.lists(
        st.tuples(st.integers(0, 2_000), st.integers(-3_000, 100_000), st.integers(0, 3_000_000_000)), max_size=80
    )
)
def test_whatever_comes_items_never_go_back(chunks: list[tuple[int, int, int]]) -> None:
    model, counter, arrival_ns, last_end = ClockModel(10_000.0), 0, 0, None
    for n, skip, wait_ns in chunks:
        counter = max(counter + skip, 0)
        arrival_ns += wait_ns
        params = model.update(counter + n, arrival_ns, n)
        start_ns, end_ns = params.t_ns(counter), params.t_ns(counter + n)
        assert end_ns >= start_ns
        assert params.ns_per_count > 0
        if last_end is not None:
            assert start_ns >= last_end - 100
        counter += n
        last_end = end_ns


def test_a_clock_needs_a_rate() -> None:
    with pytest.raises(ValueError, match="positive rate"):
        ClockModel(0.0)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 200_000_000)), min_size=1, max_size=50))
def test_arrival_stamps_grow_strictly(chunks: list[tuple[int, int]]) -> None:
    clock, counter, arrival_ns, last = ArrivalClock(30.0, latency_ns=5_000_000), 0, SECOND, -1
    for n, wait_ns in chunks:
        counter += n
        arrival_ns += wait_ns
        params = clock.update(counter, arrival_ns, n)
        times = [params.t_ns(counter - n + i) for i in range(n)]
        assert times[0] > last
        assert times == sorted(times)
        assert times[-1] >= arrival_ns - 5_000_000 - 1
        last = times[-1]


def test_arrival_is_the_frame_time_less_the_latency() -> None:
    spec = StreamSpec("camera", "video", 30.0, (480, 640), "uint8", tick="arrival")
    clock = make_clock(spec, latency_ns=4_000_000)
    assert [clock.update(i + 1, SECOND * i).t_ns(i) for i in (1, 2, 5)] == [SECOND * i - 4_000_000 for i in (1, 2, 5)]
    assert isinstance(make_clock(dataclasses.replace(spec, tick="counter")), ClockModel)
