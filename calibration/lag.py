"""How far the bead lags the arc: metal at s froze while the arc stood at s + lag.

Good seams vary a little along themselves, and the bead varies with them. Process and bead of many seams are laid on
the same millimetres of the seam; at each trial lag the bead's rows are regressed on the process `lag` further on,
over the same rows for all lags. The lag at which most of the bead is explained is the answer, its interval comes from
resampling sessions. What all seams of the program share (start, crater) is taken away first: it would correlate at
any lag. Width forms over the whole pool and height mostly near the arc, so each also has a lag of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError

__all__ = ["GRID_MM", "MIN_SEAMS", "LagFit", "LaidSeam", "arc_lanes", "bead_lanes", "check_enough", "fit_lag"]

Array = NDArray[np.float64]

GRID_MM = 0.25
"""Width of a row; finer than any pool moves."""
SMOOTH_MM = 3.0
"""Of process and bead alike: the stretch over which grid detectors take a place's process (`pipelines.seam_grid`)."""
LONGEST_MM = 12.0
LONGEST_SHARE = 0.4
"""Of the seam's length; beyond, too few rows are left."""
EARLIEST_MM = -2.0
"""No bead runs ahead of its arc; a peak there means that a frame or a clock is wrong."""
MIN_SEAMS = 12
BOOTSTRAPS = 200
RIDGE = 1e-3
BEAD = ("width", "height", "area")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LaidSeam:
    """One seam on `GRID_MM` rows from arc begin: process `(rows, P)` where the arc stood, bead `(rows, 3)` there.

    NaN where nothing was measured. Bead columns are those of `BEAD`.
    """

    session: str
    process: Array
    bead: Array


@dataclasses.dataclass(frozen=True, slots=True)
class LagFit:
    """The lag, mm, its 95 % interval, the share of the bead's variance explained, and each quantity's own lag."""

    lag_mm: float
    interval_mm: tuple[float, float]
    explained: float
    own_mm: Mapping[str, float]
    own_explained: Mapping[str, float]
    curve: tuple[tuple[float, float], ...]
    seams: int
    sessions: int
    at_edge: bool
    """Whether the best lag is the first or last that was tried: no peak, no answer."""


def arc_lanes(times_s: Array, channels: Array, at_s: Array, at_mm: Array, length_mm: float) -> Array:
    """The process on rows `(rows, 2P + 2)` while the arc crossed each row, NaN where it did not.

    J/mm, the means of the channels, what of each came on a millimetre, and s/mm.

    Args:
        times_s: `(n,)` of the samples, from arc-on.
        channels: `(n, P)`: current A, voltage V, and what else the welder tells (wire feed speed).
        at_s, at_mm: `(m,)` where the arc stood when; mm never fall.
    """
    edges = np.arange(0.0, length_mm + 0.5 * GRID_MM, GRID_MM)
    # Where the robot stands still a place has no one time: the first counts.
    moved = np.concatenate([[True], np.diff(at_mm) > 1e-6])
    crossed = np.interp(edges, at_mm[moved], at_s[moved], left=np.nan, right=np.nan)
    step_s = float(np.median(np.diff(times_s)))
    sums = np.cumsum(np.concatenate([channels[:, :1] * channels[:, 1:2], channels], axis=1), axis=0) * step_s
    sums = np.concatenate([np.zeros((1, sums.shape[1])), sums])
    ends_s = np.concatenate([times_s, [times_s[-1] + step_s]])
    taken = np.stack([np.interp(crossed, ends_s, column) for column in sums.T], axis=1)
    took_s = np.diff(crossed)[:, np.newaxis]
    over = np.diff(taken, axis=0)
    return np.concatenate([over / GRID_MM, over[:, 1:] / took_s, took_s / GRID_MM], axis=1)


def bead_lanes(columns: Mapping[str, Array], rows_mm: NDArray[np.floating[Any]], length_mm: float) -> Array:
    """The bead on rows `(rows, 3)`: means of its measured rows at `rows_mm`, NaN where there is none."""
    edges = np.arange(0.0, length_mm + 0.5 * GRID_MM, GRID_MM)
    middles = 0.5 * (edges[1:] + edges[:-1])
    inside = (middles >= rows_mm[0]) & (middles <= rows_mm[-1])
    lanes = np.stack([np.interp(middles, rows_mm, columns[name]) for name in BEAD], axis=1)
    lanes[~inside] = np.nan
    return lanes


def fit_lag(seams: Sequence[LaidSeam], seed: int = 0) -> LagFit:
    """The lag of one program. Raises CalibrationError with too few seams or rows."""
    check_enough(len(seams))
    rows = min(len(seam.bead) for seam in seams)
    process = _off_mean(np.stack([_smooth(seam.process[:rows]) for seam in seams]))
    bead = _off_mean(np.stack([_smooth(seam.bead[:rows]) for seam in seams]))
    shifts = np.arange(
        round(EARLIEST_MM / GRID_MM), round(min(LONGEST_MM, LONGEST_SHARE * rows * GRID_MM) / GRID_MM) + 1
    )
    used = slice(max(-int(shifts[0]), 0), rows - int(shifts[-1]))
    moments = _moments(process, bead, shifts, used)
    sessions = sorted({seam.session for seam in seams})
    groups = [[i for i, seam in enumerate(seams) if seam.session == name] for name in sessions]
    if len(groups) < 4:
        groups = [[i] for i in range(len(seams))]
    lags_mm = (shifts * GRID_MM).astype(np.float64)
    share = _explained(moments, np.arange(len(seams)))
    total = share.mean(1)
    rng = np.random.default_rng(seed)
    drawn = [
        _peak(lags_mm, _explained(moments, np.concatenate([groups[g] for g in picked])).mean(1))
        for picked in rng.integers(0, len(groups), (BOOTSTRAPS, len(groups)))
    ]
    best = int(np.argmax(total))
    return LagFit(
        lag_mm=_peak(lags_mm, total),
        interval_mm=(float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))),
        explained=float(total[best]),
        own_mm={name: _peak(lags_mm, share[:, k]) for k, name in enumerate(BEAD)},
        own_explained={name: float(share[:, k].max()) for k, name in enumerate(BEAD)},
        curve=tuple(zip(lags_mm.tolist(), total.tolist(), strict=True)),
        seams=len(seams),
        sessions=len(sessions),
        at_edge=best in (0, len(shifts) - 1),
    )


def check_enough(seams: int) -> None:
    """Raise CalibrationError with how many more are needed."""
    if seams < MIN_SEAMS:
        raise CalibrationError(f"{seams} seams, at least {MIN_SEAMS} good ones are needed: {MIN_SEAMS - seams} more")


def _smooth(values: Array) -> Array:
    """Means over `SMOOTH_MM`, gaps left out; `(rows, K)`."""
    size = round(SMOOTH_MM / GRID_MM)
    known = np.isfinite(values)
    kernel = np.ones(size)
    out = np.full_like(values, np.nan)
    for k in range(values.shape[1]):
        count = np.convolve(known[:, k], kernel, mode="same")
        total = np.convolve(np.where(known[:, k], values[:, k], 0.0), kernel, mode="same")
        np.divide(total, count, out=out[:, k], where=count > 0.5 * size)
    return out


def _off_mean(values: Array) -> Array:
    """Less what all seams share at a row and what a seam shares over its rows; gaps become 0: they tell nothing."""
    values = np.where(np.isfinite(values).all(axis=0), values, np.nan)
    known = np.isfinite(values)

    def mean(of: Array, axis: int) -> Array:
        found: Array = np.where(known, of, 0.0).sum(axis, keepdims=True) / np.maximum(
            known.sum(axis, keepdims=True), 1
        )
        return found

    off = values - mean(values, 0)
    off = np.where(known, off - mean(off, 1), 0.0)
    found: Array = off / np.maximum(off.std(axis=(0, 1), keepdims=True), 1e-12)
    return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """By seam: xx (S, L, P, P), xy (S, L, P, K) at each trial lag, and yy (S, K)."""

    xx: Array
    xy: Array
    yy: Array


def _moments(process: Array, bead: Array, shifts: NDArray[np.int_], used: slice) -> _Moments:
    y = bead[:, used]
    at = [process[:, used.start + shift : used.stop + shift] for shift in shifts.tolist()]
    return _Moments(
        xx=np.stack([np.einsum("srp,srq->spq", x, x) for x in at], axis=1),
        xy=np.stack([np.einsum("srp,srk->spk", x, y) for x in at], axis=1),
        yy=np.einsum("srk,srk->sk", y, y),
    )


def _explained(moments: _Moments, picked: NDArray[np.int_]) -> Array:
    """Share of the variance of each quantity that the process explains at each lag, `(L, K)`."""
    xx, xy = moments.xx[picked].sum(0), moments.xy[picked].sum(0)
    size = np.trace(xx, axis1=1, axis2=2)[:, np.newaxis, np.newaxis] / xx.shape[-1]
    weights = np.linalg.solve(xx + RIDGE * size * np.eye(xx.shape[-1]), xy)
    found: Array = np.einsum("lpk,lpk->lk", weights, xy) / moments.yy[picked].sum(0)
    return found


def _peak(lags_mm: Array, share: NDArray[np.floating[Any]]) -> float:
    """The best lag, by parabola between the trial lags."""
    k = int(np.clip(np.argmax(share), 1, len(share) - 2))
    before, at, after = share[k - 1 : k + 2]
    bend = before - 2 * at + after
    part = float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend < 0 else 0.0
    return float(lags_mm[k] + part * (lags_mm[1] - lags_mm[0]))
