"""Entries in order: which journal is followed, how far it was handed out, what is ahead of a gap, what to ask next.

The half of the state machine that makes the promise: each entry once, by sequence, and what is missing is asked for
or said to be `Lost`. Pure; `Follower` decides when to ask.
"""

import dataclasses
from collections import deque
from typing import Any

from .answers import in_order, latest_of, rows_of
from .decode import count, identity
from .events import Entry, Event, Lost, NewJournal, Position, Start

__all__ = ["Mark", "Order"]

MAX_AHEAD = 1000
"""Entries kept beyond a gap, and entries of a journal that is not known yet; more are asked for again."""

MAX_LEFT_JOURNALS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """What stood when a question was asked: in order up to `handed`, known to exist up to `known`."""

    handed: int
    known: int


class Order:
    """See the module. Answers handed in must be those to questions asked with `mark`, after that mark.

    Args:
        start: where to begin, as `Follower`'s.
        wanted: topics that "last" is about; None: all.
    """

    def __init__(self, start: Start, wanted: frozenset[str] | None) -> None:
        self._start, self._wanted = start, wanted
        self.journal: str | None = None
        self.must_ask = True
        """Something named another journal, or the end of this one in question: only a snapshot can tell."""
        self.rejected = 0
        self._handed = self._known = 0
        self._ahead: dict[int, Entry] = {}  # beyond a gap
        self._strangers: deque[Entry] = deque(maxlen=MAX_AHEAD)  # of a journal that we do not follow (yet)
        self._latest: deque[tuple[int, Entry | None]] = deque()  # start="last": still to be handed out
        self._left: dict[str, int] = {}  # journals of before → how far they were handed out
        self.out: deque[tuple[Event | None, Position | None]] = deque()
        """Events, each with the position that is reached when it has been taken."""

    @property
    def mark(self) -> Mark:
        """To be kept with a question."""
        return Mark(self._handed, self._known)

    def published(self, entry: Entry) -> None:
        """An entry came by the verdicts' socket: in order, again, ahead of a gap, or of another journal."""
        if entry.journal_id != self.journal:
            if entry.journal_id not in self._left:
                self._strangers.append(entry)
                self.must_ask = True
            return
        if entry.sequence <= self._handed:
            return  # a repetition, for somebody who joined late
        if len(self._ahead) < MAX_AHEAD:
            self._ahead.setdefault(entry.sequence, entry)
        self._known = max(self._known, entry.sequence)
        self._advance()

    def ends_at(self, journal: str, last: int) -> bool:
        """A heartbeat said how far a journal goes; False: that journal was left, and the heartbeat is an old one."""
        if journal != self.journal:
            self.must_ask |= journal not in self._left
            return journal not in self._left
        # A last below ours: an old heartbeat, or a journal that was set back. The journal knows.
        self.must_ask |= last < self._handed
        self._known = max(self._known, last)
        return True

    def next_request(self) -> dict[str, Any] | None:
        """What must be asked now for the order to go on; None: nothing is missing."""
        if self.journal is None or self.must_ask:
            return {"op": "snapshot"}
        if self._latest:
            return self._range_request(self._latest[0][0], self._latest[0][0])
        if self._handed < self._known:
            return self._range_request(self._handed + 1, min([self._known, *(n - 1 for n in self._ahead)]))
        return None

    def snapshot(self, answer: dict[str, Any], asked: Mark) -> bool:
        """The journal said which it is and where it ends; False: the answer makes no sense."""
        journal, last = identity(answer.get("journal_id")), count(answer.get("last_sequence"))
        if journal is None or last is None:
            return False
        self.must_ask = False
        if journal == self.journal:
            self._believe(last, asked)
        else:
            self._follow(journal, last, answer)
        strangers = [entry for entry in self._strangers if entry.journal_id == journal]
        self._strangers.clear()
        for entry in strangers:
            self.published(entry)
        self._advance()
        return True

    def range(self, answer: dict[str, Any], request: dict[str, Any], asked: Mark) -> bool:
        """Entries that were asked for; False: the answer makes no sense."""
        journal, last = identity(answer.get("journal_id")), count(answer.get("last_sequence"))
        if journal is None or last is None or not isinstance(answer.get("entries"), list):
            return False
        if journal != self.journal or request["journal_id"] != journal:
            self.must_ask |= journal != self.journal
            return True
        self._believe(last, asked)
        first, end = request["from_sequence"], min(request["to_sequence"], last)
        rows = rows_of(answer, journal, first, end)
        if self._latest:
            self._one_of_the_latest(first, rows.get(first))
        elif first <= self._handed + 1:
            # An answer ends where it is full; without any entry there is none in the whole range.
            for event in in_order(self._handed + 1, max(rows, default=end), rows):
                self._handed = event.sequence if isinstance(event, Entry) else event.last
                self.out.append((event, Position(journal, self._handed)))
            for sequence in [number for number in self._ahead if number <= self._handed]:
                del self._ahead[sequence]  # it came by both ways
        self._advance()
        return True

    def _advance(self) -> None:
        while self._latest and (entry := self._latest[0][1]) is not None:
            self._latest.popleft()
            self.out.append((entry, self._after_latest(entry.sequence)))
        if self._latest:
            return
        while (entry := self._ahead.pop(self._handed + 1, None)) is not None:
            self._handed = entry.sequence
            self.out.append((entry, Position(entry.journal_id, entry.sequence)))

    def _follow(self, journal: str, last: int, answer: dict[str, Any]) -> None:
        """Leave the journal that was followed, if any, for another."""
        start = self._start if self.journal is None else None
        old = start.journal_id if isinstance(start, Position) else self.journal
        if self.journal is not None:
            self._left[self.journal] = self._handed
            if len(self._left) > MAX_LEFT_JOURNALS:
                del self._left[next(iter(self._left))]
        self.journal, self._handed, self._known = journal, self._left.pop(journal, 0), last
        self._ahead.clear()
        self._latest.clear()
        if isinstance(start, Position) and old == journal:
            self._handed = start.sequence
        elif old is not None:
            self.out.append((NewJournal(old, journal), Position(journal, self._handed)))
        else:
            self._begin(journal, last, answer)
        if self._handed > last:
            self._set_back(last)

    def _begin(self, journal: str, last: int, answer: dict[str, Any]) -> None:
        """The first journal of a client that has no position."""
        if self._start == "first":
            self._handed = min(max((count(answer.get("first_sequence")) or 1) - 1, 0), last)
            return
        self._handed = last
        if self._start == "last":
            self._latest.extend(latest_of(answer, self._wanted))
        if not self._latest:
            self.out.append((None, Position(journal, last)))

    def _one_of_the_latest(self, sequence: int, entry: Entry | None) -> None:
        if self._latest[0][0] != sequence:
            return
        self._latest.popleft()
        if entry is not None:
            self._latest.appendleft((sequence, entry))
            return
        lost = Lost(sequence, sequence, "the last entry of its topic cannot be read")
        self.out.append((lost, self._after_latest(sequence)))

    def _after_latest(self, sequence: int) -> Position:
        """What comes before one of the latest is not wanted; after the last of them, everything is there."""
        return Position(str(self.journal), sequence if self._latest else self._handed)

    def _believe(self, last: int, asked: Mark) -> None:
        """The journal ended at `last` after we asked; what was known when asking and lies beyond is not there."""
        if last < asked.handed:
            self._set_back(last)
            return
        for sequence in [number for number in self._ahead if last < number <= asked.known]:
            del self._ahead[sequence]
            self.rejected += 1
        self._known = max(last, self._handed, *self._ahead)

    def _set_back(self, last: int) -> None:
        """The journal is shorter than what it gave us, as after a restored backup: its sequences come again."""
        lost = Lost(
            last + 1, self._handed, f"the journal was set back to {last}; what follows has their numbers again"
        )
        self.out.append((lost, Position(str(self.journal), last)))
        self._handed = self._known = last
        self._ahead.clear()

    def _range_request(self, first: int, last: int) -> dict[str, Any]:
        return {"op": "range", "from_sequence": first, "to_sequence": last, "journal_id": self.journal}
