"""The daemon: wires streams, engine, recorder, worker, journal, publisher and control socket, and turns the crank.

One thread, the main one, does everything but reading devices: it waits until a chunk, a request, a subscriber or an
answer of the worker is there, lets the engine step, and once a second tells health, heartbeat and watchdog. What goes
wrong unexpectedly, in any thread, ends the process with exit code 1; systemd starts it again and `edged.recovery`
reports what was open.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
import typer
import zmq
from pydantic import ValidationError

from drivers.base import MONOTONIC, Chunk, DeviceError
from drivers.mcap_codec import RecordingError, RecordingReader
from edged import retention
from edged.arming_desk import ArmingDesk
from edged.cell_calibration import read_cell_calibration
from edged.clock_watch import ClockWatch
from edged.config import Config, ConfigError, load_config
from edged.control import Handler
from edged.delivery import Delivery
from edged.endpoints import EndpointError
from edged.engine import Engine
from edged.inbox import Inbox
from edged.journal import Journal, JournalError
from edged.logs import configure_logging
from edged.recording import SeamRecorder, config_metadata, host_header, recorded_seam, recordings
from edged.recovery import interrupted_verdict, parts_of, recover_after_crash
from edged.rescoring import Rescorer, SharedScorer
from edged.sensor_baseline import SensorBaseline
from edged.sensor_health import SensorHealth
from edged.service import ServiceNotifier
from edged.sound_delay import delay_warnings, with_measured_delays
from edged.stream import Stream
from edged.strike_file import FILE as STRIKE_FILE
from edged.strike_file import StrikeFile
from edged.types import PartVerdict, Verdict
from edged.wire import HealthMessage, HeartbeatMessage, TimePair
from edged.wire_encode import encode_health, encode_live
from edged.worker_client import WorkerClient
from pipelines.window import LivePoint, Seam

__all__ = ["Daemon", "end_process", "make_streams", "run", "run_until_stopped"]

CHUNKS_PER_TURN = 256
TURN_MS = 20
"""Deadlines and watermarks are looked at this often when nothing else happens."""
REPORT_EVERY_NS = 1_000_000_000
RETENTION_EVERY_NS = 60_000_000_000

log = structlog.get_logger(__name__)


def make_streams(config: Config, sink: Callable[[Chunk], None]) -> dict[str, Stream]:
    """Every configured stream, not yet started. Raises ConfigError with the problem of each that cannot be made."""
    streams, problems = {}, []
    for name, section in config.streams.items():
        try:
            streams[name] = Stream(name, section, sink, child_env=config.children.env)
        except (DeviceError, ValidationError, ValueError) as error:
            problems.append(f"streams.{name}: {error}")
    if problems:
        for stream in streams.values():
            stream.stop()
        raise ConfigError("config", problems)
    return streams


class Daemon:
    """Everything that runs. `run` returns when `stop` was called; `close` must follow in any case.

    Args:
        on_verdict: told of every verdict after it was published; must not block.
    Raises ConfigError, EndpointError, JournalError, RecordingError when it cannot start.
    """

    def __init__(
        self, config: Config, on_verdict: Callable[[Verdict | PartVerdict], None] = lambda verdict: None
    ) -> None:
        self._config = config
        self._on_verdict = on_verdict
        self._undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._build(undo)
            self._undo = undo.pop_all()

    def _build(self, undo: contextlib.ExitStack) -> None:
        config, data_dir = self._config, self._config.cell.data_dir
        self._started_ns = time.monotonic_ns()
        self._warnings: dict[str, str] = {}
        self._next_report_ns = self._next_retention_ns = 0
        self._stopping = False
        self._recordings = data_dir / "recordings"
        undo.callback((notifier := ServiceNotifier.from_environment()).close)
        self._notifier = notifier
        undo.callback((inbox := Inbox()).close)
        self._inbox = inbox
        undo.callback((journal := Journal(data_dir / "journal.db")).close)
        self._journal = journal
        undo.callback((delivery := Delivery(config, journal, _software())).close)
        self._delivery, self._publisher = delivery, delivery.publisher
        self._streams = make_streams(config, inbox.put)
        for stream in self._streams.values():
            undo.callback(stream.stop)
        specs = {name: stream.spec for name, stream in self._streams.items()}
        found = read_cell_calibration(config, specs.values())
        self._calibration = calibration = with_measured_delays(config, found, self._streams)
        for warning in [*calibration.warnings(config.calibration, time.time_ns()), *delay_warnings(config, found)]:
            log.warning("calibration", warning=warning)
        self._arming = ArmingDesk(config, journal, calibration_id=calibration.calibration_id)
        publish, judged = self._publisher.publish, self._arming.judged
        unjudged = recover_after_crash(config, self._recordings, journal, publish, judged)
        for stale in (data_dir / "run").glob("worker-*.sock"):
            stale.unlink()
        undo.callback((worker := WorkerClient.from_config(config, calibration.calibration_id)).close)
        self._worker = worker
        self._arming.use_models(lambda: worker.health()["models"])
        recorder = SeamRecorder(self._recordings, self._header, config_metadata(config), calibration.content())
        undo.callback(recorder.close)
        rings = {name: stream.ring for name, stream in self._streams.items()}
        shared = SharedScorer(worker)
        self._clocks = ClockWatch(config, self._streams, StrikeFile(data_dir / STRIKE_FILE))
        sensors = SensorHealth(SensorBaseline(data_dir / "sensor-baseline.json"))
        self._engine = Engine(
            config,
            specs,
            rings,
            shared.lane(),
            recorder,
            self._publish_live,
            self._publish,
            _utc_ns,
            calibration=calibration,
            sensors=sensors,
            judge=judged,
            on_live=self._tell,
        )
        self._rescorer = Rescorer(
            config, shared.lane(), unjudged, self._may_rescore, self._publish_late, self._not_replayable, judged
        )
        handlers: dict[str, Handler] = dict.fromkeys(("part", "expect", "view", "end_part", "ping"), self._ask_engine)
        handlers |= {"status": self._status}
        handlers |= {"arm": self._arming.arm, "disarm": self._arming.disarm, "programs": self._arming.programs}
        delivery.answer(handlers)

    def run(self) -> None:
        """Work until stopped, then give every open seam its verdict."""
        for stream in self._streams.values():
            stream.start()
        self._notifier.ready()
        log.info("running", **self._delivery.endpoints())
        while not self._stopping:
            self._turn()
        self._notifier.stopping()
        self._engine.shutdown(MONOTONIC.now_ns())

    def stop(self) -> None:
        """Ask `run` to return; safe in a signal handler."""
        self._stopping = True
        self._inbox.wake()

    def close(self) -> None:
        """Stop threads and children, close files and sockets, in the reverse order of their making."""
        self._undo.close()

    def fault(self, error: str) -> None:
        """Tell subscribers that no verdict can be made any more; the last thing before the process ends."""
        self._warnings["fault"] = error
        self._publisher.health(self._health("fault"))

    def _turn(self) -> None:
        sockets = [*self._delivery.sockets(), self._worker.socket]
        zmq.zmq_poll(
            [(self._inbox.fileno(), zmq.POLLIN), *((s, zmq.POLLIN) for s in sockets if s is not None)], TURN_MS
        )
        chunks = self._inbox.take(CHUNKS_PER_TURN)
        for chunk in chunks:
            self._engine.step(chunk, MONOTONIC.now_ns())
        self._engine.step(None, now_ns := MONOTONIC.now_ns())
        self._delivery.serve()
        if len(chunks) < CHUNKS_PER_TURN:
            self._rescorer.step()
        if not self._engine.is_burning:
            self._clocks.follow()
        if now_ns >= self._next_report_ns:
            self._next_report_ns = now_ns + REPORT_EVERY_NS
            self._report()
        if now_ns >= self._next_retention_ns:
            self._next_retention_ns = now_ns + RETENTION_EVERY_NS
            self._clean()

    def _publish(self, verdict: Verdict | PartVerdict, pair: TimePair | None = None) -> None:
        self._publisher.publish(entry := self._journal.append(verdict, pair))
        self._arming.journaled(verdict, entry.sequence)
        self._on_verdict(verdict)

    def _publish_live(self, verdict: Verdict) -> None:
        self._publish(verdict)
        self._clocks.note(verdict)

    def _tell(self, seam: Seam, point: LivePoint) -> None:
        is_simulated = self._config.cell.is_simulated
        self._publisher.live(encode_live(seam, point, TimePair.now(), is_simulated=is_simulated))

    def _publish_late(self, verdict: Verdict, pair: TimePair) -> None:
        """A seam of before the restart; its part is judged with it, since no PLC will end that part any more."""
        self._publish(verdict, pair)
        for part in parts_of(self._config, [verdict]):
            self._publish(part)

    def _may_rescore(self) -> bool:
        """Not before the worker is there, unless it does not come: then the seams are told so, like live ones."""
        up_ns = time.monotonic_ns() - self._started_ns
        has_given_up = self._worker.state != "ready" and up_ns > self._config.worker.start_timeout_s * 1e9
        return self._worker.has_room or has_given_up

    def _not_replayable(self, path: Path, error: str) -> Verdict:
        seam = recorded_seam(RecordingReader(path))
        detail = f"it cannot be scored from its recording: {error}"
        return interrupted_verdict(self._config, seam, detail, path, self._arming.judged)

    def _report(self) -> None:
        """Health, heartbeat, and the watchdog's ping, which all of this is the proof for."""
        self._journal.check()
        self._arming.tick()
        health = self._health()
        self._publisher.health(health)
        self._publisher.heartbeat(
            HeartbeatMessage(
                journal_id=self._journal.journal_id,
                last_sequence=self._journal.last_sequence,
                state=health.state,
                utc_ns=health.utc_ns,
                cell=health.cell,
                software=_software(),
                armed=[program for program, line in health.programs.items() if line.mode == "armed"],
                is_simulated=self._config.cell.is_simulated,
                config_id=health.config_id,
            )
        )
        self._notifier.watchdog(f"{health.state}, {self._journal.last_sequence} verdicts {' '.join(health.warnings)}")

    def _health(self, state: Literal["ok", "degraded", "fault"] | None = None) -> HealthMessage:
        pair = TimePair.now()
        streams = {name: stream.health() for name, stream in self._streams.items()}
        worker = self._worker.health()
        warnings = [f"stream {name} is {found.state}" for name, found in streams.items() if found.state != "ok"]
        if worker["state"] != "ready":
            waiting = worker["waiting_seams"]
            warnings.append(
                f"the scoring process is {worker['state']}" + (f", {waiting} seams wait for it" if waiting else "")
            )
        warnings += [f"program {program}: {error}" for program, error in worker["model_errors"].items()]
        if unscored := len(self._rescorer.pending):
            warnings.append(f"{unscored} seams of before the restart are still to be scored")
        if self._inbox.dropped:
            warnings.append(f"{self._inbox.dropped} chunks dropped: the engine could not keep up")
        if not self._journal.has_reserve:
            warnings.append("the disk is full: verdicts are INDETERMINATE(not_recorded)")
        warnings += self._calibration.warnings(self._config.calibration, pair.utc_ns)
        warnings += delay_warnings(self._config, self._calibration)
        warnings += self._clocks.warnings(streams)
        warnings += self._engine.sensor_warnings()
        warnings += self._delivery.warnings(pair.utc_ns)
        warnings += [*self._arming.warnings(), *self._warnings.values()]
        return HealthMessage(
            journal_id=self._journal.journal_id,
            cell=self._config.cell.name,
            state=state or ("fault" if not self._journal.has_reserve else "degraded" if warnings else "ok"),
            warnings=[warning[:1000] for warning in warnings[:256]],
            streams={name: encode_health(found, pair) for name, found in streams.items()},
            worker=worker,
            programs=self._arming.health(),
            config_id=self._config.config_id,
            utc_ns=pair.utc_ns,
            acknowledgements=self._delivery.acknowledgements(),
            net=self._delivery.counters(),
        )

    def _clean(self) -> None:
        in_use = [*(seam.seam_id for seam in self._engine.open_seams()), *self._rescorer.pending]
        try:
            labels = self._journal.labels(path.stem for path in recordings(self._recordings))
            warning = retention.enforce(self._recordings, self._config.recording, in_use, labels).warning
        except (OSError, RecordingError) as error:
            warning = f"recordings cannot be cleaned: {error}"
        self._warnings.pop("retention", None)
        if warning is not None:
            log.warning("retention", warning=warning)
            self._warnings["retention"] = warning

    def _ask_engine(self, request: dict[str, Any]) -> Mapping[str, Any]:
        return self._engine.control(request, MONOTONIC.now_ns())

    def _status(self, _: dict[str, Any]) -> Mapping[str, Any]:
        return {
            "ok": True,
            "pid": os.getpid(),
            "version": software_version(),
            "uptime_s": (time.monotonic_ns() - self._started_ns) / 1e9,
            "journal_id": self._journal.journal_id,
            "last_sequence": self._journal.last_sequence,
            "published": self._publisher.published,
            **self._delivery.endpoints(),
            "torch_loaded": "torch" in sys.modules,
            "open_seams": [dataclasses.asdict(seam) for seam in self._engine.open_seams()],
            "health": self._health().model_dump(mode="python"),
        }

    def _header(self) -> Any:
        cell = self._config.cell
        return host_header(
            cell.name,
            _software(),
            is_simulated=cell.is_simulated,
            calibration_id=self._calibration.calibration_id,
        )


def software_version() -> str:
    """Version of the installed package; "source" where edged runs from a checkout."""
    try:
        return version("edged")
    except PackageNotFoundError:
        return "source"


def _software() -> str:
    return f"edged {software_version()}"


def run(config: Annotated[Path, typer.Option(help="Configuration, TOML.")]) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    configure_logging("daemon")
    threading.excepthook = end_process
    try:
        daemon = Daemon(load_config(config))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except (EndpointError, JournalError, RecordingError) as error:
        log.critical("cannot start", error=str(error))
        raise typer.Exit(1) from error
    run_until_stopped(daemon)


def run_until_stopped(daemon: Daemon) -> None:
    """Run until `stop`, SIGTERM or Ctrl-C, and close. Raises typer.Exit: 1 for a fault, 130 for Ctrl-C."""
    signals: list[int] = []

    def on_signal(number: int, _: object) -> None:
        signals.append(number)
        daemon.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    with contextlib.closing(daemon):
        try:
            daemon.run()
        except JournalError as error:
            daemon.fault(str(error))
            log.critical("the journal cannot be written", error=str(error))
            raise typer.Exit(1) from error
    if signal.SIGINT in signals:
        raise typer.Exit(130)


def end_process(args: threading.ExceptHookArgs) -> None:
    """A thread that dies leaves the rest half alive; better that systemd starts all of it again."""
    name = None if args.thread is None else args.thread.name
    log.critical("thread died", thread=name, exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
    os._exit(1)


def _utc_ns(monotonic_ns: int) -> int:
    return TimePair.now().utc(monotonic_ns)
