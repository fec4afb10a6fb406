"""Seams, scores and verdicts for tests, with every field settable."""

from typing import Any

from edged.types import Label, PartSeam, PartVerdict, Verdict
from pipelines.window import Integrity, LivePoint, Score, Seam, TimelinePoint


def a_score(**changes: Any) -> Score:
    """A score of 0.5 with something in every field."""
    fields: dict[str, Any] = {
        "raw": 1.5,
        "score": 0.5,
        "p_value": 0.4,
        "threshold": 3.0,
        "threshold_id": "t1",
        "model_id": "m1",
        "components": {"s_P": 1.5},
        "by_modality": {"welder": 1.0},
        "timeline": (TimelinePoint(0.1, 1.0, 0.2),),
        "explain": {"bins": 3.0},
        "stage_ms": {"head": 1.0},
    }
    return Score(**(fields | changes))


def a_point(**changes: Any) -> LivePoint:
    """A point of the live score after 0.3 s."""
    fields: dict[str, Any] = {
        "t_s": 0.3, "mm": 1.8, "mm_is_nominal": False, "raw": 1.2, "score": 0.4, "components": {"s_P": 0.9}
    }  # fmt: skip
    return LivePoint(**(fields | changes))


def a_verdict(seam_id: str = "01J", program: str = "T1", **changes: Any) -> Verdict:
    """An OK verdict of a seam whose arc burned from 10 s to 12 s on the monotonic clock."""
    seam = Seam(seam_id, "cell", "t1", program, 10_000_000_000, ((10_000_000_000, 12_000_000_000),), "p", "s")
    fields: dict[str, Any] = {
        "seam": seam,
        "label": Label.OK,
        "reason": "ok",
        "detail": "",
        "mode": "armed",
        "degraded": False,
        "score": a_score(),
        "shadow_label": None,
        "integrity": {"welder": Integrity("welder", "welder", 1.0, 20000, 0, 0, 0.0, 0.0, "ok")},
        "arc_s": 2.0,
        "mean_current_a": 150.0,
        "mean_voltage_v": 20.0,
        "arc_energy_j_mm": 500.0,
        "heat_input_kj_mm": 0.4,
        "speed_is_nominal": True,
        "latency_from_arc_off_ms": 900.0,
        "latency_from_last_input_ms": 100.0,
        "model_id": "m1",
        "threshold_id": "t1",
        "calibration_id": "none",
        "config_id": "c1",
        "is_simulated": True,
        "decided_utc_ns": 1_800_000_000_000_000_000,
        "recording": f"{seam_id}.mcap",
    }
    return Verdict(**(fields | changes))


def a_part(label: Label = Label.OK, reason: str = "ok") -> PartVerdict:
    """A part of one seam."""
    return PartVerdict("cell", "p", label, reason, "", (PartSeam("s", "01J", label, reason),), "c1", True, 1)
