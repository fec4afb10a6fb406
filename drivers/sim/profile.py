"""The laser profiler: height rows across the seam on a millimetre grid, with the sensor's noise and dropouts."""

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import Bead
from drivers.sim.randomness import generator
from drivers.sim.surface import height_map

__all__ = ["PROFILE_HALF_WIDTH_MM", "PROFILE_MM_PER_ROW", "PROFILE_POINTS", "render_profile"]

PROFILE_MM_PER_ROW = 0.25
PROFILE_POINTS = 120
PROFILE_HALF_WIDTH_MM = 12.0
NOISE_MM = 0.02


def render_profile(bead: Bead, seed: int, add_mm: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """(rows, `PROFILE_POINTS`) float32 mm; row k lies k × `PROFILE_MM_PER_ROW` mm along the seam.

    `add_mm` of the same shape is post-weld damage on top of the bead.
    """
    x, y = profile_grid(bead)
    z = height_map(bead, x, y, seed).T
    if add_mm is not None:
        z = z + add_mm
    rng = generator(seed, "profile", "noise")
    z = z + NOISE_MM * rng.standard_normal(z.shape, dtype=np.float32)
    # The head sits never quite level over the part.
    tilt = np.float32(rng.normal(0, 0.004)) * y.astype(np.float32)
    return np.ascontiguousarray(z + tilt + np.float32(rng.normal(0, 0.03)), np.float32)


def profile_grid(bead: Bead) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions along and across the seam, mm, of the profile's rows and points."""
    x = np.arange(0.0, float(bead.x_mm[-1]), PROFILE_MM_PER_ROW)
    return x, np.linspace(-PROFILE_HALF_WIDTH_MM, PROFILE_HALF_WIDTH_MM, PROFILE_POINTS)
