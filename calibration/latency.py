"""A stream's constant delay against the current, from the arc strikes of earlier seams.

The strike shows in current, sound and light at once, so every seam measures once how late a stream is beyond what its
clock takes off already. One strike is as sharp as its detector (a camera's: half a frame), hence the mean over the
last ones without the tenth at either end; a strike that was not seen, or seen wrongly now and then, does not matter.
"""

from collections import deque
from collections.abc import Iterable

__all__ = ["MAX_FOLLOWED_NS", "STRIKES_KEPT", "LatencyTrend"]

STRIKES_KEPT = 20
TRIMMED = 0.1
"""Of the strikes, left out at either end."""
APPLIED_KEPT = 64
MAX_FOLLOWED_NS = 250_000_000
"""Strikes are searched no further from the current's; what is later is a wrong configuration."""


class LatencyTrend:
    """The last strikes of one stream, and what has been made of them. Times are ns, positive: the stream is late."""

    def __init__(self) -> None:
        self._strikes: deque[int] = deque(maxlen=STRIKES_KEPT)
        self._latency_ns: int | None = None
        self._applied: deque[tuple[int, int]] = deque([(-(2**63), 0)], maxlen=APPLIED_KEPT)

    @property
    def kept_ns(self) -> list[int]:
        """The strikes, oldest first, beyond the configured latency: what `restore` takes."""
        return list(self._strikes)

    def restore(self, kept_ns: Iterable[int]) -> None:
        """Go on from strikes that were kept; nothing is taken off for them before `apply`."""
        self._strikes = deque(kept_ns, maxlen=STRIKES_KEPT)
        self._update()

    @property
    def strikes(self) -> int:
        """Strikes that the trend rests on, at most STRIKES_KEPT."""
        return len(self._strikes)

    @property
    def applied_ns(self) -> int:
        """What is taken off at present beyond the configured latency."""
        return self._applied[-1][1]

    @property
    def latency_ns(self) -> int | None:
        """The delay beyond the configured latency, trimmed mean of the last strikes; None before the first."""
        return self._latency_ns

    @property
    def remaining_ns(self) -> int | None:
        """How late strikes come still: the trend less what is taken off already."""
        return None if self._latency_ns is None else self._latency_ns - self.applied_ns

    def add(self, residual_ns: int, struck_ns: int) -> None:
        """Take a seam's strike residual as its stamps showed it, and when the arc was struck (host monotonic)."""
        applied_ns = next((ns for since_ns, ns in reversed(self._applied) if since_ns <= struck_ns), 0)
        self._strikes.append(residual_ns + applied_ns)
        self._update()

    def _update(self) -> None:
        if not self._strikes:
            self._latency_ns = None
            return
        cut = round(TRIMMED * len(self._strikes))
        kept = sorted(self._strikes)[cut : len(self._strikes) - cut]
        self._latency_ns = round(sum(kept) / len(kept))

    def apply(self, now_ns: int) -> int:
        """Take the trend off from now on; returns what to take off beyond the configured latency."""
        wanted_ns = min(max(self._latency_ns or 0, -MAX_FOLLOWED_NS), MAX_FOLLOWED_NS)
        if wanted_ns != self.applied_ns:
            self._applied.append((now_ns, wanted_ns))
        return self.applied_ns
