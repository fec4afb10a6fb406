"""How often each peer may ask: a token bucket per peer, on a clock that is handed in."""

import math
from collections.abc import Callable

__all__ = ["Buckets"]

PEERS_KEPT = 1024


class Buckets:
    """`burst` requests at once, then `per_s` a second; memory is bounded, whoever asks.

    Args:
        now_ns: a monotonic clock.
    """

    def __init__(self, per_s: float, burst: int, now_ns: Callable[[], int]) -> None:
        self._per_s, self._burst, self._now_ns = per_s, burst, now_ns
        self._levels: dict[bytes, tuple[float, int]] = {}

    def wait_ms(self, peer: bytes) -> int:
        """0 and one request less for this peer; or how long it must wait, in ms, which takes nothing."""
        now_ns = self._now_ns()
        level = self._level(self._levels.pop(peer, None), now_ns)
        may = level >= 1.0
        # Put back at the end, so that the first of the dict is who has asked nothing for longest.
        self._levels[peer] = (level - may, now_ns)
        if len(self._levels) > PEERS_KEPT:
            del self._levels[next(iter(self._levels))]
        return 0 if may else max(1, math.ceil((1.0 - level) / self._per_s * 1e3))

    def _level(self, before: tuple[float, int] | None, now_ns: int) -> float:
        if before is None:
            return float(self._burst)
        level, then_ns = before
        return min(float(self._burst), level + (now_ns - then_ns) / 1e9 * self._per_s)
