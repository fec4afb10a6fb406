"""From recordings of good seams to the cell's thresholds of one program: which seams, their scores, the limits.

What `edged learn` does, without its output. Seams that taught the model are left out with their whole sessions, and
so are seams whose inputs were not whole. A good seam above the present limit stays in: leaving it out would make the
limit too low for its like.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivers.mcap_codec import RecordingError, RecordingReader
from edged.local_scorer import LocalScorer
from edged.recorded import RecordedSeam, rescore
from edged.train import Advance, extract_features
from pipelines.false_alarms import with_intervals
from pipelines.features.extractor import SeamFeatures
from pipelines.live_fit import live_maxima
from pipelines.live_scorer import Live
from pipelines.model_files import check_features, read_trained_on
from pipelines.models import load_detector, model_directory, model_toml
from pipelines.table import WITHOUT_FEATURES
from pipelines.thresholds import SESSIONS_NEEDED, Signal, Threshold, TooFewGoodsError, calibrate, goods_needed
from pipelines.window import Detector, Score

__all__ = ["GoodScores", "Goods", "Scored", "learned", "score_features", "score_goods", "score_live", "wanted_goods"]

WHOLE = frozenset({None, "ok", "score_above_threshold", "shadow", "collecting", "no_model", "no_threshold"})
"""Reasons of verdicts that say nothing against the seam's inputs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Goods:
    """Seams to learn from, how many were left out why; `is_held_out` None: the model does not say what taught it."""

    seams: list[RecordedSeam]
    left_out: dict[str, int]
    calibration_id: str
    is_held_out: bool | None


@dataclasses.dataclass(frozen=True, slots=True)
class Scored:
    """Raw score by seam for one set of streams, in order of time, and each seam's session."""

    model_id: str
    streams: tuple[str, ...]
    raw: dict[str, float]
    sessions: dict[str, str]


def wanted_goods(seams: Sequence[RecordedSeam], program: str, model: str, bad: frozenset[str]) -> Goods:
    """Of a folder's seams in order of time, those that may calibrate. Raises RecordingError, ModelError.

    Seams of other sensor calibrations than the newest one's are left out: the limit would not be for the cell of now.
    """
    trained = read_trained_on(model_directory(model))
    left_out: Counter[str] = Counter()
    kept: list[tuple[RecordedSeam, str]] = []
    for seam in seams:
        reason, calibration_id = _about(seam)
        if seam.program != program:
            left_out["of other programs"] += 1
        elif seam.seam_id in bad:
            left_out["marked bad"] += 1
        elif trained is not None and (seam.seam_id in trained.seams or seam.session in trained.sessions):
            left_out["of sessions that taught the model"] += 1
        elif reason not in WHOLE:
            left_out[f"not whole: {reason}"] += 1
        else:
            kept.append((seam, calibration_id))
    newest = kept[-1][1] if kept else "none"
    same = [seam for seam, calibration_id in kept if calibration_id == newest]
    if len(same) < len(kept):
        left_out["recorded with another calibration"] = len(kept) - len(same)
    return Goods(same, dict(left_out), newest, None if trained is None else True)


def _about(seam: RecordedSeam) -> tuple[str | None, str]:
    """Why its verdict was what it was, and with which sensor calibration it was recorded."""
    if seam.path.suffix == ".safetensors":
        return None, "none"
    reader = RecordingReader(seam.path)
    return (reader.metadata("verdict") or {}).get("reason"), reader.header.calibration_id


@dataclasses.dataclass(frozen=True, slots=True)
class GoodScores:
    """What the goods' scores are, by set of streams, the fullest first, and why seams have none.

    `live`: each seam's highest live score instead; empty where the model has no live score of the program.
    """

    scored: list[Scored]
    failed: dict[str, str]
    live: list[Scored] = dataclasses.field(default_factory=list)


def score_goods(goods: Goods, model: str, cache_dir: Path, jobs: int, advance: Advance | None = None) -> GoodScores:
    """Scores for every set of streams that the model may be left with.

    Raises ModelError, RecordingError, ValueError.
    """
    detector = load_detector(model, cache_dir=cache_dir)
    about = model_toml(model_directory(model))
    if about["detector"] in WITHOUT_FEATURES:
        return GoodScores(*_rescored(goods.seams, detector, model, advance))
    return _from_features(goods.seams, detector, about, model, cache_dir, jobs, advance)


def _rescored(
    seams: Sequence[RecordedSeam], detector: Detector, model: str, advance: Advance | None
) -> tuple[list[Scored], dict[str, str]]:
    """A detector that looks at raw streams alone: each recording through the real engine."""
    by_streams: dict[tuple[str, ...], Scored] = {}
    failed: dict[str, str] = {}
    for done, seam in enumerate(seams, start=1):
        try:
            verdict = rescore(seam.path, LocalScorer({seam.program: detector}), model)
            if verdict.score is None:
                failed[seam.seam_id] = f"{verdict.reason}: {verdict.detail}"
            else:
                _add(by_streams, detector.model_id, verdict.score.streams, seam, verdict.score.raw)
        except RecordingError as error:
            failed[seam.seam_id] = str(error)
        if advance is not None:
            advance("scores", done, len(seams), 0.0)
    return _fullest_first(by_streams), failed


def _from_features(
    seams: Sequence[RecordedSeam],
    detector: Any,
    about: Mapping[str, Any],
    model: str,
    cache_dir: Path,
    jobs: int,
    advance: Advance | None,
) -> GoodScores:
    """A detector that scores features: extracted once, then scored with each of its optional streams left out."""
    tier = check_features(model_directory(model), about)
    features, failed = extract_features(seams, cache_dir, jobs, advance, tier)
    optional = about.get("optional", [])
    scored, unscored = score_features(seams, features, detector.model_id, detector.score, optional, advance)
    live = getattr(detector, "live", None)  # not every detector has a live part beside it
    highest = [] if live is None else score_live(seams, features, live)
    return GoodScores(scored, failed | unscored, highest)


def score_live(seams: Sequence[RecordedSeam], features: Mapping[str, SeamFeatures], live: Live) -> list[Scored]:
    """The highest live score of each seam, by set of streams; nothing for a program that the model was not taught."""
    known = {seam.seam_id: seam for seam in seams if seam.program in live.model.programs}
    found = []
    for program in dict.fromkeys(seam.program for seam in known.values()):
        goods = [features[seam_id] for seam_id in known if seam_id in features]
        for kinds, raw in live_maxima(live.model, program, goods):
            sessions = {seam_id: known[seam_id].session for seam_id in raw}
            found.append(Scored(live.model_id, tuple(sorted(kinds)), raw, sessions))
    return found


def score_features(
    seams: Sequence[RecordedSeam],
    features: Mapping[str, SeamFeatures],
    model_id: str,
    score: Callable[[SeamFeatures], Score],
    optional: Sequence[str],
    advance: Advance | None = None,
) -> tuple[list[Scored], dict[str, str]]:
    """Scores by set of streams from features by seam id, with each of the `optional` kinds there and left out."""
    by_streams: dict[tuple[str, ...], Scored] = {}
    failed: dict[str, str] = {}
    for done, seam in enumerate(seams, start=1):
        found = features.get(seam.seam_id)
        for dropped in _subsets(optional) if found is not None else ():
            if found is None or not set(dropped) <= found.kinds:
                continue
            try:
                answer = score(found.without(set(dropped)))
            except ValueError as error:
                if not dropped:
                    failed[seam.seam_id] = str(error)
                    break
                continue
            _add(by_streams, model_id, answer.streams, seam, answer.raw)
        if advance is not None:
            advance("scores", done, len(seams), 0.0)
    return _fullest_first(by_streams), failed


def _add(
    by_streams: dict[tuple[str, ...], Scored], model_id: str, streams: tuple[str, ...], seam: RecordedSeam, raw: float
) -> None:
    found = by_streams.setdefault(streams, Scored(model_id, streams, {}, {}))
    # A seam that lacks a stream anyhow reaches its set in more than one way, always with the same score.
    found.raw.setdefault(seam.seam_id, raw)
    found.sessions.setdefault(seam.seam_id, seam.session)


def _fullest_first(by_streams: Mapping[tuple[str, ...], Scored]) -> list[Scored]:
    return sorted(by_streams.values(), key=lambda found: (-len(found.streams), found.streams))


def _subsets(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    return [some for n in range(len(kinds) + 1) for some in itertools.combinations(kinds, n)]


def learned(
    scored: Scored, program: str, alpha: float, calibration_id: str, utc: str, signal: Signal = "score"
) -> Threshold | str:
    """The threshold of one set of streams with both intervals, or what is still needed for it."""
    raw, sessions = list(scored.raw.values()), list(scored.sessions.values())
    lacks = []
    if len(raw) < (needed := goods_needed(alpha)):
        lacks.append(f"needs {needed - len(raw)} more goods for a budget of {alpha:.2%} (has {len(raw)})")
    if len(set(sessions)) < SESSIONS_NEEDED:
        lacks.append(f"needs goods of at least {SESSIONS_NEEDED} sessions (has {len(set(sessions))})")
    if lacks:
        return "; ".join(lacks)
    try:
        found = calibrate(
            scored.model_id, program, scored.streams, raw, alpha, calibration_id=calibration_id, signal=signal
        )
    except TooFewGoodsError as error:
        return str(error)
    return dataclasses.replace(with_intervals(found, raw, sessions), learned_utc=utc)
