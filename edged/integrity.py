"""How much of a stream a seam has: coverage, gaps, lost items, and what that makes of the stream.

One `StreamMeter` a stream and open seam, fed by the aligner with exactly the chunks that the scorer gets, so a replay
measures the same. Coverage comes from the items' times, not from counting: data that does not touch the next is a
gap, whatever the driver says.

What an item covers: in sampled streams one period. Images, and streams that are stamped on arrival, come irregularly:
their items cover up to `JITTER_PERIODS` periods, until the next item.
"""

import dataclasses

import numpy as np

from drivers.base import Chunk, StreamSpec
from edged.config import StreamConfig
from pipelines.window import Gap, Integrity

__all__ = ["MAX_LISTED_GAPS", "StreamMeter", "stream_state"]

JITTER_PERIODS = 2.0
"""An irregular stream's next item may come this many periods after the last before that is a gap."""

MIN_GAP_NS = 1_000_000
"""Shorter jumps are a clock model's corrections."""

MAX_LISTED_GAPS = 100
"""Gaps listed by a seam's window per stream (the longest ones); all of them count."""

MAX_DEAD_NS = 50_000_000
"""A microphone whose samples are all one number for longer is silent, not quiet: noise moves the last bit."""

Span = tuple[int, int]


@dataclasses.dataclass(slots=True)
class _Hole:
    """Missing data before a span: why, and how many items the driver knows to be lost."""

    lost: int
    reason: str


class StreamMeter:
    """What one stream delivered to one seam. Times are host monotonic ns."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self._irregular = spec.encoded or spec.tick == "arrival"
        self._is_audio = spec.kind == "audio"
        self._spans: list[Span] = []
        self._holes: list[_Hole] = []  # one per span: what lies before it
        self._pending = _Hole(0, "no_data")
        self._items: list[tuple[int, int, int]] = []  # (from, to, items) per chunk, merged while contiguous
        self._next_counter: int | None = None
        self._dead_from_ns: int | None = None
        self._dead_value: float | None = None
        self.last_arrival_ns: int | None = None

    def add(self, chunk: Chunk, start_ns: int | None = None, end_ns: int | None = None) -> None:
        """Take a chunk that goes to the scorer; its `t_ns` and `end_ns` where they are known already."""
        start_ns = chunk.t_ns if start_ns is None else start_ns
        end_ns = chunk.end_ns if end_ns is None else end_ns
        self.last_arrival_ns = max(chunk.arrival_ns, self.last_arrival_ns or chunk.arrival_ns)
        if self._is_audio and self._is_dead(chunk):
            self._next_counter = chunk.counter + chunk.n
            return
        items_end_ns = end_ns
        if self._irregular:
            end_ns += round((JITTER_PERIODS - 1) * chunk.dt_ns)
        lost = chunk.lost_before + self._pending.lost
        contiguous = self._next_counter is None or chunk.counter == self._next_counter
        if self._spans and lost == 0 and start_ns - self._spans[-1][1] <= self._tolerance_ns(chunk):
            self._extend(start_ns, end_ns)
        else:
            reason = self._pending.reason
            if reason == "no_data" and self._spans and not (self._irregular and contiguous and lost == 0):
                reason = "clock_step" if contiguous and lost == 0 else "lost"
            self._spans.append((start_ns, max(end_ns, start_ns)))
            self._holes.append(_Hole(lost, reason))
        self._count(start_ns, items_end_ns, chunk.n)
        self._pending = _Hole(0, "no_data")
        self._next_counter = chunk.counter + chunk.n

    def skip(self, chunk: Chunk, reason: str) -> None:
        """Note that `chunk` could not be used (overwritten in the ring, its time ran backwards)."""
        self._pending = _Hole(self._pending.lost + chunk.lost_before + chunk.n, reason)
        self._next_counter = chunk.counter + chunk.n

    def result(
        self, arcs: tuple[Span, ...], config: StreamConfig, residual_ms: float | None
    ) -> tuple[Integrity, list[Gap]]:
        """Integrity over the seam's arcs, and the gaps between its first arc-on and its last arc-off."""
        gaps = self._gaps(arcs[0][0], arcs[-1][1])
        arc_ns = sum(off - on for on, off in arcs)
        covered_ns = sum(_overlap(span, arc) for span in self._merged() for arc in arcs)
        coverage = min(covered_ns / arc_ns, 1.0) if arc_ns > 0 else float(bool(self._spans))
        items = sum(_share(entry, arcs[0][0], arcs[-1][1]) for entry in self._items)
        # Stamps that ran backwards leave no hole in time: there the lost items say how much is missing.
        longest_ms = max(
            (max(gap.to_ns - gap.from_ns, gap.lost_items * self.spec.dt_ns) / 1e6 for gap in gaps), default=0.0
        )
        integrity = Integrity(
            stream=self.spec.name,
            kind=self.spec.kind,
            coverage=coverage,
            items=items,
            lost_items=self._lost(gaps, items, arcs[-1][1] - arcs[0][0]),
            gaps=len(gaps),
            longest_gap_ms=longest_ms,
            sync_residual_ms=residual_ms,
            state=stream_state(items, coverage, longest_ms, len(gaps), config),
        )
        longest = sorted(gaps, key=lambda gap: gap.from_ns - gap.to_ns)[:MAX_LISTED_GAPS]
        return integrity, sorted(longest, key=lambda gap: gap.from_ns)

    def _lost(self, gaps: list[Gap], items: int, span_ns: int) -> int:
        """Items lost. Irregular items may have come late in a burst: those that are there are not lost."""
        lost = sum(gap.lost_items for gap in gaps)
        if not self._irregular:
            return lost
        known = sum(gap.lost_items for gap in gaps if gap.reason != "no_data")
        return max(known, min(lost, max(round(span_ns / self.spec.dt_ns) - items, 0)))

    def _tolerance_ns(self, chunk: Chunk) -> float:
        return 0.0 if self._irregular else max(2 * chunk.dt_ns, MIN_GAP_NS)

    def _extend(self, start_ns: int, end_ns: int) -> None:
        first_ns, last_ns = self._spans[-1]
        self._spans[-1] = (min(first_ns, start_ns), max(last_ns, end_ns))

    def _count(self, start_ns: int, end_ns: int, n: int) -> None:
        if self._items and not self.spec.encoded and abs(start_ns - self._items[-1][1]) <= MIN_GAP_NS:
            first_ns, _, items = self._items[-1]
            self._items[-1] = (first_ns, end_ns, items + n)
        else:
            self._items.append((start_ns, end_ns, n))

    def _is_dead(self, chunk: Chunk) -> bool:
        """Whether a microphone has delivered one and the same number for longer than MAX_DEAD_NS."""
        data = chunk.data
        if len(data) == 0:
            return False
        first = float(data[0, 0])
        # Noise shows between the first and the last sample already; only where it does not, all are looked at.
        if first != data[-1, -1] or first != data.max() or first != data.min():
            self._dead_from_ns = None
            return False
        if self._dead_from_ns is None or first != self._dead_value:
            self._dead_from_ns, self._dead_value = chunk.t_ns, first
        if chunk.end_ns - self._dead_from_ns <= MAX_DEAD_NS:
            return False
        self._pending = _Hole(self._pending.lost, "silent")
        return True

    def _merged(self) -> list[Span]:
        """Spans that do not overlap: an irregular item's cover ends where the next item begins."""
        merged: list[Span] = []
        for start_ns, end_ns in self._spans:
            if merged and start_ns < merged[-1][1]:
                merged[-1] = (merged[-1][0], start_ns)
            merged.append((start_ns, end_ns))
        return merged

    def _gaps(self, on_ns: int, off_ns: int) -> list[Gap]:
        """Holes between `on_ns` and `off_ns`, the ones at both ends included."""
        gaps = []
        at_ns = last_end_ns = on_ns
        for (start_ns, end_ns), hole in zip(self._spans, self._holes, strict=True):
            to_ns = min(start_ns, off_ns)
            if to_ns > at_ns or (hole.lost and on_ns <= start_ns < off_ns):
                inside = last_end_ns >= on_ns and start_ns <= off_ns
                gaps.append(self._gap(min(at_ns, to_ns), to_ns, hole if inside else _Hole(0, hole.reason)))
            at_ns, last_end_ns = max(at_ns, end_ns), end_ns
        if at_ns < off_ns - self._end_tolerance_ns():
            gaps.append(self._gap(at_ns, off_ns, self._pending))
        return gaps

    def _gap(self, from_ns: int, to_ns: int, hole: _Hole) -> Gap:
        lost = hole.lost or int((to_ns - from_ns) / self.spec.dt_ns)
        return Gap(self.spec.name, from_ns, to_ns, lost, hole.reason)

    def _end_tolerance_ns(self) -> float:
        # Arc-off is rounded to ns and belongs to another stream: one period may be missing without a loss.
        return max(self.spec.dt_ns, MIN_GAP_NS)


def stream_state(items: int, coverage: float, longest_gap_ms: float, gaps: int, config: StreamConfig) -> str:
    """ok, degraded (gaps within the stream's limits), broken (beyond them) or missing (no data at all)."""
    if items == 0 or coverage <= 0:
        return "missing"
    if longest_gap_ms > config.max_gap_ms or coverage < config.min_coverage:
        return "broken"
    return "degraded" if gaps else "ok"


def _overlap(a: Span, b: Span) -> int:
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0)


def _share(entry: tuple[int, int, int], from_ns: int, to_ns: int) -> int:
    """Items of a contiguous run that lie in [from_ns, to_ns)."""
    start_ns, end_ns, n = entry
    if start_ns >= from_ns and end_ns <= to_ns:
        return n
    if n == 1:
        return int(from_ns <= start_ns < to_ns)
    return int(np.rint(n * _overlap((start_ns, end_ns), (from_ns, to_ns)) / max(end_ns - start_ns, 1)))
