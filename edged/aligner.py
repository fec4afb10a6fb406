"""The aligner: which items of which stream belong to a seam, each exactly once, to recorder and scorer.

One `Aligner` per open seam. Its window is `[arc_on - pre_roll, end of the last arc's last sample + post_roll)`. The
window's end moves while the arc burns, so nothing is emitted beyond what is certain to belong to the seam: every item
before `last current above the limit + post_roll` does, whatever comes later. That makes what the scorer
receives a function of the chunks' times only, not of when the engine happened to be called.

The recorder gets whole chunks up to the window's end (so `seq` stays unique and a replay cuts them again in the same
places); of the current it also gets what is needed to see the arc begin and end once more. No window holds any of the
torch's neighbouring arcs: it begins after the arc before and its current ends where the next arc begins, or a replay
would see a seam too many.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping

from drivers.base import Chunk, StreamSpec
from edged.config import StreamConfig
from edged.integrity import StreamMeter
from edged.ring import Ring
from edged.strike import SEARCH_NS, strike_residual_ms
from pipelines.window import Gap, Integrity

__all__ = ["LATE_WAIT_NS", "Aligner", "first_at"]

LATE_WAIT_NS = 1_000_000_000
"""How long after its end a window waits for streams that have not got there yet."""

BACKWARDS_NS = 5_000_000
"""A chunk that begins this much before the end of the one before it has a broken clock, and is not used."""

Emit = Callable[[Chunk], None]


class _Lane:
    """One stream of one seam."""

    def __init__(self, spec: StreamSpec, ring: Ring, start_ns: int, record_from_ns: int, arc_on_ns: int) -> None:
        self.spec = spec
        self.ring = ring
        self.meter = StreamMeter(spec)
        self.pending: deque[Chunk] = deque()
        self.strike: list[Chunk] = []
        self.motion: list[Chunk] = []
        self.last_seq = -1
        self.recorded_seq = -1
        self.head_ns: int | None = None
        self._start_ns = start_ns
        self._record_from_ns = record_from_ns
        self._arc_on_ns = arc_on_ns
        self.cap_ns = 2**62
        self._pushed_end_ns: int | None = None
        self.handled = 0

    def add(self, chunk: Chunk) -> None:
        """Queue a chunk of the ring; one that came before (by `seq`) is not taken twice."""
        if chunk.seq <= self.last_seq:
            return
        self.last_seq = chunk.seq
        self.head_ns = max(chunk.end_ns, self.head_ns or chunk.end_ns)
        self.pending.append(chunk)

    def emit(self, push_to_ns: int, record_to_ns: int, final: bool, push: Emit, record: Emit) -> None:
        """Hand out what lies before the limits; `final` cuts the chunk that straddles the window's end."""
        push_to_ns, record_to_ns = min(push_to_ns, self.cap_ns), min(record_to_ns, self.cap_ns)
        for chunk in self.pending:
            if chunk.seq > self.recorded_seq and chunk.t_ns < record_to_ns:
                self.recorded_seq = chunk.seq
                piece = _part(chunk, first_at(chunk, self._record_from_ns), first_at(chunk, self.cap_ns))
                if piece is not None and self.ring.valid(chunk):
                    record(piece)
        while self.pending:
            chunk = self.pending[0]
            stop = first_at(chunk, push_to_ns)
            if not final and stop < chunk.n:
                return
            self.pending.popleft()
            self._push(chunk, stop, push)

    def _push(self, chunk: Chunk, stop: int, push: Emit) -> None:
        piece = _part(chunk, first_at(chunk, self._start_ns), stop)
        if piece is None:
            return
        self.handled += 1
        backwards = self._pushed_end_ns is not None and piece.t_ns < self._pushed_end_ns - max(
            BACKWARDS_NS, round(1.5 * piece.dt_ns)
        )
        if backwards:
            self.meter.skip(piece, "clock_step")
        elif not self.ring.valid(chunk):
            self.meter.skip(piece, "overwritten")
        else:
            self._pushed_end_ns = piece.end_ns
            self.meter.add(piece)
            self._keep(piece)
            push(piece)

    def _keep(self, piece: Chunk) -> None:
        """Copies for what is computed at the end; the ring may have moved on by then."""
        search_ns = SEARCH_NS.get(self.spec.kind)
        if search_ns and piece.end_ns >= self._arc_on_ns - search_ns and piece.t_ns <= self._arc_on_ns + search_ns:
            self.strike.append(_copy(piece))
        if self.spec.kind == "motion":
            self.motion.append(_copy(piece))


class Aligner:
    """The window of one seam over the streams of its torch.

    Args:
        rings: the ring of every process stream that belongs to the seam's torch.
        current: name of the stream on which the torch's arcs are detected.
        edge_ns: how much of the current, before arc-on and after arc-off, a replay needs to see the same arcs.
        not_before_ns: end of the torch's arc before; the window begins no earlier.
        last_seq: per stream, the last chunk the engine has stepped through; younger ones will be added.
    """

    def __init__(
        self,
        rings: Mapping[str, Ring],
        current: str,
        arc_on_ns: int,
        pre_roll_ns: int,
        post_roll_ns: int,
        edge_ns: int,
        not_before_ns: int,
        last_seq: Mapping[str, int],
    ) -> None:
        self.arc_on_ns = arc_on_ns
        self._current = current
        self._post_roll_ns = post_roll_ns
        self._edge_ns = max(edge_ns, post_roll_ns)
        self._lanes: dict[str, _Lane] = {}
        start_ns = max(arc_on_ns - pre_roll_ns, not_before_ns)
        for name, ring in rings.items():
            edge_from_ns = max(arc_on_ns - max(edge_ns, pre_roll_ns), not_before_ns)
            record_from_ns = edge_from_ns if name == current else start_ns
            lane = _Lane(ring.spec, ring, start_ns, record_from_ns, arc_on_ns)
            for chunk in ring.slice(record_from_ns, 2**62):
                if chunk.seq <= last_seq.get(name, -1):
                    lane.add(chunk)
            lane.last_seq = max(lane.last_seq, last_seq.get(name, -1))
            self._lanes[name] = lane

    @property
    def specs(self) -> tuple[StreamSpec, ...]:
        """What will be pushed."""
        return tuple(lane.spec for lane in self._lanes.values())

    def add(self, chunk: Chunk) -> None:
        """Take a stamped chunk of the ring; streams of other torches are ignored."""
        lane = self._lanes.get(chunk.stream)
        if lane is not None:
            lane.add(chunk)

    def emit(self, last_high_end_ns: int, push: Emit, record: Emit, final: bool = False) -> None:
        """Hand out all that is certain to belong to a seam whose current was last seen until `last_high_end_ns`."""
        push_to_ns = last_high_end_ns + self._post_roll_ns
        for name, lane in self._lanes.items():
            record_to_ns = last_high_end_ns + self._edge_ns if name == self._current else push_to_ns
            lane.emit(push_to_ns, record_to_ns, final, push, record)

    def end_current_at(self, t_ns: int) -> None:
        """The torch's next seam began at `t_ns`: its current is none of this seam's."""
        self._lanes[self._current].cap_ns = t_ns

    def complete(self, arc_off_ns: int, now_ns: int) -> bool:
        """Whether every stream has reached the window's end, or need not be waited for any longer."""
        end_ns = arc_off_ns + self._post_roll_ns
        if now_ns > end_ns + LATE_WAIT_NS:
            return True
        return all(lane.head_ns is not None and lane.head_ns >= end_ns for lane in self._lanes.values())

    def recorded(self, stream: str, seq: int) -> bool:
        """Whether the recorder has this chunk already."""
        lane = self._lanes.get(stream)
        return lane is not None and seq <= lane.recorded_seq

    def integrity(
        self, arcs: tuple[tuple[int, int], ...], configs: Mapping[str, StreamConfig]
    ) -> tuple[dict[str, Integrity], tuple[Gap, ...]]:
        """Integrity of every stream over the arcs, and all gaps in time order."""
        found: dict[str, Integrity] = {}
        gaps: list[Gap] = []
        for name, lane in self._lanes.items():
            residual_ms = 0.0 if name == self._current else strike_residual_ms(lane.spec, lane.strike, self.arc_on_ns)
            found[name], of_lane = lane.meter.result(arcs, configs[name], residual_ms)
            gaps += of_lane
        return found, tuple(sorted(gaps, key=lambda gap: (gap.from_ns, gap.stream)))

    @property
    def handled(self) -> int:
        """Pieces of chunks so far that belong to the seam; where it grows, integrity may change."""
        return sum(lane.handled for lane in self._lanes.values())

    @property
    def motion(self) -> tuple[tuple[StreamSpec, list[Chunk]], ...]:
        """The motion streams with all that was pushed of them, for the length welded."""
        return tuple((lane.spec, lane.motion) for lane in self._lanes.values() if lane.spec.kind == "motion")

    @property
    def last_arrival_ns(self) -> int | None:
        """Arrival of the last chunk that was pushed."""
        return max(
            (t for lane in self._lanes.values() if (t := lane.meter.last_arrival_ns) is not None), default=None
        )


def first_at(chunk: Chunk, t_ns: int) -> int:
    """Index of the chunk's first item at or after `t_ns`; `chunk.n` when there is none."""
    if t_ns <= chunk.t_ns:
        return 0
    if chunk.n == 1:
        return 1
    if t_ns >= chunk.end_ns:
        return chunk.n
    return int(chunk.times_ns().searchsorted(t_ns))


def _part(chunk: Chunk, start: int, stop: int) -> Chunk | None:
    """Items `start..stop` of a chunk, itself where that is all of it; None where that is nothing."""
    if start >= stop:
        return None
    return chunk if stop - start == chunk.n else chunk.cut(start, stop)


def _copy(chunk: Chunk) -> Chunk:
    return dataclasses.replace(chunk, data=chunk.data.copy())
