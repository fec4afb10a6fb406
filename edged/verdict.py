"""The verdict of a seam, put together from what the engine knows: label, statistics, latencies, identities.

It stands between `decide` and the recording; the journal numbers it.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from drivers.base import Chunk, StreamSpec
from edged.arc import ArcStats
from edged.config import ProgramConfig
from edged.decide import Decision
from edged.scoring import ScoreReply
from edged.types import Label, Verdict
from pipelines.window import Integrity, Seam

__all__ = ["Identity", "Latencies", "build_verdict", "not_recorded", "welded_length_mm"]


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What every verdict of this daemon says about it."""

    config_id: str
    calibration_id: str = "none"
    is_simulated: bool = False
    calibration_warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds from arc-off and from the arrival of the last input to the verdict, and its UTC."""

    arc_off_ms: float | None
    last_input_ms: float | None
    decided_utc_ns: int


def build_verdict(
    seam: Seam,
    program: ProgramConfig | None,
    decision: Decision,
    reply: ScoreReply | None,
    integrity: Mapping[str, Integrity],
    stats: ArcStats,
    measured_mm: float | None,
    latencies: Latencies,
    identity: Identity,
) -> Verdict:
    """The seam's verdict. `measured_mm` is the length from a motion stream, None where there is none."""
    settings = program or ProgramConfig()
    arc_s = sum(off - on for on, off in seam.arcs) / 1e9
    nominal_mm = seam.travel_speed_mm_s * arc_s if seam.travel_speed_mm_s is not None else None
    length_mm = nominal_mm if measured_mm is None else measured_mm
    energy_j_mm = stats.energy_j / length_mm if stats.energy_j is not None and length_mm else None
    score = reply.score if reply is not None else None
    return Verdict(
        seam=seam,
        label=decision.label,
        reason=decision.reason,
        detail=decision.detail,
        mode=settings.mode,
        degraded=decision.degraded,
        score=score,
        shadow_label=decision.shadow_label,
        integrity=integrity,
        arc_s=arc_s,
        mean_current_a=stats.mean_current_a,
        mean_voltage_v=stats.mean_voltage_v,
        arc_energy_j_mm=energy_j_mm,
        heat_input_kj_mm=None if energy_j_mm is None else settings.thermal_efficiency * energy_j_mm / 1000,
        speed_is_nominal=measured_mm is None,
        latency_from_arc_off_ms=latencies.arc_off_ms,
        latency_from_last_input_ms=latencies.last_input_ms,
        model_id=score.model_id if score is not None else None,
        threshold_id=score.threshold_id if score is not None else None,
        calibration_id=identity.calibration_id,
        config_id=identity.config_id,
        is_simulated=identity.is_simulated,
        decided_utc_ns=latencies.decided_utc_ns,
        recording=None,
        calibration_warnings=identity.calibration_warnings,
    )


def welded_length_mm(spec: StreamSpec, chunks: list[Chunk], arcs: tuple[tuple[int, int], ...]) -> float | None:
    """Length welded from the channel `tcp_speed` (mm/s), each sample held for one period; None without data."""
    if "tcp_speed" not in spec.channels or not chunks:
        return None
    speed = np.concatenate([spec.physical(chunk.data)[:, spec.channel("tcp_speed")] for chunk in chunks])
    times = np.concatenate([chunk.times_ns() for chunk in chunks])
    period_s = np.concatenate([np.full(chunk.n, chunk.dt_ns / 1e9) for chunk in chunks])
    burning = np.zeros(len(times), bool)
    for on_ns, off_ns in arcs:
        burning |= (times >= on_ns) & (times < off_ns)
    length = float((np.abs(speed) * period_s)[burning].sum())
    return length if length > 0 else None


def not_recorded(verdict: Verdict, error: str) -> Verdict:
    """What the verdict becomes when the seam is not on disk; the detail says what it would have been."""
    shadow_label = None if verdict.shadow_label is None else Label.INDETERMINATE
    detail = f"{error}; it would have been {verdict.label.name} ({verdict.reason})"
    return dataclasses.replace(
        verdict, label=Label.INDETERMINATE, reason="not_recorded", detail=detail, shadow_label=shadow_label
    )
