"""The virtual cell as a process: `python -m drivers.sim.cell --plan FILE --workdir DIR --control ENDPOINT`.

Stands where a real cell stands: its devices are real transports, its PLC speaks to the daemon's control socket.
Writes `cell.json` once the devices are there and one line per seam to `truth.jsonl`, which only evaluation opens.
Afterwards it idles until SIGTERM, SIGINT or its parent's end, and leaves no child, port or FIFO behind.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from drivers.sim.fault_socket import FaultSocket
from drivers.sim.plc import Plc, PlcError
from drivers.sim.process import die_with_parent, stop_on_signals
from drivers.sim.rendered_file import plans_from_json
from drivers.sim.renderer import RendererProcess
from drivers.sim.scanner import RUN_ON_S, SCAN_SETTLE_S, SCAN_VIEW
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam, announced
from drivers.sim.transports import RESULT_FPS, Transports

__all__ = ["main"]

START_AHEAD_S = 0.3
"""From `expect` to the first item of the seam: nothing is laid over what was sent already."""
READ_FOR_S = 4.0
"""The devices must have been read for so long before the first seam, so that the daemon's clocks have settled."""
READY_TIMEOUT_S = 90.0
MERGE_GAP_S = 0.7
"""After arc-off the robot moves the result camera in place."""
VIEW_BEFORE_S = 3 / RESULT_FPS
VIEW_AFTER_S = 6 / RESULT_FPS


class Cell:
    """Welds the planned seams one after the other and plays the PLC."""

    def __init__(self, plc: Plc, transports: Transports, truth: Path, stop: threading.Event) -> None:
        self._plc = plc
        self._transports = transports
        self._truth = truth
        self._stop = stop
        self._errors: list[str] = []

    def wait_for_daemon(self) -> None:
        """Until the daemon reads every device and its model is there; after `READY_TIMEOUT_S` say so and go on.

        As a PLC waits for Ready: a seam welded while a model is loading has its verdict only when it is there.
        """
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        read_since_s: float | None = None
        before = self._not_taken()
        while not self._stop.wait(0.2):
            counts, now_s = self._transports.counts(), time.monotonic()
            after = self._not_taken()
            is_read = after == before and counts["arc_readers"] and counts["result_readers"]
            before = after
            read_since_s = (read_since_s or now_s) if is_read else None
            if read_since_s is not None and now_s - read_since_s >= READ_FOR_S and self._can_score():
                return
            if now_s > deadline_s:
                _report(
                    "the daemon is not ready: it does not read every device or its model is not there", counts=counts
                )
                return

    def weld(self, seam: RenderedSeam) -> None:
        """One seam: part, expect, arc, end of part, its result views and scan; then its line of truth."""
        self._errors = []
        part_id, seam_ref = f"part-{seam.plan.index:05d}", f"seam-{seam.plan.index:05d}"
        self._ask("part", part_id=part_id, seams=[seam_ref])
        expected = self._ask("expect", part_id=part_id, seam_ref=seam_ref, **announced(seam))
        arc_on_ns = self._transports.schedule(seam, time.monotonic_ns() + round(START_AHEAD_S * 1e9))
        self._wait_until(arc_on_ns + round((seam.arc_s + max(seam.tail_s, MERGE_GAP_S)) * 1e9))
        # Said when the robot leaves: once the last seam has its verdict the part is over anyway.
        self._ask("end_part", part_id=part_id)
        answers = [expected]
        for view, jpeg in seam.views.items():
            self._transports.show(jpeg)
            self._stop.wait(VIEW_BEFORE_S)
            answers.append(self._ask("view", seam_ref=seam_ref, view=view))
            self._stop.wait(VIEW_AFTER_S)
        self._transports.show(None)
        if self._transports.scanner is not None:
            answers.append(self._scan(seam, seam_ref))
        if self._stop.is_set():
            return
        ids = [answer["seam_id"] for answer in answers if answer and answer.get("seam_id")]
        self._write_truth(seam, ids[-1] if ids else None, seam_ref, arc_on_ns)

    def _scan(self, seam: RenderedSeam, seam_ref: str) -> dict[str, Any] | None:
        """The robot moves the profiler along the seam once the daemon knows that it will."""
        answer = self._ask("view", seam_ref=seam_ref, view=SCAN_VIEW)
        begin_ns = time.monotonic_ns() + round((SCAN_SETTLE_S + RUN_ON_S) * 1e9)
        self._wait_until(self._transports.scan(seam, begin_ns))
        return answer

    def _write_truth(self, seam: RenderedSeam, seam_id: str | None, seam_ref: str, arc_on_ns: int) -> None:
        entry = {
            "seam_id": seam_id,
            "seam_ref": seam_ref,
            "plan": dataclasses.asdict(seam.plan),
            "truth": dict(seam.truth),
            "set_points": dict(seam.set_points),
            "arc_on_ns": arc_on_ns,
            "arc_s": seam.arc_s,
            "errors": self._errors,
        }
        with self._truth.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _ask(self, op: str, **fields: Any) -> dict[str, Any] | None:
        """The daemon's answer; what it refuses is reported and the cell welds on, as a PLC would."""
        try:
            return self._plc.request(op, **fields)
        except PlcError as error:
            if not self._stop.is_set():
                self._errors.append(str(error))
                _report("control message failed", op=op, error=str(error))
            return None

    def _can_score(self) -> bool:
        status = self._ask("status")
        return status is not None and status.get("health", {}).get("worker", {}).get("state", "ready") == "ready"

    def _wait_until(self, t_ns: int) -> None:
        self._stop.wait(max(0.0, (t_ns - time.monotonic_ns()) / 1e9))

    def _not_taken(self) -> tuple[int, ...]:
        """Grows while somebody does not read a device that has no count of its readers."""
        devices = (self._transports.welder, self._transports.motion, self._transports.microphone)
        return tuple(device.unread + device.dropped for device in devices)


def main(argv: list[str] | None = None) -> int:
    """Run the cell until it is told to stop. Returns 0; 1 when renderer or pacer died; 2 for a bad plan."""
    arguments = _arguments(argv)
    die_with_parent()
    stop = stop_on_signals()
    try:
        plans = plans_from_json(arguments.plan.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        _report("the plan cannot be read", plan=str(arguments.plan), error=str(error))
        return 2
    if not plans:
        _report("the plan is empty", plan=str(arguments.plan))
        return 2
    workdir: Path = arguments.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        renderer = RendererProcess(arguments.plan, workdir, arguments.preset, len(plans))
        stack.callback(_remove_rendered, workdir)
        stack.callback(renderer.close)
        threading.Thread(target=_end_renderer, args=(stop, renderer), name="stop", daemon=True).start()
        return _run(arguments, workdir, renderer, len(plans), stop, stack)


def _run(
    arguments: argparse.Namespace,
    workdir: Path,
    renderer: RendererProcess,
    seams: int,
    stop: threading.Event,
    stack: contextlib.ExitStack,
) -> int:
    seam = renderer.next()
    if seam is None:
        return 0
    transports = Transports(workdir, seam, seam.plan.seed, profiler=arguments.profiler)
    stack.callback(transports.close)
    transports.start()
    faults = FaultSocket(workdir / "faults.sock", transports)
    stack.callback(faults.close)
    plc = stack.enter_context(Plc(arguments.control, stop))
    cell_json = workdir / "cell.json"
    stack.callback(cell_json.unlink, missing_ok=True)
    part = workdir / "cell.json.part"
    part.write_text(json.dumps(transports.endpoints()), encoding="utf-8")
    part.rename(cell_json)
    cell = Cell(plc, transports, arguments.truth or workdir / "truth.jsonl", stop)
    cell.wait_for_daemon()
    for number in range(seams):
        if stop.is_set() or seam is None or not transports.pacer.is_alive:
            break
        cell.weld(seam)
        seam = renderer.next() if number + 1 < seams else None
    while not stop.wait(0.2):
        if not transports.pacer.is_alive:
            _report("the pacer died; its error is above")
            return 1
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="drivers.sim.cell", description="A virtual welding cell on real transports."
    )
    parser.add_argument("--plan", type=Path, required=True, help="JSON list of seam plans")
    parser.add_argument("--workdir", type=Path, required=True, help="folder for ports, FIFO, cell.json")
    parser.add_argument("--control", required=True, help="control endpoint of the daemon, such as ipc:///run/c.sock")
    parser.add_argument("--truth", type=Path, help="file for one line of truth per seam (WORKDIR/truth.jsonl)")
    parser.add_argument("--preset", choices=sorted(IMAGE_PRESETS), default="small", help="sizes of the images")
    parser.add_argument("--profiler", action="store_true", help="with a laser profiler, which scans every seam")
    return parser.parse_args(argv)


def _end_renderer(stop: threading.Event, renderer: RendererProcess) -> None:
    """A stop must not wait for a rendering to finish."""
    stop.wait()
    renderer.close()


def _remove_rendered(workdir: Path) -> None:
    for path in (*workdir.glob("rendered-*.npz"), *workdir.glob("rendered-*.part"), *workdir.glob("cell.json.part")):
        path.unlink(missing_ok=True)


def _report(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
