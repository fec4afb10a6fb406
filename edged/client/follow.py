"""The state machine under every client: frames, the journal's answers and the time in; events and questions out.

Pure: no sockets, no clock of its own. `Client` and `AsyncClient` feed it and send what it asks. The rules are those
of docs/verdict.md:

- The journal's own answer says which journal is the present one; a message that names another only makes us ask.
- Entries are handed out by sequence: each once, in order. What is missing is asked for, and what the journal no
  longer has is said to be `Lost`.
- Only a heartbeat that surely arrived within `stale_after_s`, of the present journal, makes the link "live".
"""

import dataclasses
import itertools
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

from .answers import in_order, latest_of, rows_of
from .decode import MAX_ANSWER_BYTES, count, identity, read_entry, read_map
from .events import Entry, Event, Lost, NewJournal, Position, Start, State, StateChange, Told

__all__ = ["ANSWER_WITHIN_S", "PROBE_EVERY_S", "Follower", "Question"]

ANSWER_WITHIN_S = 2.0
"""After this a question is asked again; its late answer is then ignored."""

PROBE_EVERY_S = 2.0
"""How often a client without heartbeats asks which journal there is."""

MAX_AHEAD = 1000
"""Entries kept beyond a gap, and entries of a journal that is not known yet; more are asked for again."""

REFUSED_AGAIN_S = 1.0
MAX_LEFT_JOURNALS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A request to the journal socket. A later one of the same `slot` takes the place of one not yet sent."""

    slot: str
    request: dict[str, Any]
    asked_s: float
    handed: int = 0
    known: int = 0


class Follower:
    """See the module. Times are seconds of any monotonic clock.

    Args:
        start: where to begin: a Position, "last" (the last entry of every topic, then on), "now", "first".
        programs: hand out verdicts of these only (parts always); None: all.
        topics: which messages of the moment to hand out.
        acknowledge_as: name under which `acknowledge` tells the journal what was acted on.
    """

    def __init__(
        self,
        *,
        start: Start = "last",
        programs: Collection[str] | None = None,
        topics: Iterable[str] = (),
        stale_after_s: float = 3.0,
        acknowledge_as: str | None = None,
    ) -> None:
        self._start = start
        self._wanted = (
            None if programs is None else frozenset({f"verdict/{program}" for program in programs} | {"part"})
        )
        self._topics = frozenset(topics)
        self._stale_after_s = stale_after_s
        self._name = acknowledge_as
        self.position = start if isinstance(start, Position) else None
        """Everything up to here has been taken with `next_event`."""
        self.rejected = 0
        """Messages and answers that made no sense."""
        self._journal: str | None = None
        self._handed = self._known = 0  # in order up to here; known to exist up to here
        self._ahead: dict[int, Entry] = {}  # beyond a gap
        self._strangers: deque[Entry] = deque(maxlen=MAX_AHEAD)  # of a journal that we do not follow (yet)
        self._latest: deque[tuple[int, Entry | None]] = deque()  # start="last": still to be handed out
        self._left: dict[str, int] = {}  # journals of before → how far they were handed out
        self._must_ask = True
        self._pending: dict[str, Question] = {}
        self._unsent: list[Question] = []
        self._numbers = itertools.count(1)
        self._not_before_s = float("-inf")
        self._asked_s: float | None = None
        self._unanswered_since_s: float | None = None
        self._beat: tuple[str, float] | None = None
        self._trouble = ""
        self._told: StateChange = StateChange("connecting", "")
        self._acted = self._acknowledged = 0
        self._events: deque[tuple[Event | None, Position | None]] = deque()

    # in

    def published(self, topic: bytes, payload: bytes, arrived_s: float) -> None:
        """Take a message of the verdicts' socket. `arrived_s`: a time at or before its arrival."""
        name = topic.decode(errors="replace")
        if name == "part" or name.startswith("verdict/"):
            if (entry := read_entry(topic, payload)) is None:
                self.rejected += 1
            else:
                self._entry(entry)
            return
        message = read_map(payload)
        if message is None:
            self.rejected += 1
            return
        if name == "heartbeat":
            self._heartbeat(message, arrived_s)
        if name in self._topics:
            self._events.append((Told(name, message), None))

    def answered(self, payload: bytes, now_s: float) -> None:
        """Take an answer of the journal socket; one that was not asked for, or comes too late, is ignored."""
        answer = read_map(payload, MAX_ANSWER_BYTES)
        number = None if answer is None else count(answer.get("id"))
        asked = next((found for found in self._pending.values() if found.request["id"] == number), None)
        if answer is None or asked is None:
            self.rejected += answer is None
            if answer is not None and answer.get("code") == "rate":  # refused before its number was read
                self._wait(answer, now_s)
            return
        del self._pending[asked.slot]
        if answer.get("ok") is True:
            understood = {"snapshot": self._snapshot, "range": self._range, "ack": self._acked}
            if understood[asked.request["op"]](answer, asked):
                if asked.slot == "follow":
                    self._unanswered_since_s, self._trouble = None, ""
                return
            self.rejected += 1
        self._refused(answer, asked, now_s)

    def acknowledge(self, entry: Entry) -> None:
        """Say that everything up to this entry was acted on. Raises ValueError without `acknowledge_as`."""
        if self._name is None:
            raise ValueError("acknowledge: the client was made without acknowledge_as, the name to acknowledge under")
        if entry.journal_id == self._journal:
            self._acted = max(self._acted, entry.sequence)

    def tick(self, now_s: float) -> None:
        """Let time pass: questions run out, the link becomes stale. Call it after every input, and often."""
        for slot, asked in list(self._pending.items()):
            if now_s - asked.asked_s > ANSWER_WITHIN_S:
                del self._pending[slot]
        state = self.state_at(now_s)
        change = StateChange(state, self._detail(state, now_s))
        if change != self._told:
            self._told = change
            self._events.append((change, None))
        if now_s >= self._not_before_s:
            self._ask(now_s, state)

    # out

    def next_event(self) -> Event | None:
        """The next event, None when there is nothing to hand out; `position` moves with what is taken."""
        while self._events:
            event, position = self._events.popleft()
            self.position = position or self.position
            if event is None or (isinstance(event, Entry) and not self._is_wanted(event)):
                continue
            return event
        return None

    def questions(self) -> list[Question]:
        """What is to be sent to the journal socket, each once."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def state_at(self, now_s: float) -> State:
        """What is known of the daemon at a time."""
        if self._beat is not None and self._beat[0] == self._journal:
            since = now_s - self._beat[1]
            if since <= self._stale_after_s and not self._is_unanswered(now_s):
                return "live"
        return "connecting" if self._told.state == "connecting" else "stale"

    # what was published

    def _entry(self, entry: Entry) -> None:
        if entry.journal_id != self._journal:
            if entry.journal_id not in self._left:
                self._strangers.append(entry)
                self._must_ask = True
            return
        if entry.sequence <= self._handed:
            return  # a repetition, for somebody who joined late
        if len(self._ahead) < MAX_AHEAD:
            self._ahead.setdefault(entry.sequence, entry)
        self._known = max(self._known, entry.sequence)
        self._advance()

    def _heartbeat(self, message: dict[str, Any], arrived_s: float) -> None:
        journal, last = identity(message.get("journal_id")), count(message.get("last_sequence"))
        if journal is None or last is None:
            self.rejected += 1
        elif journal not in self._left or journal == self._journal:
            self._beat = (journal, arrived_s)
            # A last below ours: an old heartbeat, or a journal that was set back. The journal knows.
            self._must_ask |= journal != self._journal or last < self._handed
            if journal == self._journal:
                self._known = max(self._known, last)

    def _advance(self) -> None:
        while self._latest and (entry := self._latest[0][1]) is not None:
            self._latest.popleft()
            self._hand_out(entry, None if self._latest else Position(entry.journal_id, self._handed))
        if self._latest:
            return
        while (entry := self._ahead.pop(self._handed + 1, None)) is not None:
            self._handed = entry.sequence
            self._hand_out(entry, Position(entry.journal_id, entry.sequence))
        for sequence in [number for number in self._ahead if number <= self._handed]:
            del self._ahead[sequence]  # it came by the other way

    def _hand_out(self, event: Event | None, position: Position | None) -> None:
        self._events.append((event, position))

    def _is_wanted(self, entry: Entry) -> bool:
        return self._wanted is None or entry.topic in self._wanted

    # what the journal answered

    def _snapshot(self, answer: dict[str, Any], asked: Question) -> bool:
        journal, last = identity(answer.get("journal_id")), count(answer.get("last_sequence"))
        if journal is None or last is None:
            return False
        self._must_ask = False
        if journal == self._journal:
            self._believe(last, asked)
        else:
            self._follow(journal, last, answer)
        strangers = [entry for entry in self._strangers if entry.journal_id == journal]
        self._strangers.clear()
        for entry in strangers:
            self._entry(entry)
        self._advance()
        return True

    def _follow(self, journal: str, last: int, answer: dict[str, Any]) -> None:
        """Leave the journal that was followed, if any, for another."""
        start = self._start if self._journal is None else None
        old = start.journal_id if isinstance(start, Position) else self._journal
        if self._journal is not None:
            self._left[self._journal] = self._handed
            if len(self._left) > MAX_LEFT_JOURNALS:
                del self._left[next(iter(self._left))]
        self._journal, self._handed = journal, self._left.pop(journal, 0)
        self._known, self._acted, self._acknowledged = last, 0, 0
        self._ahead.clear()
        self._latest.clear()
        if isinstance(start, Position) and old == journal:
            self._handed = start.sequence
        elif old is not None:
            self._hand_out(NewJournal(old, journal), Position(journal, self._handed))
        else:
            self._begin(journal, last, answer)
        if self._handed > last:
            self._set_back(last)

    def _begin(self, journal: str, last: int, answer: dict[str, Any]) -> None:
        """The first journal of a client that has no position."""
        if self._start == "first":
            self._handed = min((count(answer.get("first_sequence")) or 1) - 1, last)
            return
        self._handed = last
        if self._start == "last":
            self._latest.extend(latest_of(answer, self._wanted))
        if not self._latest:
            self._hand_out(None, Position(journal, last))

    def _range(self, answer: dict[str, Any], asked: Question) -> bool:
        journal, last = identity(answer.get("journal_id")), count(answer.get("last_sequence"))
        if journal is None or last is None or not isinstance(answer.get("entries"), list):
            return False
        if journal != self._journal:
            self._must_ask = True
            return True
        self._believe(last, asked)
        first, end = asked.request["from_sequence"], min(asked.request["to_sequence"], last)
        rows = rows_of(answer, journal, first, end)
        if self._latest:
            self._one_of_the_latest(first, rows.get(first))
        elif first <= self._handed + 1:
            # An answer ends where it is full; without any entry there is none in the whole range.
            for event in in_order(self._handed + 1, max(rows, default=end), rows):
                self._handed = event.sequence if isinstance(event, Entry) else event.last
                self._hand_out(event, Position(journal, self._handed))
        self._advance()
        return True

    def _one_of_the_latest(self, sequence: int, entry: Entry | None) -> None:
        if self._latest[0][0] != sequence:
            return
        self._latest.popleft()
        if entry is not None:
            self._latest.appendleft((sequence, entry))
            return
        lost = Lost(sequence, sequence, "the last entry of its topic cannot be read")
        self._hand_out(lost, None if self._latest else Position(str(self._journal), self._handed))

    def _acked(self, answer: dict[str, Any], asked: Question) -> bool:
        sequence = count(answer.get("sequence"))
        if sequence is None:
            return False
        self._acknowledged = max(sequence, asked.request["sequence"])
        return True

    def _refused(self, answer: dict[str, Any], asked: Question, now_s: float) -> None:
        self._wait(answer, now_s)
        if answer.get("code") == "rate":
            return
        self._must_ask |= answer.get("code") == "journal"
        if asked.slot == "ack":
            self._acted = self._acknowledged
        if answer.get("code") != "journal":
            self._trouble = f"the journal refused {asked.request['op']}: {str(answer.get('error'))[:200]}"

    def _wait(self, answer: dict[str, Any], now_s: float) -> None:
        wait_ms = count(answer.get("retry_ms"))
        self._not_before_s = now_s + (REFUSED_AGAIN_S if wait_ms is None else min(wait_ms / 1e3, REFUSED_AGAIN_S))

    def _believe(self, last: int, asked: Question) -> None:
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
        self._hand_out(lost, Position(str(self._journal), last))
        self._handed = self._known = last
        self._ahead.clear()
        self._acted, self._acknowledged = min(self._acted, last), min(self._acknowledged, last)

    # what to ask

    def _ask(self, now_s: float, state: State) -> None:
        if "follow" not in self._pending and (request := self._next_request(now_s, state)) is not None:
            self._question("follow", request, now_s)
            if self._unanswered_since_s is None:
                self._unanswered_since_s = now_s
        if "ack" not in self._pending and self._acted > self._acknowledged:
            named = {"client": self._name, "journal_id": self._journal, "sequence": self._acted}
            self._question("ack", {"op": "ack", **named}, now_s)

    def _next_request(self, now_s: float, state: State) -> dict[str, Any] | None:
        if self._journal is None or self._must_ask:
            return {"op": "snapshot"}
        if self._latest:
            return self._range_request(self._latest[0][0], self._latest[0][0])
        if self._handed < self._known:
            return self._range_request(self._handed + 1, min([self._known, *(n - 1 for n in self._ahead)]))
        is_time = self._asked_s is None or now_s - self._asked_s >= PROBE_EVERY_S
        return {"op": "snapshot"} if state != "live" and is_time else None

    def _range_request(self, first: int, last: int) -> dict[str, Any]:
        return {"op": "range", "from_sequence": first, "to_sequence": last, "journal_id": self._journal}

    def _question(self, slot: str, request: dict[str, Any], now_s: float) -> None:
        request["id"] = next(self._numbers)
        question = Question(slot, request, now_s, self._handed, self._known)
        self._pending[slot] = question
        self._asked_s = now_s
        self._unsent.append(question)

    def _is_unanswered(self, now_s: float) -> bool:
        since_s = self._unanswered_since_s
        return since_s is not None and now_s - since_s > self._stale_after_s

    def _detail(self, state: State, now_s: float) -> str:
        if state == "stale" and not self._trouble:
            silent = "the journal does not answer" if self._is_unanswered(now_s) else "no heartbeat"
            return f"{silent} for more than {self._stale_after_s:g} s"
        return self._trouble
