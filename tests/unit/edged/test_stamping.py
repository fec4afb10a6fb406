"""Sequence, counter and losses over reconnections and counter steps."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Chunk, ClockParams, StreamKind, StreamSpec
from edged.stamping import Stamper

SECOND = 1_000_000_000
MS = 1_000_000
WELDER = StreamSpec("welder", "welder", 1_000.0, (1,), "int16", ("current",))
CAMERA = StreamSpec("camera", "video", 25.0, (4, 4), "uint8", tick="arrival")


def block(counter: int, end_ms: float, n: int = 10, lost: int = 0, seq: int = 0) -> Chunk:
    return Chunk("raw", seq, counter, round(end_ms * MS), lost, np.zeros((n, 1), np.int16))


def frame(counter: int, t_ms: float, lost: int = 0) -> Chunk:
    return Chunk("raw", 0, counter, round(t_ms * MS), lost, np.zeros(5, np.uint8))


def test_a_stream_keeps_its_counter_and_gets_its_own_name_and_sequence() -> None:
    stamper = Stamper(WELDER)
    chunks = [stamper.stamp(block(700 + 10 * i, 10 * i + 10, seq=99)) for i in range(3)]
    assert [(c.stream, c.seq, c.counter, c.lost_before) for c in chunks] == [
        ("welder", i, 700 + 10 * i, 0) for i in range(3)
    ]
    assert (stamper.items, stamper.lost, stamper.gaps) == (30, 0, 0)


@pytest.mark.parametrize("told", [0, 40])
def test_a_counter_that_jumps_ahead_in_step_with_time_has_lost_items(told: int) -> None:
    stamper = Stamper(WELDER)
    stamper.stamp(block(0, 10))
    after = stamper.stamp(block(50, 60, lost=told))
    assert (after.counter, after.lost_before) == (50, 40)
    assert (stamper.lost, stamper.gaps) == (40, 1)


def test_losses_the_driver_knows_without_a_counter_are_kept() -> None:
    stamper = Stamper(CAMERA)
    stamper.stamp(frame(0, 0))
    assert stamper.stamp(frame(1, 120, lost=2)).lost_before == 2


@pytest.mark.parametrize("jump", [5_000, 2**32, -990])
def test_a_counter_that_steps_without_time_passing_has_lost_nothing(jump: int) -> None:
    stamper = Stamper(WELDER)
    for i in range(100):
        stamper.stamp(block(1000 + 10 * i, 10 * i + 10))
    after = [stamper.stamp(block(1000 + jump + 10 * i, 10 * i + 10)) for i in range(100, 110)]
    assert [c.counter for c in after] == [1000 + 10 * i for i in range(100, 110)]
    assert stamper.lost == 0


def test_after_reopening_time_tells_what_is_missing() -> None:
    stamper = Stamper(WELDER)
    stamper.stamp(block(0, 10))
    before = stamper.stamp(block(10, 20))
    stamper.reopened()
    after = stamper.stamp(block(0, 1_030))
    assert (after.seq, after.counter, after.lost_before) == (2, 1_020, 1_000)
    assert after.t_ns == before.end_ns + SECOND
    assert stamper.stamp(block(10, 1_040)).lost_before == 0


def test_a_counter_that_went_on_while_closed_is_believed_where_time_agrees() -> None:
    stamper = Stamper(WELDER)
    stamper.stamp(block(0, 10))
    stamper.reopened()
    assert stamper.stamp(block(1_000, 1_030)).lost_before == 990, "20 ms late, but the counter knows"
    stamper.reopened()
    assert stamper.stamp(block(9_000, 2_030)).lost_before == 990, "the counter ran away, so time tells"


def test_frames_missing_after_reopening() -> None:
    stamper = Stamper(CAMERA)
    stamper.stamp(frame(7, 0))
    stamper.reopened()
    after = stamper.stamp(frame(0, 1_000))
    assert (after.counter, after.lost_before) == (8 + 24, 24)
    assert after.t_ns == SECOND


@pytest.mark.parametrize("kind", ["result", "profile"])
def test_kinds_that_wait_for_a_trigger_miss_nothing_by_silence(kind: StreamKind) -> None:
    stamper = Stamper(dataclasses.replace(CAMERA, kind=kind))
    stamper.stamp(frame(0, 0))
    stamper.reopened()
    after = stamper.stamp(frame(0, 60_000))
    assert (after.counter, after.lost_before) == (1, 0)


@pytest.mark.parametrize("pause_ms", [3_000, 60_000])
def test_a_profiler_that_counts_only_during_its_scans_is_on_time_from_the_first_row_of_each(pause_ms: int) -> None:
    stamper = Stamper(dataclasses.replace(WELDER, kind="profile", rate_hz=100.0))
    for i in range(300):
        stamper.stamp(block(i, 10 * i + 10, n=1))
    scan = [stamper.stamp(block(300 + i, 3_000 + pause_ms + 10 * i + 10, n=1)) for i in range(200)]
    for i, chunk in enumerate(scan):
        assert chunk.t_ns == pytest.approx((3_000 + pause_ms + 10 * i) * MS, abs=MS)
    assert stamper.lost == 0


def test_a_free_running_profiler_keeps_its_clock_when_rows_come_late() -> None:
    stamper = Stamper(dataclasses.replace(WELDER, kind="profile", rate_hz=100.0))
    for i in range(300):
        stamper.stamp(block(i, 10 * i + 10, n=1))
    late = [stamper.stamp(block(300 + i, 4_500, n=1)) for i in range(150)]
    assert [round(chunk.t_ns / MS) for chunk in late] == [3_000 + 10 * i for i in range(150)]


def test_a_device_that_paused_without_losing_count_shows_as_lost() -> None:
    stamper = Stamper(WELDER)
    for i in range(1_000):
        stamper.stamp(block(10 * i, 10 * i + 10))
    for i in range(1_000, 1_300):
        stamper.stamp(block(10 * i, 10 * i + 5_010))
    assert stamper.lost == pytest.approx(5_000, abs=20)
    assert stamper.gaps == 1


def test_the_latency_is_subtracted() -> None:
    plain, late = Stamper(WELDER).stamp(block(0, 50)), Stamper(WELDER, 3 * MS).stamp(block(0, 50))
    assert plain.t_ns - late.t_ns == 3 * MS


def test_a_recorded_chunk_keeps_its_stamp() -> None:
    stamper, clock = Stamper(WELDER), ClockParams(7, 5 * SECOND, 1_000_001.0)
    found = stamper.stamp(block(100, 3, lost=4).stamped(clock))
    assert (found.clock, found.counter, found.lost_before) == (clock, 100, 4)


COUNTED = dataclasses.replace(CAMERA, tick="counter")


def test_counted_frames_are_stamped_by_the_envelope_and_not_by_each_arrival() -> None:
    late_ms = [0, 9, 3, 0, 14, 1, 0, 30, 2, 5]
    stamper = Stamper(COUNTED, 18 * MS)
    frames = [stamper.stamp(frame(k, 40.0 * k + late_ms[k % 10])) for k in range(500)]
    off_ms = [chunk.t_ns / MS - (40 * k - 18) for k, chunk in enumerate(frames)]
    assert max(abs(off) for off in off_ms[100:]) < 0.2
    assert (stamper.lost, stamper.clock.steps) == (0, 0)


def test_a_frame_lost_unseen_is_found_by_the_counted_camera() -> None:
    stamper = Stamper(COUNTED)
    for k in range(500):
        last = stamper.stamp(frame(k, 40.0 * (k + (k >= 250))))
    assert stamper.lost == 1
    assert last.t_ns == pytest.approx(40 * 500 * MS, abs=2 * MS)


def test_a_new_latency_moves_stamps_both_ways_and_never_back() -> None:
    stamper = Stamper(WELDER)
    stamps = []
    for i in range(3_000):
        if i in (1_000, 2_000):
            stamper.set_latency(20 * MS if i == 1_000 else 0)
        stamps.append(stamper.stamp(block(10 * i, 10 * i + 10)))
    assert stamps[999].t_ns == pytest.approx(9_990 * MS, abs=1_000)
    assert stamps[1_100].t_ns == pytest.approx(11_000 * MS - 20 * MS, abs=1_000)
    assert stamps[2_100].t_ns == pytest.approx(21_000 * MS, abs=1_000)
    assert min(b.t_ns - a.end_ns for a, b in itertools.pairwise(stamps)) >= -1
    assert stamper.lost == 0


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(-200, 200), st.integers(0, 400), st.booleans()), max_size=60)
)
def test_whatever_comes_sequence_counter_and_time_grow(steps: list[tuple[int, int, int, bool]]) -> None:
    stamper, counter, now_ms, last = Stamper(WELDER), 0, 0, None
    for n, skip, wait_ms, is_reopened in steps:
        if is_reopened:
            stamper.reopened()
        counter = max(0, counter + skip)
        now_ms += wait_ms
        chunk = stamper.stamp(block(counter, now_ms, n))
        counter += n
        if last is not None:
            assert chunk.seq == last.seq + 1
            assert (
                chunk.counter == last.counter + last.n + chunk.lost_before or chunk.counter == last.counter + last.n
            )
            assert chunk.t_ns >= last.end_ns - 100
        last = chunk
