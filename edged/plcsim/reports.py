"""What a client says that it accepted: lines of text, on its standard output or through whatever brings them here.

    17 1 01J8ZQ…    it accepted the verdict with sequence 17, label 1, of this seam
    state stale     it hears no daemon any more, and shows not OK
    state live      it hears one, or hears it again

Words are separated by blanks, and the word state may be left out. Lines of any other form are none of ours and are
passed over.
"""

import dataclasses
import threading
import time
from collections.abc import Iterable
from typing import IO

__all__ = ["Report", "Reports", "read_line"]

STATES = ("stale", "live")
MAX_LINE_CHARS = 1000
MAX_REPORTS = 200_000
SEQUENCE_DIGITS = 19


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """An accepted verdict."""

    sequence: int
    label: int
    seam_id: str


def read_line(line: str) -> Report | str | None:
    """A report, "stale" or "live", None for any other line."""
    words = line.split()
    if len(words) == 2 and words[0] == "state":
        words = words[1:]
    if len(words) == 1 and words[0] in STATES:
        return words[0]
    if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words[:2]):
        return None
    if max(len(words[0]), len(words[1])) > SEQUENCE_DIGITS:
        return None
    return Report(int(words[0]), int(words[1]), words[2])


class Reports:
    """Lines of `source`, read by a thread until it ends; `accepted` and `states` grow meanwhile.

    Attributes:
        accepted: reports in the order in which they came.
        states: (seconds of the monotonic clock, "stale" or "live").
    """

    def __init__(self, source: IO[str]) -> None:
        self.accepted: list[Report] = []
        self.states: list[tuple[float, str]] = []
        self.has_ended = False
        self._source = source
        self._thread = threading.Thread(target=self._read, name="reports", daemon=True)
        self._thread.start()

    @property
    def is_stale(self) -> bool:
        """Whether it last said so."""
        return bool(self.states) and self.states[-1][1] == "stale"

    def close(self) -> None:
        """Wait for the thread; the source must have ended, or end now."""
        self._thread.join(5.0)

    def _read(self) -> None:
        try:
            self._take(iter(lambda: self._source.readline(MAX_LINE_CHARS), ""))
        finally:
            self.has_ended = True

    def _take(self, lines: Iterable[str]) -> None:
        for line in lines:
            found = read_line(line)
            if isinstance(found, Report) and len(self.accepted) < MAX_REPORTS:
                self.accepted.append(found)
            elif isinstance(found, str):
                self.states.append((time.monotonic(), found))
