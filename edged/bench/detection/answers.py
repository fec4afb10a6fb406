"""What one pipeline says of a corpus, before it becomes a `Run`: raw scores of calibration goods and of test seams.

A run's scores are divided by the conformal threshold of the seam's program, which rests on the calibration goods and
on nothing else. So more than 1 is flagged at the budget, for every pipeline alike.
"""

import dataclasses
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim import SIM_VERSION
from edged.bench.detection.data import CorpusData
from edged.bench.detection.scored import ROW_FIELDS, Run
from pipelines.features.extractor import SeamFeatures
from pipelines.thresholds import DEFAULT_ALPHA, calibrate, goods_needed

__all__ = ["Answers", "Scorer", "SeamAnswer", "ask", "peak_mb", "run_of"]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeamAnswer:
    """Raw score > 0, parts by name, and the score along the seam `(W,)` where there is one."""

    raw: float
    parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rows: Array | None = None


Scorer = Callable[[SeamFeatures], SeamAnswer]
"""A fitted pipeline. Raises ValueError, naming what is missing, for a seam that it cannot score."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of calibration goods and test seams, in the corpus' order; costs: see `Run`."""

    calibration: Sequence[SeamAnswer]
    test: Sequence[SeamAnswer]
    costs: Mapping[str, float]


def ask(data: CorpusData, score: Scorer, costs: Mapping[str, float] | None = None) -> Answers:
    """Score calibration goods and test seams one by one, as a cell would, and take the time."""
    calibration = [score(data.features[i]) for i in data.split.calibration]
    spent, test = [], []
    for features in data.testing():
        begin = time.perf_counter()
        test.append(score(features))
        spent.append((time.perf_counter() - begin) * 1e3)
    measured = {"head_ms_p50": float(np.median(spent)), "peak_mb": peak_mb()}
    return Answers(calibration, test, {**measured, **(costs or {})})


def peak_mb() -> float:
    """Most memory that this process has had, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_of(data: CorpusData, row: Mapping[str, Any], answers: Answers) -> Run:
    """The run. Raises ValueError where a program has too few calibration goods for the budget."""
    whole = dict.fromkeys(ROW_FIELDS) | {
        "corpus": data.corpus.number,
        "schedule": data.corpus.size.name,
        "sim_version": SIM_VERSION,
        "tier": "default",
    }
    unknown = set(row) - set(ROW_FIELDS)
    if unknown:
        raise ValueError(f"a run's row has no field {', '.join(sorted(unknown))}")
    costs = _with_latency(data, answers.costs)
    limits = _limits(data, answers.calibration)
    score = np.array([a.raw / limits[s.program] for a, s in zip(answers.test, data.seams, strict=True)])
    names = sorted({name for answer in answers.test for name in answer.parts})
    parts = {name: np.array([a.parts.get(name, 0.0) for a in answers.test]) for name in names}
    if any(answer.rows is None for answer in answers.test):
        return Run(whole | dict(row), data.seams, score, parts, costs=costs)
    rows = np.stack([_row(a) for a in answers.test])
    return Run(whole | dict(row), data.seams, score, parts, rows, _ends(data), costs)


def _with_latency(data: CorpusData, costs: Mapping[str, float]) -> dict[str, float]:
    """End to end is the extractor over the whole seam and the head, one after the other."""
    found = dict(costs)
    if data.extract_ms is not None and "head_ms_p50" in costs:
        found.setdefault("latency_ms_p50", data.extract_ms + costs["head_ms_p50"])
    return found


def _row(answer: SeamAnswer) -> Array:
    assert answer.rows is not None
    return np.nan_to_num(answer.rows, nan=0.0)


def _ends(data: CorpusData) -> Array:
    """The seams' ends, mm: rows cover them evenly."""
    return np.array([[0.0, f.frame.length_mm if f.frame is not None else 0.0] for f in data.testing()])


def _limits(data: CorpusData, calibration: Sequence[SeamAnswer]) -> dict[str, float]:
    limits = {}
    for program in data.programs:
        raw = [
            answer.raw
            for answer, i in zip(calibration, data.split.calibration, strict=True)
            if data.features[i].program == program
        ]
        # A corpus made smaller than the protocol's says so by its schedule; its budget is what its goods allow.
        alpha = DEFAULT_ALPHA if len(raw) >= goods_needed(DEFAULT_ALPHA) else 1.0 / (len(raw) + 1)
        limits[program] = calibrate("bench", program, ("all",), raw, alpha).value
    return limits
