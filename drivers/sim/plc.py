"""The virtual cell's PLC: what it tells the daemon on the control socket, with time-outs.

msgpack maps over a DEALER that speaks to the daemon's ROUTER in REQ's envelope: `[b"", payload]` both ways.
"""

import threading
import time
from typing import Any, Self

import msgpack
import zmq

__all__ = ["Plc", "PlcError"]

POLL_MS = 100


class PlcError(Exception):
    """The daemon did not answer, or refused; the message names the operation."""


class Plc:
    """Sends one message at a time; `stop` ends every waiting."""

    def __init__(self, endpoint: str, stop: threading.Event, timeout_s: float = 5.0) -> None:
        self._endpoint = endpoint
        self._stop = stop
        self._timeout_s = timeout_s
        self._context = zmq.Context()
        self._socket = self._connect()

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """The daemon's answer to `{op, **fields}`. Raises PlcError when there is none or it says no."""
        self._socket.send_multipart([b"", msgpack.packb({"op": op, **fields})])
        reply = self._reply(time.monotonic() + self._timeout_s)
        if reply is None:
            # A late answer must not be taken for the next one's.
            self._socket.close(linger=0)
            self._socket = self._connect()
            raise PlcError(f"{op}: no answer from {self._endpoint} within {self._timeout_s} s")
        if not reply.get("ok"):
            raise PlcError(f"{op}: the daemon refused: {reply.get('error', reply)}")
        return reply

    def close(self) -> None:
        """Leave nothing behind."""
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.connect(self._endpoint)
        return socket

    def _reply(self, deadline_s: float) -> dict[str, Any] | None:
        while not self._stop.is_set() and time.monotonic() < deadline_s:
            if self._socket.poll(POLL_MS):
                *_, payload = self._socket.recv_multipart()
                reply: dict[str, Any] = msgpack.unpackb(payload)
                return reply
        return None
