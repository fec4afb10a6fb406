"""The state machine of the clients under any interleaving: losses, repetitions, disorder, restarts, new journals."""

from typing import Any

import msgpack
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edged.client.events import Entry, Lost, NewJournal, Position
from edged.client.follow import ANSWER_WITHIN_S, Follower, Question

TOPICS = ("verdict/T1", "verdict/T2", "part")
ENTRIES_AN_ANSWER = 3


class Book:
    """A journal and its socket, as docs/verdict.md has them, with an answer that is full after three entries."""

    def __init__(self, number: int) -> None:
        self.journal_id = f"J{number}"
        self.rows: list[list[Any]] = []
        self.first = 1

    def append(self, topic: str) -> list[Any]:
        sequence = len(self.rows) + 1
        kind, _, program = topic.partition("/")
        message = {"schema": 1, "kind": kind, "program": program, "label": 1}
        payload = msgpack.packb(message | {"journal_id": self.journal_id, "sequence": sequence})
        self.rows.append([sequence, topic, payload])
        return self.rows[-1]

    def last_of_topics(self, until: int, first: int | None = None) -> dict[str, int]:
        return {topic: sequence for sequence, topic, _ in self.rows[(first or self.first) - 1 : until]}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        head = {"id": request["id"], "journal_id": self.journal_id, "last_sequence": len(self.rows)}
        if request["op"] == "snapshot":
            last = self.last_of_topics(len(self.rows))
            entries = [self.rows[sequence - 1] for sequence in sorted(last.values(), reverse=True)][:1]
            return head | {"ok": True, "first_sequence": self.first, "last": list(last.items()), "entries": entries}
        if request["journal_id"] != self.journal_id:
            return head | {"ok": False, "code": "journal", "error": "another journal"}
        assert request["from_sequence"] <= request["to_sequence"]
        rows = self.rows[max(request["from_sequence"], self.first) - 1 : request["to_sequence"]]
        return head | {"ok": True, "entries": rows[:ENTRIES_AN_ANSWER]}

    def heartbeat(self) -> list[Any]:
        return [0, "heartbeat", msgpack.packb({"journal_id": self.journal_id, "last_sequence": len(self.rows)})]


class Reader:
    """Takes what is handed out and fails at the first thing that is not in order."""

    def __init__(self, follower: Follower, books: list[Book], start: str | Position) -> None:
        self.follower, self.books, self.start = follower, books, start
        self.at: tuple[str, int] | None = None
        self.latest: list[tuple[str, int]] = []
        """start="last": what came until it can be told where the latest ended; lost ones too."""
        if isinstance(start, Position):
            self.at = (start.journal_id, start.sequence)

    def book(self, journal_id: str) -> Book:
        return next(book for book in self.books if book.journal_id == journal_id)

    def take(self) -> None:
        while True:
            event = self.follower.next_event()
            if isinstance(event, Entry):
                assert event.payload == self.book(event.journal_id).rows[event.sequence - 1][2]
            if isinstance(event, Entry | Lost | NewJournal):
                self._check(event)
                self._check_position(event)
            elif event is None:
                break
        if self.start == "now" and self.at is None and (position := self.follower.position) is not None:
            self.at = (position.journal_id, position.sequence)

    def _check_position(self, event: Entry | Lost | NewJournal) -> None:
        """There is a position after every event, and it is just there."""
        position = self.follower.position
        assert position is not None
        if isinstance(event, NewJournal):
            assert (position.journal_id, position.sequence) == (event.new, 0)
        elif self.at is not None:
            assert (position.journal_id, position.sequence) == self.at
        else:
            assert position.sequence >= (event.sequence if isinstance(event, Entry) else event.last)

    def _check(self, event: Entry | Lost | NewJournal) -> None:
        position = self.follower.position
        assert position is not None
        if self.at is None and self.start == "first" and not isinstance(event, NewJournal):
            first = event.first if isinstance(event, Lost) else event.sequence
            assert first <= max(self.book(position.journal_id).first, 1)
            self.at = (position.journal_id, first - 1)
        if self.at is None and self.start == "now" and not isinstance(event, NewJournal):
            before = event.first if isinstance(event, Lost) else event.sequence
            self.at = (position.journal_id, before - 1)
        if self.at is None and not isinstance(event, NewJournal):
            self.latest.append((position.journal_id, event.first if isinstance(event, Lost) else event.sequence))
        elif isinstance(event, NewJournal):
            self._check_the_new(event)
        else:
            self._check_the_next(event)

    def _check_the_new(self, event: NewJournal) -> None:
        assert event.new != event.old
        if self.at is not None:
            assert event.old == self.at[0]
        self.at = (event.new, 0)

    def _check_the_next(self, event: Entry | Lost) -> None:
        assert self.at is not None
        journal_id, sequence = self.at
        if isinstance(event, Lost):
            assert event.first == sequence + 1
            assert event.first <= event.last < self.book(journal_id).first, "said to be lost, but it is there"
            self.at = (journal_id, event.last)
        else:
            assert (event.journal_id, event.sequence) == (journal_id, sequence + 1)
            self.at = (journal_id, event.sequence)

    def finish(self) -> None:
        """start="last": the latest of some moment, ascending, and after them everything."""
        if not self.latest or self.at is not None:
            return
        (journal_id,) = {journal for journal, _ in self.latest}
        book, came = self.book(journal_id), [sequence for _, sequence in self.latest]
        assert came == sorted(set(came))

        def fits(end: int) -> bool:
            latest, after = [n for n in came if n <= end], [n for n in came if n > end]
            needed = {n for n in book.last_of_topics(end, first=1).values() if n >= book.first}
            return needed <= set(latest) and after == list(range(end + 1, len(book.rows) + 1))

        assert any(fits(end) for end in came), came


class AnyNetwork(RuleBasedStateMachine):
    """The daemon, a network that loses, repeats and disorders, and a client."""

    @initialize(
        start=st.sampled_from(["first", "last", "now", "here", "before"]),
        topics=st.lists(st.sampled_from(TOPICS), max_size=5),
    )
    def begin(self, start: str, topics: list[str]) -> None:
        self.now_s = 0.0
        self.books = [Book(0), Book(1)]
        for topic in topics:
            self.books[0].append(topic)
            self.books[1].append(topic)
        positions = {"here": Position("J1", len(topics) // 2), "before": Position("J0", len(topics) // 2)}
        self.follower = Follower(start=positions.get(start, start))  # type: ignore[arg-type]
        self.reader = Reader(self.follower, self.books, positions.get(start, start))
        self.published: list[list[Any]] = []
        self.asked: list[Question] = []
        self.answers: list[dict[str, Any]] = []

    @property
    def book(self) -> Book:
        return self.books[-1]

    @rule(entries=st.lists(st.tuples(st.sampled_from(TOPICS), st.booleans()), min_size=1, max_size=6))
    def commit(self, entries: list[tuple[str, bool]]) -> None:
        """Some entries of the journal, published or not."""
        for topic, is_published in entries:
            row = self.book.append(topic)
            self.published += [row] * is_published

    @rule()
    def beat(self) -> None:
        self.published.append(self.book.heartbeat())

    @rule()
    def restart(self) -> None:
        """Whoever subscribes again gets the last of every topic once more."""
        self.published += [self.book.rows[n - 1] for n in self.book.last_of_topics(len(self.book.rows)).values()]

    @precondition(lambda self: len(self.book.rows) > 3)
    @rule()
    def new_journal(self) -> None:
        self.books.append(Book(len(self.books)))

    @rule(share=st.sampled_from([0.3, 0.6, 1.0]))
    def prune(self, share: float) -> None:
        """The journal forgets its oldest entries."""
        self.book.first = max(self.book.first, int(len(self.book.rows) * share))

    @precondition(lambda self: self.published)
    @rule(data=st.data(), is_kept=st.booleans())
    def arrive(self, data: st.DataObject, is_kept: bool) -> None:
        """Any message of those on their way, once or (kept) to come again."""
        at = data.draw(st.integers(0, len(self.published) - 1))
        row = self.published[at] if is_kept else self.published.pop(at)
        self.follower.published(row[1].encode(), row[2], self.now_s)

    @precondition(lambda self: self.published)
    @rule()
    def lose(self) -> None:
        self.published.clear()

    @rule()
    def ask(self) -> None:
        self.follower.tick(self.now_s)
        self.asked += self.follower.questions()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def serve(self, data: st.DataObject) -> None:
        """The daemon reads a question that is on its way: any, also an old one."""
        question = self.asked.pop(data.draw(st.integers(0, len(self.asked) - 1)))
        self.answers.append(self.book.answer(question.request))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), is_lost=st.booleans())
    def answer(self, data: st.DataObject, is_lost: bool) -> None:
        found = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
        if not is_lost:
            self.follower.answered(msgpack.packb(found), self.now_s)

    @rule()
    def talk(self) -> None:
        """A question and its answer, without any trouble."""
        self.ask()
        for question in self.asked:
            self.follower.answered(msgpack.packb(self.book.answer(question.request)), self.now_s)
        self.asked.clear()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def in_order(self) -> None:
        if hasattr(self, "reader"):
            self.reader.take()

    def teardown(self) -> None:
        """Once the network is kind, everything comes."""
        if not hasattr(self, "reader"):
            return
        # First what was still on its way, then a daemon and a network without faults.
        for row in self.published:
            self.follower.published(row[1].encode(), row[2], self.now_s)
        for _ in range(200):
            self.now_s += ANSWER_WITHIN_S / 2
            beat = self.book.heartbeat()
            self.follower.published(b"heartbeat", beat[2], self.now_s)
            self.follower.tick(self.now_s)
            for question in self.follower.questions():
                self.follower.answered(msgpack.packb(self.book.answer(question.request)), self.now_s)
            self.reader.take()
        self.reader.finish()
        position = self.follower.position
        if position is None:  # "first" of an empty journal
            assert self.reader.start == "first"
            assert self.book.rows == []
        else:
            assert (position.journal_id, position.sequence) == (self.book.journal_id, len(self.book.rows))
        assert self.follower.state_at(self.now_s) == "live"


AnyNetwork.TestCase.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyNetwork = AnyNetwork.TestCase
