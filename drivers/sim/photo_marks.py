"""What sits on the surface of a photographed part: grains, pores, holes, cracks, oil, scratches; drawn in place.

Called by `photograph.py` between shading and projection; images are (rows, cols, 3) float32, 1 = white.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import Bead
from drivers.sim.damage import HOLE_RADIUS_MM, Marks
from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.views import Canvas

__all__ = ["USUAL_GRAINS", "blob", "draw_marks"]

USUAL_GRAINS: Mapping[str, float] = {"short_circuit": 22.0, "globular": 40.0, "spray": 10.0, "pulsed": 8.0}
"""Grains of spatter that a sound seam leaves on the plate, by transfer mode."""

Image = NDArray[np.float32]
Colour = tuple[float, float, float]

BLACK: Colour = (0.03, 0.03, 0.035)
METAL: Colour = (0.5, 0.5, 0.51)
FINE = 4
"""Binary digits below the pixel in which lines and discs are placed."""


def draw_marks(image: Image, program: Program, bead: Bead, marks: Marks, canvas: Canvas, seed: int) -> None:
    """Grains beside the bead, pores, a burnt hole, cracks, then what happened to the part after welding."""
    _grains(image, program, bead, canvas, seed)
    for x, y, radius in bead.pores:
        blob(image, canvas, (x, y), (radius * 1.3, radius * 1.2), (0.55, 0.56, 0.58), 0.5)
        blob(image, canvas, (x, y), (radius, radius), (0.05, 0.05, 0.06), 1.0)
    _burnt_hole(image, bead, canvas)
    for arm in bead.cracks:
        _crack(image, arm, canvas)
    for x, y, r in marks.oil:
        blob(image, canvas, (x, y), (r, 0.7 * r), (0.10, 0.17, 0.22), 0.55)
        blob(image, canvas, (x - 0.3 * r, y - 0.25 * r), (0.25 * r, 0.1 * r), (0.75, 0.8, 0.85), 0.5)
    if len(marks.scratch):
        _scratch(image, marks, canvas)
    blob(image, canvas, marks.hole_mm, (HOLE_RADIUS_MM + 0.15,) * 2, (0.75, 0.75, 0.75), 1.0)
    blob(image, canvas, marks.hole_mm, (HOLE_RADIUS_MM,) * 2, (0.04, 0.04, 0.04), 1.0)


def blob(
    image: Image, canvas: Canvas, at_mm: tuple[float, float], axes_mm: tuple[float, float], bgr: Colour, opacity: float
) -> None:
    """An ellipse; `opacity` below 1 lets what lies under it show."""
    import cv2

    one = 1 << FINE
    s = canvas.px_per_mm
    column, row = (at_mm[0] - canvas.x[0]) * s, (at_mm[1] - canvas.y[0]) * s
    axes = (max(axes_mm[0] * s, 0.6), max(axes_mm[1] * s, 0.6))
    if not (-axes[0] < column < len(canvas.x) + axes[0] and -axes[1] < row < len(canvas.y) + axes[1]):
        return
    a, b = max(int(column - axes[0]) - 2, 0), max(int(column + axes[0]) + 3, 0)
    c, d = max(int(row - axes[1]) - 2, 0), max(int(row + axes[1]) + 3, 0)
    piece = image[c:d, a:b]
    if not piece.size:
        return
    # OpenCV smooths edges on bytes only: draw the cover so, then mix.
    cover = np.zeros(piece.shape[:2], np.uint8)
    centre = (round((column - a) * one), round((row - c) * one))
    size = (round(axes[0] * one), round(axes[1] * one))
    cv2.ellipse(cover, centre, size, 0, 0, 360, [255], -1, cv2.LINE_AA, FINE)
    mix = (cover * np.float32(opacity / 255))[..., np.newaxis]
    piece += mix * (np.array(bgr, np.float32) - piece)


def _burnt_hole(image: Image, bead: Bead, canvas: Canvas) -> None:
    """Nothing behind it reflects: black, with a dark burnt rim."""
    if not bead.hole_mm.any():
        return
    x = canvas.x
    inside = (x >= 0) & (x <= bead.x_mm[-1])
    half, centre = (np.interp(x[inside], bead.x_mm, v) for v in (bead.hole_mm, bead.centre_mm))
    off = np.abs(canvas.y[:, np.newaxis] - centre)
    open_ = half > 0
    hole = (np.clip((half - off) * canvas.px_per_mm + 0.5, 0, 1) * open_).astype(np.float32)
    rim = (0.7 * np.clip(1 - (off - half) / 0.7, 0, 1) * open_).astype(np.float32)
    columns = image[:, inside]
    columns *= (1 - rim)[..., np.newaxis]
    columns += hole[..., np.newaxis] * (np.array(BLACK, np.float32) - columns)
    image[:, inside] = columns


def _line(image: Image, points_mm: NDArray[np.float64], canvas: Canvas, wide_px: float) -> Image:
    """Cover 0–1 of a polyline of sub-pixel width, (rows, cols)."""
    import cv2

    at = (points_mm - (canvas.x[0], canvas.y[0])) * canvas.px_per_mm
    cover = np.zeros(image.shape[:2], np.uint8)
    points = np.rint(at * (1 << FINE)).astype(np.int32)
    cv2.polylines(cover, [points], False, [255], max(1, round(wide_px)), cv2.LINE_AA, FINE)
    return np.asarray(cover * np.float32(min(wide_px, 1.0) / 255), np.float32)


def _crack(image: Image, arm: NDArray[np.float64], canvas: Canvas) -> None:
    """A fine dark line that thins out."""
    for stop, wide_mm in ((len(arm), 0.12), (len(arm) // 2 + 1, 0.2)):
        cover = _line(image, arm[:stop], canvas, wide_mm * canvas.px_per_mm)
        image *= 1 - np.float32(0.75) * cover[..., np.newaxis]


def _scratch(image: Image, marks: Marks, canvas: Canvas) -> None:
    """A groove: bare metal on the lit flank, shadow in the other."""
    wide = (0.05 + 0.25 * marks.scratch_depth_mm) * canvas.px_per_mm
    cover = _line(image, marks.scratch, canvas, max(wide, 1.0))[..., np.newaxis]
    below = np.roll(cover, max(1, round(wide)), axis=0)
    image *= 1 - np.float32(0.55) * below
    image += cover * min(0.3 + 0.6 * marks.scratch_depth_mm, 0.8) * (np.float32(0.9) - image)


def _grains(image: Image, program: Program, bead: Bead, canvas: Canvas, seed: int) -> None:
    """Fine spatter stuck to the plate: some always, more without gas."""
    rng = generator(seed, "photo", "grains")
    usual = USUAL_GRAINS[program.transfer] * rng.uniform(0.6, 1.4)
    draws = rng.uniform(size=(260, 5))
    for u in draws:
        cell = int(u[0] * (len(bead.x_mm) - 1))
        if u[1] * 260 > usual * (1 + 4.0 * bead.oxide[cell]):
            continue
        away = float(bead.width_mm[cell]) * 0.55 + 7.0 * u[2] ** 1.5
        at = (float(bead.x_mm[cell]), away * (1 if u[3] < 0.5 else -1))
        r = 0.10 + 0.22 * u[4] ** 2
        blob(image, canvas, (at[0] + 0.08, at[1] + 0.1), (r, r), (0.13, 0.13, 0.13), 0.7)
        blob(image, canvas, at, (r, r), METAL, 1.0)
