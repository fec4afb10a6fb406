"""A seam's label from everything known about it: one pure function, the last word before the journal.

A wrong OK lets a bad weld into a car, so OK is what is left when nothing speaks against it. The checks stand in one
table, in order of priority; the first that applies gives the reason:

=====================  =================================================================================
interrupted …          given by the engine: interrupted, no_arc, stream_missing (no current to see an arc)
unknown_program        never announced and no default, not configured, or (as a reply) unknown to its model
stream_missing         a stream of a required kind gave nothing, or the torch has none
stream_broken          a required stream has gaps beyond its limits, or an arc's edge lies in one
arc_too_short          no arc reached `min_arc_s`
arc_count              arcs of at least `min_arc_s` differ from `expected_arcs` (shorter ones are failed ignitions)
sync                   a required or optional stream's strike is off by more than `max_sync_residual_ms`
calibration            a required calibration is missing, or one that the seam uses is damaged
no_result              a view of the program has no image, or its scan is not complete within its limits
reply                  the scorer's own reason, or no usable number
collecting, shadow     the program publishes 0 until it is armed
score_above_threshold  score ≥ 1: NOK
ok                     score < 1: OK
=====================  =================================================================================

INDETERMINATE keeps its score: it is attached, never lost. Optional streams that are missing or broken make the
verdict `degraded` and do not hide a score above the limit; so does a calibration that has expired.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

from edged.config import ProgramConfig
from edged.scoring import ScoreReply
from edged.types import RESULT_KINDS, Label
from pipelines.window import Integrity

__all__ = ["Case", "Decision", "decide"]

BAD_STATES = ("missing", "broken")


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """All that a label depends on.

    `given` is a reason and detail the engine found on its own, which overrules everything. `blind_ms` is the longest
    stretch without current at an edge of an arc, `max_blind_ms` that stream's limit. `views` are the bound ones,
    scans included; `scans` are those of the program's views that are scans.
    """

    program: ProgramConfig | None
    program_name: str
    arcs: tuple[tuple[int, int], ...] = ()
    integrity: Mapping[str, Integrity] = dataclasses.field(default_factory=dict)
    views: frozenset[str] = frozenset()
    scans: frozenset[str] = frozenset()
    blind_ms: float = 0.0
    max_blind_ms: float = 0.0
    reply: ScoreReply | None = None
    calibration: str = ""
    expired: tuple[str, ...] = ()
    given: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """What goes into the verdict. `shadow_label` only in shadow mode: what would have been published."""

    label: Label
    reason: str
    detail: str
    shadow_label: Label | None
    degraded: bool


def decide(case: Case) -> Decision:
    """The label of a seam and why; see the module's table."""
    found = _decide(case)
    return dataclasses.replace(found, detail="; ".join([found.detail, *case.expired])) if case.expired else found


def _decide(case: Case) -> Decision:
    degraded = _degraded(case) or bool(case.expired)
    if case.given is not None:
        return Decision(Label.INDETERMINATE, *case.given, _shadow(case, Label.INDETERMINATE), degraded)
    if case.program is None:
        detail = (
            "no program was announced"
            if case.program_name == "unknown"
            else f"{case.program_name!r} is not configured"
        )
        return Decision(Label.INDETERMINATE, "unknown_program", detail, None, degraded)
    for reason, check in CHECKS:
        detail = check(case, case.program)
        if detail:
            return Decision(Label.INDETERMINATE, reason, detail, _shadow(case, Label.INDETERMINATE), degraded)
    return _scored(case, case.program, degraded)


def _scored(case: Case, program: ProgramConfig, degraded: bool) -> Decision:
    failed = _no_score(case)
    if failed is not None:
        if program.mode == "collecting" and failed[0] in ("no_model", "no_threshold"):
            failed = ("collecting", failed[1])
        return Decision(Label.INDETERMINATE, *failed, _shadow(case, Label.INDETERMINATE), degraded)
    score = _value(case)
    label, reason = (Label.OK, "ok") if score < 1.0 else (Label.NOK, "score_above_threshold")
    detail = f"score {score:.3g}, limit 1"
    if program.mode != "armed":
        return Decision(Label.INDETERMINATE, program.mode, detail, _shadow(case, label), degraded)
    return Decision(label, reason, detail, None, degraded)


def _value(case: Case) -> float:
    score = case.reply.score if case.reply is not None else None
    return math.nan if score is None or score.score is None else score.score


def _no_score(case: Case) -> tuple[str, str] | None:
    """Why there is no usable number, None when there is one."""
    reply = case.reply
    if reply is None:
        if case.program is not None and case.program.model is None:
            return "no_model", "the program has no model"
        return "worker_failed", "no answer came"
    if reply.reason is not None:
        return reply.reason, reply.detail
    if reply.score is None:
        return "worker_failed", reply.detail or "the answer holds no score"
    if reply.score.score is None or reply.score.threshold is None:
        return "no_threshold", f"model {reply.score.model_id} has no threshold for these streams"
    if not (math.isfinite(reply.score.score) and math.isfinite(reply.score.raw)):
        return "worker_failed", f"the score is {reply.score.score}, raw {reply.score.raw}"
    return None


def _shadow(case: Case, label: Label) -> Label | None:
    return label if case.program is not None and case.program.mode == "shadow" else None


def _of_kinds(case: Case, kinds: Iterable[str]) -> list[Integrity]:
    kinds = set(kinds)
    return [found for found in case.integrity.values() if found.kind in kinds]


def _degraded(case: Case) -> bool:
    if case.program is None or not case.integrity:
        return False
    kinds = {found.kind for found in case.integrity.values()}
    absent = any(kind not in kinds for kind in case.program.optional if kind not in RESULT_KINDS)
    views = any(_lacking(case, case.program, kind) for kind in RESULT_KINDS & set(case.program.optional))
    # A scan within its limits may still lack rows, whether or not its kind is listed beside its view.
    listed = (*case.program.required, *case.program.optional, "profile")
    return absent or views or any(found.state != "ok" for found in _of_kinds(case, listed))


def _listed(case: Case, program: ProgramConfig, kind: str) -> list[str]:
    """The program's views that are images ("result") or scans ("profile")."""
    return [view for view in program.views if (view in case.scans) == (kind == "profile")]


def _lacking(case: Case, program: ProgramConfig, kind: str) -> list[str]:
    """Those of them that the seam does not have."""
    return [view for view in _listed(case, program, kind) if view not in case.views]


def _stream_missing(case: Case, program: ProgramConfig) -> str:
    kinds = {found.kind for found in case.integrity.values()}
    required = [kind for kind in program.required if kind not in RESULT_KINDS]
    absent = [f"torch has no {kind} stream" for kind in required if kind not in kinds]
    empty = [f"{found.stream} gave nothing" for found in _of_kinds(case, required) if found.state == "missing"]
    return ", ".join(absent + empty)


def _stream_broken(case: Case, program: ProgramConfig) -> str:
    required = [kind for kind in program.required if kind not in RESULT_KINDS]
    lines = [_holes(found) for found in _of_kinds(case, required) if found.state not in ("ok", "degraded", "missing")]
    if case.blind_ms > case.max_blind_ms:
        lines.append(f"an arc's begin or end lies in {case.blind_ms:.0f} ms or more without current data")
    return ", ".join(lines)


def _holes(found: Integrity) -> str:
    return f"{found.stream} covers {found.coverage:.1%}, longest gap {found.longest_gap_ms:.0f} ms"


def _full_arcs(case: Case, program: ProgramConfig) -> int:
    return sum((off - on) / 1e9 >= program.min_arc_s for on, off in case.arcs)


def _arc_too_short(case: Case, program: ProgramConfig) -> str:
    if _full_arcs(case, program):
        return ""
    longest_ms = max(((off - on) / 1e6 for on, off in case.arcs), default=0.0)
    return f"{longest_ms:.0f} ms, at least {program.min_arc_s * 1e3:.0f} ms are a seam"


def _arc_count(case: Case, program: ProgramConfig) -> str:
    full = _full_arcs(case, program)
    if full == program.expected_arcs:
        return ""
    short = len(case.arcs) - full
    return f"{full} arcs, {program.expected_arcs} expected" + (f"; {short} failed ignitions" if short else "")


def _sync(case: Case, program: ProgramConfig) -> str:
    off = [
        f"{found.stream} {found.sync_residual_ms:+.1f} ms"
        for found in _of_kinds(case, (*program.required, *program.optional))
        if found.sync_residual_ms is not None and not abs(found.sync_residual_ms) <= program.max_sync_residual_ms
    ]
    return ", ".join(off) + f" against the current, limit {program.max_sync_residual_ms:g} ms" if off else ""


def _calibration(case: Case, program: ProgramConfig) -> str:
    return case.calibration


def _no_result(case: Case, program: ProgramConfig) -> str:
    lines = []
    for kind, noun in (("result", "image"), ("profile", "complete scan")):
        if kind in program.optional:
            continue
        if kind in program.required and not _listed(case, program, kind):
            lines.append(f"the program requires a {kind} but lists no view for it")
        if missing := _lacking(case, program, kind):
            lines.append(f"no {noun} of {', '.join(missing)} within {program.result_deadline_s:g} s")
            lines += [_holes(found) for found in _of_kinds(case, [kind]) if found.state == "broken"]
    return ", ".join(lines)


CHECKS: tuple[tuple[str, Callable[[Case, ProgramConfig], str]], ...] = (
    ("stream_missing", _stream_missing),
    ("stream_broken", _stream_broken),
    ("arc_too_short", _arc_too_short),
    ("arc_count", _arc_count),
    ("sync", _sync),
    ("calibration", _calibration),
    ("no_result", _no_result),
)
"""In order of priority; a check returns why it applies, "" where it does not."""
