"""The two sockets of a client and the state machine between them. It never blocks: the clients do the waiting."""

import contextlib
import time
from collections.abc import Iterable
from typing import Any

import msgpack
import zmq

from .decode import MAX_ANSWER_BYTES, MAX_PAYLOAD_BYTES
from .events import Event
from .follow import Follower, Question
from .keys import Keys

__all__ = ["LOOK_EVERY_S", "Link", "tune"]

LOOK_EVERY_S = 0.1
"""How often the time is looked at while nothing comes."""

RENEW_AFTER_S = 3.0
RENEW_AFTER_MAX_S = 30.0
MESSAGES_A_TURN = 200
QUEUE_MESSAGES = 4000
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000
RECONNECT_MS = 100
RECONNECT_MAX_MS = 1000
LINGER_MS = 200
TOPICS = ("verdict/", "part", "heartbeat")


class Link:
    """Connects, and turns what arrives into events. Not thread-safe.

    libzmq gives up a connection for good after some errors (a message above the limit, a handshake that was cut
    short), and tells nobody: as long as no daemon is heard, both sockets are therefore made anew now and then.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        verdicts: str,
        journal: str,
        follower: Follower,
        topics: Iterable[str],
        keys: Keys | None,
    ) -> None:
        self.follower = follower
        self._context, self._keys = context, keys
        self._verdicts, self._journal = verdicts, journal
        self._topics = tuple(dict.fromkeys((*TOPICS, *topics)))
        self._unsent: dict[str, Question] = {}
        self._empty_s = self._connected_s = time.monotonic()
        self._renew_after_s = RENEW_AFTER_S
        self.published, self.journal = self._connect()

    @property
    def has_unsent(self) -> bool:
        """Whether a question waits until the journal socket can take it."""
        return bool(self._unsent)

    def turn(self) -> Event | None:
        """Take what has arrived, send what is to be asked; the next event, None: wait for the sockets."""
        if (event := self.follower.next_event()) is not None:
            return event
        self._take_answers()
        self._take_published()
        self.follower.tick(now_s := time.monotonic())
        self._look_after(now_s)
        self.send()
        return self.follower.next_event()

    def send(self) -> None:
        """Send questions, as far as the socket takes them."""
        for question in self.follower.questions():
            self._unsent[question.slot] = question
        for slot, question in list(self._unsent.items()):
            try:
                self.journal.send(msgpack.packb(question.request), zmq.NOBLOCK)
            except zmq.Again:
                return
            del self._unsent[slot]

    def close(self) -> None:
        """Close both sockets; an acknowledgement on its way gets a moment."""
        self.published.close(linger=0)
        self.journal.close(linger=LINGER_MS)

    def _connect(self) -> "tuple[zmq.Socket[bytes], zmq.Socket[bytes]]":
        with contextlib.ExitStack() as undo:
            published = self._context.socket(zmq.SUB)
            undo.callback(published.close, 0)
            journal = self._context.socket(zmq.DEALER)
            undo.callback(journal.close, 0)
            tune(published, MAX_PAYLOAD_BYTES * 2, self._keys)
            published.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
            for topic in self._topics:
                published.subscribe(topic)
            tune(journal, MAX_ANSWER_BYTES, self._keys)
            journal.setsockopt(zmq.IMMEDIATE, 1)  # no questions queue up for a daemon that is not there
            published.connect(self._verdicts)
            journal.connect(self._journal)
            undo.pop_all()
        return published, journal

    def _look_after(self, now_s: float) -> None:
        """Make the sockets anew where nobody was heard for long; ever less often, lest slow handshakes never end."""
        if self.follower.state_at(now_s) == "live":
            self._connected_s, self._renew_after_s = now_s, RENEW_AFTER_S
        elif now_s - self._connected_s > self._renew_after_s:
            self.published.close(linger=0)
            self.journal.close(linger=0)
            self.published, self.journal = self._connect()
            self._connected_s, self._renew_after_s = now_s, min(self._renew_after_s * 2, RENEW_AFTER_MAX_S)

    def _take_published(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            before_s = time.monotonic()
            try:
                frames = self.published.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                # Whatever is found from now on arrived after this; nothing later is known of its arrival, for
                # this process may stand still with heartbeats in its queue.
                self._empty_s = before_s
                return
            if len(frames) == 2:
                self.follower.published(frames[0], frames[1], self._empty_s)

    def _take_answers(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = self.journal.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.follower.answered(frames[-1], time.monotonic())


def tune(socket: "zmq.Socket[Any]", max_bytes: int, keys: Keys | None) -> None:
    """What every client's socket needs: limits, and ZMTP heartbeats, without which a pulled cable is never seen."""
    options = {
        zmq.MAXMSGSIZE: max_bytes,
        zmq.LINGER: 0,
        zmq.HEARTBEAT_IVL: HEARTBEAT_MS,
        zmq.HEARTBEAT_TIMEOUT: HEARTBEAT_TIMEOUT_MS,
        zmq.HEARTBEAT_TTL: HEARTBEAT_TIMEOUT_MS,
        zmq.RECONNECT_IVL: RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: RECONNECT_MAX_MS,
    }
    for option, value in options.items():
        socket.setsockopt(option, value)
    if keys is not None:
        keys.protect(socket)
