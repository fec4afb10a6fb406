"""When an arc burns, from the welding current's envelope: the first step of the engine.

The envelope is the current's maximum over the last `hold_ms`, with hysteresis: the arc is on from the first sample at
or above `on_current_a`, and off once no sample has reached `off_current_a` for longer than `hold_ms`. Pulsed and CMT
welding, whose current falls to nearly zero between pulses, therefore stay one arc. The events carry the times of the
samples themselves: arc-on is the first sample above, arc-off is one period after the last sample above, both as
functions of the samples' times only, so they do not depend on how the stream was cut into chunks.

A data gap inside an arc: where current is there after it, the arc went on (the gap is an entry of the seam's
integrity); a gap longer than `MAX_BRIDGE_NS` ends the arc as `lost`, because nobody knows what happened meanwhile.
"""

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.arc_stats import ArcStats, WaveMeter
from edged.config import ArcConfig

__all__ = ["MAX_BRIDGE_NS", "ArcDetector", "ArcEvent"]

MAX_BRIDGE_NS = 5_000_000_000
"""A gap in the current up to this long may lie inside one arc; edge gaps are capped to it, too."""

MEASURED_AT_ONCE = 1_000
"""Samples of an arc that are gathered before they are measured."""

MIN_GAP_NS = 1_000_000
"""Shorter jumps between chunks are a clock model's corrections, not missing data."""


_Piece = tuple[NDArray[np.float32], float, bool]
"""Samples, the time from one to the next in ns, and whether data is missing before them."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArcEvent:
    """An arc began or ended at `t_ns`.

    `edge_gap_ns` is the length of missing data that touches this edge, within which the true edge may lie; 0 where
    the edge lies between consecutive samples, `MAX_BRIDGE_NS` where the stream began with the arc burning.
    `lost`: the arc's end was not seen at all. `stats` only with arc_off.
    """

    kind: Literal["arc_on", "arc_off"]
    t_ns: int
    edge_gap_ns: int = 0
    lost: bool = False
    stats: ArcStats | None = None


class ArcDetector:
    """Arcs of one torch from its current. Raises ValueError where the stream has no channel `current`."""

    def __init__(self, spec: StreamSpec, config: ArcConfig) -> None:
        self.spec = spec
        self._on_a = config.on_current_a
        self._off_a = config.off_current_a
        # A sample that comes a little late must not end the arc of a slow stream (9 Hz logs).
        self._hold_ns = max(config.hold_ms * 1e6, 1.5 * spec.dt_ns)
        self._current = spec.channel("current")
        self._voltage = spec.channel("voltage") if "voltage" in spec.channels else None
        self.burning = False
        self.head_ns: int | None = None
        """End of the last sample seen."""
        self.last_high_end_ns = 0
        """End of the last sample that belonged to an arc."""
        self._last_high_ns = 0
        self._gap_since_high_ns = 0
        self._blind = True  # what came before the next sample is not known
        self._meter = self._new_meter()
        self._sure: list[_Piece] = []
        """The arc's samples that are still to be measured, fewer than `MEASURED_AT_ONCE` and a chunk."""
        self._dip: list[_Piece] = []
        """Samples since the last high one, at most `hold_ms`: part of the arc only if it goes on."""

    def feed(self, chunk: Chunk) -> list[ArcEvent]:
        """Take the next stamped chunk; the arcs that began and ended in it, in time order."""
        if chunk.n == 0:
            return []
        times = chunk.times_ns()
        values = self.spec.physical(chunk.data)
        current = values[:, self._current]
        gap_ns = self._gap_before(int(times[0]), chunk.dt_ns)
        events: list[ArcEvent] = []
        if self.burning:
            if gap_ns >= MAX_BRIDGE_NS:
                events.append(self._off(lost=True))
            else:
                self._gap_since_high_ns = max(self._gap_since_high_ns, gap_ns)
        self._scan(events, times, values, current, gap_ns, chunk.dt_ns)
        self.head_ns = chunk.end_ns
        return events

    def lose(self) -> list[ArcEvent]:
        """End a burning arc because the stream has been silent for too long; empty when none burns."""
        if not self.burning:
            return []
        self._blind = True
        return [self._off(lost=True)]

    def _gap_before(self, t_ns: int, dt_ns: float) -> int:
        if self._blind or self.head_ns is None:
            self._blind = False
            return MAX_BRIDGE_NS
        gap_ns = t_ns - self.head_ns
        return min(gap_ns, MAX_BRIDGE_NS) if gap_ns > max(dt_ns, MIN_GAP_NS) else 0

    def _scan(
        self,
        events: list[ArcEvent],
        times: NDArray[np.int64],
        values: NDArray[np.float32],
        current: NDArray[np.float32],
        gap_ns: int,
        dt_ns: float,
    ) -> None:
        """Walk through the chunk from event to event; each step is vectorised."""
        n, pos = len(times), 0
        starts = np.flatnonzero(current >= self._on_a)
        highs = np.flatnonzero(current >= self._off_a)
        while pos < n:
            if not self.burning:
                at = int(np.searchsorted(starts, pos))
                if at == len(starts):
                    return
                pos = int(starts[at])
                self._start(int(times[pos]), gap_ns if pos == 0 else 0)
                events.append(ArcEvent("arc_on", int(times[pos]), gap_ns if pos == 0 else 0))
            mine = highs[int(np.searchsorted(highs, pos)) :]
            last, off_at = self._follow(times, mine, pos)
            if last is not None:
                self._dip.append((values[pos : last + 1], dt_ns, pos == 0 and gap_ns > 0))
                self._sure += self._dip
                self._dip = []
                if sum(len(samples) for samples, _, _ in self._sure) >= MEASURED_AT_ONCE:
                    self._measure()
                self._last_high_ns = int(times[last])
                self.last_high_end_ns = self._last_high_ns + round(dt_ns)
                self._gap_since_high_ns = 0
            if off_at is None:
                rest = pos if last is None else last + 1
                self._dip.append((values[rest:], dt_ns, rest == 0 and gap_ns > 0))
                return
            events.append(self._off())
            pos = off_at

    def _follow(self, times: NDArray[np.int64], highs: NDArray[np.int64], pos: int) -> tuple[int | None, int | None]:
        """From `pos` on: index of the arc's last high sample here, and of the low sample that ends the arc.

        Only a low sample can end an arc, so a data gap between two high samples does not.
        """
        n = len(times)
        # Each high sample (and the one before `pos`, None) is followed by lows up to the next high sample.
        before = np.concatenate(([self._last_high_ns], times[highs]))
        last_low = np.append(highs, n) - 1
        first_low = np.concatenate(([pos], highs + 1))
        has_lows = last_low >= first_low
        ends = has_lows & (times[np.minimum(last_low, n - 1)] - before > self._hold_ns)
        where = np.flatnonzero(ends)
        if not len(where):
            return (int(highs[-1]) if len(highs) else None), None
        k = int(where[0])
        off_at = int(np.searchsorted(times, before[k] + self._hold_ns, side="right"))
        return (int(highs[k - 1]) if k > 0 else None), max(off_at, int(first_low[k]))

    def _start(self, t_ns: int, gap_ns: int) -> None:
        self.burning = True
        self._last_high_ns = self.last_high_end_ns = t_ns
        self._gap_since_high_ns = 0
        self._meter, self._sure, self._dip = self._new_meter(), [], []

    def _off(self, lost: bool = False) -> ArcEvent:
        self.burning = False
        gap_ns = MAX_BRIDGE_NS if lost else self._gap_since_high_ns
        self._measure()
        return ArcEvent("arc_off", self.last_high_end_ns, gap_ns, lost, self._meter.stats())

    def _new_meter(self) -> WaveMeter:
        return WaveMeter(self.spec.rate_hz, self._off_a, has_voltage=self._voltage is not None)

    def _measure(self) -> None:
        """Hand what is sure to the meter, in few large pieces: a call costs more than its samples."""
        for after_gap, run in _runs(self._sure):
            values = np.concatenate([samples for samples, _, _ in run])
            current = values[:, self._current].astype(np.float64)
            voltage = None if self._voltage is None else values[:, self._voltage].astype(np.float64)
            self._meter.push(current, voltage, run[0][1], after_gap=after_gap)
        self._sure = []


def _runs(pieces: list[_Piece]) -> list[tuple[bool, list[_Piece]]]:
    """Neighbours of one sampling time without a gap between them, each run with whether a gap lies before it."""
    runs: list[tuple[bool, list[_Piece]]] = []
    for piece in pieces:
        if not runs or piece[2] or piece[1] != runs[-1][1][-1][1]:
            runs.append((piece[2], []))
        runs[-1][1].append(piece)
    return runs
