"""Who was refused: every case is counted, and the log names who, at a rate that a flood cannot raise.

A client that is not allowed tries again ten times a second, for ever; its line comes once and then once in
`AGAIN_AFTER_NS`, with how often. Lines of ever new clients are limited by a bucket of their own.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable

import structlog

from edged.buckets import Buckets

__all__ = ["Refusal", "Refusals"]

AGAIN_AFTER_NS = 60_000_000_000
CASES_KEPT = 1024
LINES_PER_S, LINES_AT_ONCE = 1, 20

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """One client that was not let in.

    Attributes:
        reason: what counters are named by: "unknown_key", "revoked", "lacks_right", "no_keys", …
        domain: the right that would have been needed.
        address: of the peer, as far as it is known.
        name: of its key, where the key is or was listed.
        key: its public key, Z85, where it showed one.
    """

    reason: str
    domain: str
    address: str
    detail: str
    name: str | None = None
    key: str | None = None


@dataclasses.dataclass(slots=True)
class _Case:
    told_ns: int
    untold: int = 0


class Refusals:
    """Counts and logs. Not thread-safe.

    Args:
        now_ns: a monotonic clock.
    """

    def __init__(self, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._counts: Counter[str] = Counter()
        self._cases: dict[Refusal, _Case] = {}
        self._lines = Buckets(LINES_PER_S, LINES_AT_ONCE, now_ns)

    def note(self, refusal: Refusal) -> None:
        """Count it; log it unless it has just been logged."""
        self._counts[f"refused_{refusal.reason}"] += 1
        now_ns = self._now_ns()
        case = self._cases.pop(refusal, None)
        if case is not None and now_ns - case.told_ns < AGAIN_AFTER_NS:
            case.untold += 1
        elif self._lines.wait_ms(b""):
            self._counts["refused_not_logged"] += 1
            return
        else:
            times = 1 if case is None else case.untold + 1
            case = _Case(now_ns)
            self._tell(refusal, times)
        # Put back at the end, so that the first of the dict is the one that has been quiet for longest.
        self._cases[refusal] = case
        if len(self._cases) > CASES_KEPT:
            del self._cases[next(iter(self._cases))]

    def counters(self) -> dict[str, int]:
        """How many were refused, by reason, since the start."""
        return dict(self._counts)

    def _tell(self, refusal: Refusal, times: int) -> None:
        known = {key: value for key, value in dataclasses.asdict(refusal).items() if value is not None}
        log.warning("client refused", **known, times=times)
