"""Lets tests break the virtual cell's devices while it runs: a REP socket that takes JSON.

`{"fault": NAME, "on": true}` begins or ends one of `TRANSPORT_FAULTS`; `{}` only asks. Answers `{"ok", "counts"}`
or `{"ok": false, "error"}`.
"""

import json
import threading
from pathlib import Path
from typing import Any

import zmq

from drivers.sim.transports import Transports

__all__ = ["FaultSocket"]

POLL_MS = 200


class FaultSocket:
    """Serves on its own thread at `ipc://PATH`."""

    def __init__(self, path: Path, transports: Transports) -> None:
        self._path = path
        self._transports = transports
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.bind(f"ipc://{path}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="faults")
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._stop.set()
        self._thread.join()
        self._context.term()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(POLL_MS):
                self._socket.send_json(self._answer(self._socket.recv()))
        self._socket.close(linger=0)

    def _answer(self, message: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(message)
            if "fault" in asked:
                self._transports.set_fault(asked["fault"], is_on=bool(asked["on"]))
        except (ValueError, KeyError, TypeError) as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}
        return {"ok": True, "counts": self._transports.counts()}
