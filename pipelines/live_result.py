"""What the process so far says of the bead, and how far that lies from the beads of good welds.

Second signal of the live score (`pipelines/live.py`). A ridge regression from the waveforms' mean over a stretch to
the result's mean over the seam, both as deviations from their program's: a linear path, because a few hundred goods
teach no more. The distance is that of the predicted result from the program's good results, in their own covariance,
so a process that only wanders where beads do not care raises nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.gaussian import Gaussian, fit_gaussian
from pipelines.normaliser import Normaliser

__all__ = ["ResultPath", "fit_result_path", "result_of"]

Array = NDArray[np.float64]
RIDGE = 0.3
"""Added to the variances (1) of the waveforms' features."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultPath:
    """centre (P, D): a program's process; path (D, K); results: the program's good beads as deviations, (P, K)."""

    centre: Array
    path: Array
    results: Gaussian

    def predict(self, process: Array, program: int) -> Array:
        """Deviation of the result from the program's mean, `(K,)`, from the waveforms' mean `(D,)`."""
        found: Array = (process - self.centre[program]) @ self.path
        return found

    def distance(self, process: Array, program: int) -> Array:
        """Of the predicted result from good results; of `(…, D)`, `(…,)`."""
        return self.results.distance(self.predict(process, program), program)

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        return {
            "centre": self.centre, "path": self.path, "mean": self.results.mean, "whiten": self.results.whiten
        }  # fmt: skip

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> "ResultPath":
        """What `tensors` gave."""
        double = {name: value.astype(np.float64) for name, value in tensors.items()}
        return cls(double["centre"], double["path"], Gaussian(double["mean"], double["whiten"]))


def result_of(features: SeamFeatures, normaliser: Normaliser, views: Sequence[str]) -> Array | None:
    """Mean row of every photograph and of the scan, one after the other `(K,)`; None where one of them is missing."""
    found = []
    for rows, known in (*(normaliser.views(features, [view]) for view in views), normaliser.scanned(features)):
        if len(rows) == 0:
            continue
        if not known.any():
            return None
        found.append(rows[known].mean(0))
    return np.concatenate(found).astype(np.float64) if found else None


def fit_result_path(process: Array, result: Array, program: NDArray[np.int64], programs: int) -> ResultPath:
    """Fit on goods: waveforms' means (n, D) and results (n, K)."""

    def centred(x: Array) -> tuple[Array, Array]:
        pooled = x.mean(0)
        mean = np.stack([x[program == p].mean(0) if (program == p).any() else pooled for p in range(programs)])
        return mean, x - mean[program]

    centre, x = centred(process)
    _, y = centred(result)
    spread = np.maximum(x.std(0), 1e-6)
    z = x / spread
    weights = np.linalg.solve(z.T @ z / len(z) + RIDGE * np.eye(z.shape[1]), z.T @ y / len(z))
    zero = np.zeros((programs, y.shape[1]))
    return ResultPath(centre, weights / spread[:, None], fit_gaussian(y, program, programs, mean=zero))
