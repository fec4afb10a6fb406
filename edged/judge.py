"""What a score means in this cell: which limit it is held against, and whether its label may go out.

Between the scorer's answer and `edged.decide`. The limit is the cell's own (`edged learn`) before the model's, for
exactly the model, streams and calibration of the seam, at the program's budget or at its share of the part's. How far
a program has come follows from the config's `mode` and the last record of `edged arm` or `edged disarm`:

===========  ==============================  ============  =========================================================
config       record                          it is         because
===========  ==============================  ============  =========================================================
collecting   any                             collecting    the config says so
shadow       none, or disarmed               shadow        nobody armed it
armed        none                            armed         the config is the sign-off of what its model came with …
armed        none, limit learned here        shadow        … and of nothing that was learned since
armed        disarmed                        shadow        somebody said so
not coll.    armed                           armed         …
not coll.    armed for another model,        shadow        an arming holds for what it was given for
             calibration, budget, threshold
===========  ==============================  ============  =========================================================
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from edged.arming import ArmRecord
from edged.config import Config, ProgramConfig
from edged.types import Mode
from pipelines.thresholds import Threshold, ThresholdTable, TooFewGoodsError, applied, goods_needed
from pipelines.window import Score

__all__ = ["Judge", "JudgeLike", "Judged", "Standing"]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """How far a program has come, and in a sentence why it is not where it was put ("" where it is)."""

    mode: Mode
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A seam's score as the cell sees it.

    `lack` says why it has no limit. `shortfall` says why its part has to stay in shadow.
    """

    score: Score | None
    standing: Standing
    budget: float | None = None
    lack: str = ""
    shortfall: str = ""


class JudgeLike(Protocol):
    """What the engine asks for every seam of a configured program."""

    def __call__(self, program: str, score: Score | None, calibration_id: str, part_seams: int | None) -> Judged:
        """The score of a seam with its limit; `part_seams` is how many seams its part has, None without a part."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Judge:
    """The cell's thresholds, those that came with each program's model, and the last record of each program.

    `models`: program → id of its loaded model, for those that are loaded.
    `fixed`: program → mode, where that is known already: a replay repeats what was.
    """

    config: Config
    cell: ThresholdTable
    own: Mapping[str, ThresholdTable]
    records: Mapping[str, ArmRecord] = dataclasses.field(default_factory=dict)
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Mode] = dataclasses.field(default_factory=dict)

    def __call__(self, program: str, score: Score | None, calibration_id: str, part_seams: int | None) -> Judged:
        """See `JudgeLike`; `program` is a configured one."""
        section = self.config.programs[program]
        if score is None:
            return Judged(None, self.standing(program, self.models.get(program), calibration_id))
        threshold = self.find(program, score, calibration_id)
        standing = self._of_seam(program, score.model_id, threshold, calibration_id)
        if threshold is None and not self._knows(program, score.model_id):
            # A detector with a limit of its own, which rests on no good seams.
            shortfall = (
                f"the limit of {score.model_id} rests on no good seams" if self._part_budget(part_seams) else ""
            )
            return Judged(score, standing, None, "", shortfall)
        if threshold is None:
            return Judged(applied(score, None), standing, None, self._lack(program, score, calibration_id))
        return self._limited(program, section, score, threshold, standing, part_seams)

    def find(self, program: str, score: Score, calibration_id: str) -> Threshold | None:
        """The threshold of a score: the cell's, else the model's own."""
        key = (score.model_id, program, score.streams, calibration_id)
        return self.cell.find(*key) or self.own.get(program, ThresholdTable()).find(*key)

    def thresholds(self, program: str, model_id: str, calibration_id: str | None = None) -> list[Threshold]:
        """Those of a program's score by set of streams, the fullest set first (None: for every calibration)."""
        merged = ThresholdTable([*self.own.get(program, ()), *self.cell])
        found = [
            row
            for row in merged
            if (row.program, row.model_id, row.signal) == (program, model_id, "score")
            and calibration_id in (None, row.calibration_id)
        ]
        return sorted(found, key=lambda row: (-len(row.streams), row.streams))

    def standing(self, program: str, model_id: str | None, calibration_id: str) -> Standing:
        """How far a program has come; `model_id` None where its model is not loaded, then that is not looked at."""
        if program in self.fixed:
            return Standing(self.fixed[program])
        section, record = self.config.programs[program], self.records.get(program)
        if section.mode == "collecting":
            return Standing("collecting")
        if record is not None and record.action == "disarm":
            return Standing("shadow", f"disarmed by {record.by}" + (f": {record.why}" if record.why else ""))
        if record is None and section.mode != "armed":
            return Standing(section.mode)
        changed = self._changed(program, section, record, model_id, calibration_id)
        return Standing("shadow", changed) if changed else Standing("armed")

    def _of_seam(self, program: str, model_id: str, threshold: Threshold | None, calibration_id: str) -> Standing:
        """The program's standing for a seam that is held against `threshold`."""
        standing = self.standing(program, model_id, calibration_id)
        if standing.mode != "armed" or threshold is None or program in self.fixed:
            return standing
        record = self.records.get(program)
        if record is not None and threshold.threshold_id not in record.threshold_ids:
            return Standing("shadow", f"threshold {threshold.threshold_id} was not armed; edged arm {program}")
        return standing

    def _changed(
        self,
        program: str,
        section: ProgramConfig,
        record: ArmRecord | None,
        model_id: str | None,
        calibration_id: str,
    ) -> str:
        """Why what was armed is not what is there; "" where it is."""
        again = f"edged learn {program}, then edged arm {program}"
        if record is not None:
            for what, then, now in (
                ("model", record.model_id, model_id or record.model_id),
                ("calibration", record.calibration_id, calibration_id),
                ("false-alarm budget", _budget(record.budget), _budget(section.false_alarm_budget)),
            ):
                if then != now:
                    return f"it was armed for {what} {then}, now it is {now}; {again}"
        if model_id is None or not self._knows(program, model_id):
            return "" if record is None or model_id is None else f"the thresholds it was armed with are gone; {again}"
        rows = self.thresholds(program, model_id, calibration_id)
        if not rows:
            return f"model {model_id} has no threshold for calibration {calibration_id}; {again}"
        if record is None:
            return next((_learned(program, row) for row in rows if row.learned_utc is not None), "")
        if not {row.threshold_id for row in rows} & set(record.threshold_ids):
            return f"its thresholds are not those that were armed; edged arm {program}"
        return ""

    def _knows(self, program: str, model_id: str) -> bool:
        return bool(self.thresholds(program, model_id))

    def _lack(self, program: str, score: Score, calibration_id: str) -> str:
        wanted = f"{'+'.join(score.streams)} with calibration {calibration_id}"
        others = sorted(
            {
                f"{'+'.join(row.streams)} with calibration {row.calibration_id}"
                for row in self.thresholds(program, score.model_id)
            }
        )
        return f"{score.model_id} has no threshold for {wanted}, only for {', '.join(others)}; edged learn {program}"

    def _part_budget(self, part_seams: int | None) -> float | None:
        if self.config.parts is None or not part_seams:
            return None
        return self.config.parts.false_alarm_budget / part_seams

    def _limited(
        self,
        program: str,
        section: ProgramConfig,
        score: Score,
        threshold: Threshold,
        standing: Standing,
        part_seams: int | None,
    ) -> Judged:
        budget, shortfall = section.false_alarm_budget or threshold.alpha, ""
        share = self._part_budget(part_seams)
        if share is not None and self.config.parts is not None:
            goods, needed = len(threshold.scores), goods_needed(share)
            if goods >= needed:
                budget = share
            else:
                shortfall = (
                    f"{self.config.parts.false_alarm_budget:.2%} for a part of {part_seams} seams needs {needed} "
                    f"goods of each; program {program} has {goods}, record {needed - goods} more"
                )
        try:
            return Judged(applied(score, threshold, budget), standing, budget, "", shortfall)
        except TooFewGoodsError as error:
            return Judged(applied(score, None), standing, None, str(error), shortfall)


def _budget(budget: float | None) -> str:
    return "of its thresholds" if budget is None else f"{budget:.2%}"


def _learned(program: str, threshold: Threshold) -> str:
    streams = "+".join(threshold.streams)
    return f"its threshold for {streams} was learned here and nobody armed it since; edged arm {program}"
