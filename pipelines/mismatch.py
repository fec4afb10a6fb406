"""s_R|P: does the result fit this very process? Asked in the directions that the process can tell (`skip.py`).

With v the result's deviation in such a direction and v̂ what the process predicts, both normal on goods:

    residual   √Σ w (v − βv̂)² / σ_r²            as published, each direction weighted by what a swapped result adds
    mismatch   Σ (v − βv̂)² / σ_r² − v² / σ_v²   log p(R|P) against log p(R): zero gain from being odd by itself

β, σ_r and σ_v are fitted on goods that trained neither the network nor the skip path.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.gaussian import Standard, cross_fitted, fit_standard
from pipelines.skip import Skip, row_modes

__all__ = ["Mismatch", "fit_mismatch"]

Array = NDArray[np.float64]
FIGURES = ("residual", "mismatch")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Mismatch:
    """Per direction `(M, R)`: slope β, spread σ_r of the residual, σ_v of the result, weight w (0: not used)."""

    slope: Array
    residual: Array
    result: Array
    weight: Array
    standards: Mapping[str, Standard]

    def score(self, skip: Skip, rows: Array, predicted: Array, program: int) -> tuple[dict[str, float], Array]:
        """z-scores "residual" and "mismatch", and the residual of every row `(Q,)` in the first direction.

        rows, predicted `(Q, K)`: deviations from the program's mean. Nothing where the process tells nothing.
        """
        first = (rows - self.slope[0, 0] * predicted) @ skip.directions[0, :, 0] / self.residual[0, 0]
        if not self.weight.any():
            return dict.fromkeys(FIGURES, 0.0), np.abs(first)
        figures = self._figures(*_directions(skip, rows, predicted, program))
        found = {name: float(self.standards[name].z(value, program)) for name, value in figures.items()}
        return found, np.abs(first)

    def _figures(self, shown: Array, told: Array) -> dict[str, float]:
        off = (shown - self.slope * told) ** 2 / self.residual**2
        used = self.weight > 0
        gain = (off - shown**2 / self.result**2)[used].sum()
        return {
            "residual": float(np.sqrt((self.weight * off).sum() / self.weight.sum())),
            # A gain has the tail of a square; its root has that of a normal.
            "mismatch": float(np.exp(np.clip(np.sign(gain) * np.sqrt(np.abs(gain)), -30.0, 30.0))),
        }

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        found = {name: getattr(self, name) for name in ("slope", "residual", "result", "weight")}
        for name, standard in self.standards.items():
            found |= {f"{name}.location": standard.location, f"{name}.scale": np.array([standard.scale])}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "Mismatch":
        """What `tensors` gave."""
        return cls(
            slope=tensors["slope"],
            residual=tensors["residual"],
            result=tensors["result"],
            weight=tensors["weight"],
            standards={n: Standard(tensors[f"{n}.location"], float(tensors[f"{n}.scale"][0])) for n in FIGURES},
        )


def _directions(skip: Skip, rows: Array, predicted: Array, program: int) -> tuple[Array, Array]:
    """Result and prediction in every direction, (M, R) each."""
    along = skip.along[program]
    shown, told = (np.einsum("mk,mkr->mr", row_modes(x, along), skip.directions) for x in (rows, predicted))
    return shown, told


def fit_mismatch(
    skip: Skip,
    rows: Array,
    predicted: Array,
    program: NDArray[np.int64],
    sessions: NDArray[np.int64],
    programs: int,
) -> tuple[Mismatch, Array]:
    """Fit on held-out goods (n, Q, K); returns it and the share of variance explained per direction (M, R)."""
    pairs = [_directions(skip, rows[i], predicted[i], p) for i, p in enumerate(program.tolist())]
    shown, told = (np.stack(x) for x in zip(*pairs, strict=True))
    found, explained = _fit(skip, shown, told)
    if not found.weight.any():
        nothing = Standard(np.zeros(programs), 1.0)
        return dataclasses.replace(found, standards=dict.fromkeys(FIGURES, nothing)), explained
    table = _held_out_figures(skip, shown, told, sessions, found)
    standards = {n: fit_standard(table[:, k], program, programs) for k, n in enumerate(FIGURES)}
    return dataclasses.replace(found, standards=standards), explained


def _held_out_figures(skip: Skip, shown: Array, told: Array, sessions: NDArray[np.int64], whole: Mismatch) -> Array:
    """Figures (n, 2) of every good by slopes and spreads that its session had no part in."""

    def fit(rows: NDArray[np.int64]) -> Mismatch:
        # Which directions count is the model's, so that the figures are of one kind.
        return dataclasses.replace(_fit(skip, shown[rows], told[rows])[0], weight=whole.weight)

    def measure(model: Mismatch, i: int) -> Array:
        figures = model._figures(shown[i], told[i])
        return np.array([figures[name] for name in FIGURES])

    return cross_fitted(sessions, fit, measure)


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
