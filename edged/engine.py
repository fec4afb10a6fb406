"""The engine: one single-threaded `step(chunk, now_ns)` from chunks and control messages to verdicts.

Everything between the rings and the journal happens here, in the thread that calls: seams are tracked, cut,
recorded, scored and judged. Threads only feed it. In the daemon `now_ns` is monotonic time; replay and simulation
call it on a manual clock. What the scorer receives is a function of the chunks' stamped times and of the control
messages, never of the moments at which the engine was called, so replaying a recording gives the same pushes and the
same window.

The order at the end of a seam is the barrier: score → decision → recording closed and on disk → `on_verdict`
(journal, then publication).

One engine watches one continuous stretch of time: a replay makes a new one for every recording.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from ulid import ULID

from drivers.base import Chunk, StreamSpec
from edged.aligner import Aligner
from edged.cell_calibration import CellCalibration, Scope
from edged.config import Config
from edged.control_desk import ControlDesk, OpenSeamStatus, Work
from edged.decide import Case, decide
from edged.judge import Judged, JudgeLike
from edged.limits import check_limits
from edged.parts import PartTracker
from edged.recording import verdict_metadata
from edged.recording_guard import RecorderLike, RecordingGuard
from edged.ring import Ring
from edged.scoring import LiveReply, Scorer, ScoreReply
from edged.sensor_health import SeamSensors, SensorHealth
from edged.tracker import Change, OpenSeam, SeamState, SeamTracker
from edged.types import RESULT_KINDS, ArcFigures, PartVerdict, Verdict
from edged.verdict import Identity, Latencies, arc_figures, build_verdict, not_recorded, welded_length_mm
from edged.views import ViewBinder
from pipelines.window import Integrity, LivePoint, Seam, SeamWindow

__all__ = ["Engine", "OpenSeamStatus", "RecorderLike"]

VIEW_GRACE_NS = 500_000_000
"""How long after the result deadline a frame taken before it may still arrive."""
FINISH_GRACE_NS = 2_000_000_000
"""The worker's client times out by itself; the engine only makes sure."""
EDGE_MARGIN_NS = 100_000_000

log = structlog.get_logger()


class Engine:
    """Chunks and control messages in, verdicts out.

    Args:
        specs, rings: every configured stream; chunks given to `step` must lie in its ring already.
        recorder: None records nothing (replay).
        utc_ns: UTC of a monotonic `now_ns`, for people.
        new_id: makes seam ids; a replay gives the recorded one again.
        calibration: turns the raw `specs` into calibrated ones for all but the recorder.
        judge: what the cell makes of a score; None leaves limits to the detectors and modes to the config.
        on_verdict: called when the recording is on disk: journal, then publish.
        sensors: the cell's baselines; a replay gives those that judged the recorded seam.
        on_live: called with each point of an open seam's live score, which decides nothing.

    Raises ValueError where no welder stream carries a current, CalibrationError where a calibration does not fit its
    stream.
    """

    def __init__(
        self,
        config: Config,
        specs: Mapping[str, StreamSpec],
        rings: Mapping[str, Ring],
        scorer: Scorer,
        recorder: RecorderLike | None,
        on_verdict: Callable[[Verdict], None],
        on_part: Callable[[PartVerdict], None],
        utc_ns: Callable[[int], int],
        new_id: Callable[[], str] = lambda: str(ULID()),
        calibration: CellCalibration | None = None,
        sensors: SensorHealth | None = None,
        judge: JudgeLike | None = None,
        on_live: Callable[[Seam, LivePoint], None] = lambda seam, point: None,
    ) -> None:
        self._config = config
        self._judge = judge
        self._calibration = calibration or CellCalibration()
        self._raw_specs = dict(specs)
        self._specs = {name: self._calibration.spec(spec) for name, spec in specs.items()}
        self._rings = dict(rings)
        self._scorer = scorer
        self._guard = RecordingGuard(recorder)
        self._on_verdict = on_verdict
        self._on_part = on_part
        self._on_live = on_live
        self._utc_ns = utc_ns
        self._sensors = sensors or SensorHealth()
        self._identity = Identity(config.config_id, self._calibration.calibration_id, config.cell.is_simulated)
        self._tracker = SeamTracker(config, self._specs, new_id)
        self._views = ViewBinder(config.views, config.streams, rings, self._specs)
        self._parts = PartTracker(config.cell.name, config.config_id, config.cell.is_simulated)
        self._work: dict[str, Work] = {}
        self._last_seq: dict[str, int] = {}
        self._desk = ControlDesk(
            config, self._tracker, self._views, self._parts, self._guard, self._work, self._last_seq
        )

    def step(self, chunk: Chunk | None, now_ns: int) -> None:
        """Take the next chunk of any stream (None: only time has passed) and do all that has become possible.

        Chunks of one stream come in the order of their `seq`.
        """
        if chunk is not None:
            self._take(chunk, now_ns)
        for change in self._tracker.advance(now_ns):
            self._apply(change, now_ns)
        for work in list(self._work.values()):
            self._advance(work, now_ns)
        replies = self._scorer.poll()
        for live in self._scorer.live():
            self._tell_live(live)
        for reply in replies:
            self._answer(reply, now_ns)
        self._advance_parts(now_ns)
        self._guard.tick(now_ns)

    def control(self, message: Mapping[str, Any], now_ns: int) -> dict[str, Any]:
        """Follow a control message; replies `{"ok": True}` with `seam_id`, or says the `error`."""
        return self._desk.handle(message, now_ns)

    @property
    def is_burning(self) -> bool:
        """Whether an arc burns at some torch, or may be struck again for the same seam."""
        return any(work.open.state is SeamState.BURNING for work in self._work.values())

    def open_seams(self) -> list[OpenSeamStatus]:
        """Every seam without a verdict, announced ones first, for `status`."""
        return self._desk.open_seams()

    def sensor_warnings(self) -> list[str]:
        """What is wrong with the sensors as far as the last seams show, for health."""
        return self._sensors.warnings()

    def shutdown(self, now_ns: int) -> None:
        """Give every open seam the verdict INDETERMINATE(interrupted), its recording on disk."""
        given = ("interrupted", "edged was stopped")
        for expectation in self._tracker.give_up_expected():
            self._announce_only(expectation.seam, expectation.program is not None, given, now_ns)
        for work in list(self._work.values()):
            if work.open.burning:
                end_ns = max(self._tracker.last_high_end_ns(work.open), work.open.arc_began_ns)
                arc = (work.open.arc_began_ns, end_ns)
                work.open.seam = dataclasses.replace(work.seam, arcs=(*work.seam.arcs, arc))
                work.open.burning = False
            self._emit(work, final=True)
            if work.scoring:
                self._scorer.drop(work.seam.seam_id)
            self._finalise(work, None, given, now_ns)
        for part in self._parts.interrupt(self._utc_ns(now_ns)):
            self._on_part(part)

    def _take(self, chunk: Chunk, now_ns: int) -> None:
        self._last_seq[chunk.stream] = chunk.seq
        for work in self._work.values():
            work.aligner.add(chunk)
        for change in self._tracker.feed(chunk):
            self._apply(change, now_ns)
        for seam_id, taken in self._views.offer(chunk):
            self._record_view(seam_id, taken)

    def _apply(self, change: Change, now_ns: int) -> None:
        if change.expectation is not None:
            expectation = change.expectation
            given = (change.reason, change.detail)
            self._announce_only(expectation.seam, expectation.program is not None, given, now_ns)
        elif change.seam is not None and change.kind == "opened":
            self._open(change.seam, now_ns)
        elif change.seam is not None:
            self._close(change.seam)

    def _open(self, seam: OpenSeam, now_ns: int) -> None:
        settings = seam.settings
        torch = seam.seam.torch
        for work in self._work.values():
            if work.seam.torch == torch:
                work.aligner.end_current_at(seam.seam.arc_on_ns)
        current = self._tracker.streams[torch]
        rings = {
            name: self._rings[name]
            for name, spec in self._specs.items()
            if spec.kind not in RESULT_KINDS and (spec.torch in (None, torch) or name == current)
        }
        edge_ns = round(settings.merge_gap_s * 1e9 + self._config.arc.hold_ms * 1e6) + EDGE_MARGIN_NS
        pre_roll_ns, off_current_a = round(settings.pre_roll_s * 1e9), self._config.arc.off_current_a
        aligner = Aligner(
            rings,
            current,
            seam.seam.arc_on_ns,
            pre_roll_ns,
            round(settings.post_roll_s * 1e9),
            edge_ns,
            seam.not_before_ns,
            self._last_seq,
            self._specs,
        )
        scoring = seam.program is not None and seam.program.model is not None
        sensors = SeamSensors(aligner.specs, seam.seam.arc_on_ns, off_current_a, pre_roll_ns)
        self._work[seam.seam.seam_id] = Work(seam, aligner, sensors, scoring)
        if scoring:
            self._scorer.begin(seam.seam, aligner.specs)
        used = aligner.specs + self._view_specs(seam, aligner)
        self._guard.begin(seam.seam, tuple(self._raw_specs[spec.name] for spec in used), now_ns)
        if seam.message is not None:
            self._guard.control(seam.seam.seam_id, *seam.message)
        log.info("arc on", seam_id=seam.seam.seam_id, torch=torch, program=seam.seam.program)

    def _view_specs(self, seam: OpenSeam, aligner: Aligner) -> tuple[StreamSpec, ...]:
        streams = {self._config.views[view].stream for view in seam.settings.views}
        streams -= {spec.name for spec in aligner.specs}
        return tuple(spec for name, spec in self._specs.items() if name in streams)

    def _close(self, seam: OpenSeam) -> None:
        deadline_ns = seam.seam.arc_off_ns + round(seam.settings.result_deadline_s * 1e9)
        seam_id = seam.seam.seam_id
        void = self._views.close(seam_id, seam.seam.arc_off_ns, deadline_ns)
        log.info(
            "arc off", seam_id=seam_id, arcs=len(seam.seam.arcs), restrikes=len(seam.seam.arcs) - 1, void_views=void
        )

    def _advance(self, work: Work, now_ns: int) -> None:
        if work.window is not None:
            waited_ns = now_ns - work.asked_ns
            worker = self._config.worker
            if waited_ns > round((worker.start_timeout_s + worker.finish_timeout_s) * 1e9) + FINISH_GRACE_NS:
                self._scorer.drop(work.seam.seam_id)
                detail = f"no answer within {waited_ns / 1e9:.0f} s"
                self._finalise(work, ScoreReply(work.seam.seam_id, None, "worker_failed", detail), None, now_ns)
            return
        if work.open.state is SeamState.BURNING:
            self._emit(work, final=False)
            return
        arc_off_ns = work.seam.arc_off_ns
        complete = work.aligner.complete(arc_off_ns, now_ns)
        self._emit(work, final=complete)
        if complete and self._views_done(work, now_ns):
            self._ask(work, now_ns)
        elif complete:
            self._prepare(work)

    def _views_done(self, work: Work, now_ns: int) -> bool:
        program = work.open.program
        if program is None or set(program.views) <= self._views.done(work.seam.seam_id, now_ns):
            return True
        deadline_ns = work.seam.arc_off_ns + round(program.result_deadline_s * 1e9)
        return now_ns > deadline_ns + VIEW_GRACE_NS

    def _emit(self, work: Work, final: bool) -> None:
        seam_id = work.seam.seam_id

        def push(chunk: Chunk) -> None:
            work.sensors.add(chunk)
            if work.scoring:
                self._scorer.push(seam_id, chunk)

        work.aligner.emit(
            self._tracker.last_high_end_ns(work.open),
            push=push,
            record=lambda chunk: self._guard.chunk(seam_id, chunk),
            final=final,
        )

    def _prepare(self, work: Work) -> None:
        """Whatever does not need the last result is done before it comes: a verdict waits for nothing else."""
        state = work.aligner.handled, frozenset(self._views.images(work.seam.seam_id))
        if work.prepared == state:
            return
        if work.prepared is None or work.prepared[0] != state[0]:
            work.integrity = work.aligner.integrity(work.seam.arcs, self._config.streams)
            self._guard.sync(work.seam.seam_id)
        work.prepared = state
        if work.scoring:
            self._scorer.prepare(self._window(work))

    def _ask(self, work: Work, now_ns: int) -> None:
        if work.prepared is not None and work.prepared[0] != work.aligner.handled:
            work.integrity = None  # a stream was late
        work.window = self._window(work)
        work.asked_ns = now_ns
        if work.scoring:
            self._scorer.finish(work.window)
        # While the worker scores.
        work.sensors.close(work.seam.arcs, work.window.views)
        if work.scoring:
            self._guard.complete(work.seam)
        else:
            self._finalise(work, None, None, now_ns)

    def _window(self, work: Work) -> SeamWindow:
        integrity, gaps = work.integrity or work.aligner.integrity(work.seam.arcs, self._config.streams)
        images = self._views.images(work.seam.seam_id)
        wanted = set(work.open.settings.views)
        scan = self._views.scan(work.seam.seam_id, work.open.settings.views)
        if scan is not None:
            integrity = {**integrity, scan.integrity.stream: scan.integrity}
            gaps = (*gaps, *scan.gaps)
        return SeamWindow(
            seam=work.seam,
            streams=work.aligner.specs,
            views=images,
            integrity=integrity,
            gaps=gaps,
            height_map_mm=None if scan is None else scan.height_map_mm,
            calibration_id=self._identity.calibration_id,
            missing=_missing(work.open, integrity, wanted - self._scans(work.open) <= set(images)),
            frame=self._calibration.frame(work.open.settings.frame, self._scope(work)),
        )

    def _answer(self, reply: ScoreReply, now_ns: int) -> None:
        work = self._work.get(reply.seam_id)
        if work is None or work.window is None:
            log.warning("score of no open seam", seam_id=reply.seam_id, reason=reply.reason)
            return
        self._finalise(work, reply, None, now_ns)

    def _tell_live(self, live: LiveReply) -> None:
        work = self._work.get(live.seam_id)
        if work is not None:
            for point in live.points:
                self._on_live(work.seam, point)

    def _finalise(self, work: Work, reply: ScoreReply | None, given: tuple[str, str] | None, now_ns: int) -> None:
        """Decide, put the recording on disk, hand the verdict over. In this order."""
        seam = work.seam
        window = work.window or self._window(work)
        scans = self._scans(work.open)
        current = self._tracker.streams[seam.torch]
        settings = work.open.settings
        arc = arc_figures(seam, work.open.stats, settings.thermal_efficiency, self._length_mm(work, window.integrity))
        limits = check_limits(settings.limits, arc)
        scope, wanted = self._scope(work), self._config.calibration
        expired = self._calibration.expired(wanted, self._utc_ns(seam.arc_on_ns), scope)
        reports = work.sensors.reports
        judged_by = self._sensors.snapshot(seam.program, reports)
        sensor_health = self._sensors.judge(seam.program, reports, self._utc_ns(seam.arc_on_ns))
        judged = self._judged(seam, work.open.program is not None, reply, window.calibration_id)
        if judged is not None and reply is not None:
            reply = dataclasses.replace(reply, score=judged.score)
        decision = decide(
            Case(
                program=work.open.program,
                program_name=seam.program,
                arcs=seam.arcs,
                integrity=window.integrity,
                views=frozenset(window.views) | (scans if window.height_map_mm is not None else frozenset()),
                scans=scans,
                blind_ms=work.open.blind_ns / 1e6,
                max_blind_ms=self._config.streams[current].max_gap_ms,
                reply=reply,
                calibration=self._calibration.problem(wanted, scope),
                expired=expired,
                given=given,
                limits=limits,
                current=current,
                sensor_health=sensor_health,
                kinds={name: spec.kind for name, spec in self._specs.items()},
                judged=judged,
            )
        )
        verdict = build_verdict(
            seam,
            decision,
            reply,
            window.integrity,
            arc,
            self._latencies(work, now_ns),
            dataclasses.replace(self._identity, calibration_warnings=expired),
            limits,
            sensor_health,
        )
        verdict = self._to_disk(seam, verdict, judged_by, now_ns)
        work.open.state = SeamState.FINAL
        del self._work[seam.seam_id]
        waiting = self._views.forget(seam.seam_id)
        if waiting:
            log.warning("views never came", seam_id=seam.seam_id, views=waiting)
        self._publish(verdict, now_ns, "" if judged is None else judged.shortfall)
        self._sensors.learn(verdict, reports)

    def _judged(self, seam: Seam, known: bool, reply: ScoreReply | None, calibration_id: str) -> Judged | None:
        if self._judge is None or not known:
            return None
        score = None if reply is None else reply.score
        return self._judge(seam.program, score, calibration_id, self._parts.size(seam.part_id))

    def _scans(self, seam: OpenSeam) -> frozenset[str]:
        """Which of the program's views are scans."""
        return frozenset(view for view in seam.settings.views if self._config.views[view].is_scan)

    def _scope(self, work: Work) -> Scope:
        views = work.open.settings.views
        streams = {spec.name for spec in work.aligner.specs} | {self._config.views[view].stream for view in views}
        return Scope(work.seam.program, frozenset(streams), frozenset(views))

    def _length_mm(self, work: Work, integrity: Mapping[str, Integrity]) -> float | None:
        """Measured length, made up for gaps within a motion stream's limits; a stream beyond them measures none."""
        for spec, chunks in work.aligner.motion:
            found = integrity[spec.name]
            length = welded_length_mm(spec, chunks, work.seam.arcs)
            if length is not None and found.state in ("ok", "degraded"):
                return length / found.coverage
        return None

    def _latencies(self, work: Work, now_ns: int) -> Latencies:
        arrivals = (work.aligner.last_arrival_ns, self._views.last_arrival_ns(work.seam.seam_id))
        last_ns = max((t_ns for t_ns in arrivals if t_ns is not None), default=None)
        return Latencies(
            arc_off_ms=(now_ns - work.seam.arc_off_ns) / 1e6,
            last_input_ms=None if last_ns is None else (now_ns - last_ns) / 1e6,
            decided_utc_ns=self._utc_ns(now_ns),
        )

    def _announce_only(self, seam: Seam, known: bool, given: tuple[str, str], now_ns: int) -> None:
        """The verdict of an announced seam that never had an arc; there is nothing to record."""
        program = self._config.programs.get(seam.program) if known else None
        judged = self._judged(seam, known, None, self._identity.calibration_id)
        decision = decide(Case(program, seam.program, given=given, judged=judged))
        latencies = Latencies(None, None, self._utc_ns(now_ns))
        verdict = build_verdict(seam, decision, None, {}, ArcFigures(), latencies, self._identity)
        self._publish(verdict, now_ns)

    def _publish(self, verdict: Verdict, now_ns: int, shortfall: str = "") -> None:
        self._desk.remember_final(verdict.seam)
        log.info("verdict", seam_id=verdict.seam.seam_id, label=verdict.label.name, reason=verdict.reason)
        self._on_verdict(verdict)
        self._parts.add(verdict, now_ns, shortfall)

    def _advance_parts(self, now_ns: int) -> None:
        if not len(self._parts):
            return
        seams = [item.seam for item in self._tracker.expected()] + [work.seam for work in self._work.values()]
        open_parts = {seam.part_id for seam in seams if seam.part_id is not None}
        for part in self._parts.advance(open_parts, now_ns, self._utc_ns(now_ns)):
            self._on_part(part)

    def _record_view(self, seam_id: str, chunk: Chunk) -> None:
        if not self._work[seam_id].aligner.recorded(chunk.stream, chunk.seq):
            self._guard.chunk(seam_id, chunk)

    def _to_disk(self, seam: Seam, verdict: Verdict, judged_by: Mapping[str, Any], now_ns: int) -> Verdict:
        if not self._guard.records:
            return verdict
        path = self._guard.finish(seam, {**verdict_metadata(verdict), "sensor_baseline": judged_by}, now_ns)
        if path is not None:
            return dataclasses.replace(verdict, recording=str(path))
        return not_recorded(verdict, self._guard.take_error(seam.seam_id))


def _missing(seam: OpenSeam, integrity: Mapping[str, Integrity], has_images: bool) -> tuple[str, ...]:
    """Kinds without a usable stream; "result" where an image of the program is missing."""
    kinds: dict[str, bool] = dict.fromkeys((*seam.settings.required, *seam.settings.optional), False)
    for found in integrity.values():
        kinds[found.kind] = kinds.get(found.kind, False) or found.state in ("ok", "degraded")
    kinds["result"] = has_images
    return tuple(sorted(kind for kind, usable in kinds.items() if not usable))
