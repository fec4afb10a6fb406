"""Conformal thresholds: from the raw scores of good seams to the limit, and to a p-value.

Split conformal prediction: among n exchangeable goods and one new good, the new one exceeds the k-th smallest
of the n, k = ⌈(n + 1)(1 − α)⌉, with probability at most α. Below n = 1/α − 1 there is no such k, and the program
is refused. Thresholds are a file of their own beside the model, keyed by (model, program, streams).
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "DEFAULT_ALPHA",
    "Threshold",
    "ThresholdTable",
    "TooFewGoodsError",
    "calibrate",
    "goods_needed",
    "recordings_needed",
]

DEFAULT_ALPHA = 0.01
MAX_CALIBRATION_SHARE = 0.6
"""Of a program's goods at most this share calibrates; the others train."""


VERDICT_SIGNAL = "score"
"""What a threshold limits: a seam's score, or the highest point of its live score (`live_scorer.LIVE_SIGNAL`)."""


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
    """The limit of one program with one set of streams; `scores` are the calibration goods' raw scores, sorted."""

    model_id: str
    program: str
    streams: tuple[str, ...]
    alpha: float
    value: float
    scores: tuple[float, ...]
    signal: str = VERDICT_SIGNAL

    @property
    def threshold_id(self) -> str:
        """Digest of everything the threshold says."""
        said = [self.model_id, self.program, self.streams, self.alpha, self.value, self.scores]
        text = json.dumps(said + [self.signal] * (self.signal != VERDICT_SIGNAL))
        return f"{self.program}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def p_value(self, raw: float) -> float:
        """(1 + number of goods at least as anomalous) / (n + 1)."""
        return (1 + sum(score >= raw for score in self.scores)) / (len(self.scores) + 1)


def calibrate(
    model_id: str,
    program: str,
    streams: Iterable[str],
    raw: Sequence[float],
    alpha: float = DEFAULT_ALPHA,
    signal: str = VERDICT_SIGNAL,
) -> Threshold:
    """The conformal threshold from the raw scores (> 0) of held-out goods. Raises TooFewGoodsError."""
    needed = goods_needed(alpha)
    if len(raw) < needed:
        raise TooFewGoodsError(
            f"program {program}: {len(raw)} good seams for calibration, a false-alarm budget of {alpha:.2%} needs "
            f"{needed}: record {needed - len(raw)} more"
        )
    scores = sorted(float(r) for r in raw)
    if not scores[0] > 0.0 or not math.isfinite(scores[-1]):
        raise ValueError(f"program {program}: raw scores must be positive and finite, got {scores[0]}..{scores[-1]}")
    k = math.ceil((len(scores) + 1) * (1.0 - alpha) - 1e-9)
    return Threshold(model_id, program, tuple(sorted(streams)), alpha, scores[k - 1], tuple(scores), signal)


def _key(threshold: Threshold) -> tuple[str, str, tuple[str, ...], str]:
    return threshold.model_id, threshold.program, threshold.streams, threshold.signal


class ThresholdTable:
    """All thresholds of a model directory."""

    def __init__(self, thresholds: Iterable[Threshold] = ()) -> None:
        self._table = {_key(t): t for t in thresholds}

    def __iter__(self) -> Iterator[Threshold]:
        return iter(self._table.values())

    def add(self, threshold: Threshold) -> None:
        """Add or replace the threshold of its key."""
        self._table[_key(threshold)] = threshold

    def find(
        self, model_id: str, program: str, streams: Iterable[str], signal: str = VERDICT_SIGNAL
    ) -> Threshold | None:
        """The threshold of exactly this model, program, set of streams and signal."""
        return self._table.get((model_id, program, tuple(sorted(streams)), signal))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        rows = [_plain(t) for _, t in sorted(self._table.items())]
        path.write_text(json.dumps({"version": 1, "thresholds": rows}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "ThresholdTable":
        """Read what `save` wrote; an absent file is an empty table. Raises ValueError on another version."""
        if not path.exists():
            return cls()
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("version") != 1:
            raise ValueError(f"{path}: thresholds of version {found.get('version')}, expected 1")
        return cls(
            Threshold(**{**row, "streams": tuple(row["streams"]), "scores": tuple(row["scores"])})
            for row in found["thresholds"]
        )


def _plain(threshold: Threshold) -> dict[str, Any]:
    """A verdict's thresholds read as they did before there were others, so a table without those stays the same."""
    values = dataclasses.asdict(threshold)
    if threshold.signal == VERDICT_SIGNAL:
        del values["signal"]
    return values
