"""The bead's surface: from the cross-section along the seam to heights over a grid, ripples, grooves and cracks included.

Photograph and laser profiler both look at this one surface.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import Bead, flank_power
from drivers.sim.randomness import generator

__all__ = ["Surface", "bead_surface", "height_map"]

BEYOND_MM, ASIDE_MM = 5.0, 9.5
"""Only so far beyond the ends and beside the seam does the bead change the plate. Fixed, so that a fault cannot shift
the draws of the surface's grain."""
GROOVE_OFF_MM, GROOVE_WIDE_MM = 0.2, 0.28
HOLE_DEPTH_MM = 3.0

Array = NDArray[np.float64]
Grid = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """`height_mm` (len(y), len(x)); `across` over the window `rows` × `columns` of it: 0 mid-bead, ±1 at the toes.

    `half_mm`, shape (columns,): half width of the fused bead, tapering to 0 at its ends.
    """

    height_mm: Grid
    rows: slice
    columns: slice
    across: Grid
    half_mm: Grid


def height_map(bead: Bead, x_mm: Array, y_mm: Array, seed: int) -> Grid:
    """Height above the plate, mm, shape (len(y), len(x)); the seam runs from x = 0 along y = 0."""
    return bead_surface(bead, x_mm, y_mm, seed).height_mm


def bead_surface(bead: Bead, x_mm: Array, y_mm: Array, seed: int) -> Surface:
    """The surface on a grid of ascending `x_mm` and `y_mm`."""
    columns = slice(*np.searchsorted(x_mm, (-BEYOND_MM, bead.x_mm[-1] + BEYOND_MM)))
    rows = slice(*np.searchsorted(y_mm, (-ASIDE_MM, ASIDE_MM)))
    x, y = x_mm[columns], y_mm[rows]
    half, taper = _outline(bead, x)
    overlap = _along(bead, bead.overlap_mm, x) * taper
    off = (y[:, np.newaxis] - np.interp(x, bead.x_mm, bead.centre_mm)).astype(np.float32)
    steep = off * np.float32(bead.steep_side) > 0
    u = off / np.where(steep, half + overlap, half)
    z = _heights(bead, x, y, off, u, steep, half, taper, overlap, seed)
    height = np.zeros((len(y_mm), len(x_mm)), np.float32)
    height[rows, columns] = z
    return Surface(height, rows, columns, u, half)


def _heights(
    bead: Bead, x: Array, y: Array, off: Grid, u: Grid, steep: NDArray[np.bool_], half: Grid, taper: Grid,
    overlap: Grid, seed: int,
) -> Grid:  # fmt: skip
    """Cap, ripples, crater, grooves, sag, pores and cracks over the window."""
    sink, undercut, hole = (_along(bead, v, x) for v in (bead.sink_mm, bead.undercut_mm, bead.hole_mm))
    undercut *= taper
    _, half_end = _half_ends(bead)
    dent = np.exp(-(((x - bead.x_mm[-1] + 0.4 * half_end) / (0.55 * half_end)) ** 2)).astype(np.float32)
    dent *= np.float32(bead.crater_share) * _along(bead, bead.height_mm, x)
    # What crater and grooves leave out stands in the cap: metal is moved, not lost.
    moved = 0.55 * np.sqrt(np.pi) * dent * half + 1.5 * np.sqrt(np.pi) * GROOVE_WIDE_MM * undercut
    height = _along(bead, bead.height_mm, x) * taper + moved / (4 / 3 * np.maximum(half, 0.5))
    inside = np.clip(1 - u * u, 0, None)
    cap = inside
    if overlap.any():
        cap = np.where(steep, inside ** flank_power(overlap).astype(np.float32), inside)
    z = height * cap
    z += _ripples(bead, x, u, inside, generator(seed, "bead", "ripples")) * (inside > 0)
    z -= dent * taper * np.exp(-((u / 0.55) ** 2))
    if sink.any():
        z -= 0.9 * sink * taper * np.exp(-((u * 1.6) ** 2))
    if undercut.any():
        beyond = (np.abs(off) - half - GROOVE_OFF_MM) / GROOVE_WIDE_MM
        z -= undercut * np.where(steep, 1.0, 0.5).astype(np.float32) * np.exp(-(beyond**2))
    _pits(z, bead, x, y)
    for arm in bead.cracks:
        _groove(z, x, y, arm, 0.35, 0.16)
    if hole.any():
        z = np.where(np.abs(off) < hole, np.float32(-HOLE_DEPTH_MM), z)
    return np.asarray(z, np.float32)


def _along(bead: Bead, values: Array, x: Array) -> Grid:
    return np.asarray(np.interp(x, bead.x_mm, values), np.float32)


def _outline(bead: Bead, x: Array) -> tuple[Grid, Grid]:
    """Half width, mm, and end taper 0–1 at each x, shape (len(x),); half an ellipse at either end."""
    half_start, half_end = _half_ends(bead)
    from_start = x / half_start + 0.35
    from_end = (bead.x_mm[-1] - x) / half_end + 0.35
    reach = np.clip(np.minimum(from_start, from_end), 0, 1)
    taper = np.sqrt(1 - (1 - reach) ** 2)
    half = np.maximum(0.5 * np.interp(x, bead.x_mm, bead.width_mm) * taper, 1e-3)
    return half.astype(np.float32), taper.astype(np.float32)


def _half_ends(bead: Bead) -> tuple[float, float]:
    """Half widths at start and crater, mm."""
    cells = 40
    return 0.5 * float(bead.width_mm[:cells].mean()), 0.5 * float(bead.width_mm[-cells:].mean())


def _pits(z: Grid, bead: Bead, x: Array, y: Array) -> None:
    """Open pores: round pits about as deep as their radius."""
    for at_x, at_y, radius in bead.pores:
        columns = slice(*np.searchsorted(x, (at_x - radius, at_x + radius)))
        rows = slice(*np.searchsorted(y, (at_y - radius, at_y + radius)))
        r2 = ((x[columns] - at_x) ** 2 + (y[rows, np.newaxis] - at_y) ** 2) / radius**2
        z[rows, columns] -= (1.1 * radius * np.sqrt(np.clip(1 - r2, 0, None))).astype(np.float32)


def _groove(z: Grid, x: Array, y: Array, line: Array, depth_mm: float, wide_mm: float) -> None:
    """Cut a fine groove along a polyline (n, 2) mm; it closes towards the line's end."""
    margin = 3 * wide_mm
    columns = slice(*np.searchsorted(x, (line[:, 0].min() - margin, line[:, 0].max() + margin)))
    rows = slice(*np.searchsorted(y, (line[:, 1].min() - margin, line[:, 1].max() + margin)))
    gx, gy = x[columns], y[rows, np.newaxis]
    cut = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
    for k, (a, b) in enumerate(zip(line[:-1], line[1:], strict=True)):
        d = b - a
        share = np.clip(((gx - a[0]) * d[0] + (gy - a[1]) * d[1]) / float(d @ d), 0, 1)
        r2 = (gx - a[0] - share * d[0]) ** 2 + (gy - a[1] - share * d[1]) ** 2
        cut = np.maximum(cut, (1 - 0.6 * k / len(line)) * np.exp(-r2 / wide_mm**2))
    z[rows, columns] -= (depth_mm * cut).astype(np.float32)


def _ripples(bead: Bead, x: Array, u: Grid, inside: Grid, rng: np.random.Generator) -> Grid:
    """Chevrons left by the solidifying pool's edge: curved, a little irregular."""
    cells = len(bead.x_mm)
    wander = np.interp(x, bead.x_mm, np.cumsum(rng.standard_normal(cells) * 0.07)).astype(np.float32)
    phase = (2 * np.pi / bead.ripple_mm) * (x.astype(np.float32) - np.float32(1.5) * u**2) + wander
    along = np.clip(1 + 0.4 * _smooth(rng.standard_normal(cells), 12), 0.3, 2.0)
    depth = 0.04 * _along(bead, along, x)
    # Steep towards the crater, flat behind: each freeze line laps over the one before.
    wave = np.sin(phase) + np.float32(0.35) * np.sin(2 * phase + np.float32(0.8))
    grain = np.float32(0.006) * rng.standard_normal(u.shape, dtype=np.float32)
    return np.asarray((depth * wave + grain) * np.minimum(inside + np.float32(0.05), 1), np.float32)


def _smooth(values: Array, cells: int) -> Array:
    return np.asarray(np.convolve(values, np.ones(cells) / np.sqrt(cells), mode="same"))
