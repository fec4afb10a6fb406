"""The daemon's side of the scoring process: `Scorer` over a private ipc socket. Engine → here → worker → verdict.

What goes in is answered, whatever the worker does: killed, hung, crashed or too slow, each finished seam gets one
reply with its reason, and the worker is started again after a pause. The queue to the worker is bounded in
bytes: the worker says how many it has consumed, and what would go beyond is dropped and that seam answered
`overload`. Not thread-safe: it belongs to the engine's thread.
"""

import dataclasses
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog
import zmq

from drivers.base import MONOTONIC, Chunk, HostClock, StreamSpec
from edged.cell_thresholds import thresholds_folder
from edged.config import Config
from edged.endpoints import ipc_path
from edged.scoring import LiveReply, ScoreReply
from edged.worker import WorkerSettings
from edged.worker_link import (
    Buffer,
    LinkError,
    begin_frames,
    frames_of,
    header_of,
    live_of,
    push_frames,
    score_of,
    size_of,
    window_frames,
)
from pipelines.window import Seam, SeamWindow

__all__ = ["WorkerClient", "WorkerState"]

WorkerState = Literal["loading", "ready", "restarting", "closed"]

LOAD_TIMEOUT_S = 600.0
"""The first start exports and caches graphs, on a slow box for minutes."""

SILENCE_TIMEOUT_S = 10.0
"""An idle worker says four times a second that it is alive."""

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
HEALTHY_S = 60.0
"""A worker that lived this long has earned the short pause again."""

STOP_TIMEOUT_S = 3.0

SPARE_BYTES = 1_000_000
"""What a live seam may find before it in the queue."""

RECONNECT_MS = 20
"""Until the worker has bound its socket, this often is it tried."""

log = structlog.get_logger(__name__)


@dataclasses.dataclass(slots=True)
class _Seam:
    """A begun seam: what became of its chunks, and when its score was asked for.

    `is_backlog`: it was asked for while the worker was loading, or queued behind such seams.
    """

    dropped_chunks: int = 0
    failure: str | None = None
    asked_ns: int | None = None
    is_backlog: bool = False


class WorkerClient:
    """Starts the scoring process and speaks to it.

    Args:
        settings: models by program, device, threads.
        run_dir: folder of the private socket.
        finish_timeout_s: a finished seam is answered `worker_failed` after this time, if the worker was ready.
        start_timeout_s: the same for one that waits for a loading worker, which is left alone and goes on loading;
            once it is ready, the seams that waited have `finish_timeout_s` on top to be scored one by one.
        queue_mb: bytes on the way to the worker, in 10⁶.
        environment: what the child gets beside the daemon's own environment.
        silence_timeout_s: an idle worker that says nothing for this long is killed.
        clock: host time.
    Raises EndpointError when the socket's path cannot be.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        run_dir: Path,
        *,
        finish_timeout_s: float = 20.0,
        start_timeout_s: float = 120.0,
        queue_mb: int = 256,
        environment: Mapping[str, str] | None = None,
        silence_timeout_s: float = SILENCE_TIMEOUT_S,
        clock: HostClock = MONOTONIC,
    ) -> None:
        self._settings, self._run_dir, self._clock = settings, run_dir, clock
        self._finish_timeout_ns = round(finish_timeout_s * 1e9)
        self._start_timeout_ns = round(start_timeout_s * 1e9)
        self._silence_timeout_ns = round(silence_timeout_s * 1e9)
        self._queue_bytes = queue_mb * 1_000_000
        self._environment = _environment(settings.threads, environment or {})
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._dying: list[subprocess.Popen[bytes]] = []
        self._seams: dict[str, _Seam] = {}
        self._replies: list[ScoreReply] = []
        self._live: list[LiveReply] = []
        self._ready: dict[str, Any] = {}
        self._error: str | None = None
        self.state: WorkerState = "restarting"
        self.restarts = -1
        self._backoff_s = FIRST_BACKOFF_S
        self._start()

    @classmethod
    def from_config(cls, config: Config, calibration_id: str = "none") -> "WorkerClient":
        """The worker of a validated configuration; `calibration_id` of its sensors."""
        models = {name: program.model for name, program in config.programs.items() if program.model is not None}
        settings = WorkerSettings(
            models=models,
            device=config.worker.device,
            threads=config.worker.threads,
            cache_dir=config.cell.data_dir / "cache",
            thresholds=thresholds_folder(config.cell.data_dir),
            calibration_id=calibration_id,
        )
        return cls(
            settings,
            config.cell.data_dir / "run",
            finish_timeout_s=config.worker.finish_timeout_s,
            start_timeout_s=config.worker.start_timeout_s,
            queue_mb=config.worker.queue_mb,
            environment=config.children.env,
        )

    @property
    def socket(self) -> "zmq.Socket[bytes] | None":
        """What becomes readable when `poll` has something to do; another one after a restart."""
        return self._socket

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        """Open a seam at arc-on."""
        self._seams[seam.seam_id] = _Seam(failure=None if self._socket else self._error or "the worker is down")
        self._send(begin_frames(seam, streams))

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Hand over a stamped chunk; dropped, and counted, when the queue is full."""
        seam = self._seams[seam_id]
        if seam.failure is not None:
            return
        if seam.dropped_chunks:
            # One hole makes the score worthless, so the rest is spared too and the queue can drain.
            seam.dropped_chunks += 1
            return
        frames = push_frames(seam_id, chunk)
        if self._in_flight + size_of(frames) <= self._queue_bytes:
            self._send(frames)
            return
        seam.dropped_chunks = 1
        self._send(frames_of({"op": "drop", "seam_id": seam_id}))
        log.warning("scoring cannot keep up", seam_id=seam_id, queued_bytes=self._in_flight)

    def prepare(self, window: SeamWindow) -> None:
        """Let the worker do what it can before the last result is there."""
        seam = self._seams[window.seam.seam_id]
        if seam.failure is None and not seam.dropped_chunks:
            self._send(window_frames(window, self._clock.now_ns(), "prepare"))

    def finish(self, window: SeamWindow) -> None:
        """Ask for the score; answered by `poll` within the time-outs, with a reason at worst."""
        seam_id = window.seam.seam_id
        seam = self._seams[seam_id]
        if seam.dropped_chunks:
            self._reply(seam_id, "overload", f"{seam.dropped_chunks} chunks dropped: the scoring queue was full")
        elif seam.failure is not None:
            self._reply(seam_id, "worker_failed", seam.failure)
        else:
            now_ns = self._clock.now_ns()
            seam.is_backlog = self.state == "loading" or any(other.is_backlog for other in self._seams.values())
            seam.asked_ns = now_ns
            self._send(window_frames(window, now_ns))

    def drop(self, seam_id: str) -> None:
        """Forget a seam that needs no score."""
        if self._seams.pop(seam_id, None) is not None:
            self._send(frames_of({"op": "drop", "seam_id": seam_id}))

    def poll(self) -> list[ScoreReply]:
        """Answers that have arrived, and those for seams whose worker failed; restarts the worker when it is time."""
        self._receive()
        self._supervise(self._clock.now_ns())
        replies, self._replies = self._replies, []
        return replies

    def live(self) -> list[LiveReply]:
        """Points of the live score that came with the last `poll`s."""
        live, self._live = self._live, []
        return live

    def health(self) -> dict[str, Any]:
        """State for the health message: pid, loaded models, why others are not, queue, restarts, last error."""
        return {
            "state": self.state,
            "pid": None if self._process is None else self._process.pid,
            "models": self._ready.get("models", {}),
            "model_errors": self._ready.get("errors", {}),
            "open_seams": len(self._seams),
            "waiting_seams": sum(seam.asked_ns is not None for seam in self._seams.values()),
            "queued_mb": round(self._in_flight / 1e6, 3),
            "restarts": self.restarts,
            "error": self._error,
        }

    @property
    def has_room(self) -> bool:
        """Whether work that is in no hurry would hold up nobody: the worker is ready and nearly idle."""
        return self.state == "ready" and self._in_flight < SPARE_BYTES

    def close(self) -> None:
        """Stop the worker, at worst with SIGKILL, and wait for it."""
        if self._process is not None:
            self._send(frames_of({"op": "stop"}))
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._shut()
        for process in self._dying:
            process.wait()
        self.state = "closed"
        self._context.destroy(linger=0)

    def _start(self) -> None:
        self._sent = self._consumed = 0
        self._ready = {}
        self.restarts += 1
        socket = self._context.socket(zmq.DEALER)
        # Bytes are what is bounded, by `queue_mb`; a limit in messages would block the engine.
        for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
            socket.setsockopt(option, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        self._socket_path = self._run_dir / f"worker-{os.getpid()}-{self.restarts}.sock"
        endpoint = f"ipc://{self._socket_path}"
        ipc_path(endpoint)
        # The worker binds and this side connects: a connected socket has a queue from the first instant and keeps it
        # when its peer dies. A bound one without a peer would block the engine in `send`.
        socket.connect(endpoint)
        command = [sys.executable, "-m", "edged.worker", "--endpoint", endpoint, "--parent-pid", str(os.getpid())]
        command += ["--config-json", self._settings.model_dump_json()]
        # A session of its own, so that Ctrl-C reaches the daemon alone, which then stops the worker in order.
        self._process = subprocess.Popen(command, env=self._environment, start_new_session=True)
        self._socket = socket
        self._started_ns = self._heard_ns = self._clock.now_ns()
        self.state = "loading"
        log.info("worker started", pid=self._process.pid, restarts=self.restarts)

    @property
    def _in_flight(self) -> int:
        return self._sent - self._consumed

    def _send(self, frames: list[Buffer]) -> None:
        """Never blocks: a connected socket queues without limit, and `queue_mb` is kept by `push`."""
        if self._socket is None:
            return
        self._sent += size_of(frames)
        for i, frame in enumerate(frames):
            more = zmq.SNDMORE if i + 1 < len(frames) else 0
            data = frame.data if isinstance(frame, np.ndarray) else frame
            self._socket.send(data, more | zmq.NOBLOCK, copy=not _is_ours(frame))

    def _receive(self) -> None:
        while self._socket is not None and self._socket.poll(0):
            frames = self._socket.recv_multipart(zmq.NOBLOCK)
            self._heard_ns = self._clock.now_ns()
            try:
                self._take(header_of(frames[0]))
            except LinkError as error:
                self._fail(f"the worker said something unknown: {error}")

    def _take(self, header: dict[str, Any]) -> None:
        match header["op"]:
            case "alive":
                self._consumed = int(header["consumed"])
            case "ready":
                self._ready, self.state, self._error = header, "ready", None
                log.info("worker ready", models=header["models"], errors=header["errors"])
            case "live":
                self._live.append(LiveReply(header["seam_id"], live_of(header)))
            case "score" if (seam := self._seams.get(header["seam_id"])) and seam.asked_ns is not None:
                self._take_score(header)
            case "score":
                log.warning("late score ignored", seam_id=header["seam_id"])
            case op:
                raise LinkError(f"op {op!r}")

    def _take_score(self, header: dict[str, Any]) -> None:
        seam_id = header["seam_id"]
        if header["score"] is None:
            self._reply(seam_id, header["reason"], header["detail"])
            return
        try:
            score = score_of(header["score"])
        except LinkError as error:
            self._reply(seam_id, "worker_failed", str(error))
            return
        del self._seams[seam_id]
        self._replies.append(ScoreReply(seam_id, score))

    def _reply(self, seam_id: str, reason: str, detail: str) -> None:
        self._seams.pop(seam_id, None)
        self._replies.append(ScoreReply(seam_id, None, reason, detail))

    def _supervise(self, now_ns: int) -> None:
        self._dying = [process for process in self._dying if process.poll() is None]
        if self._process is None:
            if now_ns >= self._restart_ns:
                self._start()
            return
        if (code := self._process.poll()) is not None:
            self._fail(f"the worker ended with {_exit_text(code)}")
        elif (problem := self._overdue(now_ns)) is not None:
            self._fail(problem)

    def _overdue(self, now_ns: int) -> str | None:
        """Why the worker is to be killed, if it is."""
        late = [seam_id for seam_id, seam in self._seams.items() if self._deadline_ns(seam) < now_ns]
        if late and self.state != "loading":
            return f"no score within {self._finish_timeout_ns / 1e9:g} s for {', '.join(late)}"
        for seam_id in late:
            self.drop(seam_id)
            self._reply(seam_id, "worker_failed", f"the worker still loads after {self._start_timeout_ns / 1e9:g} s")
        if self.state == "loading":
            limit_ns = round(LOAD_TIMEOUT_S * 1e9)
        else:
            limit_ns = max(self._silence_timeout_ns, self._finish_timeout_ns if self._in_flight else 0)
        silent_ns = now_ns - self._heard_ns
        return (
            f"the worker has been silent for {silent_ns / 1e9:.1f} s ({self.state})" if silent_ns > limit_ns else None
        )

    def _deadline_ns(self, seam: _Seam) -> float:
        """Until when its answer must come. A worker that loads needs another limit than one that hangs."""
        if seam.asked_ns is None:
            return math.inf
        if not seam.is_backlog:
            return seam.asked_ns + self._finish_timeout_ns
        to_score_ns = 0 if self.state == "loading" else self._finish_timeout_ns
        return seam.asked_ns + self._start_timeout_ns + to_score_ns

    def _fail(self, problem: str) -> None:
        """Answer for every open seam, kill what is left of the worker and start another after a pause."""
        now_ns = self._clock.now_ns()
        if now_ns - self._started_ns > HEALTHY_S * 1e9:
            self._backoff_s = FIRST_BACKOFF_S
        log.error("worker failed", error=problem, pause_s=self._backoff_s, open_seams=list(self._seams))
        self._error = problem
        self._restart_ns = now_ns + round(self._backoff_s * 1e9)
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)
        self._shut()
        self.state = "restarting"
        for seam_id, seam in list(self._seams.items()):
            seam.failure = problem
            if seam.asked_ns is not None:
                self._reply(seam_id, "worker_failed", problem)

    def _shut(self) -> None:
        if self._process is not None:
            # Killed, not awaited: a process inside a broken driver may take its time, and the engine must not.
            self._process.kill()
            self._dying.append(self._process)
            self._process = None
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
            self._socket_path.unlink(missing_ok=True)


def _environment(threads: int, extra: Mapping[str, str]) -> dict[str, str]:
    """OpenMP reads these when numpy or torch is loaded, so they must be there before the process starts."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", **extra}


def _is_ours(frame: Buffer) -> bool:
    """Whether nobody will overwrite the buffer while ZeroMQ still sends it, as a ring would."""
    return isinstance(frame, np.ndarray) and (bool(frame.flags.owndata) or isinstance(frame.base, bytes))


def _exit_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
