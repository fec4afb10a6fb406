"""Normal distributions of good welds: distance from a program's mean, standardised to a z-score.

Each program has its own covariance, shrunk after Ledoit & Wolf (2004); a program with fewer goods than dimensions
takes that of all programs, or theirs so far as its seams are few (`lend`). Distances become z-scores by a parametric
fit: the logarithm of a Mahalanobis distance of good welds is close to normal, and its upper tail sets the scale. The
fit uses distances of welds whose sessions had no part in the mean and covariance; otherwise large dimensions would
look calmer than they are. What is compared with figures of another kind has its tail fitted too (`tails.py`).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.tails import Tail, fit_tail

__all__ = ["Gaussian", "Standard", "cross_fitted", "fit_gaussian", "fit_standard", "raw_score"]

Array = NDArray[np.float64]
FOLDS = 5
M = TypeVar("M")
TAIL = {0.9: 1.2816, 0.95: 1.6449, 0.98: 2.0537}
"""Quantiles of goods that set the scale → where they lie for a normal distribution."""
LEAST_VARIANCE = 0.02
"""Of a scaled direction, where correlations are mixed: what goods never do must not weigh without limit."""
PRIOR_SEAMS = 10.0
"""A program's own location counts as much as this many seams of the pooled one."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """mean: (P, D) or (P, positions, D) of P programs; whiten: (P, D, D), whitenᵀ·whiten = inverse covariance."""

    mean: Array
    whiten: Array

    def distance(self, x: Array, program: int) -> Array:
        """Mahalanobis distance / √D of `(…, D)` from the program's mean, `(…,)`."""
        white = (x - self.mean[program]) @ self.whiten[program].T
        found: Array = np.sqrt(np.mean(white**2, axis=-1))
        return found


def fit_gaussian(
    x: Array,
    program: NDArray[np.int64],
    programs: int,
    mean: Array | None = None,
    least: float = 0.0,
    lend: NDArray[np.int64] | None = None,
) -> Gaussian:
    """Fit on goods `x` `(n, D)` or `(n, positions, D)`; `mean` fixes the means, as for residuals around 0.

    `least`: no dimension's spread is taken as less; one that goods hardly move in would make noise an anomaly.
    `lend`: seams of each program `(P,)`; with it a program keeps its own spreads, and its correlations count as its
    seams against its dimensions, the rest being those of all programs.
    """
    if mean is None:
        pooled = x.mean(0)
        mean = np.stack([x[program == p].mean(0) if (program == p).any() else pooled for p in range(programs)])
    off = x - mean[program]
    size = x.shape[-1]
    floor = max(least, 1e-6 * (np.abs(mean).max() + 1e-6))
    groups = [off[program == p].reshape(-1, size) for p in range(programs)]
    if lend is not None:
        return Gaussian(mean, _lent(groups, lend, floor))
    # Where goods are few, all programs lend theirs; where they suffice, others would only blur.
    every = None if all(len(own) >= size for own in groups) else _whitening(off.reshape(-1, size), floor)
    whiten = [_whitening(own, floor) if every is None or len(own) >= size else every for own in groups]
    return Gaussian(mean, np.stack(whiten))


def _lent(groups: list[Array], seams: NDArray[np.int64], floor: float) -> Array:
    """Whitenings `(P, D, D)` from each program's own spreads and a mixture of its correlations and everybody's."""
    from sklearn.covariance import ledoit_wolf

    size = groups[0].shape[1]
    every = np.maximum(np.concatenate(groups).std(0), floor)
    scales = [np.maximum(own.std(0), floor) if len(own) > 1 else every for own in groups]
    scaled = [own / scale for own, scale in zip(groups, scales, strict=True)]
    pooled = ledoit_wolf(np.concatenate(scaled), assume_centered=True)[0]
    found = []
    for own, scale, n in zip(scaled, scales, seams.tolist(), strict=True):
        share = n / (n + size)
        mixed = share * (own.T @ own / len(own)) + (1 - share) * pooled if n else pooled
        mixed = mixed + LEAST_VARIANCE * np.eye(size)
        values, vectors = np.linalg.eigh(mixed)
        found.append((vectors / np.sqrt(values)).T / scale)
    return np.stack(found)


def _whitening(rows: Array, floor: float) -> Array:
    from sklearn.covariance import ledoit_wolf

    # Scaled first: the shrinkage target is a multiple of the identity, which units must not decide.
    scale = np.maximum(rows.std(0), floor)
    few = len(rows) < 2  # one seam has no spread: take the scales as they are
    covariance = np.eye(rows.shape[1]) if few else ledoit_wolf(rows / scale, assume_centered=True)[0]
    values, vectors = np.linalg.eigh(covariance)
    whiten: Array = (vectors / np.sqrt(np.maximum(values, 1e-8))).T / scale
    return whiten


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Standard:
    """Parametric fit of the log distances of goods: `location` per program, one `scale`, and one `tail` if asked."""

    location: Array
    scale: float
    tail: Tail | None = None

    def z(self, distance: Array | float, program: int | NDArray[np.int64]) -> Array:
        """z-score of a distance; 0 is the typical good weld. Of several, `program` is one for all or each its own."""
        found: Array = (np.log(np.maximum(distance, 1e-9)) - self.location[program]) / self.scale
        return found if self.tail is None else self.tail.normal(found)


def raw_score(z: float) -> float:
    """log(1 + exp(z)): monotone, z itself where it matters, and positive: it can be divided by its threshold."""
    return float(np.logaddexp(0.0, z))


def fit_standard(distance: Array, program: NDArray[np.int64], programs: int, tail: bool = False) -> Standard:
    """Fit on one distance per good seam, `(n,)`.

    Location is the median, drawn to the pooled one where goods are few. The scale is that of the upper tail, where
    limits lie: with it 1 good in 20 exceeds 1.64 whatever the signal, and no heavy-tailed signal rules the
    largest z. `tail`: the tail beyond 1 good in 10 is fitted as well, where goods are enough.
    """
    logs = np.log(np.maximum(distance, 1e-9))
    pooled = float(np.median(logs))
    location = np.full(programs, pooled)
    for p in range(programs):
        own = logs[program == p]
        if len(own):
            location[p] = (len(own) * np.median(own) + PRIOR_SEAMS * pooled) / (len(own) + PRIOR_SEAMS)
    reached = np.quantile(logs - location[program], list(TAIL))
    standard = Standard(location, max(float(np.mean(reached / list(TAIL.values()))), 1e-3))
    return dataclasses.replace(standard, tail=fit_tail(standard.z(distance, program))) if tail else standard


def cross_fitted(
    groups: NDArray[np.int64], fit: Callable[[NDArray[np.int64]], M], measure: Callable[[M, int], Array]
) -> Array:
    """Out-of-fold figures, one row per seam: `fit(rows)` on other sessions, `measure(model, row)` on its own.

    Raises ValueError when all seams are of one session.
    """
    unique = np.unique(groups)
    folds = min(FOLDS, len(unique))
    if folds < 2:
        raise ValueError(f"standardising needs goods of at least 2 sessions, got {len(unique)}")
    fold = np.searchsorted(unique, groups) % folds
    out: dict[int, Array] = {}
    for f in range(folds):
        model = fit(np.flatnonzero(fold != f))
        out |= {row: measure(model, row) for row in np.flatnonzero(fold == f).tolist()}
    return np.stack([out[row] for row in range(len(groups))])


def standards_to_tensors(standards: Mapping[str, Standard]) -> dict[str, Array]:
    """Named arrays for the model file."""
    found: dict[str, Array] = {}
    for name, standard in standards.items():
        found |= {f"{name}.location": standard.location, f"{name}.scale": np.array([standard.scale])}
        if standard.tail is not None:
            found[f"{name}.tail"] = np.array(dataclasses.astuple(standard.tail))
    return found


def standards_from_tensors(tensors: Mapping[str, NDArray[Any]]) -> dict[str, Standard]:
    """What `standards_to_tensors` wrote."""
    double = {key: value.astype(np.float64) for key, value in tensors.items()}
    names = [key.removesuffix(".scale") for key in tensors if key.endswith(".scale")]
    tails = {name: Tail(*double[f"{name}.tail"].tolist()) for name in names if f"{name}.tail" in double}
    return {
        name: Standard(double[f"{name}.location"], float(double[f"{name}.scale"][0]), tails.get(name))
        for name in names
    }


def to_tensors(prefix: str, gaussian: Gaussian, standard: Standard) -> dict[str, Array]:
    """Named arrays for the model file."""
    return {
        f"{prefix}.mean": gaussian.mean,
        f"{prefix}.whiten": gaussian.whiten,
        f"{prefix}.location": standard.location,
        f"{prefix}.scale": np.array([standard.scale]),
    }


def from_tensors(prefix: str, tensors: Mapping[str, Array]) -> tuple[Gaussian, Standard]:
    """What `to_tensors` wrote."""
    return (
        Gaussian(tensors[f"{prefix}.mean"], tensors[f"{prefix}.whiten"]),
        Standard(tensors[f"{prefix}.location"], float(tensors[f"{prefix}.scale"][0])),
    )
