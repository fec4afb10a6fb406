"""The virtual cell as a process: real drivers read it, a stand-in daemon answers its PLC, nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import numpy as np
import psutil
import pytest
import zmq

from drivers.base import Chunk, DeviceError, Driver
from drivers.sim.chunks import MOTION_OPTIONS
from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.rendered_file import plans_to_json
from drivers.sim.seam import IMAGE_PRESETS
from drivers.table import create_driver

ROOT = Path(__file__).parents[2]
PLANS = plan_seams(2, seed=11)


class Daemon:
    """Answers the cell's control messages and notes them: the far end of the control socket."""

    def __init__(self, path: Path) -> None:
        self.endpoint = f"ipc://{path}"
        self.messages: list[dict] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
            socket.bind(self.endpoint)
            while not self._stop.is_set():
                if not socket.poll(50):
                    continue
                identity, empty, payload = socket.recv_multipart()
                message = msgpack.unpackb(payload)
                self.messages.append({**message, "at_ns": time.monotonic_ns()})
                reply = (
                    {"ok": True, "seam_id": f"id-of-{message['seam_ref']}"} if "seam_ref" in message else {"ok": True}
                )
                socket.send_multipart([identity, empty, msgpack.packb(reply)])

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Reader(threading.Thread):
    """Reads one driver into a list; reopens it when it fails, as Stream does."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver, self.chunks, self.errors = driver, [], []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.driver.open()
                while not self.stop.is_set():
                    if (chunk := self.driver.read()) is not None:
                        self.chunks.append(chunk)
            except DeviceError as error:
                self.errors.append(str(error))
                self.stop.wait(0.1)
        self.driver.close()


class Running:
    """A cell process, its stand-in daemon and readers of its serial ports and cameras."""

    def __init__(self, workdir: Path, *arguments: str) -> None:
        self.workdir = workdir
        (workdir / "plan.json").write_text(plans_to_json(PLANS))
        self.daemon = Daemon(workdir / "control.sock")
        command = [sys.executable, "-m", "drivers.sim.cell", "--plan", str(workdir / "plan.json")]
        command += ["--workdir", str(workdir), "--control", self.daemon.endpoint, *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT)
        wait_for(lambda: (workdir / "cell.json").exists() or self.process.poll() is not None)
        self.endpoints = json.loads((workdir / "cell.json").read_text())
        at = self.endpoints
        self.readers = {
            "welder": Reader(create_driver("welder.serial", "welder", {"port": at["welder_port"]})),
            "motion": Reader(
                create_driver("motion.csv_serial", "motion", {"port": at["motion_port"], **MOTION_OPTIONS})
            ),
            "arccam": Reader(
                create_driver("camera.opencv", "arccam", {"source": at["arc_url"], "read_timeout_ms": 1000})
            ),
            "resultcam": Reader(
                create_driver(
                    "camera.opencv", "resultcam", {"source": at["result_url"], "kind": "result", "rate_hz": 10.0}
                )
            ),
        }
        for reader in self.readers.values():
            reader.start()
        fifo = workdir / "microphone.fifo"
        self.sound = bytearray()
        self._hearing = threading.Event()
        self._ear = threading.Thread(target=self._hear, args=(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK),))
        self._ear.start()

    def _hear(self, fd: int) -> None:
        """Stands for PortAudio, which test_microphone_portaudio.py covers; ALSA's plugin reads the same FIFO."""
        while not self._hearing.wait(0.02):
            try:
                self.sound += os.read(fd, 65_536)
            except BlockingIOError:
                continue
        os.close(fd)

    def fault(self, **message: object) -> dict:
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{self.workdir}/faults.sock")
            socket.send_json(message)
            assert socket.poll(10_000)
            return socket.recv_json()

    def close(self) -> None:
        for reader in self.readers.values():
            reader.stop.set()
        self._hearing.set()
        self._ear.join()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        for reader in self.readers.values():
            reader.join(20)
            assert not reader.is_alive()
        self.daemon.close()


def wait_for(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.05)


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"plan.json", "truth.jsonl", "control.sock"}


def arc_on_ns(chunks: list[Chunk], rate_hz: float, near_ns: int) -> float:
    """Host time of the first current above 6 A after `near_ns` − 0.2 s, by the least delayed chunk."""
    near = [chunk for chunk in chunks if abs(chunk.arrival_ns - near_ns) < 2e9]
    offset_ns = min(chunk.arrival_ns - (chunk.counter + chunk.n) * 1e9 / rate_hz for chunk in near)
    current = np.concatenate([chunk.data[:, 0] for chunk in near])
    times_ns = offset_ns + (near[0].counter + np.arange(len(current))) * 1e9 / rate_hz
    return float(times_ns[np.argmax((np.abs(current) > 300) & (times_ns > near_ns - 2e8))])


@pytest.mark.slow
def test_two_seams_through_the_real_transports(cell: Running) -> None:
    truth_path = cell.workdir / "truth.jsonl"
    wait_for(lambda: truth_path.exists() and len(truth_path.read_text().splitlines()) == 2, 100)
    truth = [json.loads(line) for line in truth_path.read_text().splitlines()]
    counts = cell.fault()["counts"]
    assert counts["pacer_alive"]
    lost = {
        name: [
            (c.counter, c.lost_before)
            for c in reader.chunks
            if c.lost_before and c.arrival_ns > truth[0]["arc_on_ns"]
        ]
        for name, reader in cell.readers.items()
    }
    assert not any(lost.values()), (lost, counts)
    said = [m for m in cell.daemon.messages if m["op"] != "status"]
    assert [m["op"] for m in said] == ["part", "expect", "end_part", "view"] * 2
    for entry, plan, expect, view in zip(truth, PLANS, said[1::4], said[3::4], strict=True):
        seam = render_seam(plan, IMAGE_PRESETS["small"])
        on_ns = entry["arc_on_ns"]
        assert entry["seam_id"] == f"id-of-{expect['seam_ref']}"
        assert entry["errors"] == []
        assert expect["at_ns"] < on_ns < on_ns + seam.arc_s * 1e9 < view["at_ns"]
        frames = [chunk.data.tobytes() for chunk in cell.readers["arccam"].chunks]
        first = frames.index(seam.frames[1])
        assert tuple(frames[first : first + len(seam.frames) - 1]) == seam.frames[1:]
        shown = [c for c in cell.readers["resultcam"].chunks if c.arrival_ns >= view["at_ns"] + 150_000_000]
        assert shown[0].data.tobytes() == seam.views["top"]
        assert abs(arc_on_ns(cell.readers["welder"].chunks, seam.welder_hz, on_ns) - on_ns) < 5e6
        assert seam.audio.tobytes() in cell.sound
        welder = np.concatenate([chunk.data for chunk in cell.readers["welder"].chunks]).tobytes()
        assert seam.welder.tobytes() in welder
    # Before the first seam a port may have overflowed for want of a reader; from then on nothing is lost.
    assert not any(reader.errors for reader in cell.readers.values())


def test_faults_reach_the_drivers_and_end(cell: Running) -> None:
    welder, arc = cell.readers["welder"], cell.readers["arccam"]
    wait_for(lambda: len(welder.chunks) > 20 and len(arc.chunks) > 5)
    assert cell.fault(fault="unplug_welder", on=True)["ok"]
    assert cell.fault(fault="stall_arc", on=True)["ok"]
    wait_for(lambda: welder.errors and arc.errors)
    assert "gave no frame within 1000 ms" in arc.errors[0]
    seen = len(welder.chunks), len(arc.chunks)
    cell.fault(fault="unplug_welder", on=False)
    cell.fault(fault="stall_arc", on=False)
    wait_for(lambda: len(welder.chunks) > seen[0] + 20 and len(arc.chunks) > seen[1] + 5)
    cell.fault(fault="garbage_welder", on=True)
    time.sleep(0.3)
    cell.fault(fault="garbage_welder", on=False)
    wait_for(lambda: any(chunk.lost_before for chunk in welder.chunks[seen[0] + 20 :]))
    cell.fault(fault="silence_microphone", on=True)
    time.sleep(0.3)
    heard = len(cell.sound)
    time.sleep(0.3)
    assert len(cell.sound) == heard
    refused = cell.fault(fault="meteorite", on=True)
    assert not refused["ok"]
    assert "unplug_welder" in refused["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_child_port_or_fifo_behind(tmp_path: Path, number: signal.Signals) -> None:
    running = Running(tmp_path)
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert children, "the renderer is a child"
    running.process.send_signal(number)
    assert running.process.wait(20) == 0
    assert psutil.wait_procs(children, timeout=10)[1] == []
    running.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"plan.json", "control.sock"}


def test_the_cell_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(plans_to_json(PLANS))
    script = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-m', 'drivers.sim.cell', *sys.argv[1:]]); "
        "print(p.pid, flush=True); time.sleep(600)"
    )
    options = [
        "--plan",
        str(tmp_path / "plan.json"),
        "--workdir",
        str(tmp_path),
        "--control",
        f"ipc://{tmp_path}/none",
    ]
    parent = subprocess.Popen([sys.executable, "-c", script, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    cell = psutil.Process(int(parent.stdout.readline()))
    wait_for(lambda: (tmp_path / "cell.json").exists())
    tree = [cell, *cell.children(recursive=True)]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert psutil.wait_procs(tree, timeout=20)[1] == []
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_broken_plan_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('[{"index": 0}]')
    command = [sys.executable, "-m", "drivers.sim.cell", "--plan", str(tmp_path / "plan.json")]
    command += ["--workdir", str(tmp_path), "--control", f"ipc://{tmp_path}/none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "the plan cannot be read" in json.loads(done.stderr)["event"]
