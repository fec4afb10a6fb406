"""`Client`: a subscriber in plain blocking Python."""

import time
from collections.abc import Collection, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import zmq

from .endpoints import journal_endpoint
from .events import Entry, Event, Position, Start, State
from .follow import Follower
from .keys import Keys
from .link import LOOK_EVERY_S, Link

__all__ = ["Client"]


class Client:
    """Follows a daemon's journal: verdicts and parts, each once, in order, without a gap.

    Use it as a context manager and in one thread; nothing is read between two calls, so call often (the daemon's
    queue for a client that does not read is bounded; what does not fit is read from the journal afterwards).

    Args:
        verdicts: where verdicts are published.
        journal: the journal socket; None: derived from `verdicts`.
        keys: where the daemon wants keys (always, off loopback).
        programs: hand out verdicts of these only; parts always.
        topics: hand out messages of the moment too: "health", "heartbeat", "live".
        start: where to begin: a Position (as `position` said before), "last" (the last verdict of every program,
            then on), "now", or "first".
        stale_after_s: without a heartbeat for so long, `state` is "stale".
        acknowledge_as: the name for `acknowledge`; with keys it must be theirs.
        context: a ZeroMQ context to use; None: one of its own.
    Raises ValueError where an endpoint is none, zmq.ZMQError where it cannot be used.
    """

    def __init__(
        self,
        verdicts: str = "tcp://127.0.0.1:5560",
        *,
        journal: str | None = None,
        keys: Keys | None = None,
        programs: Collection[str] | None = None,
        topics: Iterable[str] = (),
        start: Start = "last",
        stale_after_s: float = 3.0,
        acknowledge_as: str | None = None,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        topics = tuple(topics)
        self._follower = Follower(
            start=start,
            programs=programs,
            topics=topics,
            stale_after_s=stale_after_s,
            acknowledge_as=acknowledge_as,
        )
        self._own_context: zmq.Context[Any] | None = zmq.Context() if context is None else None
        try:
            used = self._own_context if context is None else context
            assert used is not None
            self._link = Link(used, verdicts, journal or journal_endpoint(verdicts), self._follower, topics, keys)
        except BaseException:
            if self._own_context is not None:
                self._own_context.destroy(linger=0)
            raise
        self._is_open = True

    @property
    def position(self) -> Position | None:
        """Everything up to here was handed out; keep it (`Position.save`) and give it as `start` the next time."""
        return self._follower.position

    @property
    def state(self) -> State:
        """Whether the daemon is there, as of now: act on an OK only while this is "live"."""
        return self._follower.state_at(time.monotonic())

    @property
    def rejected(self) -> int:
        """How many messages and answers made no sense."""
        return self._follower.rejected

    def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None when there was none within the time-out (None: wait for ever)."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._is_open:
            if (event := self._link.turn()) is not None:
                return event
            left_s = LOOK_EVERY_S if end_s is None else end_s - time.monotonic()
            if left_s <= 0:
                return None
            self._wait(min(left_s, LOOK_EVERY_S))
        return None

    def acknowledge(self, entry: Entry) -> None:
        """Tell the daemon that everything up to this entry was acted on. Raises ValueError without `acknowledge_as`.

        Repeated until the daemon has it, as long as `receive` is called.
        """
        self._follower.acknowledge(entry)
        self._follower.tick(time.monotonic())
        self._link.send()

    def close(self) -> None:
        """Close the sockets; may be called again."""
        if not self._is_open:
            return
        self._is_open = False
        self._link.close()
        if self._own_context is not None:
            self._own_context.term()

    def __iter__(self) -> Iterator[Entry]:
        """Verdicts and parts for ever, or until closed. Other events pass silently: `state` still tells."""
        while self._is_open:
            event = self.receive()
            if isinstance(event, Entry):
                yield event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, within_s: float) -> None:
        mask = zmq.POLLIN | (zmq.POLLOUT if self._link.has_unsent else 0)
        zmq.zmq_poll([(self._link.published, zmq.POLLIN), (self._link.journal, mask)], max(1, int(within_s * 1e3)))
