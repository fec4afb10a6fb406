"""Where the result cameras stand: field, coded markers, pose and projection of each named view.

"top" looks down on the whole seam, "left" and "right" obliquely across it from either side of the direction of
travel, "start" and "end" closely at one end. Every picture has the direction of travel to its right.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from drivers.sim.randomness import generator

__all__ = ["FIELD_MM", "MARKER_DICTIONARY", "VIEWS", "Canvas", "View", "canvas_of", "foreshorten", "marker_centres_mm",
           "place_part", "pose_of", "put_markers", "tilt_of"]  # fmt: skip

FIELD_MM = (90.0, 30.0)
"""Field of the whole-seam views along and across the seam, centred on its middle: 10.7 px/mm at 960 px."""
MARKER_DICTIONARY = "DICT_4X4_50"
CLOSE_UP_MM = 12.0
"""A close-up is centred so far from its end of the seam, on the bead."""
EDGE_MM = 15.0
"""The welded plates reach so far to either side of the seam; beyond lies the table."""

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One camera station.

    `field_mm` along the seam. `from_end`: None for a field centred on the seam's middle, 0 or 1 for a close-up of its
    start or end. `tilt_deg` about the seam's axis, positive when the camera stands at y > 0. `lamp_rad`: direction of
    the light, 0 = from −y. Markers 0–3 clockwise from the top left, at ± `marker_at_mm` from the field's centre.
    """

    field_mm: float
    from_end: int | None
    tilt_deg: float
    lamp_rad: float
    marker_mm: float
    rim_mm: float
    marker_at_mm: tuple[float, float]
    jitter: float
    """Size of the pose's variation against that of the whole-seam views."""

    def centre_mm(self, length_mm: float) -> float:
        """Middle of the field along the seam."""
        if self.from_end is None:
            return length_mm / 2
        return CLOSE_UP_MM if self.from_end == 0 else length_mm - CLOSE_UP_MM


VIEWS: Mapping[str, View] = {
    "top": View(90.0, None, 0.0, 0.0, 6.0, 0.9, (38.0, 10.0), 1.0),
    "left": View(90.0, None, -40.0, 2.0, 6.0, 0.9, (38.0, 10.0), 1.0),
    "right": View(90.0, None, 40.0, -1.1, 6.0, 0.9, (38.0, 10.0), 1.0),
    "start": View(51.0, 0, 0.0, 0.8, 2.0, 0.3, (22.0, 6.6), 0.55),
    "end": View(51.0, 1, 0.0, -0.8, 2.0, 0.3, (22.0, 6.6), 0.55),
}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """Flat part at `px_per_mm`; x, y: mm of its columns and rows."""

    px_per_mm: float
    x: Array
    y: Array

    def at(self, x_mm: float, y_mm: float) -> tuple[int, int]:
        """Pixel (column, row) of a place on the part."""
        return round((x_mm - self.x[0]) * self.px_per_mm), round((y_mm - self.y[0]) * self.px_per_mm)


def marker_centres_mm(length_mm: float, view: str = "top") -> dict[int, tuple[float, float]]:
    """Marker id → centre, mm, in the coordinates of a part of that length that lies exactly in its fixture.

    The markers stay with the fixture (those of a close-up with the frame that is laid around the seam's end); each
    part lies up to about a millimetre and half a degree off.
    """
    station = VIEWS[view]
    (dx, dy), x = station.marker_at_mm, station.centre_mm(length_mm)
    return {k: (x + sx * dx, sy * dy) for k, (sx, sy) in enumerate(((-1, -1), (1, -1), (1, 1), (-1, 1)))}


def canvas_of(view: View, length_mm: float, rows: int, cols: int) -> Canvas:
    """The flat picture that a view starts from; the seam in its middle row."""
    scale = cols / view.field_mm
    x = np.arange(cols) / scale + view.centre_mm(length_mm) - view.field_mm / 2
    return Canvas(scale, x, (np.arange(rows) - rows // 2) / scale)


def tilt_of(name: str, seed: int) -> float:
    """Tilt of the camera about the seam's axis, rad, of one seam's view; 0 for those that look straight down."""
    view = VIEWS[name]
    wobble = float(np.clip(generator(seed, "photo", "tilt", name).normal(0, 1.5), -3, 3))
    return float(np.deg2rad(view.tilt_deg + wobble)) if view.tilt_deg else 0.0


def foreshorten(flat: Picture, height_mm: NDArray[np.float32], canvas: Canvas, tilt_rad: float) -> Picture:
    """The flat part as an oblique camera sees it: narrower across, heights leaning away, hidden flanks hidden.

    Beyond the plates' edges lies the dark table.
    """
    import cv2

    rows, cols = flat.shape[:2]
    lean, squeeze = abs(np.sin(tilt_rad)), np.cos(tilt_rad)
    # From the near edge to the far one: a point shows when it projects beyond all that is nearer.
    near_first = slice(None, None, -1) if tilt_rad > 0 else slice(None)
    away = canvas.y * (-1 if tilt_rad > 0 else 1)
    wanted = (canvas.y * (-1 if tilt_rad > 0 else 1))[near_first]
    index = np.arange(rows, dtype=np.float64)[near_first]
    plane = np.interp(wanted / squeeze, away[near_first], index)
    source = np.repeat(plane[:, np.newaxis], cols, axis=1).astype(np.float32)
    raised = np.flatnonzero(np.abs(height_mm).max(axis=0) > 0.02)
    reached = away[near_first, np.newaxis] * squeeze + height_mm[near_first][:, raised] * lean
    reached = np.maximum.accumulate(reached, axis=0)
    for k, column in enumerate(raised):
        source[:, column] = np.interp(wanted, reached[:, k], index)
    source = source[near_first]
    source[np.abs(canvas.y) > EDGE_MM * squeeze] = -10.0
    along = np.repeat(np.arange(cols, dtype=np.float32)[np.newaxis], rows, axis=0)
    seen = cv2.remap(flat, along, source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=[26, 27, 28])
    return np.asarray(seen, np.uint8)


def place_part(canvas: Canvas, length_mm: float, tilt_rad: float, seed: int) -> Array:
    """How the part lies off its nominal place, 3 × 3 in the picture's pixels: the same mm and degrees in every view."""
    rng = generator(seed, "photo", "fixture")
    dx, dy = np.clip(rng.normal(0, (0.35, 0.25)), -0.8, 0.8) * canvas.px_per_mm
    turn = float(np.clip(rng.normal(0, np.deg2rad(0.2)), -0.009, 0.009))
    column, row = canvas.at(length_mm / 2, 0.0)
    squeeze = float(np.cos(tilt_rad))
    return np.array([
        [1, -turn / squeeze, dx + turn / squeeze * row],
        [turn * squeeze, 1, dy * squeeze - turn * squeeze * column],
        [0, 0, 1.0],
    ])  # fmt: skip


def pose_of(name: str, rows: int, cols: int, seed: int) -> Array:
    """Homography from the nominal picture to the seen one: the camera never hangs quite the same."""
    import cv2

    view = VIEWS[name]
    scale = cols / view.field_mm * view.jitter
    rng = generator(seed, "photo", "pose", *([] if name == "top" else [name]))
    corners = np.array([[0, 0], [cols, 0], [cols, rows], [0, rows]], np.float32)
    centre = corners.mean(0)
    turn = np.deg2rad(rng.normal(0, 0.5))
    zoom = 1 + rng.normal(0, 0.008)
    rotation = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = np.clip(rng.normal(0, 0.4, 2), -0.9, 0.9) * scale
    tilt = rng.normal(0, 0.35, (4, 2)) * scale
    # Through an oblique lens the near edge is the longer one.
    near = 0.012 * np.sign(view.tilt_deg) * np.array([-1, -1, 1, 1])
    moved = (corners - centre) * (1 + near)[:, np.newaxis] ** (1, 0)
    moved = moved @ rotation.T + centre + shift + np.clip(tilt, -0.7 * scale, 0.7 * scale)
    return np.asarray(cv2.getPerspectiveTransform(corners, moved.astype(np.float32)))


def put_markers(seen: Picture, name: str, canvas: Canvas, length_mm: float, tilt_rad: float, pose: Array) -> None:
    """Lay the view's coded markers on their white tags into the picture, in place; they stand with the fixture."""
    import cv2

    view = VIEWS[name]
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKER_DICTIONARY))
    side, rim = (round(v * canvas.px_per_mm) for v in (view.marker_mm, view.rim_mm))
    size = side + 2 * rim
    middle = len(canvas.y) // 2
    squeeze = np.diag([1.0, np.cos(tilt_rad), 1.0])
    squeeze[1, 2] = middle * (1 - np.cos(tilt_rad))
    for ident, (x, y) in marker_centres_mm(length_mm, name).items():
        tag = np.full((size, size), 230, np.uint8)
        code = cv2.aruco.generateImageMarker(dictionary, ident, side)
        tag[rim : rim + side, rim : rim + side] = (code.astype(np.float32) * 0.82 + 13).astype(np.uint8)
        left = (x - canvas.x[0]) * canvas.px_per_mm - (size - 1) / 2
        top = (y - canvas.y[0]) * canvas.px_per_mm - (size - 1) / 2
        onto = pose @ squeeze @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
        corners = np.array([[[-1, -1], [size, -1], [size, size], [-1, size]]], np.float32)
        place = cv2.perspectiveTransform(corners, onto)[0]
        a, b = np.maximum(np.floor(place.min(0)).astype(int), 0)
        c, d = np.ceil(place.max(0)).astype(int) + 1
        patch = seen[b:d, a:c]
        local = np.array([[1, 0, -a], [0, 1, -b], [0, 0, 1.0]]) @ onto
        shape = (patch.shape[1], patch.shape[0])
        drawn = cv2.warpPerspective(np.stack([tag, np.full_like(tag, 255)], axis=-1), local, shape).astype(np.float32)
        cover = drawn[..., 1:] / 255
        patch[:] = (patch * (1 - cover) + drawn[..., :1]).astype(np.uint8)
