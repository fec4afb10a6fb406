"""The journal socket as a peer sees it: real sockets, and a desk that is served in between."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgpack
import zmq

from edged.journal import Journal
from edged.journal_desk import JournalDesk

__all__ = ["Peer", "fill"]


class Peer:
    """A DEALER (or REQ) at a desk; `ask` sends, lets the desk serve, and receives.

    `keys`: the server's public key and its own two, where the desk asks for some.
    """

    def __init__(
        self, context: Any, desk: JournalDesk, kind: int = zmq.DEALER, keys: tuple[bytes, bytes, bytes] | None = None
    ) -> None:
        self._desk = desk
        self.socket = context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        if keys is not None:
            options = (zmq.CURVE_SERVERKEY, zmq.CURVE_PUBLICKEY, zmq.CURVE_SECRETKEY)
            for option, key in zip(options, keys, strict=True):
                self.socket.setsockopt(option, key)
        self.socket.connect(desk.endpoint)

    def send(self, request: Any) -> None:
        """Send a request, packed unless it is bytes."""
        self.socket.send(request if isinstance(request, bytes) else msgpack.packb(request))

    def ask(self, request: Any) -> dict[str, Any]:
        """The answer to one request."""
        self.send(request)
        assert self._desk.socket.poll(10_000)
        self._desk.serve()
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """The next answer."""
        answer: dict[str, Any] = msgpack.unpackb(self.socket.recv())
        return answer


def fill(journal: Journal, payloads: Sequence[bytes]) -> None:
    """Put entries of given sizes on the end of a journal's file, and let the journal see them.

    Verdicts of a given size to the byte cannot be made, and a thousand of them wait for the disk a thousand times.
    """
    first = journal.last_sequence + 1
    rows = [(first + i, "verdict/T1", f"filled-{first + i}", 1, 1, payload) for i, payload in enumerate(payloads)]
    with sqlite3.connect(journal.path) as db:
        db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
    db.close()
    journal._last = first - 1 + len(payloads)
    journal._last_of_topics["verdict/T1"] = journal.last_sequence
