"""A laser profiler's heights against a step gauge: scale, offset and tilt, with what is left over at each step.

A flat plate alone tells offset, tilt and noise, but no scale. The gauge lies so that its steps are crossed either by
every laser line or by the scan; which of the two is seen from the heights.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError

__all__ = ["HeightFit", "fit_heights"]

LEAST_RETURNS = 0.6
LEAST_POINTS = 6
"""Of a step, along the axis that crosses it."""
EDGE_SHARE = 0.15
"""Of each step at both of its ends nothing is taken: the spot of the laser is half on the next one there."""
REVERSED_BETTER = 3.0
SCALES = (0.5, 2.0)

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class HeightFit:
    """True height = `scale` · raw + `offset_mm` + `tilt` · y.

    `step_mm`: mean error of each step after the fit; `noise_mm`: spread of a point within a step; `scale_interval`:
    half width of the 95 % interval, None where two steps or fewer leave nothing to judge by.
    """

    scale: float
    offset_mm: float
    tilt: float
    residual_mm: float
    step_mm: tuple[float, ...]
    noise_mm: float
    scale_interval: float | None


def fit_heights(raw_mm: NDArray[np.float32], half_width_mm: float, steps_mm: Sequence[float] = (0.0,)) -> HeightFit:
    """Fit rows `(rows, points)` of a gauge with these heights in their order; one height: a flat plate.

    Raises CalibrationError: too few returns, a number of steps that is not there, heights in another unit or order.
    """
    heights = np.where(np.isfinite(raw_mm), raw_mm, np.nan).astype(np.float64)
    known = float(np.isfinite(heights).mean()) if heights.size else 0.0
    if known < LEAST_RETURNS:
        raise CalibrationError(
            f"{known:.0%} of the gauge's points have a return, {LEAST_RETURNS:.0%} are needed; clean the "
            "window, dull the gauge's shine"
        )
    y = np.linspace(-half_width_mm, half_width_mm, heights.shape[1])
    if len(steps_mm) < 2:
        return _flat(heights, y, float(steps_mm[0]))
    axis = _crossing_axis(heights)
    line = _median(heights, 1 - axis)
    bounds = _bounds(line, len(steps_mm))
    fit = _fit(heights, y, axis, bounds, steps_mm)
    turned = _fit(heights, y, axis, bounds, steps_mm[::-1])
    if fit.residual_mm > REVERSED_BETTER * turned.residual_mm and SCALES[0] < turned.scale < SCALES[1]:
        raise CalibrationError(
            f"the steps lie in the other order: give --steps {','.join(f'{s:g}' for s in steps_mm[::-1])}"
        )
    if not SCALES[0] < fit.scale < SCALES[1]:
        raise CalibrationError(
            f"the gauge's heights are {fit.scale:.3g} times those of the profiler; are --steps in mm and in their "
            "order, is the profiler's unit mm?"
        )
    return fit


def _flat(heights: Array, y: Array, height_mm: float) -> HeightFit:
    line = _median(heights, 0)
    seen = np.isfinite(line)
    slope, offset = np.polyfit(y[seen], line[seen], 1)
    left = heights - (slope * y + offset)
    noise = float(np.nanstd(left - _median(left, 1)[:, None]))
    residual = float(np.sqrt(np.nanmean((line - slope * y - offset) ** 2)))
    return HeightFit(1.0, height_mm - float(offset), -float(slope), residual, (0.0,), noise, None)


def _crossing_axis(heights: Array) -> int:
    """0: the scan crosses the steps; 1: every line does."""
    spans = [np.nanmax(line) - np.nanmin(line) for line in (_median(heights, 1), _median(heights, 0))]
    return int(spans[1] > spans[0])


def _median(heights: Array, axis: int) -> Array:
    """NaN where there is no return at all, and no warning of it."""
    seen = np.isfinite(heights).any(axis=axis)
    found = np.full(seen.shape, np.nan)
    some = heights[:, seen] if axis == 0 else heights[seen]
    found[seen] = np.nanmedian(some, axis=axis)
    return found


def _bounds(line: Array, count: int) -> list[int]:
    """Where the `count` steps of a line begin, and its end: least squares over all ways to cut it.

    The line is levelled first by the slope that most of it has: steps are rare among its differences.
    """
    n = len(line)
    index = np.arange(n, dtype=np.float64)
    seen = np.isfinite(line)
    filled = np.interp(index, index[seen], line[seen])
    far = max(n // (8 * count), 1)
    level = filled - index * float(np.median(filled[far:] - filled[:-far])) / far
    sums, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (level, level**2))
    begin = np.arange(n + 1)

    def cost(end: int) -> Array:
        """Of steps that begin at 0 … n and end at `end`."""
        size = end - begin
        with np.errstate(invalid="ignore", divide="ignore"):
            value = (squares[end] - squares) - (sums[end] - sums) ** 2 / size
        return np.asarray(np.where(size >= LEAST_POINTS, value, np.inf))

    costs = np.stack([cost(end) for end in range(n + 1)])  # end × begin
    best = costs[:, 0]
    cuts = []
    for _ in range(count - 1):
        total = best[None, :] + costs
        cuts.append(total.argmin(1))
        best = total.min(1)
    if not np.isfinite(best[n]):
        raise CalibrationError(f"{n} points are too few for {count} steps of {LEAST_POINTS} points each")
    bounds = [n]
    for cut in reversed(cuts):
        bounds.append(int(cut[bounds[-1]]))
    return [0, *reversed(bounds)]


def _fit(heights: Array, y: Array, axis: int, bounds: Sequence[int], steps_mm: Sequence[float]) -> HeightFit:
    """raw = a · height + b + c · y over the steps' insides, then turned round."""
    raw, true, place, member = [], [], [], []
    for k, (first, last) in enumerate(itertools.pairwise(bounds)):
        trim = max(1, round(EDGE_SHARE * (last - first)))
        inside = slice(first + trim, last - trim)
        block = heights[inside] if axis == 0 else heights[:, inside]
        across = np.broadcast_to(y if axis == 0 else y[inside], block.shape)
        seen = np.isfinite(block)
        raw.append(block[seen])
        place.append(across[seen])
        true.append(np.full(int(seen.sum()), float(steps_mm[k])))
        member.append(np.full(int(seen.sum()), k))
    z, h, at, k_of = (np.concatenate(v) for v in (raw, true, place, member))
    (a, b, c), *_ = np.linalg.lstsq(np.stack([h, np.ones_like(h), at], axis=1), z, rcond=None)
    if abs(a) < 1e-6:
        raise CalibrationError("the steps all look equally high; do the lines cross the gauge?")
    error = (z - b - c * at) / a - h
    steps = tuple(float(error[k_of == k].mean()) if (k_of == k).any() else 0.0 for k in range(len(steps_mm)))
    noise = float(np.std(error - np.asarray(steps)[k_of]))
    residual = float(np.sqrt(np.mean(np.square(steps))))
    return HeightFit(float(1 / a), float(-b / a), float(-c / a), residual, steps, noise, _interval(steps, steps_mm))


def _interval(errors_mm: Sequence[float], steps_mm: Sequence[float]) -> float | None:
    """Of the scale, from how the steps' means scatter: three parameters were fitted to them."""
    from scipy import stats

    free = len(steps_mm) - 3
    spread = float(np.sum((np.asarray(steps_mm) - np.mean(steps_mm)) ** 2))
    if free < 1 or spread <= 0:
        return None
    sigma = float(np.sqrt(np.sum(np.square(errors_mm)) / free / spread))
    return float(stats.t.ppf(0.975, free)) * sigma
