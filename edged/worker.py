"""The scoring process: `python -m edged.worker`. It alone loads models, and with them torch.

It is exec'd by `edged.worker_client` and ends with the daemon. One thread: take a message, do it, say so. A model
that cannot be loaded is an answer for its programs; a detector that says what it lacks (ValueError) is an answer for
that seam; anything else ends the process, and the daemon starts it again.
"""

import ctypes
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
import zmq
from pydantic import BaseModel, ConfigDict

from edged.cell_thresholds import CellThresholds
from edged.endpoints import EndpointError, bind
from edged.logs import configure_logging
from edged.scoring import refusal
from edged.warm_up import warm_up
from edged.worker_link import (
    LinkError,
    chunk_of,
    header_of,
    live_header,
    pack_header,
    score_map,
    seam_and_streams_of,
    window_of,
)
from pipelines.models import ModelError, load_detector
from pipelines.window import Detector, SeamScorer

__all__ = ["WorkerSettings", "main"]

ALIVE_INTERVAL_S = 0.1
IDLE_POLL_MS = 250
ACK_BYTES = 1024 * 1024
OOM_SCORE_ADJ = 500
PR_SET_PDEATHSIG = 1

log = structlog.get_logger(__name__)


class WorkerSettings(BaseModel):
    """What the worker needs of the configuration; `models` maps program → model, a directory or "demo…".

    `thresholds`: folder of the cell's own limits, for its sensors as `calibration_id` calibrated them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, str]
    device: str
    threads: int
    cache_dir: Path
    thresholds: Path | None = None
    calibration_id: str = "none"


@dataclasses.dataclass(slots=True)
class _Open:
    """A seam between begin and finish: its scorer, or why there is none."""

    scorer: SeamScorer | None
    reason: str | None = None
    detail: str = ""
    push_ms: float = 0.0
    prepare_ms: float = 0.0


class _Worker:
    def __init__(self, socket: "zmq.Socket[bytes]", settings: WorkerSettings) -> None:
        self._socket = socket
        self._detectors, self._errors = _load_models(settings)
        self._cell = None if settings.thresholds is None else CellThresholds(settings.thresholds)
        self._calibration_id = settings.calibration_id
        self._seams: dict[str, _Open] = {}
        self._consumed = 0
        self._told = 0
        self._told_at = 0.0
        self._ops: Mapping[str, Callable[[dict[str, Any], list[bytes]], None]] = {
            "begin": self._begin,
            "push": self._push,
            "prepare": self._prepare,
            "finish": self._finish,
            "drop": self._drop,
        }

    def run(self, parent_pid: int) -> None:
        """Until told to stop, or until the daemon has gone."""
        models = {program: detector.model_id for program, detector in self._detectors.items()}
        self._send({"op": "ready", "models": models, "errors": self._errors})
        while os.getppid() == parent_pid:
            if not self._socket.poll(IDLE_POLL_MS):
                self._alive()
                continue
            frames = self._socket.recv_multipart()
            header = header_of(frames[0])
            if header["op"] == "stop":
                return
            self._ops[header["op"]](header, frames[1:])
            self._consumed += sum(map(len, frames))
            if self._consumed - self._told > ACK_BYTES or time.monotonic() - self._told_at > ALIVE_INTERVAL_S:
                self._alive()

    def _begin(self, header: dict[str, Any], _: list[bytes]) -> None:
        seam, streams = seam_and_streams_of(header)
        detector = self._detectors.get(seam.program)
        if detector is None:
            detail = self._errors.get(seam.program, f"program {seam.program!r} has no model in the configuration")
            self._seams[seam.seam_id] = _Open(None, "no_model", detail)
            return
        if self._cell is not None:
            # Here, because the daemon reads the settings above and has no use for a detector's parts.
            from pipelines.live_scorer import use_cell_limits

            use_cell_limits(detector, self._cell.now(), self._calibration_id)
        try:
            self._seams[seam.seam_id] = _Open(detector.begin(seam, streams))
        except ValueError as error:
            self._seams[seam.seam_id] = _Open(None, refusal(error), f"{detector.model_id} cannot score: {error}")

    def _push(self, header: dict[str, Any], buffers: list[bytes]) -> None:
        seam = self._seams.get(header["seam_id"])
        if seam is None or seam.scorer is None:
            return
        start = time.perf_counter()
        try:
            seam.scorer.push(chunk_of(header, buffers[0]))
            if points := seam.scorer.live():
                self._send(live_header(header["seam_id"], points))
        except ValueError as error:
            seam.scorer, seam.reason, seam.detail = None, refusal(error), f"{header['stream']}: {error}"
        seam.push_ms += 1e3 * (time.perf_counter() - start)

    def _prepare(self, header: dict[str, Any], buffers: list[bytes]) -> None:
        window = window_of(header, buffers)
        seam = self._seams.get(window.seam.seam_id)
        if seam is not None and seam.scorer is not None:
            start = time.perf_counter()
            try:
                seam.scorer.prepare(window)
            except ValueError as error:
                seam.scorer, seam.reason, seam.detail = None, refusal(error), f"the detector cannot score: {error}"
            seam.prepare_ms += 1e3 * (time.perf_counter() - start)

    def _finish(self, header: dict[str, Any], buffers: list[bytes]) -> None:
        start_ns = time.monotonic_ns()
        window = window_of(header, buffers)
        seam_id = window.seam.seam_id
        seam = self._seams.pop(seam_id, _Open(None, "worker_failed", "the worker has not seen the seam begin"))
        answer: dict[str, Any] = {"op": "score", "seam_id": seam_id, "score": None}
        if seam.scorer is not None:
            try:
                score = seam.scorer.finish(window)
                stages = {
                    **score.stage_ms,
                    "worker_push": seam.push_ms,
                    "worker_prepare": seam.prepare_ms,
                    "worker_queue": (start_ns - header["sent_ns"]) / 1e6,
                    "worker_finish": (time.monotonic_ns() - start_ns) / 1e6,
                }
                answer["score"] = score_map(dataclasses.replace(score, stage_ms=stages))
            except ValueError as error:
                seam.reason, seam.detail = refusal(error), f"the detector cannot score: {error}"
        self._send(answer | {"reason": seam.reason, "detail": seam.detail})

    def _drop(self, header: dict[str, Any], _: list[bytes]) -> None:
        self._seams.pop(header["seam_id"], None)

    def _alive(self) -> None:
        self._send({"op": "alive", "consumed": self._consumed, "open_seams": len(self._seams)})
        self._told, self._told_at = self._consumed, time.monotonic()

    def _send(self, header: Mapping[str, Any]) -> None:
        self._socket.send(pack_header(header))


def _load_models(settings: WorkerSettings) -> tuple[dict[str, Detector], dict[str, str]]:
    """Each model once, however many programs use it; program → detector, and program → why there is none."""
    loaded: dict[str, Detector | ModelError] = {}
    for model in dict.fromkeys(settings.models.values()):
        start = time.monotonic()
        try:
            found = load_detector(model, settings.device, settings.threads, settings.cache_dir)
            loaded[model] = found
            log.info("model loaded", model=model, model_id=found.model_id, seconds=round(time.monotonic() - start, 3))
            warm_up(found, [program for program, used in settings.models.items() if used == model])
        except ModelError as error:
            loaded[model] = error
            log.error("model not loaded", model=model, error=str(error))
    outcomes = {program: loaded[model] for program, model in settings.models.items()}
    detectors = {name: found for name, found in outcomes.items() if not isinstance(found, ModelError)}
    errors = {name: str(found) for name, found in outcomes.items() if isinstance(found, ModelError)}
    return detectors, errors


def _prepare_process(parent_pid: int) -> None:
    """Die with the daemon, be the one the kernel kills for memory, and leave Ctrl-C to the daemon."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        # It died before it could be tied to us; nobody would ever connect.
        log.error("the daemon has gone before its worker was up", parent_pid=parent_pid)
        sys.exit(1)
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE_ADJ))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main(
    endpoint: Annotated[str, typer.Option(help="ipc endpoint to bind; the daemon connects")],
    parent_pid: Annotated[int, typer.Option(help="process without which there is nothing to score")],
    config_json: Annotated[str, typer.Option(help="WorkerSettings as JSON")],
) -> None:
    """Bind, load the models, score until stopped."""
    configure_logging("worker")
    _prepare_process(parent_pid)
    settings = WorkerSettings.model_validate_json(config_json)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.LINGER, 0)
        try:
            bind(socket, endpoint)
            _Worker(socket, settings).run(parent_pid)
        except EndpointError as error:
            log.error("the daemon cannot be listened to", error=str(error))
            sys.exit(1)
        except LinkError as error:
            log.error("the daemon said something unknown", error=str(error))
            sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
