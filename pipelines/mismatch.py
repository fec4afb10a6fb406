"""s_R|P: does the result fit this very process? Asked in the directions that the process can tell (`skip.py`).

With v the result's deviation in such a direction and v̂ what the process predicts, both normal on goods:

    residual   √Σ w (v − βv̂)² / σ_r²            as published, each direction weighted by what a swapped result adds
    mismatch   Σ (v − βv̂)² / σ_r² − v² / σ_v²   log p(R|P) against log p(R): zero gain from being odd by itself

β, σ_r and σ_v are fitted on goods with predictions that they did not teach: out of fold.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.gaussian import (
    Standard,
    cross_fitted,
    fit_standard,
    standards_from_tensors,
    standards_to_tensors,
)
from pipelines.skip import Skip, row_modes

__all__ = ["Evidence", "Mismatch", "fit_mismatch", "fit_standards", "standardised"]

Array = NDArray[np.float64]
FIGURES = ("residual", "mismatch")


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """Σ w r², Σ w and the log-likelihood ratio of one seam; those of photograph and scan add up."""

    strain: float
    weight: float
    gain: float

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.strain + other.strain, self.weight + other.weight, self.gain + other.gain)

    def figures(self) -> dict[str, float]:
        """Positive figures whose logarithm is about normal on goods; see `fit_standard`."""
        return {
            "residual": float(np.sqrt(self.strain / self.weight)),
            # A gain has the tail of a square; its root has that of a normal.
            "mismatch": float(np.exp(np.clip(np.sign(self.gain) * np.sqrt(np.abs(self.gain)), -30.0, 30.0))),
        }


def standardised(evidence: Evidence, standards: Mapping[str, Standard], program: int) -> dict[str, float]:
    """z-scores of a seam's evidence."""
    return {name: float(standards[name].z(value, program)) for name, value in evidence.figures().items()}


def fit_standards(evidence: Sequence[Evidence], program: NDArray[np.int64], programs: int) -> dict[str, Standard]:
    """Standards of goods' figures."""
    table = [e.figures() for e in evidence]
    return {n: fit_standard(np.array([row[n] for row in table]), program, programs) for n in FIGURES}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Mismatch:
    """Per direction `(M, R)`: slope β, spread σ_r of the residual, σ_v of the result, weight w (0: not used)."""

    slope: Array
    residual: Array
    result: Array
    weight: Array
    standards: Mapping[str, Standard]

    def score(
        self, skip: Skip, rows: Array, predicted: Array, program: int
    ) -> tuple[dict[str, float], Array, "Evidence"]:
        """z-scores "residual" and "mismatch", the residual of every row `(Q,)` in the first direction, the evidence.

        rows, predicted `(Q, K)`: deviations from the program's mean. Nothing where the process tells nothing.
        """
        first = (rows - self.slope[0, 0] * predicted) @ skip.directions[0, :, 0] / self.residual[0, 0]
        evidence = self.evidence(*_directions(skip, rows, predicted, program))
        if not self.weight.any():
            return dict.fromkeys(FIGURES, 0.0), np.abs(first), evidence
        return standardised(evidence, self.standards, program), np.abs(first), evidence

    def evidence(self, shown: Array, told: Array) -> "Evidence":
        """What the directions (M, R) of a seam say."""
        off = (shown - self.slope * told) ** 2 / self.residual**2
        used = self.weight > 0
        return Evidence(
            strain=float((self.weight * off).sum()),
            weight=float(self.weight.sum()),
            gain=float((off - shown**2 / self.result**2)[used].sum()),
        )

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        found = {name: getattr(self, name) for name in ("slope", "residual", "result", "weight")}
        return found | standards_to_tensors(self.standards)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "Mismatch":
        """What `tensors` gave."""
        return cls(
            slope=tensors["slope"],
            residual=tensors["residual"],
            result=tensors["result"],
            weight=tensors["weight"],
            standards=standards_from_tensors(tensors),
        )


def _directions(skip: Skip, rows: Array, predicted: Array, program: int) -> tuple[Array, Array]:
    """Result and prediction in every direction, (M, R) each."""
    along = skip.along[program]
    shown, told = (np.einsum("mk,mkr->mr", row_modes(x, along), skip.directions) for x in (rows, predicted))
    return shown, told


def fit_mismatch(
    skip: Skip,
    blind: Sequence[Skip],
    rows: Array,
    predicted: Array,
    program: NDArray[np.int64],
    sessions: NDArray[np.int64],
    programs: int,
) -> tuple[Mismatch, Array, list[Evidence]]:
    """Fit on goods (n, Q, K), predicted out of fold, each in the directions of `blind[i]`, which its session did not
    teach: in directions that a seam helped to choose, it fits its process better than the next one will.

    Returns it, the share of variance explained per direction (M, R) and the goods' evidence, out of fold; none where
    the process tells nothing.
    """
    pairs = [_directions(blind[i], rows[i], predicted[i], p) for i, p in enumerate(program.tolist())]
    shown, told = (np.stack(x) for x in zip(*pairs, strict=True))
    found, explained = _fit(skip, shown, told)
    if not found.weight.any():
        nothing = Standard(np.zeros(programs), 1.0)
        return dataclasses.replace(found, standards=dict.fromkeys(FIGURES, nothing)), explained, []
    evidence = _held_out(skip, shown, told, sessions, found)
    return dataclasses.replace(found, standards=fit_standards(evidence, program, programs)), explained, evidence


def _held_out(skip: Skip, shown: Array, told: Array, sessions: NDArray[np.int64], whole: Mismatch) -> list[Evidence]:
    """Evidence of every good by slopes and spreads that its session had no part in."""

    def fit(rows: NDArray[np.int64]) -> Mismatch:
        # Which directions count is the model's, so that the figures are of one kind.
        return dataclasses.replace(_fit(skip, shown[rows], told[rows])[0], weight=whole.weight)

    def measure(model: Mismatch, i: int) -> Array:
        return np.array(dataclasses.astuple(model.evidence(shown[i], told[i])))

    return [Evidence(*row) for row in cross_fitted(sessions, fit, measure).tolist()]


def _fit(skip: Skip, shown: Array, told: Array) -> tuple[Mismatch, Array]:
    strength = (told**2).mean(0)
    slope = np.where(strength > 1e-12, (shown * told).mean(0) / np.maximum(strength, 1e-12), 0.0).clip(0.0, 1.5)
    result = np.sqrt((shown**2).mean(0)) + 1e-9
    residual = np.sqrt(((shown - slope * told) ** 2).mean(0)) + 1e-9
    explained = 1 - (residual / result) ** 2
    # λ: predicted over residual variance. A result of another seam adds 2λ to the residual's variance of 1.
    ratio = np.clip(slope**2 * strength / residual**2, 0.0, None)
    weight = np.where((skip.correlation > 0) & (explained > 0.01), 2 * ratio / (1 + 2 * ratio), 0.0)
    return Mismatch(slope, residual, result, weight, {}), explained
