"""The state machine under every client: frames, the journal's answers and the time in; events and questions out.

Pure: no sockets, no clock of its own. `Client` and `AsyncClient` feed it and send what it asks. The rules are those
of docs/verdict.md:

- The journal's own answer says which journal is the present one; a message that names another only makes us ask.
- Entries are handed out by sequence: each once, in order (`Order`). What is missing is asked for.
- Only a heartbeat of the present journal that surely arrived within `stale_after_s` makes the link "live".
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterable
from typing import Any

from .decode import MAX_ANSWER_BYTES, count, identity, read_entry, read_map
from .events import Entry, Event, Position, Start, State, StateChange, Told
from .order import Mark, Order

__all__ = ["ANSWER_WITHIN_S", "PROBE_EVERY_S", "Follower", "Question"]

ANSWER_WITHIN_S = 2.0
"""After this a question is asked again; its late answer is then ignored."""

PROBE_EVERY_S = 2.0
"""How often a client without heartbeats asks which journal there is."""

REFUSED_AGAIN_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A request to the journal socket. A later one of the same `slot` takes the place of one not yet sent."""

    slot: str
    request: dict[str, Any]
    asked_s: float
    mark: Mark


class Follower:
    """See the module. Times are seconds of any monotonic clock.

    Args:
        start: where to begin: a Position, "last" (the last entry of every topic, then on), "now", "first".
        programs: hand out verdicts of these only (parts always); None: all.
        topics: which messages of the moment to hand out.
        stale_after_s: how old the last heartbeat may be.
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
        self._wanted = None
        if programs is not None:
            self._wanted = frozenset({f"verdict/{program}" for program in programs} | {"part"})
        self._order = Order(start, self._wanted)
        self._topics = frozenset(topics)
        self._stale_after_s = stale_after_s
        self._name = acknowledge_as
        self.position = start if isinstance(start, Position) else None
        """Everything up to here has been taken with `next_event`."""
        self._rejected = 0
        self._pending: dict[str, Question] = {}
        self._unsent: list[Question] = []
        self._numbers = itertools.count(1)
        self._not_before_s = self._asked_s = float("-inf")
        self._unanswered_since_s: float | None = None
        self._beat: tuple[str, float] | None = None
        self._trouble = ""
        self._told = StateChange("connecting", "")
        self._acted: Position | None = None
        self._acknowledged: Position | None = None

    @property
    def rejected(self) -> int:
        """Messages and answers that made no sense."""
        return self._rejected + self._order.rejected

    # in

    def published(self, topic: bytes, payload: bytes, arrived_s: float) -> None:
        """Take a message of the verdicts' socket. `arrived_s`: a time at or before its arrival."""
        name = topic.decode(errors="replace")
        if name == "part" or name.startswith("verdict/"):
            if (entry := read_entry(topic, payload)) is None:
                self._rejected += 1
            else:
                self._order.published(entry)
            return
        message = read_map(payload)
        if message is None:
            self._rejected += 1
            return
        if name == "heartbeat":
            self._heartbeat(message, arrived_s)
        if name in self._topics:
            self._order.out.append((Told(name, message, payload), None))

    def answered(self, payload: bytes, now_s: float) -> None:
        """Take an answer of the journal socket; one that was not asked for, or comes too late, is ignored."""
        answer = read_map(payload, MAX_ANSWER_BYTES)
        if answer is None:
            self._rejected += 1
            return
        number = count(answer.get("id"))
        asked = next((found for found in self._pending.values() if found.request["id"] == number), None)
        if asked is None:
            if answer.get("code") == "rate":  # refused before its number was read
                self._wait(answer, now_s)
            return
        del self._pending[asked.slot]
        if answer.get("ok") is not True:
            self._refused(answer, asked, now_s)
        elif self._understood(answer, asked):
            if asked.slot == "follow":
                self._unanswered_since_s, self._trouble = None, ""
        else:
            self._rejected += 1
            self._refused({"error": "the answer lacks what it must hold"}, asked, now_s)

    def acknowledge(self, entry: Entry) -> None:
        """Say that everything up to this entry was acted on. Raises ValueError without `acknowledge_as`."""
        if self._name is None:
            raise ValueError("acknowledge: the client was made without acknowledge_as, the name to acknowledge under")
        acted = Position(entry.journal_id, entry.sequence)
        if self._acted is None or acted.journal_id != self._acted.journal_id or acted.sequence > self._acted.sequence:
            self._acted = acted

    def tick(self, now_s: float) -> None:
        """Let time pass: questions run out, the link becomes stale. Call it after every input, and often."""
        for slot, asked in list(self._pending.items()):
            if now_s - asked.asked_s > ANSWER_WITHIN_S:
                del self._pending[slot]
        state = self.state_at(now_s)
        change = StateChange(state, self._detail(state, now_s))
        if change != self._told:
            self._told = change
            self._order.out.append((change, None))
        if now_s >= self._not_before_s:
            self._ask(now_s, state)

    # out

    def next_event(self) -> Event | None:
        """The next event, None when there is nothing to hand out; `position` moves with what is taken."""
        while self._order.out:
            event, position = self._order.out.popleft()
            self.position = position or self.position
            if event is not None and (not isinstance(event, Entry) or self._is_wanted(event)):
                return event
        return None

    def questions(self) -> list[Question]:
        """What is to be sent to the journal socket, each once."""
        unsent, self._unsent = self._unsent, []
        return unsent

    def state_at(self, now_s: float) -> State:
        """What is known of the daemon at a time."""
        if self._beat is not None and self._beat[0] == self._order.journal:
            is_fresh = now_s - self._beat[1] <= self._stale_after_s
            if is_fresh and not self._is_unanswered(now_s):
                return "live"
        return "connecting" if self._told.state == "connecting" else "stale"

    def _is_wanted(self, entry: Entry) -> bool:
        return self._wanted is None or entry.topic in self._wanted

    def _heartbeat(self, message: dict[str, Any], arrived_s: float) -> None:
        journal, last = identity(message.get("journal_id")), count(message.get("last_sequence"))
        if journal is None or last is None:
            self._rejected += 1
        elif self._order.ends_at(journal, last):
            self._beat = (journal, arrived_s)

    # questions and answers

    def _ask(self, now_s: float, state: State) -> None:
        if "follow" not in self._pending and (request := self._next_request(now_s, state)) is not None:
            self._question("follow", request, now_s)
            if self._unanswered_since_s is None:
                self._unanswered_since_s = now_s
        acted = self._acted
        if "ack" not in self._pending and acted is not None and acted != self._acknowledged:
            request = {"op": "ack", "client": self._name, "journal_id": acted.journal_id, "sequence": acted.sequence}
            self._question("ack", request, now_s)

    def _next_request(self, now_s: float, state: State) -> dict[str, Any] | None:
        if (request := self._order.next_request()) is not None:
            return request
        is_time = now_s - self._asked_s >= PROBE_EVERY_S
        return {"op": "snapshot"} if state != "live" and is_time else None

    def _question(self, slot: str, request: dict[str, Any], now_s: float) -> None:
        request["id"] = next(self._numbers)
        question = Question(slot, request, now_s, self._order.mark)
        self._pending[slot] = question
        self._asked_s = now_s
        self._unsent.append(question)

    def _understood(self, answer: dict[str, Any], asked: Question) -> bool:
        op = asked.request["op"]
        if op == "snapshot":
            return self._order.snapshot(answer, asked.mark)
        if op == "range":
            return self._order.range(answer, asked.request, asked.mark)
        self._acknowledged = Position(asked.request["journal_id"], asked.request["sequence"])
        return True

    def _refused(self, answer: dict[str, Any], asked: Question, now_s: float) -> None:
        self._wait(answer, now_s)
        code = answer.get("code")
        if code == "rate":
            return
        if asked.slot == "ack":
            self._acknowledged = Position(asked.request["journal_id"], asked.request["sequence"])
        if code == "journal":
            self._order.must_ask = True
        else:
            self._trouble = f"the journal refused {asked.request['op']}: {str(answer.get('error'))[:200]}"

    def _wait(self, answer: dict[str, Any], now_s: float) -> None:
        wait_ms = count(answer.get("retry_ms"))
        self._not_before_s = now_s + (REFUSED_AGAIN_S if wait_ms is None else min(wait_ms / 1e3, REFUSED_AGAIN_S))

    def _is_unanswered(self, now_s: float) -> bool:
        since_s = self._unanswered_since_s
        return since_s is not None and now_s - since_s > self._stale_after_s

    def _detail(self, state: State, now_s: float) -> str:
        if state == "stale" and not self._trouble:
            silent = "the journal does not answer" if self._is_unanswered(now_s) else "no heartbeat"
            return f"{silent} for more than {self._stale_after_s:g} s"
        return self._trouble
