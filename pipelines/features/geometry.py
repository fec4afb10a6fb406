"""The height map as pictures: height and its slopes, straightened to the seam, through lite0's middle layers.

Beside the photograph's map (`pipelines/features/result.py`), whose shapes it shares. A bead is a surface over a plane
and has no likeness to the objects that point-cloud networks learned from: the image backbone sees three pictures of
it: height above the plate, slope across and slope along. Points without a return are filled from their neighbours and
marked. The heights themselves are kept beside, in mm: width, height and area of the bead are numbers, not textures.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.lite0 import INPUT_PX, Backbone
from pipelines.features.result import COLUMNS, STRIP_PX, TILES

__all__ = ["HEIGHT_SHAPE", "KNOWN_SHAPE", "GeoMap", "flat_heights", "geometry_map"]

HEIGHT_SHAPE = (112, COLUMNS, 3)
KNOWN_SHAPE = (14, 28)
MARGIN = 0.72
"""Beyond this share of the half width lies bare plate, from which its level and tilt are taken."""
LOWEST_MM, HIGHEST_MM = -1.5, 4.0
STEEPEST = 1.5
LEAST_KNOWN = 0.5

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GeoMap:
    """A height map over [0, length] along × ± half width across.

    fine `(28, 112, 40)`, coarse `(14, 56, 112)` float16: lite0's maps. heights `(112, 112, 3)` float16: height in mm
    above the plate, slope across, slope along. known `(14, 28)` bool: at least half of the cell's points returned.
    """

    fine: NDArray[np.float16]
    coarse: NDArray[np.float16]
    heights: NDArray[np.float16]
    known: NDArray[np.bool_]


def geometry_map(
    height_mm: NDArray[np.float32], scan: tuple[float, float, float], length_mm: float, backbone: Backbone
) -> GeoMap:
    """The map of a scan `(rows, points)` mm, NaN without a return; `scan` as in `pipelines.window.SeamFrame`.

    Raises ValueError when the scan does not reach over the seam, or has hardly any return.
    """
    flat, y, known = flat_heights(height_mm, scan, length_mm)
    pictures = _pictures(flat, float(y[1] - y[0]), scan[1])
    image = np.stack([_resized(p, STRIP_PX) for p in _scaled(pictures)], axis=-1).astype(np.uint8)
    tiles = np.ascontiguousarray(image.reshape(INPUT_PX, TILES, INPUT_PX, 3).swapaxes(0, 1))
    fine, coarse = (np.concatenate(list(level), axis=1).astype(np.float16) for level in backbone.middle(tiles))
    kept = np.stack([_resized(p, HEIGHT_SHAPE[:2]) for p in pictures], axis=-1)
    share = _resized(known.astype(np.float32), KNOWN_SHAPE)
    return GeoMap(fine, coarse, kept.astype(np.float16), share >= LEAST_KNOWN)


def flat_heights(
    height_mm: NDArray[np.float32], scan: tuple[float, float, float], length_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Heights above the plate `(across, along)` mm, over the seam alone; `(across,)` mm; and which points returned.

    Raises ValueError as `geometry_map` does.
    """
    first_mm, step_mm, half_mm = scan
    rows = np.arange(len(height_mm)) * step_mm + first_mm
    on_seam = (rows >= -0.5 * step_mm) & (rows <= length_mm + 0.5 * step_mm)
    if np.count_nonzero(on_seam) < 0.95 * length_mm / step_mm:
        raise ValueError(
            f"the height map reaches from {rows[0]:.1f} to {rows[-1]:.1f} mm, the seam is {length_mm:.1f} mm long; "
            "correct the program's frame or let the scan run longer"
        )
    heights = height_mm[on_seam].T.astype(np.float64)  # across × along
    known = np.isfinite(heights)
    if known.mean() < LEAST_KNOWN:
        raise ValueError(
            f"{1 - known.mean():.0%} of the height map has no return, at most {1 - LEAST_KNOWN:.0%} may have none; "
            "clean the profiler's window"
        )
    heights = np.where(known, heights, np.nan)  # an infinite height is no return either
    y = np.linspace(-half_mm, half_mm, len(heights))
    return _filled(heights, known) - _plate(heights, y), y, known


def _filled(heights: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Heights with missing points taken from the nearest ones along the seam, then across it."""
    out = heights.copy()
    for axis in (1, 0):
        lines = out if axis == 1 else out.T
        for line in lines:
            there = np.isfinite(line)
            if there.any() and not there.all():
                line[~there] = np.interp(np.flatnonzero(~there), np.flatnonzero(there), line[there])
    return out


def _plate(heights: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level and tilt of the plate under the head, `(across, 1)`."""
    margin = np.abs(y) > MARGIN * y[-1]
    part = heights[margin]
    seen = np.isfinite(part).any(1)
    if np.count_nonzero(seen) < 2:
        raise ValueError("no return from the plate beside the bead; the profiler must look beyond both toes")
    level = np.nanmedian(part[seen], axis=1)
    slope, offset = np.polyfit(y[margin][seen], level, 1)
    found: NDArray[np.float64] = (slope * y + offset)[:, None]
    return found


def _pictures(flat: NDArray[np.float64], across_mm: float, along_mm: float) -> tuple[Array, Array, Array]:
    across, along = (np.asarray(slope, np.float32) for slope in np.gradient(flat, across_mm, along_mm))
    return flat.astype(np.float32), across, along


def _scaled(pictures: tuple[Array, Array, Array]) -> tuple[Array, ...]:
    height, *slopes = pictures
    grey = (height - LOWEST_MM) / (HIGHEST_MM - LOWEST_MM) * 255.0
    return tuple(np.clip(p, 0, 255) for p in (grey, *(127.5 * (1 + s / STEEPEST) for s in slopes)))


def _resized(picture: Array, shape: tuple[int, int]) -> Array:
    import cv2

    shrinks = picture.shape[0] >= shape[0] and picture.shape[1] >= shape[1]
    found: Any = cv2.resize(
        picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return np.asarray(found, np.float32)
