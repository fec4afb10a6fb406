"""Conformal thresholds: from the raw scores of good seams to the limit, and to a p-value.

Split conformal prediction: among n exchangeable goods and one new good, the new one exceeds the k-th smallest
of the n, k = ⌈(n + 1)(1 − α)⌉, with probability at most α. Below n = 1/α − 1 there is no such k, and the program
is refused. Thresholds are files of their own, beside the model (made by training) and in the cell (`edged learn`),
keyed by (model, program, streams, calibration, signal).
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pipelines.window import Score

__all__ = [
    "DEFAULT_ALPHA",
    "SESSIONS_NEEDED",
    "Signal",
    "Threshold",
    "ThresholdTable",
    "TooFewGoodsError",
    "applied",
    "calibrate",
    "goods_needed",
    "recordings_needed",
]

DEFAULT_ALPHA = 0.01
MAX_CALIBRATION_SHARE = 0.6
"""Of a program's goods at most this share calibrates; the others train."""
SESSIONS_NEEDED = 3
"""Goods of fewer sessions say nothing of how much sessions differ, and so nothing of the next one."""

Signal = Literal["score", "live"]
"""What a threshold is for: the seam's score, or the largest live score within the seam."""
Interval = tuple[float, float]


class TooFewGoodsError(ValueError):
    """There are not enough good seams for the false-alarm budget; the message says how many more are needed."""


def goods_needed(alpha: float) -> int:
    """The least number of calibration goods for a false-alarm budget α. Raises ValueError unless 0 < α < 1."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"a false-alarm budget lies between 0 and 1, got {alpha}")
    return math.ceil(1.0 / alpha - 1e-9) - 1


def recordings_needed(alpha: float) -> int:
    """How many good seams to record, so that enough are left for calibration beside those that train."""
    return math.ceil(goods_needed(alpha) / MAX_CALIBRATION_SHARE)


@dataclasses.dataclass(frozen=True, slots=True)
class Threshold:
    """The limit of one program with one set of streams; `scores` are the calibration goods' raw scores, sorted.

    `sessions` is of how many sessions they are, None where nobody noted it. `interval` is the 95 % interval of the
    false-alarm rate that the limit will really have if seams are exchangeable, `interval_by_session` the wider one
    where seams of a session are alike, `session_correlation` how alike (`pipelines.false_alarms`). `learned_utc`
    (ISO 8601) is set where the cell itself learned it from its own goods.
    """

    model_id: str
    program: str
    streams: tuple[str, ...]
    alpha: float
    value: float
    scores: tuple[float, ...]
    calibration_id: str = "none"
    signal: Signal = "score"
    sessions: int | None = None
    interval: Interval | None = None
    interval_by_session: Interval | None = None
    session_correlation: float = 0.0
    learned_utc: str | None = None

    @property
    def threshold_id(self) -> str:
        """Digest of everything that the threshold says and that decides."""
        return _id_of(self)

    def p_value(self, raw: float) -> float:
        """(1 + number of goods at least as anomalous) / (n + 1)."""
        return (1 + sum(score >= raw for score in self.scores)) / (len(self.scores) + 1)

    def limit(self, alpha: float | None = None) -> float:
        """The raw score that a good seam exceeds with probability `alpha` at most (None: its own).

        Raises TooFewGoodsError where its goods do not suffice for that.
        """
        if alpha is None or alpha == self.alpha:
            return self.value
        return _limit(self.program, self.scores, alpha)


@functools.lru_cache(maxsize=1024)
def _id_of(threshold: Threshold) -> str:
    said: list[Any] = [threshold.model_id, threshold.program, threshold.streams, threshold.alpha, threshold.value]
    said.append(threshold.scores)
    # Thresholds of models that were made before there were these keep their ids.
    said += [value for value in (threshold.calibration_id, threshold.signal) if value not in ("none", "score")]
    said += [value for value in (threshold.sessions, threshold.learned_utc) if value is not None]
    return f"{threshold.program}-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]}"


def applied(score: Score, threshold: Threshold | None, alpha: float | None = None) -> Score:
    """The score as `threshold` at a budget `alpha` (None: its own) sees it; None takes any limit away.

    Raises TooFewGoodsError.
    """
    limit = None if threshold is None else threshold.limit(alpha)
    scale = (score.threshold or 1.0) / (limit or 1.0)
    return dataclasses.replace(
        score,
        score=None if limit is None else score.raw / limit,
        p_value=None if threshold is None else threshold.p_value(score.raw),
        threshold=limit,
        threshold_id=None if threshold is None else threshold.threshold_id,
        timeline=tuple(dataclasses.replace(point, score=point.score * scale) for point in score.timeline),
    )


def _limit(program: str, scores: Sequence[float], alpha: float) -> float:
    """The conformal limit of sorted scores. Raises TooFewGoodsError."""
    needed = goods_needed(alpha)
    if len(scores) < needed:
        raise TooFewGoodsError(
            f"program {program}: {len(scores)} good seams for calibration, a false-alarm budget of {alpha:.2%} needs "
            f"{needed}: record {needed - len(scores)} more"
        )
    return scores[math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9) - 1]


def calibrate(
    model_id: str,
    program: str,
    streams: Iterable[str],
    raw: Sequence[float],
    alpha: float = DEFAULT_ALPHA,
    *,
    sessions: int | None = None,
    calibration_id: str = "none",
    signal: Signal = "score",
) -> Threshold:
    """The conformal threshold from the raw scores (> 0) of held-out goods of `sessions`. Raises TooFewGoodsError."""
    scores = sorted(float(r) for r in raw)
    value = _limit(program, scores, alpha)
    if not scores[0] > 0.0 or not math.isfinite(scores[-1]):
        raise ValueError(f"program {program}: raw scores must be positive and finite, got {scores[0]}..{scores[-1]}")
    kinds = tuple(sorted(streams))
    return Threshold(
        model_id,
        program,
        kinds,
        alpha,
        value,
        tuple(scores),
        calibration_id=calibration_id,
        signal=signal,
        sessions=sessions,
    )


Key = tuple[str, str, tuple[str, ...], str, Signal]


def _key(threshold: Threshold) -> Key:
    return (threshold.model_id, threshold.program, threshold.streams, threshold.calibration_id, threshold.signal)


class ThresholdTable:
    """The thresholds of a model directory, or of a cell; of two with one key the later one counts."""

    def __init__(self, thresholds: Iterable[Threshold] = ()) -> None:
        self._table = {_key(t): t for t in thresholds}

    def __iter__(self) -> Iterator[Threshold]:
        return iter(self._table.values())

    def add(self, threshold: Threshold) -> None:
        """Add or replace the threshold of its key."""
        self._table[_key(threshold)] = threshold

    def find(
        self,
        model_id: str,
        program: str,
        streams: Iterable[str],
        calibration_id: str = "none",
        signal: Signal = "score",
    ) -> Threshold | None:
        """The threshold of exactly this model, program, set of streams, calibration and signal."""
        return self._table.get((model_id, program, tuple(sorted(streams)), calibration_id, signal))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        rows = [_row(t) for _, t in sorted(self._table.items())]
        path.write_text(json.dumps({"version": 1, "thresholds": rows}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "ThresholdTable":
        """Read what `save` wrote; an absent file is an empty table. Raises ValueError where it says anything else."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("version") != 1:
            version = found.get("version") if isinstance(found, dict) else found
            raise ValueError(f"{path}: thresholds of version {version!r:.40}, expected 1")
        try:
            return cls(_threshold(row) for row in found["thresholds"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: a row is no threshold: {error!r}; learn it again") from error


def _row(threshold: Threshold) -> dict[str, Any]:
    """What a file says of it: nothing of what it has not."""
    defaults = {field.name: field.default for field in dataclasses.fields(threshold)}
    return {key: value for key, value in dataclasses.asdict(threshold).items() if value != defaults[key]}


def _threshold(row: dict[str, Any]) -> Threshold:
    """Inverse of `_row`. Raises KeyError, TypeError or ValueError where its numbers cannot limit anything."""
    lists = {name: tuple(row[name]) for name in ("streams", "scores")}
    lists |= {name: tuple(row[name]) for name in ("interval", "interval_by_session") if row.get(name) is not None}
    found = Threshold(**{**row, **lists})
    numbers = (found.alpha, found.value, *found.scores)
    if not all(isinstance(number, int | float) and math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(f"program {found.program}: a threshold needs finite numbers above 0, got {numbers[:2]}")
    return found
