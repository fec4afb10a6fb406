"""The virtual cell and the real daemon on it, with a subscriber as a PLC has it: plain pyzmq and msgpack."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import psutil
import tomli_w
import zmq

from drivers.sim.plan import plan_seams
from drivers.sim.rendered_file import plans_to_json
from edged.control import ask
from edged.virtual_cell import CellEndpoints, virtual_cell_config
from tests.support.models import write_band_model

__all__ = ["CURRENT_A", "PROGRAM", "Subscriber", "Welding", "wait_for"]

PROGRAM, CURRENT_A = "short-butt-3", 160.0
BAND_K = 60.0
"""The band is wide: these tests ask whether a seam is judged, not how well."""
LATE_FRAMES = {"max_gap_ms": 600.0, "min_coverage": 0.88}
"""Frames are stamped as they arrive, and on a loaded machine they arrive late."""
PATIENCE_S = 90.0


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The first true answer of `condition`. Raises AssertionError naming `what` after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)
    return found


class Subscriber(threading.Thread):
    """Receives everything; knows nothing of edged but docs/verdict.md."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(name="subscriber")
        self.verdicts: list[dict[str, Any]] = []
        self.parts: list[dict[str, Any]] = []
        self.health: dict[str, Any] = {}
        self.last_sequence = 0
        self._seen: set[tuple[str, int]] = set()
        self._endpoint = endpoint
        self._is_closing = threading.Event()

    def run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.linger = 0
            socket.connect(self._endpoint)
            socket.subscribe(b"")
            while not self._is_closing.is_set():
                if socket.poll(100):
                    topic, payload = socket.recv_multipart()
                    self._take(topic.decode(), msgpack.unpackb(payload))

    def close(self) -> None:
        self._is_closing.set()
        self.join()

    @property
    def sequences(self) -> list[int]:
        """Of all verdicts, seams' and parts', in order."""
        return sorted(message["sequence"] for message in [*self.verdicts, *self.parts])

    def _take(self, topic: str, message: dict[str, Any]) -> None:
        if topic == "health":
            self.health = message
        elif topic == "heartbeat":
            self.last_sequence = message["last_sequence"]
        elif (key := (message["journal_id"], message["sequence"])) not in self._seen:
            self._seen.add(key)
            (self.parts if topic == "part" else self.verdicts).append(message)


class Welding:
    """A cell that welds `seams` good seams of one program, and a daemon that can be killed and started again.

    `folder` must have a short path, for the sockets in it. Both processes have a group of their own, as a job of a
    shell has: `interrupt` is Ctrl-C.
    """

    def __init__(self, folder: Path, seams: int) -> None:
        self.folder = folder
        self.workdir = folder / "cell"
        self.control = f"ipc://{folder}/control.sock"
        plan = folder / "plan.json"
        plan.write_text(plans_to_json(plan_seams(seams, seed=5, family="good", programs=(PROGRAM,))))
        command = ["drivers.sim.cell", "--plan", str(plan), "--workdir", str(self.workdir), "--control", self.control]
        self.cell = self._start("cell", command)
        wait_for(self._cell_is_ready, "the virtual cell")
        endpoints = CellEndpoints(**json.loads((self.workdir / "cell.json").read_text()))
        model = write_band_model(folder / "model", PROGRAM, CURRENT_A, BAND_K)
        self.endpoint = verdicts = f"ipc://{folder}/verdicts.sock"
        raw, _ = virtual_cell_config(folder / "data", "armed", str(model), endpoints, verdicts)
        raw["net"]["control"] = self.control
        raw["streams"]["arccam"] |= LATE_FRAMES
        self.config = folder / "edged.toml"
        self.config.write_text(tomli_w.dumps(raw))
        self.subscriber = Subscriber(verdicts)
        self.subscriber.start()
        self.daemon = self.start_daemon()

    def start_daemon(self) -> "subprocess.Popen[bytes]":
        self.daemon = self._start("daemon", ["edged.cli", "run", "--config", str(self.config)])
        return self.daemon

    def fault(self, name: str, *, is_on: bool) -> None:
        """Begin or end a fault of the cell's devices."""
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{self.workdir}/faults.sock")
            socket.send_json({"fault": name, "on": is_on})
            assert socket.poll(10_000), "the cell's fault socket does not answer"
            answer = socket.recv_json()
            assert answer["ok"], answer

    def counts(self) -> dict[str, Any]:
        """What the cell knows of its readers."""
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{self.workdir}/faults.sock")
            socket.send_json({})
            assert socket.poll(10_000), "the cell's fault socket does not answer"
            return dict(socket.recv_json()["counts"])

    def status(self) -> dict[str, Any]:
        return ask(self.control, {"op": "status"}, 10.0)

    def burning(self, number: int, for_s: float = 1.0) -> dict[str, Any]:
        """Waits until seam `number` has burned for `for_s`; returns its line of `status`."""
        ref = f"seam-{number:05d}"

        def found() -> dict[str, Any] | None:
            lines = [line for line in self.status()["open_seams"] if line["seam_ref"] == ref]
            is_lit = lines and lines[0]["arc_on_ns"] is not None and lines[0]["state"] == "burning"
            return lines[0] if is_lit and time.monotonic_ns() - lines[0]["arc_on_ns"] > for_s * 1e9 else None

        return dict(wait_for(found, f"the arc of {ref}"))

    def verdict(self, seam_id: str) -> dict[str, Any]:
        """The verdict of a seam as the subscriber received it, once it did."""
        find = lambda: [v for v in self.subscriber.verdicts if v["seam_id"] == seam_id]  # noqa: E731
        (verdict,) = wait_for(find, f"the verdict of {seam_id}")
        return dict(verdict)

    def children(self) -> list[psutil.Process]:
        """Every process that cell and daemon have started, themselves included."""
        tree = []
        for process in (self.cell, self.daemon):
            if process.poll() is None:
                parent = psutil.Process(process.pid)
                tree += [parent, *parent.children(recursive=True)]
        return tree

    def interrupt(self) -> tuple[int, int]:
        """Ctrl-C to both process groups; exit codes of cell and daemon."""
        for process in (self.daemon, self.cell):
            os.killpg(process.pid, signal.SIGINT)
        return self.cell.wait(PATIENCE_S), self.daemon.wait(PATIENCE_S)

    def close(self) -> None:
        for process in (self.daemon, self.cell):
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.subscriber.is_alive():
            self.subscriber.close()

    def _cell_is_ready(self) -> bool:
        assert self.cell.poll() is None, (self.folder / "cell.log").read_text()
        return (self.workdir / "cell.json").exists()

    def _start(self, name: str, module: list[str]) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *module],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
            )
