"""Clock models against simulated devices whose true times are known."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.clock import ArrivalClock, ClockModel, make_clock
from calibration.envelope import MAX_VERTICES, Hull, LowerEnvelope
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
    arrival_ns: int = 0

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
        stamped.append(Stamped(params, counter, true_start_ns, true_end_ns, round(arrival_ns)))
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
    is_capped = np.array([c.params.t_ns(c.counter + N) >= c.arrival_ns - 1 for c in stamped])
    assert np.abs(spacing[400:] * RATE_HZ / 1e9 - 1)[~is_capped[400:]].max() < 500e-6
    assert is_capped[400:].mean() < 0.02, "only where a chunk arrived earlier than the envelope knew"


def test_no_stamp_lies_after_its_arrival() -> None:
    stamped = run(ClockModel(RATE_HZ), 30.0, delay=lambda t: max(0.0, 0.7 - (t + 3.0) % 7.0))[100:]
    assert max(c.params.t_ns(c.counter + N) - c.arrival_ns for c in stamped) <= 1


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
    run(model, 20.0, ppm=1_000.0)
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


def lower_hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """All points that no line between two others passes below or through: the slow reference."""
    kept = []
    for i, (x, y) in enumerate(points):
        left = [(y - b) / (x - a) for a, b in points[:i]]
        right = [(b - y) / (a - x) for a, b in points[i + 1 :]]
        if not left or not right or max(left) < min(right):
            kept.append((x, y))
    return kept


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1_000)), min_size=1, max_size=40))
def test_the_hull_is_that_of_all_points(steps: list[tuple[int, int]]) -> None:
    hull, points, x = Hull(), [], 0
    for step, y in steps:
        x += step
        points.append((float(x), float(y)))
        hull.add(float(x), float(y))
    assert list(zip(hull.xs, hull.ys, strict=True)) == lower_hull(points)


@given(
    steps=st.lists(st.tuples(st.integers(1, 500), st.integers(0, 40_000_000)), min_size=2, max_size=200),
    drift=st.floats(-400e-6, 400e-6),
)
def test_the_envelope_is_later_than_no_arrival(steps: list[tuple[int, int]], drift: float) -> None:
    counter, arrivals = 0, []
    for n, late_ns in steps:
        counter += n
        arrivals.append((counter, T0_NS + round(counter * 1e5 * (1 + drift)) + late_ns))
    envelope = LowerEnvelope(1e5, *arrivals[0])
    for i, (counter, arrival_ns) in enumerate(arrivals[1:]):
        envelope.add(counter, arrival_ns)
        if i % 7 == 0:
            envelope.close_bin(counter, arrival_ns, 1e5)
        assert all(envelope.line.t_ns(c) <= at for c, at in arrivals[: i + 2])


@given(
    jitter=st.lists(st.integers(0, 20_000_000), min_size=300, max_size=600),
    cuts=st.lists(st.integers(1, N - 1), min_size=1, max_size=3, unique=True),
    ppm=st.floats(-200, 200),
)
def test_the_envelope_does_not_depend_on_how_the_stream_was_cut(
    jitter: list[int], cuts: list[int], ppm: float
) -> None:
    whole, pieces, arrival_ns = ClockModel(RATE_HZ), ClockModel(RATE_HZ), 0
    whole.update(0, T0_NS, 0)
    pieces.update(0, T0_NS, 0)
    for i, late_ns in enumerate(jitter):
        end_ns = T0_NS + round((i + 1) * N * 1e9 / RATE_HZ / (1 + ppm * 1e-6))
        arrival_ns = max(end_ns + late_ns, arrival_ns)
        a = whole.update((i + 1) * N, arrival_ns, N)
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), N], strict=True):
            b = pieces.update(i * N + end, arrival_ns, end - begin)
        assert pieces.line == whole.line
        # What is worked in by slewing is worked in piece by piece, so stamps agree to a few ns only.
        assert b.t_ns((i + 1) * N) == pytest.approx(a.t_ns((i + 1) * N), abs=2_000)


def test_memory_and_time_of_an_update_are_bounded() -> None:
    rng = np.random.default_rng(3)
    envelope, most = LowerEnvelope(1e7, 0, T0_NS), 0
    for i in range(1, 40_000):
        arrival_ns = T0_NS + i * 10_000_000 + int(rng.exponential(1.5e6))
        envelope.add(i, arrival_ns)
        if i % 50 == 0:
            envelope.close_bin(i, arrival_ns, 1e5)
        most = max(most, envelope.vertices)
    assert most < 60, "noise leaves a hull of logarithmic size"
    bent = Hull()
    for i in range(10 * MAX_VERTICES):
        bent.add(float(i), float(i * i))
    assert len(bent.xs) == MAX_VERTICES


def test_a_drift_that_changes_is_followed_within_two_windows() -> None:
    model = ClockModel(RATE_HZ)
    item_ns, t_ns, counter = 1e9 / RATE_HZ, float(T0_NS), 0
    rng = np.random.default_rng(5)
    for i in range(40_000):
        ppm = 20.0 if i < 15_000 else 35.0
        t_ns += N * item_ns / (1 + ppm * 1e-6)
        counter += N
        params = model.update(counter, round(t_ns + rng.exponential(1.5e6)), N)
    assert model.drift_ppm == pytest.approx(35.0, abs=1.0)
    assert params.t_ns(counter) == pytest.approx(t_ns, abs=100_000)
    assert model.steps == 0


def test_a_backlog_that_takes_long_to_be_worked_off_is_no_step() -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 70.0, delay=lambda t: max(0.0, 8.0 - (t - 30.0) / 2) if t >= 30.0 else 0.0)
    assert model.steps == 0
    assert np.abs(errors(stamped)[500:]).max() < 300_000


def test_a_starved_reader_that_falls_behind_is_no_step() -> None:
    model = ClockModel(RATE_HZ)
    stamped = run(model, 70.0, delay=lambda t: max(0.0, min(t - 30.0, 50.0 - t) / 5))
    assert model.steps == 0
    assert np.abs(errors(stamped)[500:]).max() < 300_000


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
