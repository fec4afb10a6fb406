"""A PLC's sockets in plain ZeroMQ, as a stranger would write them: no part of `edged.client` is used here."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from edged.client import Keys

__all__ = ["Asker", "Listener", "NoAnswer", "Place"]

ANSWER_S = 5.0


class NoAnswer(Exception):
    """The other side does not answer; names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The daemon's sockets, and the keys to reach them with."""

    verdicts: str
    journal: str
    control: str | None = None
    keys: Keys | None = None


class Listener:
    """A SUB socket; `received` is everything so far: (seconds of the monotonic clock, topic, payload)."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", place: Place, keys: Keys | None, topic: bytes = b""
    ) -> None:
        self.received: list[tuple[float, str, bytes]] = []
        self._socket = _connected(context, zmq.SUB, place.verdicts, keys, topic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._socket.close(linger=0)

    def until(self, is_so: Callable[[], Any], within_s: float) -> bool:
        """Listen until it is so, False when that does not come in time."""
        end_s = time.monotonic() + within_s
        while not is_so():
            if (left_s := end_s - time.monotonic()) <= 0:
                return False
            if self._socket.poll(max(1, round(left_s * 1e3))):
                frames = self._socket.recv_multipart()
                payload = frames[1] if len(frames) == 2 else b""
                self.received.append((time.monotonic(), frames[0].decode(errors="replace"), payload))
        return True

    def listen(self, for_s: float) -> None:
        """Listen for so long."""
        self.until(lambda: False, for_s)

    def of(self, prefix: str) -> list[tuple[float, str, bytes]]:
        """What came under topics that begin so."""
        return [found for found in self.received if found[1].startswith(prefix)]


class Asker:
    """A socket that asks: DEALER without the empty frame unless told otherwise."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, keys: Keys | None, kind: int = zmq.DEALER
    ) -> None:
        self.endpoint = endpoint
        self._numbers = itertools.count(1)
        self.socket = _connected(context, kind, endpoint, keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.socket.close(linger=0)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The answer to one request. Raises NoAnswer."""
        return self.exchange(msgpack.packb({"op": op, **fields}))

    def exchange(self, *frames: bytes, within_s: float = ANSWER_S) -> dict[str, Any]:
        """Send frames as they are; the map that comes back. Raises NoAnswer."""
        self.socket.send_multipart(list(frames))
        return self.answer(within_s)

    def answer(self, within_s: float = ANSWER_S) -> dict[str, Any]:
        """The next answer. Raises NoAnswer."""
        if not self.socket.poll(round(within_s * 1e3)):
            raise NoAnswer(f"{self.endpoint} gave no answer within {within_s:g} s")
        found = msgpack.unpackb(self.socket.recv_multipart()[-1])
        if not isinstance(found, dict):
            raise NoAnswer(f"{self.endpoint} answered {found!r:.100}, which is no map")
        return found


def _connected(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, endpoint: str, keys: Keys | None, topic: bytes | None = None
) -> "zmq.Socket[bytes]":
    socket = context.socket(kind)
    try:
        socket.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            keys.protect(socket)
        if topic is not None:
            socket.subscribe(topic)
        socket.connect(endpoint)
    except BaseException:
        socket.close(linger=0)
        raise
    return socket
