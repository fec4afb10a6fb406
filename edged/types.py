"""What the daemon itself produces: verdicts for the PLC and health for people."""

import dataclasses
from collections.abc import Mapping
from enum import IntEnum
from typing import Literal

from pipelines.window import Integrity, Score, Seam

__all__ = [
    "REASONS",
    "RESULT_KINDS",
    "ArcFigures",
    "ConfigMode",
    "FindingState",
    "Health",
    "Label",
    "LimitCheck",
    "LimitState",
    "Mode",
    "PartSeam",
    "PartVerdict",
    "SensorFinding",
    "StreamState",
    "Verdict",
]


class Label(IntEnum):
    """The verdict's value on the wire. 0 is also what a fieldbus shows when its link drops."""

    INDETERMINATE = 0
    OK = 1
    NOK = 2


RESULT_KINDS: frozenset[str] = frozenset({"result", "profile"})
"""Stream kinds that show the finished seam: bound to it by trigger after arc-off, never cut with its arcs."""

ConfigMode = Literal["collecting", "shadow", "armed"]
"""What a config may say of a program; see `edged.judge` for what becomes of it."""
Mode = Literal["unknown", ConfigMode]
"""How far a program has come; only `armed` publishes OK or NOK, shadow puts its label in `shadow_label`."""

REASONS: dict[str, str] = {
    "ok": "the score is below the program's limit",
    "score_above_threshold": "the score is above the program's limit",
    "limit": "a measured figure of the weld lies outside the program's limits",
    "limit_unknown": "a figure that the program limits could not be measured",
    "sensor": "a required stream's sensor is faulty: what it says of the weld cannot be trusted",
    "unknown_program": "no program was announced and no default_program is configured, or its model does not know it",
    "collecting": "the program is still collecting good welds",
    "shadow": "the program is in shadow: its label is in shadow_label",
    "no_arc": "a seam was announced but no arc was struck before its deadline",
    "no_result": "no post-weld image or no complete scan came before result_deadline_s",
    "no_model": "the program has no model, or its model cannot be loaded",
    "no_threshold": "there is no threshold for this program, these streams and this calibration",
    "stream_missing": "a required stream gave nothing during the seam",
    "stream_broken": "a required stream has gaps beyond its limit",
    "sync": "current and sound or camera disagree on when the arc was struck",
    "calibration": "a calibration that the config requires is missing, or one of this seam's is damaged",
    "arc_count": "the number of arcs differs from the program's expected_arcs",
    "arc_too_short": "the only arc was shorter than min_arc_s",
    "worker_failed": "the scoring process failed or did not answer in time",
    "overload": "features were dropped because scoring could not keep up",
    "interrupted": "the daemon stopped while the seam was open",
    "not_recorded": "the seam could not be written to disk",
    "seam_nok": "a seam of the part is not OK",
    "seam_indeterminate": "a seam of the part has no OK or NOK",
    "seam_missing": "an expected seam of the part was not welded",
    "seam_extra": "a seam was welded that the part does not have",
    "part_budget": "there are too few good seams for the part's false-alarm budget: the part is in shadow",
}
"""Every reason a verdict can carry, in words a maintenance technician understands."""

StreamState = Literal["starting", "ok", "degraded", "down", "ended"]


LimitState = Literal["kept", "violated", "unknown"]
FindingState = Literal["warning", "fault"]


@dataclasses.dataclass(frozen=True, slots=True)
class ArcFigures:
    """What was measured of a seam's arcs: energy, levels, transfer, lengths, times; None where it is not known.

    Over arc time: mean and RMS of current and voltage, `peak_current_a` and `base_current_a` (95th and 5th percentile
    of the samples), `mean_power_w` and `arc_energy_j` of instantaneous u·i, `short_circuit_hz` and the mean duration
    of one, `pulse_hz` (swings of the current), `transfer_mode` (`edged.arc_stats`). `arc_energy_j_mm` is over length
    (ISO/TR 18491) and `heat_input_kj_mm` that times k / 1000. `length_mm` comes from a motion stream, or it
    `length_is_nominal`: arc time at the programmed speed; `travel_speed_mm_s` is measured length over arc time, never
    the programmed speed. `pause_s` lies between arcs; `restrikes` are arcs beyond the first, `dips` moments without
    current inside an arc.
    """

    arc_s: float = 0.0
    pause_s: float = 0.0
    restrikes: int = 0
    dips: int = 0
    mean_current_a: float | None = None
    mean_voltage_v: float | None = None
    rms_current_a: float | None = None
    rms_voltage_v: float | None = None
    peak_current_a: float | None = None
    base_current_a: float | None = None
    mean_power_w: float | None = None
    arc_energy_j: float | None = None
    arc_energy_j_mm: float | None = None
    heat_input_kj_mm: float | None = None
    short_circuit_hz: float | None = None
    short_circuit_ms: float | None = None
    pulse_hz: float | None = None
    transfer_mode: str | None = None
    length_mm: float | None = None
    length_is_nominal: bool = True
    travel_speed_mm_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LimitCheck:
    """One limit of the program: `value` against `low` and `high` in `unit`, or `mode` against the `wanted` one."""

    name: str
    state: LimitState
    value: float | None
    low: float | None
    high: float | None
    unit: str
    mode: str | None = None
    wanted: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SensorFinding:
    """Something wrong with a stream's sensor, see docs/sensor-health.md for the codes.

    "fault": its data cannot be trusted; "warning": look after it. `value` lies beyond `limit`, both in `unit`;
    `since_utc_ns`: the first of the seams in a row that had it.
    """

    code: str
    state: FindingState
    value: float
    limit: float
    unit: str
    since_utc_ns: int
    detail: str = ""


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
    `decided_utc_ns` is UTC, for people; nothing inside computes with it. `false_alarm_budget` is the share of good
    seams that the threshold was set to flag, None where it rests on no good seams. `calibration_warnings`: those of
    its calibrations that have expired, in words.
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
    calibration_warnings: tuple[str, ...] = ()
    arc: ArcFigures = ArcFigures()
    limits: tuple[LimitCheck, ...] = ()
    sensor_health: Mapping[str, tuple[SensorFinding, ...]] = dataclasses.field(default_factory=dict)
    """Stream → what is wrong with its sensor; streams with sound sensors are not there."""
    false_alarm_budget: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PartSeam:
    """One seam inside a part's verdict; `seam_id` is None where an expected seam was not welded.

    `shadow_label` is what its program would have published, None where it published.
    """

    seam_ref: str | None
    seam_id: str | None
    label: Label
    reason: str
    shadow_label: Label | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PartVerdict:
    """A whole part's verdict, OK only if every expected seam is; it enters the journal like a seam's.

    `missing`, `extra`, `too_short` and `too_long` name seams by the PLC's reference, by id where they have none.
    `shadow_label` is what it would have been if it, or a program of its seams, were not in shadow.
    """

    cell: str
    part_id: str
    label: Label
    reason: str
    detail: str
    seams: tuple[PartSeam, ...]
    config_id: str
    is_simulated: bool
    decided_utc_ns: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    too_short: tuple[str, ...] = ()
    too_long: tuple[str, ...] = ()
    shadow_label: Label | None = None
