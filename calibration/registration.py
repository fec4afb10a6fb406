"""Where a laser scan lies on the photograph of the same part: shift, turn and stretch, from the bead that both show.

Paper markers have no height, so the bead itself is the common feature. Under any lamp the light of a surface is, to
first order, linear in its slopes, and metal has another tone than the plate: so at the true place the photograph is
best told by a linear law from the scan's slopes, heights and outline (a correlation ratio; the lamp's direction is
what the law's coefficients are). Searched from coarse to fine.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError
from pipelines.scan_place import bead_ends

__all__ = ["Registration", "Together", "register", "register_all"]

COARSE_CELL_MM, CELL_MM, FINE_CELL_MM, ALONG_STEP_MM = 0.4, 0.25, 0.15, 0.1
REACH_MM = (2.5, 2.0)
"""Along and across: so far from the nominal place a scan is looked for."""
AROUND_MM = {False: 9.0, True: 6.0}
"""Half width of the strip that is compared, and of that with ripples; beyond it lies plate and its dirt."""
BEYOND_MM = {False: 4.0, True: 0.0}
INSIDE_MM = 1.5
"""From the bead's ends nothing is taken: a scan may be cut off there, and the light falls from the front."""
SMOOTH_MM = {False: 0.25, True: 0.12}
SLOW_MM = 0.7
METAL_MM = 0.25
LEAST_OVERLAP = 0.1
LEAST_TOLD = 0.03
"""Share of the photograph's variance that the scan must tell, else they do not show the same bead."""
LEAST_SEAMS = 5
OUTLIER_MM = 0.8
"""A part lies no further off in its fixture; beyond this, and three times the usual, another ripple was taken."""
REVERSED_BETTER = 1.5

Array = NDArray[np.float64]
Area = tuple[float, float, float, float]
Scan = tuple[float, float, float]
"""First row mm, mm a row, half width."""


@dataclasses.dataclass(frozen=True, slots=True)
class Registration:
    """Where a point at (x, y) by the scan's nominal place lies in the photograph.

    At (x, y) shifted by `along_mm`, `across_mm`, turned by `turn_rad` about the seam's middle (from along towards
    across), stretched by 1 + `stretch` along the seam. `told`: share of the
    photograph's variance that the scan tells there, 0–1.
    """

    along_mm: float
    across_mm: float
    turn_rad: float
    stretch: float
    told: float


@dataclasses.dataclass(frozen=True, slots=True)
class Together:
    """The registrations of several parts: medians, and half widths of their 95 % intervals.

    `spread_mm`: σ of a part's own place along and across; each lies a little differently in its fixture.
    """

    middle: Registration
    interval_mm: tuple[float, float]
    interval_rad: float
    spread_mm: tuple[float, float]
    parts: int
    scan: Scan


class _Heights:
    """A scan on its own grid, with the pictures of it from which a photograph is told.

    `fine`: without what changes slowly along the seam. The section of a bead is much the same all along and tells
    where the scan lies across; ripples and wavering tell where it lies along.
    """

    def __init__(self, height_mm: NDArray[np.float32], scan: Scan, length_mm: float, fine: bool) -> None:
        import cv2

        self.scan = scan
        self.middle_mm = length_mm / 2
        z = _levelled(np.asarray(height_mm, np.float64), scan[2])
        step = 2 * scan[2] / (z.shape[1] - 1)
        smooth: Any = cv2.GaussianBlur(z, (0, 0), SMOOTH_MM[fine] / step, sigmaY=SMOOTH_MM[fine] / scan[1])
        along, across = np.gradient(smooth, scan[1], step)
        metal = np.clip((smooth - METAL_MM) / METAL_MM + 0.5, 0, 1)
        steep = np.hypot(along, across)
        self.step_mm = step
        pictures = np.stack([smooth, along, across, metal, steep]).astype(np.float32)
        margin_mm = INSIDE_MM
        if fine:
            margin_mm += 2 * SLOW_MM
            pictures -= np.stack([_slow(p, SLOW_MM / scan[1], 0) for p in pictures])
            pictures[:, smooth < METAL_MM] = np.nan
        ends = bead_ends(height_mm, scan)
        if ends is not None:
            row_mm = scan[0] + np.arange(len(z)) * scan[1]
            pictures[:, (row_mm < ends[0] + margin_mm) | (row_mm > ends[1] - margin_mm)] = np.nan
        self.pictures = list(pictures)

    def at(self, x: Array, y: Array) -> Array:
        """The pictures `(…, 5)` at places of the nominal scan; NaN beyond it."""
        import cv2

        column = ((y + self.scan[2]) / self.step_mm).astype(np.float32)
        row = ((x - self.scan[0]) / self.scan[1]).astype(np.float32)
        found: list[Any] = [
            cv2.remap(p, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=[np.nan])
            for p in self.pictures
        ]
        return np.stack(found, axis=-1).astype(np.float64)


def register(
    photo: NDArray[np.uint8], area: Area, height_mm: NDArray[np.float32], scan: Scan, length_mm: float
) -> Registration:
    """The place of a scan on a photograph `(across, along)`, grey, on a mm grid of that `area`.

    `height_mm` `(rows, points)`; `scan`: its nominal place.
    """
    from scipy.optimize import minimize

    rough = _Heights(height_mm, scan, length_mm, fine=False)
    _, dx, dy = _nearest(rough, _Photo(photo, area, COARSE_CELL_MM, length_mm, fine=False))
    whole = _Photo(photo, area, CELL_MM, length_mm, fine=False)
    ripples = _Photo(photo, area, FINE_CELL_MM, length_mm, fine=True)
    rippled = _Heights(height_mm, scan, length_mm, fine=True)
    along = np.arange(-REACH_MM[0], REACH_MM[0] + 0.01, ALONG_STEP_MM)
    dx = float(max(along, key=lambda shift: ripples.told(rippled, (float(shift), dy, 0.0, 0.0))))

    def lost(place: NDArray[Any]) -> float:
        at = tuple(float(v) for v in place)
        return -whole.told(rough, at) - ripples.told(rippled, at)

    # Steps of the first simplex: mm, mm, rad, share; a milliradian is some 0.02 mm at the seam's ends.
    start = np.array([dx, dy, 0.0, 0.0])
    simplex = np.concatenate([start[None], start + np.diag([0.1, 0.2, 0.008, 0.004])])
    options = {"initial_simplex": simplex, "xatol": 5e-4, "fatol": 2e-5, "maxfev": 110}
    found = minimize(lost, start, method="Nelder-Mead", options=options)
    x, y, turn, stretch = (float(v) for v in found.x)
    return Registration(x, y, turn, stretch, ripples.told(rippled, (x, y, turn, stretch)))


def _nearest(heights: "_Heights", photo: "_Photo") -> tuple[float, float, float]:
    """The best of a grid of shifts: told, along, across."""
    along = np.arange(-REACH_MM[0], REACH_MM[0] + 0.01, COARSE_CELL_MM)
    across = np.arange(-REACH_MM[1], REACH_MM[1] + 0.01, COARSE_CELL_MM)
    return max((photo.told(heights, (dx, dy, 0.0, 0.0)), float(dx), float(dy)) for dx in along for dy in across)


class _Photo:
    """A photograph's tones at the cells of a mm grid around the seam, light and shade of the lamp taken out."""

    def __init__(self, photo: NDArray[np.uint8], area: Area, cell_mm: float, length_mm: float, fine: bool) -> None:
        import cv2

        rows, cols = photo.shape[:2]
        per_cell = cell_mm * cols / (area[1] - area[0])
        soft: Any = cv2.GaussianBlur(photo.astype(np.float32), (0, 0), max(0.5 * per_cell, 0.3))
        x = np.arange(-BEYOND_MM[fine], length_mm + BEYOND_MM[fine], cell_mm)
        y = np.arange(-AROUND_MM[fine], AROUND_MM[fine], cell_mm)
        self.middle_mm = length_mm / 2
        self.x, self.y = np.meshgrid(x, y)
        at_x = ((self.x - area[0]) / (area[1] - area[0]) * cols - 0.5).astype(np.float32)
        at_y = ((self.y - area[2]) / (area[3] - area[2]) * rows - 0.5).astype(np.float32)
        tone: Any = cv2.remap(soft, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        tone = np.asarray(tone, np.float64)
        self.tone = tone - _slow(tone, SLOW_MM / cell_mm, 1) if fine else tone

    def told(self, heights: _Heights, place: tuple[float, ...]) -> float:
        """Share of the tones' variance that the scan tells when it lies at `place`: dx, dy, turn, stretch."""
        dx, dy, turn, stretch = place
        # Back from the photograph to the scan's nominal coordinates, for small turns.
        u, v = self.x - self.middle_mm - dx, self.y - dy
        x = (u + turn * v) / (1 + stretch) + self.middle_mm
        y = v - turn * u
        pictures = heights.at(x, y)
        seen = np.isfinite(pictures).all(axis=-1)
        if seen.mean() < LEAST_OVERLAP:
            return 0.0
        basis = np.column_stack([pictures[seen], np.ones(seen.sum()), self.x[seen], self.y[seen]])
        tone = self.tone[seen]
        trend = basis[:, -3:]
        # Against what a lamp's fall-off alone explains, so that a smaller overlap gains nothing.
        return 1.0 - _left(basis, tone) / max(_left(trend, tone), 1e-9)


def register_all(
    parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]], area: Area, scan: Scan, length_mm: float
) -> tuple[list[Registration], Together]:
    """Register each part's (photograph, scan), and what they say together: the scan's place on the seam.

    Raises CalibrationError: too few parts, a scan that shows another bead, or one that runs the other way.
    """
    from scipy import stats

    if len(parts) < LEAST_SEAMS:
        raise CalibrationError(f"{len(parts)} parts with photograph and scan, {LEAST_SEAMS} are needed")
    found = [register(photo, area, heights, scan, length_mm) for photo, heights in parts]
    told = float(np.median([item.told for item in found]))
    _not_reversed(parts[:3], area, scan, length_mm, float(np.median([item.told for item in found[:3]])))
    if told < LEAST_TOLD:
        raise CalibrationError(
            f"the scans tell {told:.0%} of the photographs, {LEAST_TOLD:.0%} are needed; do both show the same "
            "part, is the scan's nominal place right to 2 mm?"
        )
    values = np.array([(r.along_mm, r.across_mm, r.turn_rad, r.stretch) for r in found])
    values = values[_agreeing(values)]
    if len(values) < LEAST_SEAMS:
        raise CalibrationError(
            f"{len(values)} of {len(found)} parts agree on where the scan lies, {LEAST_SEAMS} are needed; record more"
        )
    middle = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - middle), axis=0)
    # Of a median: √(π/2) wider than of a mean; of few parts by Student's t.
    wide = float(stats.t.ppf(0.975, len(values) - 1)) * np.sqrt(np.pi / 2 / len(values))
    interval = wide * values.std(axis=0, ddof=1)
    along, across, turn, stretch = (float(v) for v in middle)
    first = length_mm / 2 + (scan[0] - length_mm / 2) * (1 + stretch) + along
    return found, Together(
        Registration(along, across, turn, stretch, told),
        (float(interval[0]), float(interval[1])),
        float(interval[2]),
        (float(spread[0]), float(spread[1])),
        len(values),
        (first, scan[1] * (1 + stretch), scan[2]),
    )


def _agreeing(values: Array) -> NDArray[np.bool_]:
    """Parts `(n,)` that were not laid by a wrong ripple: those near the median of all, along and across."""
    off = np.abs(values[:, :2] - np.median(values[:, :2], axis=0))
    usual = 1.4826 * np.median(off, axis=0)
    return np.asarray((off <= np.maximum(3 * usual, OUTLIER_MM)).all(axis=1))


def _not_reversed(
    parts: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]],
    area: Area,
    scan: Scan,
    length_mm: float,
    told: float,
) -> None:
    """Raises CalibrationError where the scans' ripples fit the photographs' better from the end to the start.

    A mirrored scan cannot be told so: a bead is much the same to either side, and which side is lit is the lamp's.
    """
    back = [register(photo, area, np.ascontiguousarray(h[::-1]), scan, length_mm).told for photo, h in parts]
    if float(np.median(back)) > REVERSED_BETTER * told:
        raise CalibrationError("the scan runs from the seam's end to its start; let it run with the weld")


def _slow(picture: NDArray[Any], sigma: float, axis: int) -> NDArray[Any]:
    """What changes slowly along an axis."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(picture, sigma, axis=axis, mode="nearest"))


def _left(basis: Array, tone: Array) -> float:
    """What a linear law leaves of the tones' squares."""
    gram = basis.T @ basis
    gram[np.diag_indices_from(gram)] += 1e-9 * np.trace(gram)
    law = np.linalg.solve(gram, basis.T @ tone)
    return float(((tone - basis @ law) ** 2).sum())


def _levelled(heights: Array, half_mm: float) -> Array:
    """Heights above the plate, missing ones filled from the nearest along each line."""
    out = heights.copy()
    index = np.arange(heights.shape[1])
    for row in out:
        there = np.isfinite(row)
        if there.any() and not there.all():
            row[~there] = np.interp(index[~there], index[there], row[there])
    out[~np.isfinite(out)] = 0.0
    y = np.linspace(-half_mm, half_mm, out.shape[1])
    margin = np.abs(y) > 0.72 * half_mm
    slope, offset = np.polyfit(y[margin], np.median(out[:, margin], axis=0), 1)
    return np.asarray(out - (slope * y + offset), np.float64)
