"""The control socket: the PLC (or its bridge) announces parts, seams and views, and people ask for the state.

A ROUTER socket; a request is one msgpack map `{op: part|expect|view|end_part|status|ping|range, …}`, the answer
`{ok: true, …}` or `{ok: false, error}`. REQ and DEALER peers are understood (with or without the empty frame).
Requests run on the engine's thread, between two chunks, so the engine stays single-threaded; a flood is served
a few at a time. Whatever a peer sends gets an answer that says what is wrong, never a crash.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import zmq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edged.endpoints import bind
from edged.wire import WireError, pack, unpack

__all__ = [
    "Control",
    "ControlError",
    "EndPartRequest",
    "ExpectRequest",
    "Handler",
    "PartRequest",
    "PingRequest",
    "RangeRequest",
    "Request",
    "StatusRequest",
    "ViewRequest",
    "ask",
]

MAX_REQUEST_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 1024 * 1024
"""Above this ZeroMQ itself drops the connection, before the bytes take memory."""

REQUESTS_PER_TURN = 16
LINGER_MS = 200

Name = Annotated[str, Field(min_length=1, max_length=200)]


class ControlError(Exception):
    """A request that cannot be done now; the message goes back to the peer."""


class Request(BaseModel):
    """Base of all requests. An unknown key is an error: a misspelt one would otherwise be lost silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    op: str


class PartRequest(Request):
    """A part begins; `seams` are the references of every seam that it must get."""

    op: Literal["part"]
    part_id: Name
    seams: Annotated[list[Name], Field(max_length=1000)] = []


class ExpectRequest(Request):
    """The next seam of `torch`."""

    op: Literal["expect"]
    program: Name
    part_id: Name | None = None
    seam_ref: Name | None = None
    torch: Name | None = None
    pass_index: Annotated[int, Field(ge=0, lt=1000)] = 0


class ViewRequest(Request):
    """The camera of `view` now looks at the seam; its first frame from now on plus `settle_ms` is the result."""

    op: Literal["view"]
    seam_ref: Name
    view: Name


class EndPartRequest(Request):
    """The part is done; its verdict follows when its last seam has one."""

    op: Literal["end_part"]
    part_id: Name


class StatusRequest(Request):
    """State of streams, worker, journal."""

    op: Literal["status"]


class PingRequest(Request):
    """Are you there?"""

    op: Literal["ping"]


class RangeRequest(Request):
    """Journal entries that a subscriber missed, both ends included."""

    op: Literal["range"]
    from_sequence: Annotated[int, Field(ge=1, lt=2**63)]
    to_sequence: Annotated[int, Field(ge=1, lt=2**63)]


REQUESTS: dict[str, type[Request]] = {
    "part": PartRequest,
    "expect": ExpectRequest,
    "view": ViewRequest,
    "end_part": EndPartRequest,
    "status": StatusRequest,
    "ping": PingRequest,
    "range": RangeRequest,
}

Handler = Callable[[Any], Mapping[str, Any]]
"""Gets the validated request, returns what the answer holds beside `ok`. Raises ControlError."""


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
        self.socket.close()

    def _answer(self, frames: list[bytes]) -> bytes:
        try:
            return pack({"ok": True, **self._handle(frames)})
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
        try:
            request = REQUESTS[op].model_validate(raw)
        except ValidationError as error:
            raise ControlError(f"{op}: {_problems(error)}") from error
        return self._handlers[op](request)


def ask(endpoint: str, request: Mapping[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request and return the answer. Raises TimeoutError when nobody answers, WireError on nonsense."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(pack(request))
        if not socket.poll(round(timeout_s * 1e3)):
            raise TimeoutError(f"{endpoint}: no answer within {timeout_s:g} s")
        return unpack(socket.recv())


def _problems(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
