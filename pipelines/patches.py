"""s_R where it is small: every cell of the result's map against the same place on good parts of its program.

After PaDiM (Defard et al., arXiv 2011.08785): a normal distribution per place. Means are per cell; covariances are
shared along the seam, as goods are few. A cell's log distance is standardised by what goods show at that very
place, so that the bead's edge, which wanders, and the bare plate are judged alike. The figure is the mean of the few
worst cells: good parts have odd single cells (a slag island, a grain of spatter) that the very worst would follow.

Beside lite0's maps stand the pixels themselves: the photograph's brightness and colour, since a film of oil has no
texture that a network trained on objects would answer to, and the scan's slopes, where a scratch is a groove.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.geometry import GeoMap
from pipelines.features.result import LEVELS, ResultMap
from pipelines.gaussian import Standard, cross_fitted, fit_standard

__all__ = ["PatchOneClass", "fit_patches"]

Array = NDArray[np.float32]
CHANNELS = 32
"""Directions kept of a level with more channels than this."""
WORST_CELLS = 12
DARKEST = 0.03
"""Added to a brightness of 0 to 1 before its logarithm: below it is the camera's own noise."""
LOCAL_SHARE = 0.25
"""Length of the running mean, share of the view."""
PRIOR = 20.0
"""A cell's own location and spread count as much as this many seams of its level's."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One level of the map: axes (channels, kept); mean (P, across, along, kept); whiten (P, across, kept, kept);
    location, spread (P, across, along) of a good cell's log distance."""

    axes: Array
    mean: Array
    whiten: Array
    location: Array
    spread: Array

    def log_distance(self, cells: Array, program: int) -> Array:
        """Log Mahalanobis distance of every cell; `(across, along, channels)` → `(across, along)`."""
        off = _local(cells @ self.axes - self.mean[program])
        white = np.matmul(off, self.whiten[program].transpose(0, 2, 1))
        found: Array = 0.5 * np.log((white**2).mean(-1) + 1e-9)
        return found

    def z(self, cells: Array, program: int) -> Array:
        """Standardised log distance of every cell."""
        found: Array = (self.log_distance(cells, program) - self.location[program]) / self.spread[program]
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PatchOneClass:
    """Levels and standards, keyed "view.level"."""

    levels: Mapping[str, Level]
    standards: Mapping[str, Standard]

    def score(self, views: Mapping[str, ResultMap | GeoMap], program: int) -> dict[str, float]:
        """z-score of every level of every view that is there."""
        found = {}
        for key, level in self.levels.items():
            name, _, part = key.rpartition(".")
            if name in views:
                z = level.z(_cells(views[name], part), program)
                found[key] = float(self.standards[key].z(np.exp(_worst(z)), program))
        return found

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        found: dict[str, NDArray[Any]] = {}
        for key, level in self.levels.items():
            found |= {f"{key}/{f.name}": getattr(level, f.name) for f in dataclasses.fields(level)}
        for key, standard in self.standards.items():
            found |= {f"{key}/at": standard.location, f"{key}/scale": np.array([standard.scale])}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> "PatchOneClass":
        """What `tensors` gave."""
        names = [f.name for f in dataclasses.fields(Level)]
        levels = sorted({key.rpartition("/")[0] for key in tensors if key.endswith("/axes")})
        return cls(
            {key: Level(*(tensors[f"{key}/{n}"].astype(np.float32) for n in names)) for key in levels},
            {key: Standard(tensors[f"{key}/at"], float(tensors[f"{key}/scale"][0])) for key in levels},
        )


def _parts(view: ResultMap | GeoMap) -> tuple[str, ...]:
    return (*LEVELS, "light" if isinstance(view, ResultMap) else "slopes")


def _cells(view: ResultMap | GeoMap, part: str) -> Array:
    """`(across, along, channels)` of a level, the colour's logarithm or the two slopes of the scan."""
    if part == "light":
        assert isinstance(view, ResultMap)
        found: Array = np.log(np.maximum(view.profile.astype(np.float32), 0) + np.float32(DARKEST))
        return found
    if part == "slopes":
        assert isinstance(view, GeoMap)
        return view.heights[..., 1:].astype(np.float32)
    kept: Array = getattr(view, part).astype(np.float32)
    return kept


def _local(off: Array) -> Array:
    """Deviations `(…, across, along, kept)` less their running mean along the seam: light, and a bead that is wide
    all along, are no marks; the rows' distances see them."""
    from scipy.ndimage import uniform_filter1d

    cells = max(3, int(LOCAL_SHARE * off.shape[-2]))
    found: Array = off - uniform_filter1d(off, cells, axis=-2, mode="nearest")
    return found


def _worst(z: Array) -> float:
    return float(np.sort(z, axis=None)[-WORST_CELLS:].mean())


def fit_patches(
    views: Sequence[Mapping[str, ResultMap | GeoMap]],
    program: NDArray[np.int64],
    sessions: NDArray[np.int64],
    programs: int,
) -> tuple[PatchOneClass, dict[str, NDArray[np.float64]]]:
    """Fit on goods; standardised out of fold by session. Views without goods in two sessions are left out.

    Returns every level's z-scores of these goods too, `(n,)`, out of fold; NaN without that view.
    """
    levels, standards, signals = {}, {}, {}
    for name in sorted({name for seam in views for name in seam}):
        have = np.array([i for i, seam in enumerate(views) if name in seam], np.int64)
        if len(np.unique(sessions[have])) < 2:
            continue
        for part in _parts(views[int(have[0])][name]):
            cells = np.stack([_cells(views[i][name], part) for i in have])
            key = f"{name}.{part}"
            levels[key], worst = _fit_level(cells, program[have], sessions[have], programs)
            standards[key] = fit_standard(np.exp(worst), program[have], programs)
            signals[key] = np.full(len(views), np.nan)
            signals[key][have] = standards[key].z(np.exp(worst), program[have])
    return PatchOneClass(levels, standards), signals


def _fit_level(
    cells: Array, program: NDArray[np.int64], sessions: NDArray[np.int64], programs: int
) -> tuple[Level, NDArray[np.float64]]:
    """The level and, out of fold, the mean of every good's few worst cells `(n,)`."""
    axes = _axes(cells)
    kept = np.stack([seam.astype(np.float32) @ axes for seam in cells])
    still = np.eye(axes.shape[1], dtype=np.float32)  # the folds work on cells that are projected already

    def fit(rows: NDArray[np.int64]) -> Level:
        return _distribution(kept[rows], program[rows], programs, still)

    logs = cross_fitted(
        sessions, fit, lambda level, i: level.log_distance(kept[i], int(program[i])).astype(np.float64)
    )
    # Out of fold again: a cell that stands out would widen its own spread and look calmer than the next good's.
    worst = cross_fitted(
        sessions,
        lambda rows: _typical(logs[rows], program[rows], programs),
        lambda typical, i: np.asarray(_worst((logs[i] - typical[0][program[i]]) / typical[1][program[i]])),
    )
    location, spread = _typical(logs, program, programs)
    whole = fit(np.arange(len(kept)))
    return dataclasses.replace(whole, axes=axes, location=location, spread=spread), worst


def _axes(cells: Array) -> Array:
    """Principal directions of the deviations from the mean of each place; all channels where they are few."""
    channels = cells.shape[-1]
    if channels <= 40:
        return np.eye(channels, dtype=np.float32)
    picked = cells[:: max(1, len(cells) // 60)].astype(np.float32)
    rows = (picked - picked.mean(0)).reshape(-1, channels)
    vectors = np.linalg.eigh(rows.T @ rows)[1]
    found: Array = vectors[:, ::-1][:, :CHANNELS].astype(np.float32)
    return found


def _distribution(kept: Array, program: NDArray[np.int64], programs: int, axes: Array) -> Level:
    _, across, along, size = kept.shape
    pooled = kept.mean(0)
    mean = np.stack([kept[program == p].mean(0) if (program == p).any() else pooled for p in range(programs)])
    whiten = np.zeros((programs, across, size, size), np.float32)
    off = _local(kept - mean[program])
    for p in range(programs):
        own = off[program == p] if (program == p).any() else off
        for row in range(across):
            cells = own[:, row].reshape(-1, size).astype(np.float64)
            covariance = cells.T @ cells / len(cells)
            covariance += (0.02 * np.trace(covariance) / size + 1e-8) * np.eye(size)
            values, vectors = np.linalg.eigh(covariance)
            whiten[p, row] = (vectors / np.sqrt(values)).T
    flat = np.zeros((programs, across, along), np.float32)
    return Level(axes, mean.astype(np.float32), whiten, flat, flat + 1)


def _typical(logs: NDArray[np.float64], program: NDArray[np.int64], programs: int) -> tuple[Array, Array]:
    """Location and spread of goods' log distances per program and cell, drawn to the level's where goods are few."""
    pooled, spread = logs.mean(0), np.sqrt(logs.var(0).mean())
    locations, spreads = [], []
    for p in range(programs):
        own = logs[program == p]
        n = len(own)
        at = (own.sum(0) + PRIOR * (own.mean() if n else pooled)) / (n + PRIOR)
        variance = (((own - at) ** 2).sum(0) + PRIOR * spread**2) / (n + PRIOR)
        locations.append(at)
        spreads.append(np.sqrt(variance))
    return np.stack(locations).astype(np.float32), np.stack(spreads).astype(np.float32)
