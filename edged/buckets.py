"""How often each peer may ask: a token bucket per peer, on a clock that is handed in."""

from collections.abc import Callable

__all__ = ["Buckets"]

PEERS_KEPT = 1024
NS_PER_MS = 1_000_000


class Buckets:
    """`burst` requests at once, then `per_s` a second; memory is bounded, whoever asks.

    A bucket is kept as the time at which it is full again (the generic cell rate algorithm of ITU-T I.371, which is
    the same thing in whole numbers).

    Args:
        now_ns: a monotonic clock.
    """

    def __init__(self, per_s: float, burst: int, now_ns: Callable[[], int]) -> None:
        self._each_ns = round(1e9 / per_s)
        self._burst_ns = burst * self._each_ns
        self._now_ns = now_ns
        self._full_ns: dict[bytes, int] = {}

    def wait_ms(self, peer: bytes) -> int:
        """0 and one request less for this peer; or how long it must wait, in ms, which takes nothing."""
        now_ns = self._now_ns()
        before_ns = max(now_ns, self._full_ns.pop(peer, 0))
        after_ns = before_ns + self._each_ns
        wait_ns = max(0, after_ns - now_ns - self._burst_ns)
        # Put back at the end, so that the first of the dict is who has asked nothing for longest.
        self._full_ns[peer] = before_ns if wait_ns else after_ns
        if len(self._full_ns) > PEERS_KEPT:
            del self._full_ns[next(iter(self._full_ns))]
        return -(-wait_ns // NS_PER_MS)
