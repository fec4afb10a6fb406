"""A bead in numbers: what a height map says of its cross-section, row by row along the seam.

Textures are the image backbone's; width, height, area and toes are geometry, what a process predicts best.
The validity report measures beads with the same columns.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.features.geometry import GeoMap
from pipelines.features.result import RESULT_ROWS

__all__ = ["BEAD_FEATURES", "METAL_MM", "bead_columns", "bead_rows"]

Array = NDArray[np.float64]

METAL_MM = 0.25
"""Higher above the plate than this is bead."""
PROFILE_POINTS = 28
"""Points across of the mean height profile that stands beside the columns."""
BEAD_FEATURES = 14 + 3 + PROFILE_POINTS


def bead_rows(geo: GeoMap, half_mm: float) -> NDArray[np.float32]:
    """`(28, BEAD_FEATURES)`: means of the columns over each stretch, three extremes, the mean height profile, mm.

    The map reaches `half_mm` to either side of the joint.
    """
    z = geo.heights[..., 0].astype(np.float64).T  # along × across
    y = (np.arange(z.shape[1]) + 0.5) / z.shape[1] * 2 * half_mm - half_mm
    columns = np.stack(list(bead_columns(z, y, float(y[1] - y[0])).values()), axis=1)
    stretches = columns.reshape(RESULT_ROWS, -1, columns.shape[1])
    steep = geo.heights[..., 2].astype(np.float64).T.reshape(RESULT_ROWS, -1)
    cells = z.reshape(RESULT_ROWS, -1, z.shape[1])
    extremes = np.stack([cells.min((1, 2)), np.ptp(cells.max(2), axis=1), steep.std(1)], axis=1)
    profile = cells.mean(1).reshape(RESULT_ROWS, PROFILE_POINTS, -1).mean(2)
    return np.concatenate([stretches.mean(1), extremes, profile], axis=1).astype(np.float32)


def bead_columns(z: Array, y: Array, step: float) -> dict[str, Array]:
    """Per row along the seam `(rows,)`: width, height, area, place, toe slopes, grooves, shape of the cap.

    z `(rows, points)` mm above the plate; y `(points,)` mm across, `step` apart.
    """
    metal = z > METAL_MM
    some = np.maximum(metal.sum(1), 1)
    width = metal.sum(1) * step
    height = z.max(1)
    area = (z * metal).sum(1) * step
    centre = (metal * y).sum(1) / some
    slope = np.diff(z, axis=1) / step
    middle = np.abs(y[:-1] - centre[:, np.newaxis])
    near = middle < 0.75 * np.maximum(width, 1.0)[:, np.newaxis]
    left = np.where(near, slope, 0).max(1)
    right = -np.where(near, slope, 0).min(1)
    offset = y - centre[:, np.newaxis]
    half = 0.5 * np.maximum(width, 1.0)[:, np.newaxis]
    toe_left = (offset < -0.8 * half) & (offset > -1.6 * half)
    toe_right = (offset > 0.8 * half) & (offset < 1.6 * half)
    groove_left, groove_right = np.where(toe_left, z, 0).min(1), np.where(toe_right, z, 0).min(1)
    crown = np.abs(offset) < 0.3 * half
    crown_mean = np.where(crown, z, 0).sum(1) / np.maximum(crown.sum(1), 1)
    toe_area = np.where((toe_left | toe_right) & metal, z, 0).sum(1) * step
    return {
        "width": width,
        "height": height,
        "area": area,
        "centre": centre,
        "slope left": left,
        "slope right": right,
        "groove left": groove_left,
        "groove right": groove_right,
        "fullness": area / np.maximum(width * height, 0.5),
        "convexity": height / np.maximum(width, 1.0),
        "crown": crown_mean / np.maximum(height, 0.3),
        "toe area": toe_area,
        "lowest": z.min(1),
        "lopsided": (z * metal * np.sign(offset)).sum(1) * step / np.maximum(area, 0.5),
    }
