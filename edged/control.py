"""The control socket: the PLC (or its bridge) announces parts, seams and views, and people ask for the state.

A ROUTER socket; what a request means is `edged.messages`' and the engine's business. A request is one msgpack map
`{op: part|expect|view|end_part|status|ping, …}`, the answer `{ok: true, …}` or `{ok: false, error}`. REQ and
DEALER peers are understood (with or without the empty frame).
Requests run on the engine's thread, between two chunks, so the engine stays single-threaded; a flood is served
a few at a time. Whatever a peer sends gets an answer that says what is wrong, never a crash.
"""

from collections.abc import Callable, Mapping
from typing import Any

import zmq

from edged.endpoints import bind, close, keep_alive
from edged.messages import ControlError
from edged.wire import WireError, pack, unpack

__all__ = ["Control", "Handler", "ask"]

MAX_REQUEST_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024
"""Above this ZeroMQ itself drops the connection, before the bytes take memory."""

REQUESTS_PER_TURN = 16
LINGER_MS = 200

Handler = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Gets the request's map, returns the answer with `ok` in it. May raise ControlError, whose text is the answer."""


class Control:
    """Binds `endpoint` and answers requests from `serve`.

    Args:
        context: the process's ZeroMQ context.
        endpoint: ipc (mode 0600) or loopback tcp.
        handlers: op → what does it; ops without a handler are answered as unknown.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", endpoint: str, handlers: Mapping[str, Handler]
    ) -> None:
        self._handlers = handlers
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        keep_alive(self.socket)
        try:
            self.endpoint = bind(self.socket, endpoint)
        except BaseException:
            self.socket.close(linger=0)
            raise

    def serve(self) -> None:
        """Answer what is waiting, at most `REQUESTS_PER_TURN`; never blocks."""
        for _ in range(REQUESTS_PER_TURN):
            if not self.socket.poll(0):
                return
            peer, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
            envelope = [peer, b""] if frames and frames[0] == b"" and len(frames) > 1 else [peer]
            self.socket.send_multipart([*envelope, self._answer(frames[len(envelope) - 1 :])])

    def close(self) -> None:
        """Send the answers that are queued and close."""
        close(self.socket, self.endpoint)

    def _answer(self, frames: list[bytes]) -> bytes:
        try:
            return pack(self._handle(frames))
        except (ControlError, WireError) as error:
            return pack({"ok": False, "error": str(error)})

    def _handle(self, frames: list[bytes]) -> Mapping[str, Any]:
        if len(frames) != 1:
            raise ControlError(f"one frame with a msgpack map is needed, got {len(frames)}")
        if len(frames[0]) > MAX_REQUEST_BYTES:
            raise ControlError(f"{len(frames[0])} bytes, the limit is {MAX_REQUEST_BYTES}")
        raw = unpack(frames[0])
        op = raw.get("op")
        if not isinstance(op, str) or op not in self._handlers:
            raise ControlError(f"op {op!r:.100} is none of {', '.join(self._handlers)}")
        return self._handlers[op](raw)


def ask(endpoint: str, request: Mapping[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request and return the answer. Raises TimeoutError when nobody answers, WireError on nonsense."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(pack(request))
        if not socket.poll(round(timeout_s * 1e3)):
            raise TimeoutError(f"{endpoint}: no answer within {timeout_s:g} s")
        return unpack(socket.recv())
