"""Verdicts and health as they go over the wire: the values of `edged.types` into the models of `edged.wire`.

It stands before the journal, which packs and stores what is made here. Nothing that is not finite goes out, times
become UTC, and texts, maps and timelines are cut to the limits of the format.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from edged.types import REASONS, ArcFigures, Health, Label, LimitCheck, PartVerdict, SensorFinding, Verdict
from edged.wire import (
    MAX_ALONG_POINTS,
    MAX_FINDINGS,
    MAX_MAP_ENTRIES,
    MAX_TEXT_CHARS,
    MAX_TIMELINE_POINTS,
    ArcMessage,
    FindingMessage,
    IntegrityMessage,
    LimitMessage,
    LiveMessage,
    PartMessage,
    PartSeamMessage,
    StreamHealthMessage,
    TimePair,
    VerdictMessage,
    WireError,
    as_map,
)
from pipelines.window import LivePoint, Score, Seam, TimelinePoint

__all__ = ["encode_health", "encode_live", "encode_part", "encode_verdict"]


def encode_verdict(verdict: Verdict, journal_id: str, sequence: int, pair: TimePair) -> dict[str, Any]:
    """The map that goes over the wire. Raises WireError where OK, or NOK by score, would go out without a score.

    Values that are not finite go out as nil; texts and the timeline are cut to the limits of the format.
    """
    seam, score = verdict.seam, verdict.score
    needs_score = verdict.label != Label.INDETERMINATE and (verdict.label, verdict.reason) != (Label.NOK, "limit")
    if needs_score and (score is None or _finite(score.score) is None):
        shown = None if score is None else score.score
        raise WireError(f"seam {seam.seam_id}: label {verdict.label.name} needs a finite score, got {shown!r}")
    message = VerdictMessage(
        journal_id=journal_id,
        sequence=sequence,
        **_whose(seam),
        pass_index=seam.pass_index,
        session=_optional_text(seam.session),
        label=verdict.label,
        reason=verdict.reason,
        reason_text=REASONS[verdict.reason],
        detail=_text(verdict.detail),
        mode=verdict.mode,
        degraded=verdict.degraded,
        shadow_label=verdict.shadow_label,
        **_score_fields(score),
        integrity={_text(name): _integrity(verdict, name) for name in verdict.integrity},
        arc_on_utc_ns=pair.utc(seam.arc_on_ns),
        arcs_utc_ns=[(pair.utc(on), pair.utc(off)) for on, off in seam.arcs[:1024]],
        arc_s=_finite(verdict.arc_s),
        mean_current_a=_finite(verdict.mean_current_a),
        mean_voltage_v=_finite(verdict.mean_voltage_v),
        travel_speed_mm_s=_finite(seam.travel_speed_mm_s),
        speed_is_nominal=verdict.speed_is_nominal,
        arc_energy_j_mm=_finite(verdict.arc_energy_j_mm),
        heat_input_kj_mm=_finite(verdict.heat_input_kj_mm),
        latency_from_arc_off_ms=_finite(verdict.latency_from_arc_off_ms),
        latency_from_last_input_ms=_finite(verdict.latency_from_last_input_ms),
        model_id=_optional_text(verdict.model_id),
        calibration_id=_text(verdict.calibration_id),
        calibration_warnings=[_text(line) for line in verdict.calibration_warnings[:MAX_MAP_ENTRIES]],
        config_id=verdict.config_id,
        is_simulated=verdict.is_simulated,
        decided_utc_ns=max(0, verdict.decided_utc_ns),
        recording=_optional_text(verdict.recording),
        arc=_arc(verdict.arc),
        limits=[_limit(check) for check in verdict.limits],
        sensor_health={
            _text(name): [_finding(finding) for finding in found[:MAX_FINDINGS]]
            for name, found in verdict.sensor_health.items()
        },
        false_alarm_budget=_finite(verdict.false_alarm_budget),
    )
    return as_map(message)


def encode_live(seam: Seam, point: LivePoint, pair: TimePair, *, is_simulated: bool) -> LiveMessage:
    """A point of a seam's live score."""
    return LiveMessage(
        **_whose(seam),
        t_s=point.t_s,
        mm=_finite(point.mm),
        mm_is_nominal=point.mm_is_nominal,
        score=_finite(point.score),
        raw_score=point.raw,
        components=_values(point.components),
        without=list(point.without),
        until_utc_ns=pair.utc(seam.arc_on_ns + round(point.t_s * 1e9)),
        is_simulated=is_simulated,
    )


def encode_part(part: PartVerdict, journal_id: str, sequence: int) -> dict[str, Any]:
    """The map of a part's verdict."""
    message = PartMessage(
        journal_id=journal_id,
        sequence=sequence,
        cell=_text(part.cell),
        part_id=_text(part.part_id),
        label=part.label,
        reason=part.reason,
        reason_text=REASONS[part.reason],
        detail=_text(part.detail),
        seams=[
            PartSeamMessage(
                seam_ref=_optional_text(seam.seam_ref), seam_id=seam.seam_id, label=seam.label, reason=seam.reason
            )
            for seam in part.seams[:1024]
        ],
        config_id=part.config_id,
        is_simulated=part.is_simulated,
        decided_utc_ns=max(0, part.decided_utc_ns),
        missing=_names(part.missing),
        extra=_names(part.extra),
        too_short=_names(part.too_short),
        too_long=_names(part.too_long),
        shadow_label=part.shadow_label,
    )
    return as_map(message)


def encode_health(health: Health, pair: TimePair) -> StreamHealthMessage:
    """One stream's entry in the health message."""
    return StreamHealthMessage(
        kind=health.kind,
        state=health.state,
        measured_hz=_finite(health.measured_hz),
        nominal_hz=_finite(health.nominal_hz),
        items=health.items,
        lost=health.lost,
        gaps=health.gaps,
        reconnects=health.reconnects,
        overwritten=health.overwritten,
        last_utc_ns=None if health.last_t_ns is None else pair.utc(health.last_t_ns),
        drift_ppm=_finite(health.drift_ppm),
        clock_residual_ms=_finite(health.clock_residual_ms),
        error=_optional_text(health.error),
        clock_steps=health.clock_steps,
        latency_ms=_finite(health.latency_ms),
        strike_ms=_finite(health.strike_ms),
        strikes=health.strikes,
    )


def _whose(seam: Seam) -> dict[str, Any]:
    return {
        "seam_id": seam.seam_id,
        "cell": _text(seam.cell),
        "torch": _text(seam.torch),
        "program": _text(seam.program),
        "part_id": _optional_text(seam.part_id),
        "seam_ref": _optional_text(seam.seam_ref),
    }


def _score_fields(score: Score | None) -> dict[str, Any]:
    if score is None:
        maps: dict[str, Any] = {name: {} for name in ("components", "by_modality", "explain", "stage_ms")}
        numbers = dict.fromkeys(("score", "raw_score", "p_value", "threshold", "threshold_id"))
        return maps | {"timeline": [], "along": []} | numbers
    return {
        "score": _finite(score.score),
        "raw_score": _finite(score.raw),
        "p_value": _finite(score.p_value),
        "threshold": _finite(score.threshold),
        "threshold_id": _optional_text(score.threshold_id),
        "components": _values(score.components),
        "by_modality": _values(score.by_modality),
        "explain": _values(score.explain),
        "timeline": [(p.t_s, _finite(p.mm), _finite(p.score)) for p in _thinned(score.timeline)],
        "along": [(p.mm, p.score) for p in score.along[:MAX_ALONG_POINTS] if math.isfinite(p.mm + p.score)],
        "stage_ms": _values(score.stage_ms),
    }


def _thinned(timeline: tuple[TimelinePoint, ...]) -> list[TimelinePoint]:
    """At most `MAX_TIMELINE_POINTS`, the highest score of each stretch, so that no peak is lost."""
    points = [point for point in timeline if math.isfinite(point.t_s)]
    stride = -(-len(points) // MAX_TIMELINE_POINTS) or 1
    return [
        max(points[i : i + stride], key=lambda p: p.score if math.isfinite(p.score) else -math.inf)
        for i in range(0, len(points), stride)
    ]


def _integrity(verdict: Verdict, name: str) -> IntegrityMessage:
    found = verdict.integrity[name]
    return IntegrityMessage(
        kind=found.kind,
        state=found.state,
        coverage=_finite(found.coverage) or 0.0,
        items=found.items,
        lost_items=found.lost_items,
        gaps=found.gaps,
        longest_gap_ms=_finite(found.longest_gap_ms),
        sync_residual_ms=_finite(found.sync_residual_ms),
    )


def _arc(arc: ArcFigures) -> ArcMessage:
    return ArcMessage(**_sent(arc))


def _limit(check: LimitCheck) -> LimitMessage:
    return LimitMessage(**_sent(check))


def _finding(finding: SensorFinding) -> FindingMessage:
    return FindingMessage(**_sent(finding))


def _sent(found: ArcFigures | LimitCheck | SensorFinding) -> dict[str, Any]:
    """Its fields, the numbers finite and the texts cut to length."""
    return {
        field.name: _finite(value) if isinstance(value, float) else _text(value) if isinstance(value, str) else value
        for field in dataclasses.fields(found)
        for value in (getattr(found, field.name),)
    }


def _names(names: tuple[str, ...]) -> list[str]:
    return [_text(name) for name in names[:1024]]


def _values(values: Mapping[str, float]) -> dict[str, float | None]:
    return {_text(name): _finite(value) for name, value in list(values.items())[:MAX_MAP_ENTRIES]}


def _finite(value: float | None) -> float | None:
    """NaN and infinity never go out: JSON cannot carry them and a comparison with NaN is always false."""
    return float(value) if value is not None and math.isfinite(value) else None


def _text(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…"


def _optional_text(text: str | None) -> str | None:
    return None if text is None else _text(text)
