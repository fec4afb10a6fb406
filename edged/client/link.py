"""The two sockets of a client and the state machine between them. It never blocks: the clients do the waiting."""

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

MESSAGES_A_TURN = 200
QUEUE_MESSAGES = 4000
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000
RECONNECT_MS = 100
RECONNECT_MAX_MS = 1000
RECONNECT_SILENT_S = 5.0
"""After so long without a word a connection is made anew (docs/verdict.md, 1.6): ZeroMQ does so by itself only where
one broke, and gives it up for good where the other side sent more than MAXMSGSIZE, or refused the key."""

LINGER_MS = 200
TOPICS = ("verdict/", "part", "heartbeat")


class Link:
    """Connects, and turns what arrives into events. Not thread-safe."""

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
        self._unsent: dict[str, Question] = {}
        self._empty_s = self._heard_s = time.monotonic()
        self._waiting_since_s: float | None = None
        """For an answer; None: none is due."""
        self._endpoints = (verdicts, journal)
        self.published = context.socket(zmq.SUB)
        self.journal = context.socket(zmq.DEALER)
        try:
            tune(self.published, MAX_PAYLOAD_BYTES * 2, keys)
            self.published.setsockopt(zmq.RCVHWM, QUEUE_MESSAGES)
            for topic in dict.fromkeys((*TOPICS, *topics)):
                self.published.subscribe(topic)
            tune(self.journal, MAX_ANSWER_BYTES, keys)
            self.journal.setsockopt(zmq.IMMEDIATE, 1)  # no questions queue up for a daemon that is not there
            self.published.connect(verdicts)
            self.journal.connect(journal)
        except BaseException:
            self.close()
            raise

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
        self.send()
        self._reconnect_where_silent(now_s)
        return self.follower.next_event()

    def send(self) -> None:
        """Send questions, as far as the socket takes them."""
        for question in self.follower.questions():
            self._unsent[question.slot] = question
        if self._unsent and self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
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
            self._heard_s = time.monotonic()
            if len(frames) == 2:
                self.follower.published(frames[0], frames[1], self._empty_s)

    def _take_answers(self) -> None:
        for _ in range(MESSAGES_A_TURN):
            try:
                frames = self.journal.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._waiting_since_s = None
            self.follower.answered(frames[-1], time.monotonic())

    def _reconnect_where_silent(self, now_s: float) -> None:
        """Heartbeats come each second and questions are answered at once, so silence means a dead connection."""
        verdicts, journal = self._endpoints
        if now_s - self._heard_s > RECONNECT_SILENT_S:
            self._heard_s = now_s
            _reconnect(self.published, verdicts)
        if self._waiting_since_s is not None and now_s - self._waiting_since_s > RECONNECT_SILENT_S:
            self._waiting_since_s = now_s
            _reconnect(self.journal, journal)


def _reconnect(socket: "zmq.Socket[Any]", endpoint: str) -> None:
    socket.disconnect(endpoint)
    socket.connect(endpoint)


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
