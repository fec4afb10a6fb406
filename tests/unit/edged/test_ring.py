"""Rings against a plain list, over any cutting of the stream."""

import dataclasses
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.arena import HEADER_BYTES, Arena
from edged.ring import ImageRing, SampleRing, make_ring, ring_bytes

WELDER = StreamSpec("welder", "welder", 10_000.0, (3,), "int16", ("current", "voltage", "wire_feed_speed"))
CAMERA = StreamSpec("camera", "video", 30.0, (480, 640), "uint8")
CLOCK = ClockParams(0, 1_000_000, 100_003.7)


def samples(seq: int, counter: int, n: int, lost_before: int = 0) -> Chunk:
    data = (np.arange(counter * 3, (counter + n) * 3) % 30_000).astype(np.int16).reshape(n, 3)
    return Chunk("welder", seq, counter, 0, lost_before, data, CLOCK)


def image(seq: int, n_bytes: int) -> Chunk:
    data = np.full(n_bytes, seq % 251, np.uint8)
    return Chunk("camera", seq, seq, 0, 0, data, ClockParams(0, 500, 33_333_333.3))


def rows(chunks: list[Chunk]) -> list[tuple[int, int, list[int]]]:
    return [
        (chunk.seq, int(t), row.tolist())
        for chunk in chunks
        for t, row in zip(chunk.times_ns(), chunk.data, strict=True)
    ]


class SlowRing:
    """The reference: keeps every chunk and finds out the plain way which still lie in the arena."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.next = 0
        self.all: list[tuple[int, Chunk]] = []

    def append(self, chunk: Chunk, size: int) -> None:
        if self.next % self.capacity + size > self.capacity:
            self.next += self.capacity - self.next % self.capacity
        self.all.append((self.next, chunk))
        self.next += size

    def held(self) -> list[Chunk]:
        return [chunk for start, chunk in self.all if start >= self.next - self.capacity]


@given(
    capacity=st.integers(10, 60),
    chunks=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 5)), min_size=1, max_size=60),
    span=st.tuples(st.floats(-0.1, 1.1), st.floats(-0.1, 1.1)),
    nudge_ns=st.integers(-1, 1),
)
def test_sample_ring_is_a_list_that_forgets(
    capacity: int, chunks: list[tuple[int, int]], span: tuple[float, float], nudge_ns: int
) -> None:
    ring, slow, counter = SampleRing(WELDER, capacity), SlowRing(capacity), 0
    for seq, (n, lost) in enumerate(chunks):
        counter += lost
        chunk = samples(seq, counter, n, lost)
        counter += n
        view = ring.append(chunk)
        slow.append(chunk, n)
        assert np.array_equal(view.data, chunk.data)
        assert dataclasses.replace(view, data=chunk.data).clock == chunk.clock
    held = slow.held()
    assert rows(ring.slice(0, 2**62)) == rows(held)
    assert ring.overwritten == sum(chunk.n for _, chunk in slow.all) - sum(chunk.n for chunk in held)
    assert (ring.tail_ns, ring.head_ns) == (held[0].t_ns, held[-1].end_ns)
    assert [ring.valid(chunk) for _, chunk in slow.all] == [
        any(chunk is kept for kept in held) for _, chunk in slow.all
    ]
    last_ns = held[-1].end_ns
    from_ns, to_ns = (round(share * last_ns) + nudge_ns for share in span)
    expected = [row for row in rows(held) if from_ns <= row[1] < to_ns]
    assert rows(ring.slice(from_ns, to_ns)) == expected


@given(st.integers(0, 40), st.integers(0, 40))
def test_cuts_are_half_open_at_item_borders(first: int, last: int) -> None:
    ring = SampleRing(WELDER, 100)
    for seq in range(4):
        ring.append(samples(seq, seq * 10, 10))
    from_ns, to_ns = CLOCK.t_ns(first), CLOCK.t_ns(last)
    counters = [chunk.counter + i for chunk in ring.slice(from_ns, to_ns) for i in range(chunk.n)]
    assert counters == list(range(first, last))


def test_slices_are_views_and_keep_lost_before_on_the_first_piece_only() -> None:
    ring = SampleRing(WELDER, 100)
    chunk = ring.append(samples(0, 5, 20, lost_before=5))
    whole, tail = ring.slice(0, 2**62), ring.slice(CLOCK.t_ns(10), 2**62)
    assert np.shares_memory(whole[0].data, chunk.data)
    assert np.shares_memory(tail[0].data, chunk.data)
    assert (whole[0].lost_before, tail[0].lost_before, tail[0].counter) == (5, 0, 10)
    with pytest.raises(ValueError, match="read-only"):
        chunk.data[0, 0] = 1


@given(capacity=st.integers(100, 300), sizes=st.lists(st.integers(0, 100), min_size=1, max_size=60))
def test_image_ring_is_a_list_that_forgets(capacity: int, sizes: list[int]) -> None:
    ring, slow = ImageRing(CAMERA, capacity, max_items=1000), SlowRing(capacity)
    for seq, size in enumerate(sizes):
        ring.append(image(seq, size))
        slow.append(image(seq, size), size)
    found, held = ring.slice(0, 2**62), slow.held()
    assert [(c.seq, c.data.tobytes()) for c in found] == [(c.seq, c.data.tobytes()) for c in held]
    assert ring.overwritten == len(sizes) - len(held)


def test_image_ring_holds_at_most_max_items() -> None:
    ring = ImageRing(CAMERA, 10_000, max_items=4)
    for seq in range(10):
        ring.append(image(seq, 10))
    assert [chunk.seq for chunk in ring.slice(0, 2**62)] == [6, 7, 8, 9]
    assert ring.overwritten == 6


def test_items_are_found_although_a_later_chunk_stepped_back() -> None:
    ring = SampleRing(WELDER, 300)
    ring.append(samples(0, 0, 100))
    for seq, t_ms in ((1, 2), (2, 3)):
        clock = ClockParams(99 + seq, t_ms * 1_000_000, 100_000.0)
        ring.append(dataclasses.replace(samples(seq, 99 + seq, 1), clock=clock))
    assert [c.seq for c in ring.slice(CLOCK.t_ns(50), CLOCK.t_ns(51))] == [0]
    assert ring.head_ns == CLOCK.t_ns(100)


def test_adopted_chunks_are_what_the_other_side_wrote() -> None:
    buffer = bytearray(ring_bytes(WELDER, 0.02))
    child = Arena(buffer, item_bytes=6, shared=True)
    ring = make_ring(WELDER, 0.02, buffer)
    written: list[Chunk] = []
    for seq in range(30):
        chunk = samples(seq, seq * 20, 20)
        offset = child.write(chunk.data)
        view = ring.view(offset, chunk.data.nbytes)
        assert np.array_equal(view, chunk.data)
        written.append(ring.adopt(dataclasses.replace(chunk, data=view), offset))
    held = ring.slice(0, 2**62)
    assert [c.seq for c in held] == list(range(held[0].seq, 30))
    assert all(np.array_equal(c.data, samples(c.seq, c.counter, 20).data) for c in held)
    assert 5 <= len(held) <= 10
    oldest = held[0]
    child.write(samples(99, 0, 20).data)
    assert not ring.valid(oldest), "announced by the child, so gone for the reader before it hears of it"


def test_a_new_writer_continues_after_what_was_announced() -> None:
    buffer = bytearray(ring_bytes(WELDER, 0.02))
    first = Arena(buffer, item_bytes=6, shared=True)
    last = first.write(samples(0, 0, 20).data)
    again = Arena(buffer, item_bytes=6, shared=True).write(samples(1, 20, 20).data)
    assert again >= last + 20 * 6
    assert again % 6 == 0


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Threads that switch as often as they can."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("eager_threads")
def test_a_reader_beside_the_writer_never_believes_overwritten_data() -> None:
    ring = SampleRing(WELDER, 200_000)
    blocks = [np.full((20_000, 3), value, np.int16) for value in range(251)]

    def write() -> None:
        for seq in range(4_000):
            ring.append(Chunk("welder", seq, seq * 20_000, 0, 0, blocks[seq % 251], CLOCK))

    writer = threading.Thread(target=write)
    writer.start()
    believed = 0
    while writer.is_alive():
        for chunk in ring.slice(0, 2**62):
            copy = chunk.data.copy()
            if ring.valid(chunk):
                believed += 1
                assert (copy == chunk.seq % 251).all()
    writer.join()
    assert believed > 0


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (dataclasses.replace(samples(1, 0, 5), clock=None), "stamped"),
        (samples(0, 0, 5), "seq must grow"),
        (samples(1, 0, 101), "raise ring_s"),
        (dataclasses.replace(samples(1, 0, 5), data=np.zeros((5, 3), np.int32)), "gave int32"),
        (dataclasses.replace(samples(1, 0, 5), data=np.zeros((5, 2), np.int16)), "its spec says"),
    ],
)
def test_refusals_name_the_problem(chunk: Chunk, message: str) -> None:
    ring = SampleRing(WELDER, 100)
    ring.append(samples(0, 0, 5))
    with pytest.raises(ValueError, match=message):
        ring.append(chunk)
    assert len(ring.slice(0, 2**62)) == 1


@pytest.mark.parametrize(("offset", "n_bytes"), [(-6, 6), (594, 12), (0, 606)])
def test_a_view_outside_the_arena_is_refused(offset: int, n_bytes: int) -> None:
    with pytest.raises(ValueError, match="do not lie inside"):
        SampleRing(WELDER, 100).view(offset, n_bytes)


def test_kinds_and_rings_must_match() -> None:
    with pytest.raises(ValueError, match="ImageRing"):
        SampleRing(CAMERA, 10)
    with pytest.raises(ValueError, match="SampleRing"):
        ImageRing(WELDER, 10, 10)
    with pytest.raises(ValueError, match="holds no item"):
        Arena(bytearray(64))


@pytest.mark.parametrize("spec", [WELDER, CAMERA])
def test_an_empty_ring_is_empty(spec: Any) -> None:
    ring = make_ring(spec, 1.0)
    assert (ring.head_ns, ring.tail_ns, ring.overwritten, ring.slice(0, 2**62)) == (None, None, 0, [])


@pytest.mark.parametrize(
    ("shape", "rate_hz", "seconds", "mib"),
    [((0, 0), 30.0, 30.0, 225), ((0, 0), 60.0, 60.0, 256), ((1080, 1920), 30.0, 30.0, 256), ((0, 0), 0.1, 30.0, 32)],
)
def test_an_image_ring_is_sized_by_time_within_bounds(
    shape: tuple[int, int], rate_hz: float, seconds: float, mib: int
) -> None:
    spec = dataclasses.replace(CAMERA, shape=shape, rate_hz=rate_hz)
    assert ring_bytes(spec, seconds) == HEADER_BYTES + mib * 1024 * 1024


def test_a_ring_takes_memory_only_as_it_is_written() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    ring = make_ring(CAMERA, 30.0)
    assert ring.arena.capacity_bytes > 200e6
    assert process.memory_info().rss - before < 20e6
    for seq in range(60):
        ring.append(image(seq, 1_000_000))
    assert 50e6 < process.memory_info().rss - before < 100e6
