"""How far each program has come, in the daemon: arms and disarms, keeps the judge up to date, tells health.

Beside the data path, in the engine's thread: the engine asks `judged` for every seam, the control socket brings
`arm`, `disarm` and `programs`. Threshold files are read again when their folder has changed, or the worker has other
models.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from edged.arming import ArmRecord
from edged.cell_thresholds import changed_ns, load_cell, load_own, thresholds_folder
from edged.config import Config
from edged.drift_watch import DriftWatch
from edged.journal import Journal
from edged.judge import Judge, Judged, Standing
from edged.messages import Arm, ControlError, Disarm, parsed
from edged.types import PartVerdict, Verdict
from edged.wire import MAX_MAP_ENTRIES, ProgramHealthMessage
from pipelines.thresholds import (
    DEFAULT_ALPHA,
    SESSIONS_NEEDED,
    Threshold,
    ThresholdTable,
    TooFewGoodsError,
    goods_needed,
)
from pipelines.window import Score

__all__ = ["ArmingDesk"]

log = structlog.get_logger(__name__)


class ArmingDesk:
    """Args: `models` gives program → id of the model that the scoring process has loaded; `calibration_id` of now."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        models: Callable[[], Mapping[str, str]] = dict,
        calibration_id: str = "none",
    ) -> None:
        self._config, self._journal, self._loaded = config, journal, models
        self._last_models: dict[str, str] = {}
        self._calibration_id = calibration_id
        self._folder = thresholds_folder(config.cell.data_dir)
        self._problems: list[str] = []
        self._seen: object = None
        self._said: dict[str, Standing] = {}
        self._drift = DriftWatch(journal, self._limit)
        self._load()

    def use_models(self, models: Callable[[], Mapping[str, str]]) -> None:
        """From now on the scoring process is there to say what it has loaded."""
        self._loaded = models

    def judged(self, program: str, score: Score | None, calibration_id: str, part_seams: int | None) -> Judged:
        """See `edged.judge.JudgeLike`."""
        return self._judge(program, score, calibration_id, part_seams)

    def journaled(self, verdict: Verdict | PartVerdict, sequence: int) -> None:
        """A verdict has entered the journal."""
        if isinstance(verdict, Verdict):
            self._drift.add(verdict, sequence)

    def tick(self) -> None:
        """Look whether thresholds or models have changed, and log what became of programs; cheap, once a second."""
        if self._state() != self._seen:
            self._load()
        for program in self._config.programs:
            standing = self._standing(program)
            if self._said.get(program) != standing:
                self._said[program] = standing
                log.info("program stands", program=program, mode=standing.mode, why=standing.why)

    def warnings(self) -> list[str]:
        """Sentences for health: programs that are not where they were put, drift, files that cannot be read."""
        found = list(self._problems)
        for program, section in self._config.programs.items():
            standing, record = self._standing(program), self._judge.records.get(program)
            disarmed = record is not None and record.action == "disarm"
            if standing.mode == "shadow" and standing.why and not disarmed:
                found.append(f"program {program} is in shadow: {standing.why}")
            if section.mode == "collecting" and record is not None and record.action == "arm":
                found.append(f"program {program} was armed, but the config says collecting")
        return found + self._drift.warnings()

    def health(self) -> dict[str, ProgramHealthMessage]:
        """A line per program."""
        return {program: self._line(program) for program in list(self._config.programs)[:MAX_MAP_ENTRIES]}

    def programs(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to `programs`: health's line of each, and its thresholds."""
        found = {}
        for program, line in self.health().items():
            rows = self._rows(program) if line.model_id is not None else []
            thresholds = [self._shown(program, row) for row in rows]
            found[program] = {
                **line.model_dump(mode="python"),
                "config_mode": self._config.programs[program].mode,
                "calibration_id": self._calibration_id,
                "thresholds": thresholds,
            }
        return {"ok": True, "programs": found}

    def arm(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Arm a program for what is there now. Raises ControlError saying what is missing."""
        message = parsed(Arm, request)
        program = self._known(message.program)
        if self._config.programs[program].mode == "collecting":
            raise ControlError(f"program {program}: the config says collecting; give it a model and mode = 'shadow'")
        model_id = self._loaded().get(program)
        if model_id is None:
            raise ControlError(f"program {program}: its model is not loaded (yet); see edged status")
        self._load()
        rows = self._rows(program)
        lacks = {row.threshold_id: lack for row in rows if (lack := self._lack(program, row))}
        armed = [row for row in rows if row.threshold_id not in lacks]
        if not armed:
            lack = next(iter(lacks.values()), f"there is no threshold for {model_id}; edged learn {program}")
            raise ControlError(f"program {program}: {lack}")
        self._write(
            ArmRecord(
                program,
                "arm",
                message.by,
                time.time_ns(),
                self._journal.last_sequence,
                model_id=model_id,
                calibration_id=self._calibration_id,
                budget=self._config.programs[program].false_alarm_budget,
                threshold_ids=tuple(row.threshold_id for row in armed),
            )
        )
        left_out = [{"streams": row.streams, "lack": lacks[row.threshold_id]} for row in rows if row not in armed]
        shown = [self._shown(program, row) for row in armed]
        return {"ok": True, "program": program, "model_id": model_id, "armed": shown, "left_out": left_out}

    def disarm(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a program back to shadow. Raises ControlError for an unknown one."""
        message = parsed(Disarm, request)
        program = self._known(message.program)
        sequence = self._journal.last_sequence
        self._write(ArmRecord(program, "disarm", message.by, time.time_ns(), sequence, message.why))
        return {"ok": True, "program": program, "mode": self._standing(program).mode}

    def _known(self, program: str) -> str:
        if program not in self._config.programs:
            known = ", ".join(sorted(self._config.programs)) or "none"
            raise ControlError(f"program: {program!r} is not configured (known: {known})")
        return program

    def _write(self, record: ArmRecord) -> None:
        self._journal.record_arming(record)
        log.warning("program " + record.action + "ed", program=record.program, by=record.by, why=record.why)
        self._load()

    def _load(self) -> None:
        """Read thresholds and records again, and begin the drift tests from the journal."""
        self._seen = self._state()
        cell, problems = load_cell(self._folder)
        own: dict[str, ThresholdTable] = {}
        for program, section in self._config.programs.items():
            if section.model is not None:
                own[program], found = load_own(section.model)
                problems += found
        for problem in problems:
            if problem not in self._problems:
                log.error("thresholds cannot be read", error=problem)
        self._problems = list(dict.fromkeys(problems))
        self._judge = Judge(self._config, cell, own, self._journal.arming(), self._models())
        rows = [row for program in self._config.programs for row in self._rows(program)]
        self._drift.watch(rows, dict(self._judge.records))

    def _models(self) -> dict[str, str]:
        """Program → model id; while the scoring process starts again, what it had before."""
        self._last_models = dict(self._loaded()) or self._last_models
        return self._last_models

    def _state(self) -> object:
        """What changes when there is something new to read."""
        return changed_ns(self._folder), self._models()

    def _standing(self, program: str) -> Standing:
        return self._judge.standing(program, self._models().get(program), self._calibration_id)

    def _rows(self, program: str) -> list[Threshold]:
        model_id = self._models().get(program)
        return [] if model_id is None else self._judge.thresholds(program, model_id, self._calibration_id)

    def _budget(self, row: Threshold) -> float:
        return self._config.programs[row.program].false_alarm_budget or row.alpha

    def _limit(self, row: Threshold) -> float | None:
        try:
            return row.limit(self._budget(row))
        except TooFewGoodsError:
            return None

    def _lack(self, program: str, row: Threshold) -> str:
        """Why a threshold is not enough to be armed; "" where it is."""
        goods, needed = len(row.scores), goods_needed(self._budget(row))
        if goods < needed:
            return f"needs {needed - goods} more goods for a budget of {self._budget(row):.2%} (has {goods})"
        if row.sessions is None:
            return f"nobody noted of how many sessions its goods are; edged learn {program}"
        if row.sessions < SESSIONS_NEEDED:
            return f"needs goods of at least {SESSIONS_NEEDED} sessions (has {row.sessions})"
        return ""

    def _shown(self, program: str, row: Threshold) -> dict[str, Any]:
        record, is_own_budget = self._judge.records.get(program), self._budget(row) == row.alpha
        return {
            "streams": row.streams,
            "threshold_id": row.threshold_id,
            "goods": len(row.scores),
            "sessions": row.sessions,
            "needed": goods_needed(self._budget(row)),
            "false_alarm_budget": self._budget(row),
            "limit": self._limit(row),
            # The intervals are those of the budget that it was learned for.
            "interval": row.interval if is_own_budget else None,
            "interval_by_session": row.interval_by_session if is_own_budget else None,
            "learned_utc": row.learned_utc,
            "lack": self._lack(program, row),
            "is_armed": record is not None and row.threshold_id in record.threshold_ids,
        }

    def _line(self, program: str) -> ProgramHealthMessage:
        section, record = self._config.programs[program], self._judge.records.get(program)
        rows, standing = self._rows(program), self._standing(program)
        fullest = rows[0] if rows else None
        budget = section.false_alarm_budget or (fullest.alpha if fullest else None)
        return ProgramHealthMessage(
            mode=standing.mode,
            why=standing.why[:1000],
            model_id=self._models().get(program),
            goods=len(fullest.scores) if fullest else 0,
            sessions=fullest.sessions if fullest else None,
            needed=goods_needed(budget or DEFAULT_ALPHA),
            false_alarm_budget=budget,
            by=record.by if record else None,
            since_utc_ns=record.utc_ns if record else None,
            drift=self._drift.evidence(program),
        )
