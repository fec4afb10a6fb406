"""The state of one stream by arithmetic: measured rate against nominal, and time since the last item."""

from collections import deque

from drivers.base import StreamSpec
from edged.stamping import EVENT_KINDS
from edged.types import StreamState

__all__ = ["RateMeter", "stream_state"]

WINDOW_NS = 5_000_000_000
MARK_NS = 250_000_000
MIN_WINDOW_NS = 1_000_000_000
SILENT_NS = 1_000_000_000
SILENT_ITEMS = 5
LOST_RECENTLY_NS = 10_000_000_000
MIN_RATE = 0.95


class RateMeter:
    """Items per second over the last five seconds, by arrival."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque(maxlen=WINDOW_NS // MARK_NS + 1)
        self._last: tuple[int, int] = (0, 0)

    def add(self, arrival_ns: int, items: int) -> None:
        """`items` have arrived so far, the last at `arrival_ns`."""
        self._last = (arrival_ns, items)
        if not self._marks or arrival_ns - self._marks[-1][0] >= MARK_NS:
            self._marks.append(self._last)

    def reset(self) -> None:
        """The device was reopened."""
        self._marks.clear()

    def rate_hz(self, now_ns: int) -> float | None:
        """None while less than a second has been seen; falls while nothing comes."""
        marks = list(self._marks)
        first = next((mark for mark in marks if now_ns - mark[0] <= WINDOW_NS + MARK_NS), None)
        if first is None:
            return 0.0 if marks else None
        t_ns, items = self._last
        # While items come at their pace the last arrival is the end; a silence counts as time without items.
        end_ns = now_ns if now_ns - t_ns > SILENT_NS else t_ns
        return (items - first[1]) * 1e9 / (end_ns - first[0]) if end_ns - first[0] >= MIN_WINDOW_NS else None


def stream_state(
    spec: StreamSpec,
    is_open: bool,
    rate_hz: float | None,
    silent_ns: int | None,
    since_lost_ns: int | None,
) -> StreamState:
    """State of a stream that has not ended.

    Args:
        spec: the stream; result and profile streams are only asked whether they are open.
        is_open: whether its device is open.
        rate_hz: measured rate, None while unknown.
        silent_ns: time since the last item (since opening, before the first), None before that.
        since_lost_ns: time since items were last lost, None if never.
    """
    if not is_open:
        return "down"
    is_recently_lossy = since_lost_ns is not None and since_lost_ns < LOST_RECENTLY_NS
    if spec.kind in EVENT_KINDS:
        return "degraded" if is_recently_lossy else "ok"
    if silent_ns is None or silent_ns > max(SILENT_NS, SILENT_ITEMS * spec.dt_ns):
        return "down"
    if rate_hz is None:
        return "starting"
    return "degraded" if is_recently_lossy or rate_hz < MIN_RATE * spec.rate_hz else "ok"
