"""What makes one unbroken stream out of a device that comes and goes: sequence, counter, losses and time.

Data path: Driver → **Stamper** (inside Stream) → Ring. Drivers count from wherever their device counts and start
anew when they are reopened. Downstream sees `seq` and `counter` that only grow, `lost_before` with everything known
or estimated to be missing, and a clock on every chunk.
"""

import dataclasses

from calibration.clock import clock_latency_ns, make_clock
from drivers.base import Chunk, ClockParams, StreamSpec

__all__ = ["EVENT_KINDS", "Stamper"]

EVENT_KINDS: frozenset[str] = frozenset({"result", "profile"})
"""Kinds that deliver when triggered: silence is no loss, and time says nothing about missing items."""

FUTURE_NS = 100_000_000
"""A counter that lies this far in the future has stepped; nothing was lost."""

PAUSE_NS = 2_000_000_000
"""An item that comes this much later than its counter says begins a new run of a device that had rested."""

AGREES_NS = 100_000_000
AGREES_SHARE = 0.2
"""A counter that went on while the device was closed is believed where host time agrees this well."""


class Stamper:
    """Rebases, stamps and counts the chunks of one stream, in the order they arrive.

    Args:
        spec: the stream.
        latency_ns: constant delay from the world to the chunk's arrival.
    """

    def __init__(self, spec: StreamSpec, latency_ns: int = 0) -> None:
        self.spec = spec
        self.clock = make_clock(spec, latency_ns)
        self.items = 0
        self.lost = 0
        self.gaps = 0
        self._latency_ns = clock_latency_ns(spec, latency_ns)
        self._seq = 0
        self._next: int | None = None  # counter that the next chunk should begin with
        self._end_ns = 0  # time just after the last item
        self._base = 0  # what is added to the driver's counter
        self._is_reopened = False

    def reopened(self) -> None:
        """The device was closed and opened: its counter and its delay begin anew."""
        self._is_reopened = True

    def set_latency(self, latency_ns: int) -> None:
        """Take this delay off from the next chunk on; may be called from another thread."""
        self._latency_ns = clock_latency_ns(self.spec, latency_ns)
        self.clock.set_latency(self._latency_ns)

    def stamp(self, chunk: Chunk) -> Chunk:
        """The chunk as the rest of edged sees it: `seq`, `counter` and `lost_before` set anew, and stamped."""
        counter, lost, clock = self._place(chunk)
        found = dataclasses.replace(
            chunk, stream=self.spec.name, seq=self._seq, counter=counter, lost_before=lost, clock=clock
        )
        self._seq += 1
        self._next = counter + chunk.n
        self._end_ns = found.end_ns
        self.items += chunk.n
        self.lost += lost
        self.gaps += lost > 0
        self._is_reopened = False
        return found

    def _place(self, chunk: Chunk) -> tuple[int, int, ClockParams]:
        """Counter, items lost before and clock; a recorded chunk keeps those it was recorded with."""
        if chunk.clock is not None:
            return chunk.counter, chunk.lost_before, chunk.clock
        counter, lost = self._continue(chunk)
        if self._has_paused(chunk, counter):
            self.clock.reset()
        steps = self.clock.steps
        clock = self.clock.update(counter + chunk.n, chunk.arrival_ns, chunk.n)
        if self.clock.steps != steps and lost == 0:
            lost = self._missing(clock.t_ns(counter))
        return counter, lost, clock

    def _continue(self, chunk: Chunk) -> tuple[int, int]:
        """The rebased counter and the items missing before it."""
        if self._next is None:
            return chunk.counter, chunk.lost_before
        skipped = chunk.counter + self._base - self._next
        if self._is_reopened or skipped < 0 or self._in_future(chunk, skipped):
            return self._rebase(chunk, skipped, self._next)
        return chunk.counter + self._base, skipped or chunk.lost_before

    def _has_paused(self, chunk: Chunk, counter: int) -> bool:
        """Whether a device that counts only while triggered (a laser profiler) has rested since its last item."""
        if self.spec.kind not in EVENT_KINDS or self._next is None:
            return False
        due_ns = self._end_ns + (counter + chunk.n - self._next) * self.spec.dt_ns
        return chunk.arrival_ns - self._latency_ns - due_ns > PAUSE_NS

    def _in_future(self, chunk: Chunk, skipped: int) -> bool:
        if self.spec.tick != "counter" or skipped == 0:
            return False
        end_ns = self._end_ns + (skipped + chunk.n) * self.spec.dt_ns
        return end_ns > chunk.arrival_ns - self._latency_ns + FUTURE_NS

    def _rebase(self, chunk: Chunk, skipped: int, next_counter: int) -> tuple[int, int]:
        """After a reopening or a step of the counter time tells how much is missing, unless the counter went on."""
        self.clock.reset()
        before = chunk.n if self.spec.tick == "counter" else chunk.n - 1
        missing = self._missing(chunk.arrival_ns - self._latency_ns - round(before * self.spec.dt_ns))
        if self._is_reopened and self._agree(skipped, missing):
            missing = skipped
        counter = next_counter + missing
        self._base = counter - chunk.counter
        return counter, missing

    def _agree(self, skipped: int, missing: int) -> bool:
        slack = AGREES_NS / self.spec.dt_ns + AGREES_SHARE * missing
        return self.spec.tick == "counter" and skipped > 0 and abs(skipped - missing) <= slack

    def _missing(self, start_ns: int) -> int:
        if self.spec.kind in EVENT_KINDS:
            return 0
        return max(0, round((start_ns - self._end_ns) / self.spec.dt_ns))
