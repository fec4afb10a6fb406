"""The control socket: the PLC (or its bridge) announces parts, seams and views, and people ask for the state.

What a request means is `edged.messages`' and the engine's business. A request is one msgpack map
`{op: part|expect|view|end_part|status|ping, …}`, the answer `{ok: true, …}` or `{ok: false, error}`.
Requests run on the engine's thread, between two chunks, so the engine stays single-threaded; a flood is served
a few at a time. Whatever a peer sends gets an answer that says what is wrong, never a crash.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from edged.client.keys import Keys
from edged.endpoints import Protector
from edged.messages import ControlError
from edged.router import PER_S, Desk, Limits, Request, Router
from edged.wire import WireError, pack, unpack

__all__ = ["Control", "Handler", "ask"]

MAX_REQUEST_BYTES = 64 * 1024
LIMITS = Limits(message_bytes=1024 * 1024, send_queue_messages=64, burst=200)

Handler = Callable[[dict[str, Any]], Mapping[str, Any]]
"""Gets the request's map, returns the answer with `ok` in it. May raise ControlError, whose text is the answer."""


class Control(Desk):
    """Binds `endpoint` and answers requests from `serve`.

    Args:
        context: the process's ZeroMQ context.
        endpoint: ipc (mode 0600) or tcp.
        handlers: op → what does it; ops without a handler are answered as unknown.
        guard: lets in those who have a key with the right `control`; None: whoever reaches the endpoint.
        now_ns: a monotonic clock, for the limit on requests.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        handlers: Mapping[str, Handler],
        guard: Protector | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._handlers = handlers
        super().__init__(Router(context, endpoint, LIMITS, "control", guard, now_ns))

    def serve(self) -> None:
        """Answer what is waiting, at most `REQUESTS_PER_TURN`; never blocks."""
        for request in self._router.requests():
            self._router.send(request, self._answer(request))

    def _answer(self, request: Request) -> bytes:
        if request.wait_ms:
            self._router.counts["rate"] += 1
            error = f"more than {PER_S} requests a second; ask again in {request.wait_ms} ms"
            return pack({"ok": False, "error": error, "retry_ms": request.wait_ms})
        try:
            return pack(self._handle(request.frames))
        except (ControlError, WireError) as error:
            self._router.counts["refused"] += 1
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


def ask(
    endpoint: str, request: Mapping[str, Any], timeout_s: float = 5.0, keys: Keys | None = None
) -> dict[str, Any]:
    """Send one request and return the answer; `keys`: for a socket that wants some.

    Raises TimeoutError when nobody answers, WireError on nonsense.
    """
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            keys.protect(socket)
        socket.connect(endpoint)
        socket.send(pack(request))
        if not socket.poll(round(timeout_s * 1e3)):
            hint = "it may want keys (--keys FILE)" if keys is None else f"it may refuse the key {keys.name}"
            raise TimeoutError(f"{endpoint}: no answer within {timeout_s:g} s; if edged runs, {hint}")
        return unpack(socket.recv())
