"""The aligner's cuts against a plain filter on times, however the stream was cut and handed over."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.base import Chunk, ClockParams
from edged.aligner import Aligner
from edged.ring import Ring, make_ring
from tests.support.cell import MS, T0, stream_chunks, t, welder_spec

RATE_HZ = 2000.0
SPEC = welder_spec(rate_hz=RATE_HZ)


def chunks_of(sizes: list[int], wobble_ns: list[int]) -> list[Chunk]:
    """Chunks whose clocks differ a little from one to the next, as refitted ones do."""
    (whole,) = stream_chunks(SPEC, [(0.2, 0.4)], 0.0, sum(sizes) / RATE_HZ, block_s=60.0)
    found, at = [], 0
    for seq, n in enumerate(sizes):
        clock = ClockParams(0, T0 + wobble_ns[seq % len(wobble_ns)], 1e9 / RATE_HZ)
        found.append(dataclasses.replace(whole.cut(at, at + n), seq=seq, clock=clock))
        at += n
    return found


def times(pieces: list[Chunk]) -> list[int]:
    return [int(at) for piece in pieces for at in piece.times_ns()]


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=40),
    wobble_ns=st.lists(st.integers(0, 2_000), min_size=1, max_size=5),
    window=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    held=st.floats(0, 1),
)
def test_a_window_holds_the_items_of_its_time_and_each_once(
    sizes: list[int], wobble_ns: list[int], window: tuple[float, float], held: float
) -> None:
    chunks, ring = chunks_of(sizes, wobble_ns), make_ring(SPEC, 10.0)
    from_ns, to_ns = t(min(window)), t(max(window))
    before = round(held * len(chunks))  # in the ring when the arc begins; the rest comes later
    for chunk in chunks[:before]:
        ring.append(chunk)
    aligner = Aligner({"welder": ring}, "welder", from_ns, 0, 0, 0, 0, {"welder": before - 1})
    pushed: list[Chunk] = []
    recorded: list[Chunk] = []
    for chunk in chunks[before:]:
        aligner.add(ring.append(chunk))
        aligner.emit(min(chunk.t_ns, to_ns), pushed.append, recorded.append)
    aligner.emit(to_ns, pushed.append, recorded.append, final=True)
    wanted = [at for at in times(chunks) if from_ns <= at < to_ns]
    assert times(pushed) == wanted
    assert set(wanted) <= set(times(recorded))
    assert len(times(recorded)) == len(set(times(recorded)))


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    back_ms=st.lists(st.sampled_from([0, 0, 0, 3, 20]), min_size=1, max_size=7),
    window=st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)),
)
def test_a_slice_without_order_is_still_what_lies_before_the_first_chunk_beyond(
    sizes: list[int], back_ms: list[int], window: tuple[float, float]
) -> None:
    """A recorded clock that steps back: the reference reads chunk by chunk, from the first that can hold the time."""
    ring = make_ring(SPEC, 10.0)
    chunks = chunks_of(sizes, [-ms * MS for ms in back_ms])
    for chunk in chunks:
        ring.append(chunk)
    from_ns, to_ns = t(min(window)), t(max(window))
    ends = np.maximum.accumulate([chunk.end_ns for chunk in chunks])
    wanted = []
    for chunk in chunks[int(np.searchsorted(ends, from_ns, side="right")) :]:
        if chunk.t_ns >= to_ns:
            break
        wanted += [at for at in times([chunk]) if from_ns <= at < to_ns]
    assert times(ring.slice(from_ns, to_ns)) == wanted


@pytest.mark.parametrize("ring_s", [0.5, 5.0])
def test_what_the_ring_has_lost_is_not_handed_out(ring_s: float) -> None:
    ring: Ring = make_ring(SPEC, ring_s)
    chunks = chunks_of([100] * 40, [0])
    held = [ring.append(chunk) for chunk in chunks]
    valid = [chunk.seq for chunk in held if ring.valid(chunk)]
    assert [chunk.seq for chunk in ring.slice(0, 2**62)] == valid
    assert valid == list(range(40 - min(40, round(ring_s * RATE_HZ / 100)), 40))
