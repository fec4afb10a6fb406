"""What the daemon itself produces: verdicts for the PLC and health for people."""

import dataclasses
from collections.abc import Mapping
from enum import IntEnum
from typing import Literal

from pipelines.window import Integrity, Score, Seam

__all__ = ["REASONS", "RESULT_KINDS", "Health", "Label", "Mode", "PartSeam", "PartVerdict", "StreamState", "Verdict"]


class Label(IntEnum):
    """The verdict's value on the wire. 0 is also what a fieldbus shows when its link drops."""

    INDETERMINATE = 0
    OK = 1
    NOK = 2


RESULT_KINDS: frozenset[str] = frozenset({"result", "profile"})
"""Stream kinds that show the finished seam: bound to it by trigger after arc-off, never cut with its arcs."""

Mode = Literal["collecting", "shadow", "armed"]
"""How far a program has come; only `armed` publishes OK or NOK, shadow puts its label in `shadow_label`."""

REASONS: dict[str, str] = {
    "ok": "the score is below the program's limit",
    "score_above_threshold": "the score is above the program's limit",
    "unknown_program": "no program was announced and no default_program is configured, or its model does not know it",
    "collecting": "the program is still collecting good welds",
    "shadow": "the program is in shadow: its label is in shadow_label",
    "no_arc": "a seam was announced but no arc was struck before its deadline",
    "no_result": "no post-weld image or no complete scan came before result_deadline_s",
    "no_model": "the program has no model, or its model cannot be loaded",
    "no_threshold": "the model has no threshold for this program and these streams",
    "stream_missing": "a required stream gave nothing during the seam",
    "stream_broken": "a required stream has gaps beyond its limit",
    "sync": "current and sound or camera disagree on when the arc was struck",
    "arc_count": "the number of arcs differs from the program's expected_arcs",
    "arc_too_short": "the only arc was shorter than min_arc_s",
    "worker_failed": "the scoring process failed or did not answer in time",
    "overload": "features were dropped because scoring could not keep up",
    "interrupted": "the daemon stopped while the seam was open",
    "not_recorded": "the seam could not be written to disk",
    "seam_nok": "a seam of the part is not OK",
    "seam_indeterminate": "a seam of the part has no OK or NOK",
    "seam_missing": "an expected seam of the part was not welded",
}
"""Every reason a verdict can carry, in words a maintenance technician understands."""

StreamState = Literal["starting", "ok", "degraded", "down", "ended"]


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """State of one stream. `last_t_ns` is host monotonic; None before the first item."""

    stream: str
    kind: str
    state: StreamState
    measured_hz: float
    nominal_hz: float
    items: int
    lost: int
    gaps: int
    reconnects: int
    overwritten: int
    last_t_ns: int | None
    drift_ppm: float | None
    clock_residual_ms: float | None
    error: str | None
    clock_steps: int = 0
    """Times the device's counter or pace was found to have jumped."""
    latency_ms: float = 0.0
    """What stamps are earlier than arrivals by: configured, sound in air, and followed strikes."""
    strike_ms: float | None = None
    """Trimmed mean of the last seams' arc strikes against the current, as stamps are made now."""
    strikes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One seam's verdict, as it enters the journal; the journal adds `journal_id` and `sequence`.

    `arc_energy_j_mm` is ∫U·I dt over the length welded (ISO/TR 18491, instantaneous power) and
    `heat_input_kj_mm` is k · arc energy / 1000; both None where the speed is unknown. Latencies in ms.
    `decided_utc_ns` is UTC, for people; nothing inside computes with it.
    """

    seam: Seam
    label: Label
    reason: str
    detail: str
    mode: Mode
    degraded: bool
    score: Score | None
    shadow_label: Label | None
    integrity: Mapping[str, Integrity]
    arc_s: float
    mean_current_a: float | None
    mean_voltage_v: float | None
    arc_energy_j_mm: float | None
    heat_input_kj_mm: float | None
    speed_is_nominal: bool
    latency_from_arc_off_ms: float | None
    latency_from_last_input_ms: float | None
    model_id: str | None
    threshold_id: str | None
    calibration_id: str
    config_id: str
    is_simulated: bool
    decided_utc_ns: int
    recording: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class PartSeam:
    """One seam inside a part's verdict; `seam_id` is None where an expected seam was not welded."""

    seam_ref: str | None
    seam_id: str | None
    label: Label
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class PartVerdict:
    """A whole part's verdict, OK only if every expected seam is; it enters the journal like a seam's."""

    cell: str
    part_id: str
    label: Label
    reason: str
    detail: str
    seams: tuple[PartSeam, ...]
    config_id: str
    is_simulated: bool
    decided_utc_ns: int
