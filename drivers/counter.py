"""Unwraps device counters: a short counter that wraps, jumps and restarts → one that only grows.

Used by the serial drivers between parsing and their chunks.
"""

import dataclasses

__all__ = ["CounterUnwrapper", "Step"]

SLACK_S = 5.0
"""A jump may differ from host time by this much, for buffers on the way, before it counts as a restart."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """Where one item lies: its unwrapped counter and how many items are missing before it."""

    counter: int
    lost: int


class CounterUnwrapper:
    """Follows a `bits` wide counter that counts at `rate_hz`.

    A jump ahead is that many items lost. A counter that goes back, or runs away from host time, means that the
    device has restarted: how much is missing is then unknown, so it is taken from host time, at least one item.
    """

    def __init__(self, bits: int, rate_hz: float) -> None:
        self.restarts = 0
        self._modulus = 1 << bits
        self._rate_hz = rate_hz
        self._raw: int | None = None
        self._counter = -1
        self._arrival_ns = 0

    def step(self, raw: int, arrival_ns: int) -> Step:
        """Place the item whose device counter is `raw` and which arrived at `arrival_ns` (host monotonic)."""
        if self._raw is None:
            self._counter, lost = raw, 0
        else:
            ahead = self._ahead((raw - self._raw) % self._modulus, max(0, arrival_ns - self._arrival_ns) / 1e9)
            self._counter, lost = self._counter + ahead, ahead - 1
        self._raw, self._arrival_ns = raw, arrival_ns
        return Step(self._counter, lost)

    def _ahead(self, delta: int, elapsed_s: float) -> int:
        off_s = abs(delta / self._rate_hz - elapsed_s)
        if 0 < delta < self._modulus // 2 and off_s <= SLACK_S + elapsed_s / 2:
            return delta
        self.restarts += 1
        return 1 + max(1, round(elapsed_s * self._rate_hz) - 1)
