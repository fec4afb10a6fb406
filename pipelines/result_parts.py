"""s_R and s_R|P of one kind of result, photographs or laser scan: each has its own rows and says its own word.

A photograph shows oil and a scan shows width; what a process can tell of one it cannot tell of the other. So each
kind has its own skip path (`skip.py`), its own distances (`oneclass.py`) and its own mismatch (`mismatch.py`).
"""

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.gaussian import Standard, cross_fitted, standards_from_tensors, standards_to_tensors
from pipelines.mismatch import Evidence, Mismatch, fit_mismatch, fit_standards, standardised
from pipelines.oneclass import ResultDistances, fit_result
from pipelines.skip import Skip, fit_skip

__all__ = [
    "RESULT_KINDS",
    "FittedPart",
    "JointMismatch",
    "ResultPart",
    "RowScores",
    "fit_joint",
    "fit_part",
    "fit_told",
    "mismatch_signals",
]

RESULT_KINDS = {"photo": "result", "scan": "profile"}
"""Kind of result → the kind of stream that shows it."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowScores:
    """z-scores of s_R and s_R|P by signal, the latter's evidence, and along the seam `(Q,)` distance and residual."""

    s_r: Mapping[str, float]
    s_rp: Mapping[str, float]
    evidence: Evidence
    distance: Array
    residual: Array


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultPart:
    """Of the result rows `first`…`last`."""

    first: int
    last: int
    skip: Skip
    result: ResultDistances
    residual: Mismatch

    @property
    def rows(self) -> slice:
        """Its rows of all."""
        return slice(self.first, self.last)

    def score(
        self, rows: Array, known: NDArray[np.bool_], off: Array, predicted: Array, program: int
    ) -> RowScores | None:
        """Score all rows `(Q, 48)`; `off`: less their program's mean, `predicted`: what the process says of it.

        None where the seam has none of these rows.
        """
        own = self.rows
        if not known[own].any():
            return None
        s_r, distance = self.result.score(rows[own], known[own], program)
        s_rp, residual, evidence = self.residual.score(self.skip, off[own], predicted[own], program)
        return RowScores(s_r, s_rp, evidence, distance, residual)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        found: dict[str, NDArray[Any]] = {"place": np.array([self.first, self.last])}
        for name in ("skip", "result", "residual"):
            found |= {f"{name}.{key}": value for key, value in getattr(self, name).tensors().items()}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> "ResultPart":
        """What `tensors` gave."""

        def own(name: str) -> dict[str, Array]:
            keys = [key for key in tensors if key.startswith(f"{name}.")]
            return {key.removeprefix(f"{name}."): tensors[key].astype(np.float64) for key in keys}

        first, last = (int(edge) for edge in tensors["place"])
        return cls(
            first,
            last,
            Skip.from_tensors(own("skip")),
            ResultDistances.from_tensors(own("result")),
            Mismatch.from_tensors(own("residual")),
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class JointMismatch:
    """s_R|P of photographs and scan together: their log-likelihood ratios add up, as their noise is not shared."""

    standards: Mapping[str, Standard]

    def score(self, evidence: Sequence[Evidence], program: int) -> dict[str, float]:
        """z-scores "residual" and "mismatch" of a seam that has every kind."""
        return standardised(functools.reduce(operator.add, evidence), self.standards, program)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        return standards_to_tensors(self.standards)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> "JointMismatch":
        """What `tensors` gave."""
        return cls(standards_from_tensors(tensors))


def fit_joint(
    evidence: Sequence[Mapping[int, Evidence]], program: NDArray[np.int64], programs: int
) -> JointMismatch | None:
    """Fit on goods that have every kind; None where there is only one, or one from which nothing is told."""
    rows = sorted(set.intersection(*(set(kind) for kind in evidence)))
    if len(evidence) < 2 or not rows:
        return None
    joined = [functools.reduce(operator.add, (kind[row] for kind in evidence)) for row in rows]
    return JointMismatch(fit_standards(joined, program[rows], programs))


def fit_told(
    summaries: Array,
    targets: NDArray[np.float32],
    program: NDArray[np.int64],
    groups: NDArray[np.int64],
    programs: int,
) -> tuple[Skip, NDArray[np.float32], list[Skip]]:
    """The skip path; what it predicts of every seam `(n, Q, 48)` when that seam's session did not teach it; and the
    path that it was then, by seam.

    Out of fold, as the network must learn the remainder that it will meet, and residuals must have their true size.
    """
    rows = targets.astype(np.float64)

    def fitted_on(picked: NDArray[np.int64]) -> Skip:
        return fit_skip(summaries[picked], rows[picked], program[picked], groups[picked], programs)

    blind: dict[int, Skip] = {}

    def predicted(skip: Skip, i: int) -> Array:
        blind[i] = skip
        return skip.predict(summaries[i], int(program[i]))

    told = cross_fitted(groups, fitted_on, predicted)
    return fitted_on(np.arange(len(rows))), told.astype(np.float32), [blind[i] for i in range(len(rows))]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FittedPart:
    """The part; the share of variance explained per direction (M, R); goods' evidence by row and their z-scores
    of s_R by signal `(n,)`, both out of fold, NaN without such a result."""

    part: ResultPart
    explained: Array
    evidence: Mapping[int, Evidence]
    s_r: Mapping[str, Array]


def fit_part(
    place: tuple[int, int],
    skip: Skip,
    blind: Sequence[Skip],
    tokens: NDArray[np.float32],
    known: NDArray[np.bool_],
    off: NDArray[np.float32],
    predicted: NDArray[np.float32],
    program: NDArray[np.int64],
    groups: NDArray[np.int64],
    programs: int,
) -> "FittedPart":
    """Fit on goods' rows (all of them, `(n, Q, 48)`).

    `blind[i]`: the path that seam i's session did not teach; `predicted[i]`: what was predicted without it. The
    mismatch takes them all: goods of a few sessions differ less than those of the next ones will (ADR 0010).
    """
    own = slice(*place)
    seen = np.flatnonzero(known[:, own].any(1))
    residual, explained, evidence = fit_mismatch(
        skip,
        [blind[i] for i in seen.tolist()],
        off[seen][:, own].astype(np.float64),
        predicted[seen][:, own].astype(np.float64),
        program[seen],
        groups[seen],
        programs,
    )
    result, signals = fit_result(
        tokens[seen][:, own].astype(np.float64), known[seen][:, own], program[seen], groups[seen], programs
    )
    fitted = ResultPart(place[0], place[1], skip, result, residual)
    s_r = {name: np.full(len(tokens), np.nan) for name in signals}
    for name, z in signals.items():
        s_r[name][seen] = z
    return FittedPart(fitted, explained, dict(zip(seen.tolist(), evidence, strict=False)), s_r)


def mismatch_signals(
    parts: Sequence[FittedPart], joint: JointMismatch | None, program: NDArray[np.int64]
) -> list[Array]:
    """z-scores of s_R|P of the goods that have evidence, by signal `(n,)`, NaN of the others."""
    if joint is not None:
        both = sorted(set.intersection(*(set(part.evidence) for part in parts)))
        found = {row: joint.score([part.evidence[row] for part in parts], int(program[row])) for row in both}
    else:
        found = {}
        for part in parts:
            for row, evidence in part.evidence.items():
                found[row] = standardised(evidence, part.part.residual.standards, int(program[row]))
    signals: dict[str, Array] = {name: np.full(len(program), np.nan) for row in found.values() for name in row}
    for row, z in found.items():
        for name, value in z.items():
            signals[name][row] = value
    return list(signals.values()) or [np.zeros(len(program))]
