"""A publisher, a journal desk and a control socket behind one guard, and clients with and without keys."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zmq

from edged.control import Control
from edged.guard import Guard
from edged.journal import Journal
from edged.journal_desk import JournalDesk
from edged.keys import Bundle, KeyStore, Right
from edged.publisher import Publisher

__all__ = ["NOW", "PATIENCE_S", "GuardedCell", "guarded_cell"]

PATIENCE_S = 20.0
NOW = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


class GuardedCell:
    """The daemon's three sockets on loopback, all with keys; `until` takes turns as the daemon does."""

    def __init__(self, folder: Path, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.store = KeyStore(folder / "keys")
        self.store.make_server()
        self.context: zmq.Context[Any] = zmq.Context()
        self.clients: zmq.Context[Any] = zmq.Context()
        self.journal = Journal(folder / "journal.db", reserve_bytes=65536)
        self.guard = guard = Guard(self.context, self.store.folder)
        ends = [endpoint.replace("NAME", name) for name in ("verdicts", "journal", "control")]
        self.publisher = Publisher(self.context, ends[0], (), guard)
        self.desk = JournalDesk(self.context, ends[1], self.journal, guard)
        self.asked: list[Any] = []
        self._connected: list[zmq.Socket[Any]] = []
        self.control = Control(self.context, ends[2], {"ping": self._ping}, guard)

    def _ping(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        return {"ok": True}

    def key(self, name: str, *rights: Right) -> Bundle:
        """A new client's keys."""
        return self.store.add(name, rights, NOW)

    def turn(self) -> None:
        """What the daemon does with them in a turn."""
        desks = (self.publisher, self.desk, self.control)
        sockets = [*self.guard.sockets(), *(desk.socket for desk in desks)]
        zmq.zmq_poll([(socket, zmq.POLLIN) for socket in sockets], 10)
        self.guard.serve()
        for right in self.guard.reloaded():
            for desk in desks:
                if desk.listener.domain == right:
                    desk.renew()
        for desk in desks:
            desk.serve()

    def until(self, is_so: Callable[[], Any], patience_s: float = PATIENCE_S) -> bool:
        """Turns until something is so; False when it does not come."""
        end = time.monotonic() + patience_s
        while not (so := is_so()) and time.monotonic() < end:
            self.turn()
        return bool(so)

    def client(
        self, kind: int, endpoint: str, keys: Bundle | None = None, server_public: str | None = None
    ) -> "zmq.Socket[Any]":
        """A connected socket. `server_public`: another server's key than the one in `keys`."""
        socket = self.clients.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        if keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, (server_public or keys.server_public).encode())
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
        socket.connect(endpoint)
        self._connected.append(socket)
        return socket

    def subscriber(self, keys: Bundle | None = None, server_public: str | None = None) -> "zmq.Socket[Any]":
        """Subscribed to everything that is published."""
        socket = self.client(zmq.SUB, self.publisher.endpoint, keys, server_public)
        socket.subscribe(b"")
        return socket

    def refused(self, reason: str) -> int:
        """How often, for this reason."""
        return self.guard.counters().get(f"refused_{reason}", 0)

    def close(self) -> None:
        """In the daemon's order."""
        for socket in self._connected:
            socket.close(linger=0)
        self.clients.term()
        for desk in (self.control, self.desk, self.publisher):
            desk.close()
        self.guard.close()
        self.context.term()
        self.journal.close()


@contextlib.contextmanager
def guarded_cell(folder: Path, endpoint: str = "tcp://127.0.0.1:*") -> Iterator[GuardedCell]:
    """Closed in the end, whatever happens."""
    cell = GuardedCell(folder, endpoint)
    try:
        yield cell
    finally:
        cell.close()
