"""Preallocated rings between a stream's thread (the one writer) and the engine (the one reader).

Data path: Driver → Stream → **Ring** → Engine. A ring is an arena of bytes with an index of chunks in time order.
A chunk never wraps: where it does not fit before the end of the arena, the rest is skipped and it starts at the
beginning, so every chunk is one contiguous view and `slice` copies nothing. The arena lies over any writable
buffer. Over a memfd it is shared with a capture child: the child writes the data, the parent only adopts it.

Overwriting is by design (a ring holds the last seconds), so a reader that works on a view for long asks `valid`
afterwards. Announcement, index entry and head are single stores, hence no lock.
"""

import dataclasses
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.arena import HEADER_BYTES, Arena, Buffer, fresh_buffer

__all__ = [
    "ImageRing",
    "Ring",
    "SampleRing",
    "check_data",
    "item_bytes",
    "make_ring",
    "ring_bytes",
]

MIN_ITEMS = 64
MIN_IMAGES = 16
MAX_CHUNKS = 65_536
MIN_IMAGE_BYTES = 256 * 1024
MAX_IMAGE_ARENA_BYTES = 256 * 1024 * 1024
MIN_IMAGE_ARENA_BYTES = 32 * 1024 * 1024
"""A slow result camera may give images of many megabytes each, and a ring must hold some of any size."""


class Ring(Protocol):
    """The last seconds of one stream. One thread appends, one other thread reads."""

    spec: StreamSpec
    arena: Arena

    def append(self, chunk: Chunk) -> Chunk:
        """Copy a stamped chunk in; returns it with `data` as a read-only view into the ring.

        Raises ValueError when it is not stamped, its `seq` does not grow, or it is larger than the ring.
        """
        ...

    def view(self, offset: int, n_bytes: int) -> NDArray[Any]:
        """What a capture child wrote at `offset`, shaped as this stream's `Chunk.data`."""
        ...

    def adopt(self, chunk: Chunk, offset: int) -> Chunk:
        """Index a stamped chunk whose data is already `view(offset, …)`; copies nothing."""
        ...

    def slice(self, from_ns: int, to_ns: int) -> list[Chunk]:
        """All items with `from_ns <= t < to_ns` still held, in order, as views cut at item borders."""
        ...

    def valid(self, chunk: Chunk) -> bool:
        """Whether the data of this chunk (or a cut of it) has not been overwritten."""
        ...

    @property
    def overwritten(self) -> int:
        """Items that have been overwritten since the start."""
        ...

    @property
    def head_ns(self) -> int | None:
        """End of the newest item; None when empty."""
        ...

    @property
    def tail_ns(self) -> int | None:
        """Time of the oldest item still held; None when empty."""
        ...


class _Entry(NamedTuple):
    number: int
    offset: int
    end_ns: int  # never falls from one entry to the next, so that it can be searched
    chunk: Chunk


class _IndexedArena:
    """An arena and its index: what both rings are."""

    def __init__(self, spec: StreamSpec, arena: Arena, max_chunks: int) -> None:
        self.spec = spec
        self.arena = arena
        self._entries: list[_Entry | None] = [None] * max_chunks
        self._chunks: list[Chunk | None] = [None] * max_chunks  # those of the entries, so that a run is one slice
        self._tail = 0  # number of the oldest entry held
        self._head = 0  # number of the next entry
        self._unsorted = -1  # number of the last entry that begins or ends before one before it
        self._overwritten = 0

    @property
    def overwritten(self) -> int:
        """Items that have been overwritten since the start."""
        return self._overwritten

    @property
    def head_ns(self) -> int | None:
        """End of the newest item; None when empty."""
        entry = self._entry(self._head - 1)
        return None if entry is None else entry.end_ns

    @property
    def tail_ns(self) -> int | None:
        """Time of the oldest item still held; None when empty."""
        return next((entry.chunk.t_ns for entry in self._held(self._tail)), None)

    def append(self, chunk: Chunk) -> Chunk:
        """Copy a stamped chunk in; see `Ring.append`."""
        self._check(chunk)
        check_data(self.spec, chunk.data)
        offset = self.arena.write(chunk.data)
        return self._index(dataclasses.replace(chunk, data=self.view(offset, chunk.data.nbytes)), offset)

    def adopt(self, chunk: Chunk, offset: int) -> Chunk:
        """Index a stamped chunk that a capture child wrote; see `Ring.adopt`."""
        self._check(chunk)
        return self._index(chunk, offset)

    def view(self, offset: int, n_bytes: int) -> NDArray[Any]:
        """The piece at `offset`, shaped as this stream's data."""
        raw = self.arena.view(offset, n_bytes)
        return raw if self.spec.encoded else raw.view(self.spec.dtype).reshape(-1, *self.spec.shape)

    def slice(self, from_ns: int, to_ns: int) -> list[Chunk]:
        """Items with `from_ns <= t < to_ns`; see `Ring.slice`.

        Only the chunks at both ends are looked at; what lies between is taken as one run.
        """
        numbers = range(self._tail, self._head)
        first = numbers.start + bisect_right(numbers, from_ns, key=self._end_ns)
        if self._unsorted > first:
            return self._slice_unsorted(first, from_ns, to_ns)
        found = self._run(first, numbers.stop)
        if to_ns <= self._end_ns(numbers.stop - 1):
            del found[bisect_left(found, to_ns, key=_begin_ns) :]
        # A rounding apart, one chunk at either end is cut; neighbours may overlap by a ns.
        begin, end = 0, len(found)
        while begin < end and found[begin].t_ns < from_ns:
            begin += 1
        while end > begin and found[end - 1].end_ns > to_ns:
            end -= 1
        ends = (found[:begin], found[end:])
        found[end:] = _cut_all(ends[1], from_ns, to_ns)
        found[:begin] = _cut_all(ends[0], from_ns, to_ns)
        return found

    def valid(self, chunk: Chunk) -> bool:
        """Whether this chunk's data is still there; see `Ring.valid`."""
        newest = self._entry(self._head - 1)
        if newest is None:
            return False
        # Sequences grow by one where no chunk was lost; where some were, it is searched.
        entry = self._entry(newest.number - (newest.chunk.seq - chunk.seq))
        if entry is None or entry.chunk.seq != chunk.seq:
            numbers = range(self._tail, self._head)
            entry = self._entry(numbers.start + bisect_right(numbers, chunk.seq, key=self._seq) - 1)
        return entry is not None and entry.chunk.seq == chunk.seq and entry.offset >= self.arena.oldest

    def _check(self, chunk: Chunk) -> None:
        if chunk.clock is None:
            raise ValueError(f"stream {chunk.stream}: chunk {chunk.seq} must be stamped before it enters the ring")
        last = self._entry(self._head - 1)
        if last is not None and chunk.seq <= last.chunk.seq:
            raise ValueError(f"stream {chunk.stream}: chunk {chunk.seq} came after {last.chunk.seq}; seq must grow")

    def _index(self, chunk: Chunk, offset: int) -> Chunk:
        self._evict()
        last = self._entry(self._head - 1)
        end_ns = chunk.end_ns
        if last is not None and (end_ns < last.end_ns or chunk.t_ns < last.chunk.t_ns):
            self._unsorted = self._head
            end_ns = max(end_ns, last.end_ns)
        at = self._head % len(self._entries)
        self._entries[at] = _Entry(self._head, offset, end_ns, chunk)
        self._chunks[at] = chunk
        self._head += 1
        return chunk

    def _evict(self) -> None:
        oldest = self.arena.oldest
        full = self._head - len(self._entries)
        while self._tail < self._head:
            entry = self._entry(self._tail)
            if entry is not None and entry.offset >= oldest and self._tail > full:
                return
            self._tail += 1
            self._overwritten += 0 if entry is None else entry.chunk.n

    def _entry(self, number: int) -> _Entry | None:
        entry = self._entries[number % len(self._entries)] if number >= self._tail else None
        return entry if entry is not None and entry.number == number else None

    def _held(self, first: int) -> Iterator[_Entry]:
        for number in range(first, self._head):
            entry = self._entry(number)
            if entry is not None and entry.offset >= self.arena.oldest:
                yield entry

    def _run(self, first: int, stop: int) -> list[Chunk]:
        """Chunks of the entries `first..stop` that are still held, by slices of the list of them."""
        size = len(self._chunks)
        begin, end = first % size, stop % size
        found = self._chunks[begin:end] if begin < end else self._chunks[begin:] + self._chunks[:end]
        found = found if first < stop else []
        # What the writer evicted meanwhile may be somebody else's by now, and what it announced is being overwritten.
        numbers = range(first, stop)
        gone = bisect_left(numbers, True, key=self._is_held)
        return found[gone:]  # type: ignore[return-value]  # slots of held entries are filled

    def _is_held(self, number: int) -> bool:
        entry = self._entry(number)
        return entry is not None and entry.offset >= self.arena.oldest

    def _slice_unsorted(self, first: int, from_ns: int, to_ns: int) -> list[Chunk]:
        """`slice`, chunk by chunk: a clock that stepped back leaves no order to search in."""
        chunks = []
        for entry in self._held(first):
            if entry.chunk.t_ns >= to_ns:
                break
            chunks.append(entry.chunk)
        return _cut_all(chunks, from_ns, to_ns)

    # The search may meet an entry that the writer is just evicting: it sorts first, and `_held` leaves it out.
    def _end_ns(self, number: int) -> int:
        entry = self._entry(number)
        return -1 if entry is None else entry.end_ns

    def _seq(self, number: int) -> int:
        entry = self._entry(number)
        return -1 if entry is None else entry.chunk.seq


def _first_at(chunk: Chunk, t_ns: int) -> int:
    """Index of the chunk's first item at or after `t_ns`; `chunk.n` when there is none."""
    n, clock = chunk.n, chunk.clock
    if clock is None or t_ns <= chunk.t_ns:
        return 0
    if n == 1:
        return 1
    index = min(max(math.ceil((t_ns - chunk.t_ns) / clock.ns_per_count), 0), n)
    while index > 0 and clock.t_ns(chunk.counter + index - 1) >= t_ns:
        index -= 1
    while index < n and clock.t_ns(chunk.counter + index) < t_ns:
        index += 1
    return index


def _cut_all(chunks: list[Chunk], from_ns: int, to_ns: int) -> list[Chunk]:
    """The items of each in `from_ns <= t < to_ns`; chunks without any are left out."""
    found = []
    for chunk in chunks:
        start, stop = _first_at(chunk, from_ns), _first_at(chunk, to_ns)
        if start < stop:
            found.append(chunk if stop - start == chunk.n else chunk.cut(start, stop))
    return found


def _begin_ns(chunk: Chunk) -> int:
    return chunk.t_ns


class SampleRing(_IndexedArena):
    """The last `capacity_items` items of a sampled stream (fewer by what was skipped at the wrap).

    Over a `buffer` (shared with a capture child) the capacity is what fits into it.
    """

    def __init__(self, spec: StreamSpec, capacity_items: int, buffer: Buffer | None = None) -> None:
        if spec.encoded:
            raise ValueError(f"stream {spec.name} carries encoded images; use an ImageRing")
        own = fresh_buffer(HEADER_BYTES + capacity_items * item_bytes(spec)) if buffer is None else buffer
        arena = Arena(own, item_bytes(spec), shared=buffer is not None)
        super().__init__(spec, arena, min(max(capacity_items, 1), MAX_CHUNKS))


class ImageRing(_IndexedArena):
    """The last images of an encoded stream: at most `capacity_bytes` and at most `max_items` of them."""

    def __init__(self, spec: StreamSpec, capacity_bytes: int, max_items: int, buffer: Buffer | None = None) -> None:
        if not spec.encoded:
            raise ValueError(f"stream {spec.name} carries samples; use a SampleRing")
        own = fresh_buffer(HEADER_BYTES + capacity_bytes) if buffer is None else buffer
        super().__init__(spec, Arena(own, shared=buffer is not None), max_items)


def check_data(spec: StreamSpec, data: NDArray[Any]) -> None:
    """Raises ValueError when data is not what the spec promised: a ring holds bytes and would not notice."""
    expected = "uint8 (n_bytes,)" if spec.encoded else f"{spec.dtype} (n, {', '.join(map(str, spec.shape))})"
    fits = data.ndim == 1 if spec.encoded else data.shape[1:] == spec.shape
    if not fits or data.dtype != np.dtype("uint8" if spec.encoded else spec.dtype):
        raise ValueError(f"stream {spec.name}: its driver gave {data.dtype} {data.shape}, its spec says {expected}")


def item_bytes(spec: StreamSpec) -> int:
    """Size of one item; 1 for encoded images, which are placed by the byte."""
    return 1 if spec.encoded else int(np.dtype(spec.dtype).itemsize * math.prod(spec.shape))


def _capacity_items(spec: StreamSpec, seconds: float) -> int:
    return max(math.ceil(spec.rate_hz * seconds), MIN_IMAGES if spec.encoded else MIN_ITEMS)


def ring_bytes(spec: StreamSpec, seconds: float) -> int:
    """Size of the buffer that holds `seconds` of this stream, header included.

    Images are assumed to take half a byte per pixel (JPEG at quality 90), 256 KiB where they are smaller or their
    size is unknown; all together between 32 and 256 MiB. Where they are larger the ring holds fewer seconds. Memory
    is committed as it is first written.
    """
    items = _capacity_items(spec, seconds)
    if not spec.encoded:
        return HEADER_BYTES + items * item_bytes(spec)
    image_bytes = max(math.prod(spec.shape) // 2, MIN_IMAGE_BYTES)
    return HEADER_BYTES + min(max(items * image_bytes, MIN_IMAGE_ARENA_BYTES), MAX_IMAGE_ARENA_BYTES)


def make_ring(spec: StreamSpec, seconds: float, buffer: Buffer | None = None) -> Ring:
    """The ring for `seconds` of a stream, over `buffer` (of `ring_bytes`) where a capture child writes it."""
    items = _capacity_items(spec, seconds)
    if spec.encoded:
        return ImageRing(spec, ring_bytes(spec, seconds) - HEADER_BYTES, items, buffer)
    return SampleRing(spec, items, buffer)
