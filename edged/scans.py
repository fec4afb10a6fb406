"""One scan: the rows of a laser profiler that belong to a seam, and the height map they make.

Below `edged/views.py`, which starts a scan on the PLC's trigger and offers it every chunk of its stream. Rows with
`from_ns <= t < to_ns` are the scan's; they are copied at once, because the ring goes on.

A scan with holes is worse than none: a missing stretch of bead is a stretch nobody looked at. So the rows are
measured like any stream of a seam, over the time of the scan, and beyond the stream's `max_gap_ms` or `min_coverage`
there is no height map. A row without a single return (laser off, cover closed) is a missing row.
"""

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.aligner import LATE_WAIT_NS, first_at
from edged.config import StreamConfig
from edged.integrity import StreamMeter
from edged.ring import Ring
from pipelines.window import Gap, Integrity

__all__ = ["Scan", "ScanResult", "no_scan"]

EDGE_NS = 1_000_000
"""On top of a period or two, by which a scan's first row may come after its beginning without a loss."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ScanResult:
    """What came of a seam's scan; `height_map_mm` is None where it is no result, and `integrity` says why."""

    integrity: Integrity
    gaps: tuple[Gap, ...] = ()
    height_map_mm: NDArray[np.float32] | None = None


def no_scan(stream: str) -> ScanResult:
    """What a seam has whose scan was never triggered."""
    return ScanResult(Integrity(stream, "profile", 0.0, 0, 0, 0, 0.0, None, "missing"))


class Scan:
    """Rows of one stream over [from_ns, to_ns); chunks come in the order of their `seq`. `spec` is calibrated."""

    def __init__(
        self, spec: StreamSpec, ring: Ring, config: StreamConfig, trigger_ns: int, from_ns: int, to_ns: int
    ) -> None:
        self.trigger_ns = trigger_ns
        self.to_ns = to_ns
        self._from_ns = from_ns
        self._spec = spec
        self._ring = ring
        self._config = config
        self._meter = StreamMeter(spec)
        self._head_ns: int | None = None
        self._first_ns: int | None = None
        self._rows: list[tuple[int, NDArray[np.float32]]] = []

    @property
    def stream(self) -> str:
        """The profiler's stream."""
        return self._spec.name

    @property
    def from_ns(self) -> int:
        """Time of the first row that can belong to it."""
        return self._from_ns

    @property
    def last_arrival_ns(self) -> int | None:
        """Arrival of the last row."""
        return self._meter.last_arrival_ns

    def add(self, chunk: Chunk) -> Chunk | None:
        """Take what belongs to the scan; returns the whole chunk, copied, for the recorder, None where nothing does.

        The recording has whole chunks, so that a replay cuts them again in the same places.
        """
        self._head_ns = max(chunk.end_ns, self._head_ns or chunk.end_ns)
        start, stop = first_at(chunk, self._from_ns), first_at(chunk, self.to_ns)
        if start >= stop:
            return None
        kept = dataclasses.replace(chunk, data=chunk.data.copy())
        if not self._ring.valid(chunk):
            self._meter.skip(chunk.cut(start, stop), "overwritten")
            return None
        self._take(kept.cut(start, stop))
        return kept

    def ended(self, now_ns: int) -> bool:
        """Whether all rows are there, or need not be waited for any longer: a profiler may stop after its scan."""
        return self.is_complete or now_ns > self.to_ns + LATE_WAIT_NS

    @property
    def is_complete(self) -> bool:
        """Whether the stream has reached the scan's end."""
        return self._head_ns is not None and self._head_ns >= self.to_ns

    def result(self) -> ScanResult:
        """Integrity over the scan with the rows so far, and the height map where no more is missing than may be."""
        integrity, gaps = self._meter.result(((self._begin_ns(), self.to_ns),), self._config, None)
        usable = integrity.state in ("ok", "degraded")
        return ScanResult(integrity, tuple(gaps), self._height_map() if usable else None)

    def _take(self, piece: Chunk) -> None:
        if self._first_ns is None:
            self._first_ns = piece.t_ns
            # Lost before the scan began, or within it: time tells which.
            piece = dataclasses.replace(piece, lost_before=0)
        heights = self._spec.physical(piece.data)
        self._rows.append((piece.counter, heights))
        has_return = np.asarray(np.isfinite(heights).any(axis=1))
        borders = [0, *(np.flatnonzero(np.diff(has_return)) + 1).tolist(), piece.n]
        for start, stop in itertools.pairwise(borders):
            run = piece.cut(start, stop)
            if has_return[start]:
                self._meter.add(run)
            else:
                self._meter.skip(run, "no_return")

    def _begin_ns(self) -> int:
        """Where coverage begins: at the first row where no earlier one can be due, else at the beginning."""
        spec = self._spec
        slack_ns = round((2 if spec.tick == "arrival" else 1) * spec.dt_ns) + EDGE_NS
        late = self._first_ns is None or self._first_ns - self._from_ns > slack_ns
        return self._from_ns if late or self._first_ns is None else self._first_ns

    def _height_map(self) -> NDArray[np.float32]:
        """(rows, width): rows in the order of their counters, lost ones NaN, so that a row's place stays its mm."""
        first = self._rows[0][0]
        last_counter, last = self._rows[-1]
        found = np.full((last_counter + len(last) - first, *self._spec.shape), np.nan, np.float32)
        for counter, heights in self._rows:
            found[counter - first : counter - first + len(heights)] = heights
        return found
