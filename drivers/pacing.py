"""Lets file-backed drivers deliver like devices: item k is due `t0 + k·dt` on the injected clock.

`real` waits for that time; on a `ManualClock` waiting costs nothing. `max` never waits and stamps arrival with the
due time, so that the items keep their distances while a file is read as fast as possible.
"""

from typing import Annotated, Literal

from pydantic import Field

from drivers.base import DriverOptions, HostClock

__all__ = ["FileOptions", "Pacer"]

READ_TIMEOUT_NS = 500_000_000
"""`read` of a file-backed driver waits so long at most and then gives None, like a silent device."""


class FileOptions(DriverOptions):
    """What all file-backed drivers have in common: where the data lies and how fast it comes."""

    path: Annotated[str, Field(min_length=1)]
    pace: Literal["real", "max"] = "real"


class Pacer:
    """Due times of one opened file."""

    def __init__(self, clock: HostClock, pace: Literal["real", "max"]) -> None:
        self._clock = clock
        self._real = pace == "real"
        self._start_ns = 0

    def start(self) -> None:
        """The file's first item is due now."""
        self._start_ns = self._clock.now_ns()

    def arrival_ns(self, due_ns: float) -> int | None:
        """Wait until `due_ns` after the start; host time of arrival, or None when it is not due yet."""
        at_ns = self._start_ns + round(due_ns)
        if not self._real:
            return at_ns
        now_ns = self._clock.now_ns()
        self._clock.sleep_until_ns(min(at_ns, now_ns + READ_TIMEOUT_NS))
        now_ns = self._clock.now_ns()
        return now_ns if now_ns >= at_ns else None
