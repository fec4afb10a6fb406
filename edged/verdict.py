"""The verdict of a seam, put together from what the engine knows: label, statistics, latencies, identities.

It stands between `decide` and the recording; the journal numbers it.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from drivers.base import Chunk, StreamSpec
from edged.arc_stats import BASE, PEAK, ArcStats, transfer_mode
from edged.decide import Decision
from edged.scoring import ScoreReply
from edged.types import ArcFigures, Label, LimitCheck, SensorFinding, Verdict
from pipelines.window import Integrity, Seam

__all__ = ["Identity", "Latencies", "arc_figures", "build_verdict", "not_recorded", "welded_length_mm"]


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
    decision: Decision,
    reply: ScoreReply | None,
    integrity: Mapping[str, Integrity],
    arc: ArcFigures,
    latencies: Latencies,
    identity: Identity,
    limits: tuple[LimitCheck, ...] = (),
    sensor_health: Mapping[str, tuple[SensorFinding, ...]] | None = None,
) -> Verdict:
    """The seam's verdict, put together from what is known of it."""
    score = reply.score if reply is not None else None
    return Verdict(
        seam=seam,
        label=decision.label,
        reason=decision.reason,
        detail=decision.detail,
        mode=decision.mode,
        degraded=decision.degraded,
        score=score,
        shadow_label=decision.shadow_label,
        integrity=integrity,
        arc_s=arc.arc_s,
        mean_current_a=arc.mean_current_a,
        mean_voltage_v=arc.mean_voltage_v,
        arc_energy_j_mm=arc.arc_energy_j_mm,
        heat_input_kj_mm=arc.heat_input_kj_mm,
        speed_is_nominal=arc.length_is_nominal,
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
        arc=arc,
        limits=limits,
        sensor_health=sensor_health or {},
        false_alarm_budget=decision.false_alarm_budget,
    )


def arc_figures(
    seam: Seam, stats: ArcStats, thermal_efficiency: float, measured_mm: float | None = None
) -> ArcFigures:
    """The figures of a seam's arcs. `measured_mm` is the length from a motion stream, None where there is none.

    A data gap inside an arc counts with the mean power of what was sampled, or a gap would look like less heat.
    """
    arc_s = sum(off - on for on, off in seam.arcs) / 1e9
    length_mm = measured_mm
    if length_mm is None and seam.travel_speed_mm_s is not None:
        length_mm = seam.travel_speed_mm_s * arc_s
    power_w = stats.mean_power_w
    energy_j = None if power_w is None else power_w * arc_s
    energy_j_mm = energy_j / length_mm if energy_j is not None and length_mm else None
    return ArcFigures(
        arc_s=arc_s,
        pause_s=(seam.arcs[-1][1] - seam.arcs[0][0]) / 1e9 - arc_s if seam.arcs else 0.0,
        restrikes=max(len(seam.arcs) - 1, 0),
        dips=stats.dips,
        mean_current_a=stats.mean_current_a,
        mean_voltage_v=stats.mean_voltage_v,
        rms_current_a=stats.current.rms,
        rms_voltage_v=None if stats.voltage is None else stats.voltage.rms,
        peak_current_a=stats.current_quantile_a(PEAK),
        base_current_a=stats.current_quantile_a(BASE),
        mean_power_w=power_w,
        arc_energy_j=energy_j,
        arc_energy_j_mm=energy_j_mm,
        heat_input_kj_mm=None if energy_j_mm is None else thermal_efficiency * energy_j_mm / 1000,
        short_circuit_hz=stats.short_circuit_hz,
        short_circuit_ms=stats.short_circuit_ms,
        pulse_hz=stats.pulse_hz,
        transfer_mode=transfer_mode(stats),
        length_mm=length_mm,
        length_is_nominal=measured_mm is None,
        travel_speed_mm_s=measured_mm / arc_s if measured_mm is not None and arc_s > 0 else None,
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
