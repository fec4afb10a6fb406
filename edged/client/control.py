"""`Control`: what a PLC tells the daemon, as calls."""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from .decode import MAX_ANSWER_BYTES, read_map
from .keys import Keys
from .link import tune

__all__ = ["Control", "Refused"]


class Refused(Exception):
    """The daemon answered that it will not; the text says which field is wrong and how."""


class Control:
    """Asks the control socket, one question after the other; may be shared between threads.

    Args:
        endpoint: the control socket, e.g. "ipc:///var/lib/edged/run/control.sock".
        keys: where the daemon wants keys; they need the right "control".
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, endpoint: str, keys: Keys | None = None, timeout_s: float = 5.0) -> None:
        self.endpoint = endpoint
        self._keys = keys
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The daemon's answer. Raises Refused; TimeoutError when none comes, and nobody knows if it was followed."""
        request = msgpack.packb({"op": op, **fields})
        with self._lock:
            socket = self._connected()
            try:
                socket.send(request, zmq.NOBLOCK)
                frames = socket.recv_multipart() if socket.poll(round(self._timeout_s * 1e3)) else None
            except BaseException:
                self._drop()
                raise
            if frames is None:
                self._drop()  # a late answer must never be taken for the next question's
                raise TimeoutError(
                    f"{self.endpoint}: no answer to {op} within {self._timeout_s:g} s; is edged running?"
                )
        answer = read_map(frames[-1], MAX_ANSWER_BYTES)
        if answer is None:
            raise Refused(f"{self.endpoint}: the answer to {op} is no msgpack map; is this edged's control socket?")
        if answer.get("ok") is not True:
            raise Refused(str(answer.get("error", "refused without a reason")))
        return answer

    def expect(
        self,
        program: str,
        *,
        part_id: str | None = None,
        seam_ref: str | None = None,
        torch: str | None = None,
        pass_index: int | None = None,
        session: str | None = None,
        set_points: Mapping[str, float] | None = None,
    ) -> str:
        """Name the next seam of a torch; returns its seam_id, which its verdict will carry. Raises as `ask`."""
        fields = {
            "part_id": part_id,
            "seam_ref": seam_ref,
            "torch": torch,
            "pass_index": pass_index,
            "session": session,
            "set_points": None if set_points is None else dict(set_points),
        }
        return str(self.ask("expect", program=program, **_given(fields))["seam_id"])

    def part(self, part_id: str, seams: Sequence[str]) -> dict[str, Any]:
        """A part begins; `seams` are the references of all its seams. Raises as `ask`."""
        return self.ask("part", part_id=part_id, seams=list(seams))

    def end_part(self, part_id: str) -> dict[str, Any]:
        """No further seam of this part will come. Raises as `ask`."""
        return self.ask("end_part", part_id=part_id)

    def view(
        self, view: str, *, seam_ref: str | None = None, seam_id: str | None = None, part_id: str | None = None
    ) -> dict[str, Any]:
        """The camera or scanner is in place: take `view` of this seam. Raises as `ask`."""
        return self.ask("view", view=view, **_given({"seam_ref": seam_ref, "seam_id": seam_id, "part_id": part_id}))

    def ping(self) -> dict[str, Any]:
        """Whether anybody is there. Raises as `ask`."""
        return self.ask("ping")

    def close(self) -> None:
        """Close the socket; may be called again."""
        with self._lock:
            self._drop()
            self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _connected(self) -> "zmq.Socket[bytes]":
        if self._socket is None:
            self._socket = self._context.socket(zmq.REQ)
            tune(self._socket, MAX_ANSWER_BYTES, self._keys)
            self._socket.connect(self.endpoint)
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
