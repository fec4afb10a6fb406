"""The rows of `edged bench real`: each fits on the goods of all sessions but one and scores the seams of that one.

A row is a plain function `fit(goods, cache_dir) -> score`, and `score(seam)` gives a number (higher is worse) or None
where the seam lacks what the row looks at. A row that cannot be fitted at all raises `RowError` with the reason.
Every score is relative to the goods that it was fitted on, so that those of several sessions go into one AUROC.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.real_seams import RealSeam
from pipelines.features.extractor import SeamFeatures
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import MELS
from pipelines.gaussian import fit_gaussian
from pipelines.normaliser import Process
from pipelines.setpoint_knn import SetpointKnn

__all__ = ["ROWS", "Fit", "RowError", "one_session_out"]

MIN_GOODS = 8
"""Fewer goods give no spread worth the name."""
MAD_TO_SIGMA = 1.4826
MIN_LOG_SPREAD = 0.01
"""Arcs of one program differ by 1 % at least, whatever a few of them say."""

Scored = Callable[[RealSeam], float | None]
Fit = Callable[[Sequence[RealSeam], Path], Scored]
Array = NDArray[np.float64]


class RowError(Exception):
    """A row cannot be fitted on the goods that there are; the message says what is lacking."""


def one_session_out(
    seams: Sequence[RealSeam], fit: Fit, cache_dir: Path, budget_s: float, advance: Callable[[int, int], None]
) -> list[float | None]:
    """A score per seam from a fit without its session. Raises RowError, also when it would take over `budget_s`."""
    sessions = list(dict.fromkeys(seam.session for seam in seams))
    if len(sessions) < 2:
        raise RowError(f"only the session {sessions[0]!r}: leaving one out needs two")
    began = time.monotonic()
    out: dict[str, float | None] = {}
    for done, session in enumerate(sessions, start=1):
        score = fit([seam for seam in seams if seam.session != session and not seam.bad], cache_dir)
        out |= {seam.seam_id: score(seam) for seam in seams if seam.session == session}
        expected_s = (time.monotonic() - began) / done * len(sessions)
        if expected_s > budget_s and done < len(sessions):
            raise RowError(f"{len(sessions)} fits would take {expected_s / 60:.0f} min, more than --minutes allows")
        advance(done, len(sessions))
    return [out[seam.seam_id] for seam in seams]


def fit_setpoints(goods: Sequence[RealSeam], cache_dir: Path) -> Scored:
    """Nearest goods in set-points: no sensor at all."""
    if not any(seam.set_points for seam in goods):
        raise RowError("no good seam has set-points in the manifest")
    model = SetpointKnn.fit([(seam.program, seam.set_points) for seam in goods])
    return lambda seam: model.score(seam.program, seam.set_points) if seam.set_points else None


def fit_duration(goods: Sequence[RealSeam], cache_dir: Path) -> Scored:
    """How far log arc time lies from that of the program's goods, in their robust deviations."""
    logs: dict[str, list[float]] = {}
    for seam in goods:
        if seam.arc_s:
            logs.setdefault(seam.program, []).append(float(np.log(seam.arc_s)))
    if not logs:
        raise RowError("no good seam of another session has an arc time")
    centre = {program: float(np.median(own)) for program, own in logs.items()}
    off = np.concatenate([np.abs(np.array(own) - centre[program]) for program, own in logs.items()])
    spread = max(MAD_TO_SIGMA * float(np.median(off)), MIN_LOG_SPREAD)

    def score(seam: RealSeam) -> float | None:
        if not seam.arc_s or seam.program not in centre:
            return None
        return abs(float(np.log(seam.arc_s)) - centre[seam.program]) / spread

    return score


def fit_sensor(goods: Sequence[RealSeam], cache_dir: Path) -> Scored:
    """`sensor_mahalanobis` on statistics of current and voltage over the seam."""
    from pipelines.baselines.seam_method import SeamGoods
    from pipelines.baselines.sensor_mahalanobis import SensorMahalanobisConfig, fit_sensor_mahalanobis
    from pipelines.loop import LoopConfig

    usable = _with_kind(goods, "welder")
    programs = sorted({f.program for f in usable})
    rows = np.concatenate([f.sensor for f in usable]).astype(np.float64)
    known = np.concatenate([f.sensor_known for f in usable])
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, rows, 0.0).sum(0) / count
    std = np.sqrt((np.where(known, rows - mean, 0.0) ** 2).sum(0) / count)
    std = np.where(std > 1e-6, std, 1.0)

    def process(features: SeamFeatures) -> Process:
        z = np.where(features.sensor_known, (features.sensor - mean) / std, 0.0)
        empty = np.zeros((features.tokens, 1), np.float32)
        none = np.zeros(features.tokens, np.bool_)
        return Process(np.concatenate([z, features.sensor_known], 1).astype(np.float32), empty, none, empty, none)

    index = np.array([programs.index(f.program) for f in usable], np.int64)
    part = SeamGoods([process(f) for f in usable], index, len(programs))
    model = fit_sensor_mahalanobis(part, part, SensorMahalanobisConfig(), LoopConfig(), lambda *_: None)
    return _scored("welder", programs, lambda features, program: model.score(process(features), program))


def fit_audio(goods: Sequence[RealSeam], cache_dir: Path) -> Scored:
    """Mahalanobis distance of the mean and spread of log-mel bands over the seam."""
    usable = _with_kind(goods, "audio")
    programs = sorted({f.program for f in usable})
    index = np.array([programs.index(f.program) for f in usable], np.int64)
    table = np.stack([_sound(f) for f in usable])
    gaussian = fit_gaussian(table, index, len(programs))
    own = np.array([float(gaussian.distance(x, int(p))) for x, p in zip(table, index, strict=True)])
    typical = [max(float(np.median(own[index == p])), 1e-9) for p in range(len(programs))]
    return _scored(
        "audio", programs, lambda f, program: float(gaussian.distance(_sound(f), program)) / typical[program]
    )


def fit_causal_hm(goods: Sequence[RealSeam], cache_dir: Path) -> Scored:
    """Causal-HM in full, trained as `edged train` does but for thresholds, which no AUROC needs."""
    from pipelines.causal_hm import CausalHM
    from pipelines.features.lite0 import load_backbone
    from pipelines.thresholds import ThresholdTable
    from pipelines.training import MIN_SEAMS, TrainConfig, fit, split_by_session

    usable = [f for f in (seam.features for seam in goods) if f is not None and {"welder", "result"} <= f.kinds]
    if len(usable) < MIN_SEAMS:
        raise RowError(
            f"{len(usable)} goods of other sessions have current and a post-weld image; training needs {MIN_SEAMS}"
        )
    config = TrainConfig(calibration_share=0.0, calibration_goods=0)
    fitted = fit(usable, split_by_session(usable, config), config)
    model = CausalHM("real", fitted, ThresholdTable(), load_backbone(cache_dir))

    def score(seam: RealSeam) -> float | None:
        found = seam.features
        if found is None or seam.program not in fitted.programs or not {"welder", "result"} <= found.kinds:
            return None
        return model.score(found).raw

    return score


ROWS: Mapping[str, Fit] = {
    "setpoint_knn": fit_setpoints,
    "duration": fit_duration,
    "sensor_mahalanobis": fit_sensor,
    "audio_mahalanobis": fit_audio,
    "causal_hm_full": fit_causal_hm,
}


def _with_kind(goods: Sequence[RealSeam], kind: str) -> list[SeamFeatures]:
    found = [f for f in (seam.features for seam in goods) if f is not None and kind in f.kinds]
    if len(found) < MIN_GOODS:
        raise RowError(f"{len(found)} goods of other sessions have {kind}; {MIN_GOODS} are needed")
    return found


def _scored(kind: str, programs: Sequence[str], score: Callable[[SeamFeatures, int], Any]) -> Scored:
    """None for a seam without `kind`, or of a program that no good of another session has."""

    def scored(seam: RealSeam) -> float | None:
        if seam.features is None or kind not in seam.features.kinds or seam.program not in programs:
            return None
        return float(score(seam.features, programs.index(seam.program)))

    return scored


def _sound(features: SeamFeatures) -> Array:
    mels = features.audio[features.audio_known][:, FEATURES : FEATURES + MELS].astype(np.float64)
    return np.concatenate([mels.mean(0), mels.std(0)])
