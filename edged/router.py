"""What the daemon's two question-and-answer sockets have in common: peers, limits, and answers that nobody takes.

A ROUTER socket whose requests are taken a few at a time on the daemon's thread, which never blocks here. REQ and
DEALER peers are understood (with or without the empty frame).
"""

import abc
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from edged.buckets import Buckets
from edged.endpoints import Protector
from edged.listener import Listener

__all__ = ["REQUESTS_PER_TURN", "Desk", "Limits", "Request", "Router"]

REQUESTS_PER_TURN = 16
PER_S = 50
RECEIVE_QUEUE_MESSAGES = 1000
LINGER_MS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Of one socket, per peer."""

    message_bytes: int
    """Above this ZeroMQ itself drops the connection, before the bytes take memory."""
    send_queue_messages: int
    """Answers that wait for a peer which does not read them; further ones are dropped."""
    burst: int
    """Requests at once; then `PER_S` a second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request as it came.

    Attributes:
        envelope: the frames that an answer begins with.
        frames: the rest; one of them, where the peer does as it should.
        key_name: name of the sender's key, None where the socket asks for none.
        wait_ms: 0, or how long the peer has to wait before it may ask again.
    """

    envelope: list[bytes]
    frames: list[bytes]
    key_name: str | None
    wait_ms: int


class Router:
    """Binds `endpoint`; `counts` says what went wrong, by a word for it.

    Args:
        guard: lets in those who have a key with the right `domain`; None: whoever reaches the endpoint.
        now_ns: a monotonic clock, for the limit on requests.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        limits: Limits,
        domain: str,
        guard: Protector | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._buckets = Buckets(PER_S, limits.burst, now_ns)
        options: dict[int, int] = {
            zmq.MAXMSGSIZE: limits.message_bytes,
            zmq.RCVHWM: RECEIVE_QUEUE_MESSAGES,
            zmq.SNDHWM: limits.send_queue_messages,
            zmq.LINGER: LINGER_MS,
            # So that an answer that cannot be sent is an error here, which is counted, and not silently gone.
            zmq.ROUTER_MANDATORY: 1,
        }
        self.listener = Listener(context, zmq.ROUTER, endpoint, options, guard, domain)
        self.endpoint = self.listener.endpoint

    @property
    def socket(self) -> "zmq.Socket[Any]":
        """To be polled; another one after connections were cut."""
        return self.listener.socket

    def requests(self) -> Iterator[Request]:
        """What is waiting, at most `REQUESTS_PER_TURN`; never blocks."""
        self.listener.attend()
        for _ in range(REQUESTS_PER_TURN):
            if not self.socket.poll(0):
                return
            received = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            peer, *frames = [frame.bytes for frame in received]
            envelope = [peer, b""] if len(frames) > 1 and frames[0] == b"" else [peer]
            name = self._key_name(received[-1])
            yield Request(envelope, frames[len(envelope) - 1 :], name, self._buckets.wait_ms(peer))

    def send(self, request: Request, answer: bytes) -> None:
        """Answer a request with a packed map; never blocks. What its peer does not read is dropped and counted."""
        try:
            self.socket.send_multipart([*request.envelope, answer], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # The peer does not read (EAGAIN) or is gone (EHOSTUNREACH): it asks again when it wants to know.
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.counts["unread"] += 1

    def renew(self) -> None:
        """Send the answers that are queued and end all connections; who is still allowed comes back by itself."""
        self.listener.renew(LINGER_MS)

    def close(self) -> None:
        """Send the answers that are queued and close."""
        self.listener.close()

    def _key_name(self, frame: zmq.Frame) -> str | None:
        if self.socket.getsockopt(zmq.MECHANISM) != zmq.CURVE:
            return None
        return str(frame.get("User-Id"))


class Desk(abc.ABC):
    """Something that answers what comes by a `Router`, as the daemon sees it. Not thread-safe."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.listener, self.endpoint = router.listener, router.endpoint

    @property
    def socket(self) -> "zmq.Socket[Any]":
        """To be polled; another one after connections were cut."""
        return self._router.socket

    @abc.abstractmethod
    def serve(self) -> None:
        """Answer what is waiting, a few at a time; never blocks."""

    def counters(self) -> dict[str, int]:
        """How many requests were refused so far, by a word for why, and answers that nobody took."""
        return dict(self._router.counts)

    def renew(self) -> None:
        """Answer what is waiting, then end all connections; who is still allowed comes back by itself."""
        self.serve()
        self._router.renew()

    def close(self) -> None:
        """Send the answers that are queued and close."""
        self._router.close()
