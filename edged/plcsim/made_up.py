"""Verdicts of seams that nobody welded, in the size of real ones; they say `is_simulated`."""

import time

from ulid import ULID

from edged.types import ArcFigures, Label, PartSeam, PartVerdict, Verdict
from pipelines.window import AlongPoint, Integrity, Score, Seam, TimelinePoint

__all__ = ["made_up_part", "made_up_verdict"]

ARC_NS = 6_000_000_000
STREAMS = {"welder": "welder", "torch_camera": "video", "microphone": "audio", "result": "result"}
TIMELINE_POINTS = 60
ALONG_POINTS = 20
THRESHOLD = 3.2


def made_up_verdict(
    program: str = "bracket",
    label: Label = Label.OK,
    *,
    seam_id: str | None = None,
    part_id: str | None = None,
    seam_ref: str | None = None,
) -> Verdict:
    """An armed program's verdict of a seam that ended just now; its label is OK unless another is asked for."""
    now_ns = time.monotonic_ns()
    seam_id = seam_id or str(ULID())
    seam = Seam(
        seam_id, "made-up", "torch", program, now_ns - ARC_NS, ((now_ns - ARC_NS, now_ns),), part_id, seam_ref
    )
    reasons = {Label.OK: "ok", Label.NOK: "score_above_threshold", Label.INDETERMINATE: "stream_missing"}
    return Verdict(
        seam=seam,
        label=label,
        reason=reasons[label],
        detail="",
        mode="armed",
        degraded=False,
        score=None if label is Label.INDETERMINATE else _score(1.4 if label is Label.NOK else 0.4),
        shadow_label=None,
        integrity={name: Integrity(name, kind, 1.0, 60_000, 0, 0, 0.0, 0.1, "ok") for name, kind in STREAMS.items()},
        arc_s=ARC_NS / 1e9,
        mean_current_a=182.0,
        mean_voltage_v=21.4,
        arc_energy_j_mm=487.0,
        heat_input_kj_mm=0.39,
        speed_is_nominal=True,
        latency_from_arc_off_ms=910.0,
        latency_from_last_input_ms=41.0,
        model_id="made-up",
        threshold_id="made-up",
        calibration_id="none",
        config_id="made-up",
        is_simulated=True,
        decided_utc_ns=time.time_ns(),
        recording=f"{seam_id}.mcap",
        arc=_ARC,
        false_alarm_budget=0.01,
    )


def made_up_part(part_id: str, verdicts: list[Verdict]) -> PartVerdict:
    """The part of these seams: OK if all of them are."""
    is_ok = all(verdict.label is Label.OK for verdict in verdicts)
    seams = tuple(
        PartSeam(verdict.seam.seam_ref, verdict.seam.seam_id, verdict.label, verdict.reason) for verdict in verdicts
    )
    label, reason = (Label.OK, "ok") if is_ok else (Label.NOK, "seam_nok")
    return PartVerdict("made-up", part_id, label, reason, "", seams, "made-up", True, time.time_ns())


def _score(score: float) -> Score:
    return Score(
        raw=score * THRESHOLD,
        score=score,
        p_value=0.6,
        threshold=THRESHOLD,
        threshold_id="made-up",
        model_id="made-up",
        components={"s_P": score, "s_R": score / 2, "s_RP": score / 3},
        by_modality={"welder": 0.5, "video": 0.3, "audio": 0.2},
        timeline=tuple(TimelinePoint(0.1 * i, 0.6 * i, score / 2) for i in range(TIMELINE_POINTS)),
        along=tuple(AlongPoint(2.0 * i, score / 2) for i in range(ALONG_POINTS)),
        explain={"bins": 60.0},
        stage_ms={"head": 3.0, "result": 20.0},
    )


_ARC = ArcFigures(
    arc_s=ARC_NS / 1e9,
    mean_current_a=182.0,
    mean_voltage_v=21.4,
    rms_current_a=190.0,
    rms_voltage_v=22.0,
    peak_current_a=320.0,
    base_current_a=70.0,
    mean_power_w=3_900.0,
    arc_energy_j=23_400.0,
    arc_energy_j_mm=487.0,
    heat_input_kj_mm=0.39,
    length_mm=48.0,
)
