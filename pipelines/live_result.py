"""What the process so far says of the bead, and how far that lies from the beads of good welds.

Second signal of the live score (`pipelines/live.py`). A ridge regression from the waveforms' mean over a stretch to
the result's mean over the seam, both as deviations from their program's: a linear path, because a few hundred goods
teach no more. The distance is that of the predicted result from the program's good results, in their own covariance
and in the directions that a process can tell: a process that only wanders where beads do not care raises nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.gaussian import cross_fitted, fit_gaussian
from pipelines.normaliser import Normaliser

__all__ = ["ResultPath", "fit_result_path", "result_of"]

Array = NDArray[np.float64]
RIDGE = 0.3
"""Added to the variances (1) of the waveforms' features."""
LEAST_CORRELATION = 0.1
"""A direction of the result that is told worse than this on unseen goods is noise."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultPath:
    """centre (P, D): a program's process; path (D, K): to the result's deviation from the program's good ones, in
    directions of unit variance there, each as far as it can be told."""

    centre: Array
    path: Array

    def distance(self, process: Array, program: int) -> Array:
        """Of the predicted result from good results, from the waveforms' means `(…, D)`: `(…,)`."""
        told = (process - self.centre[program]) @ self.path
        found: Array = np.sqrt(np.sum(told**2, axis=-1))
        return found

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        return {"centre": self.centre, "path": self.path}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> "ResultPath":
        """What `tensors` gave."""
        return cls(tensors["centre"].astype(np.float64), tensors["path"].astype(np.float64))


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


def fit_result_path(
    process: Array, result: Array, program: NDArray[np.int64], sessions: NDArray[np.int64], programs: int
) -> ResultPath:
    """Fit on goods: waveforms' means (n, D) and results (n, K). Raises ValueError where all are of one session."""

    def centred(x: Array) -> tuple[Array, Array]:
        pooled = x.mean(0)
        mean = np.stack([x[program == p].mean(0) if (program == p).any() else pooled for p in range(programs)])
        return mean, x - mean[program]

    centre, x = centred(process)
    _, y = centred(result)
    everything = np.zeros(len(y), np.int64)
    white = y @ fit_gaussian(y, everything, 1, mean=np.zeros((1, y.shape[1]))).whiten[0].T
    told = cross_fitted(sessions, lambda rows: _ridge(x[rows], white[rows]), lambda path, i: x[i] @ path)
    size = np.sqrt((told**2).mean(0) * (white**2).mean(0))
    rho = (told * white).mean(0) / np.maximum(size, 1e-9)
    return ResultPath(centre, _ridge(x, white) * np.where(rho >= LEAST_CORRELATION, rho, 0.0))


def _ridge(x: Array, y: Array) -> Array:
    spread = np.maximum(x.std(0), 1e-6)
    z = x / spread
    weights: Array = np.linalg.solve(z.T @ z / len(z) + RIDGE * np.eye(z.shape[1]), z.T @ y / len(z))
    found: Array = weights / spread[:, None]
    return found
