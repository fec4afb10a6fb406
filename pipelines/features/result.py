"""The post-weld photographs, straightened and seen through lite0's middle layers: what a result is to a detector.

Where four coded markers (ArUco 4×4, ids 0–3, clockwise from the top left) stand around the seam, the strip between
them is cut out and straightened, and the light is measured on the markers' white: neither the camera's pose nor the
lamp of the day then shows, and the bead gets the pixels. Without them the whole view is taken, its long side along
the seam, and `located` says so. The strip goes through lite0 in four tiles. Its map at a stride of 8 px keeps the
place across the seam, where a bead's width lives, and marks of half a millimetre; beside it stands the brightness
profile across the seam.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.frames import decode_rgb
from pipelines.features.lite0 import INPUT_PX, Backbone
from pipelines.markers import find_markers
from pipelines.rectify import ViewGeometry, find_and_place, rectify

__all__ = ["LEVELS", "RESULT_ROWS", "ROW_FEATURES", "ResultMap", "result_map", "seam_strip"]

TILES = 4
LEVELS = {"fine": (28, 112, 40), "coarse": (14, 56, 112)}
"""Level of the map → its shape: across the seam, along it, channels."""
COLUMNS = LEVELS["fine"][1]
PROFILE_SHAPE = (112, COLUMNS, 3)
RESULT_ROWS = 28
"""Stretches along the seam that the process is asked about; about 2 mm each."""
ROW_FEATURES = 28 * 40 + 112 * 3
STRIP_PX = (INPUT_PX, TILES * INPUT_PX)
CROP_X, CROP_Y = (0.12, 0.88), (-0.1, 1.1)
"""The part of the rectangle between the markers' centres that is looked at."""
PROFILE_WEIGHT = 12.0
"""Brings the brightness (0–1) to about the spread of the map's channels, times two."""
WHITE = 217.0
"""What the markers' white paper is scaled to."""


def seam_strip(image: NDArray[np.uint8], geometry: ViewGeometry | None = None) -> tuple[NDArray[np.uint8], bool]:
    """The seam as `(224, 896, 3)`, and whether it was found between its markers or is just the whole view.

    `geometry`: of a view that was calibrated; its markers may be any, some may be hidden, and its lens may distort.
    """
    import cv2

    if geometry is not None:
        return _calibrated_strip(image, geometry)
    if image.shape[0] > image.shape[1]:
        image = np.ascontiguousarray(image.transpose(1, 0, 2))
    markers = _markers(image)
    if markers is None:
        return _whole(image), False
    rows, columns = STRIP_PX
    first, last = np.array([CROP_X, CROP_Y], np.float32).T
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    place = ((square - first) / (last - first) * np.array([columns, rows], np.float32)).astype(np.float32)
    onto = cv2.getPerspectiveTransform(markers.mean(1), place)
    strip = cv2.warpPerspective(image, onto, (columns, rows), flags=cv2.INTER_LINEAR).astype(np.float32)
    return np.clip(strip * _light(image, markers, place[:, 0]), 0, 255).astype(np.uint8), True


def _whole(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    whole: Any = cv2.resize(image, STRIP_PX[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(whole, np.uint8)


def _calibrated_strip(image: NDArray[np.uint8], geometry: ViewGeometry) -> tuple[NDArray[np.uint8], bool]:
    """The same part of the rectangle around the markers, by their known places; their white still sets the light."""
    found, placed = find_and_place(image, geometry)
    if placed is None or not found:
        return _whole(image), False
    x0, x1, y0, y1 = geometry.extent
    width, height = x1 - x0, y1 - y0
    area = (x0 + CROP_X[0] * width, x0 + CROP_X[1] * width, y0 + CROP_Y[0] * height, y0 + CROP_Y[1] * height)
    strip = rectify(image, placed, area, STRIP_PX, geometry.above_mm).astype(np.float32)
    at_mm = {ident: along for ident, along, _ in geometry.markers}
    at = np.array([(at_mm[ident] - area[0]) / (area[1] - area[0]) * STRIP_PX[1] for ident in found])
    light = _light(image, np.stack(list(found.values())), at)
    return np.clip(strip * light, 0, 255).astype(np.uint8), True


def _markers(image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Corners of the markers 0–3 `(4, 4, 2)` px; None unless each is seen."""
    found = find_markers(image, frozenset(range(4)))
    return np.stack([found[i] for i in range(4)]) if len(found) == 4 else None


def _light(image: NDArray[np.uint8], markers: NDArray[np.float32], at: NDArray[Any]) -> NDArray[np.float32]:
    """Gain `(1, 896, 3)` that makes the markers' paper white: a straight line from the left ones to the right.

    `at` (n,): column of the strip at which each of the markers `(n, 4, 2)` stands.
    """
    white = np.stack([_paper(image, corners) for corners in markers])
    on_left = at <= at.mean()
    left, at_left = white[on_left].mean(0), at[on_left].mean()
    right, at_right = (left, at_left + 1) if on_left.all() else (white[~on_left].mean(0), at[~on_left].mean())
    share = (np.arange(STRIP_PX[1], dtype=np.float32)[:, None] - at_left) / (at_right - at_left)
    gain: NDArray[np.float32] = (WHITE / (left + (right - left) * share))[None].astype(np.float32)
    return gain


def _paper(image: NDArray[np.uint8], corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colour of the paper around a marker `(3,)`: the bright half of a ring outside its corners."""
    import cv2

    centre = corners.mean(0)
    mask = np.zeros(image.shape[:2], np.uint8)
    for scale, value in ((1.22, 1), (1.06, 0)):
        cv2.fillConvexPoly(mask, np.rint(centre + (corners - centre) * scale).astype(np.int32), value)
    ring = image[mask.astype(bool)].astype(np.float32)
    bright = ring[ring.sum(1) >= np.median(ring.sum(1))]
    found: NDArray[np.float32] = np.maximum(bright.mean(0), 1.0)
    return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultMap:
    """What a detector keeps of one view, float16.

    fine: `(28, 112, 40)`, coarse: `(14, 56, 112)`: lite0's maps, across × along the seam × channels.
    profile: `(112, 112, 3)`: brightness 0–1, averaged over 2 px across and 8 px along. `located`: between markers.
    """

    fine: NDArray[np.float16]
    coarse: NDArray[np.float16]
    profile: NDArray[np.float16]
    located: bool

    def rows(self) -> NDArray[np.float32]:
        """`(28, 1456)`: each stretch of the seam, the place across it kept: fine map, then brightness profile."""
        found = []
        for level, weight in ((self.fine, 1.0), (self.profile, PROFILE_WEIGHT)):
            across, along, channels = level.shape
            cells = level.astype(np.float32).reshape(across, RESULT_ROWS, along // RESULT_ROWS, channels).mean(2)
            found.append(weight * cells.transpose(1, 0, 2).reshape(RESULT_ROWS, -1))
        return np.concatenate(found, axis=1)


def result_map(jpeg: NDArray[np.uint8], backbone: Backbone, geometry: ViewGeometry | None = None) -> ResultMap:
    """The map of one view, from left to right. Raises ValueError when it cannot be decoded."""
    strip, located = seam_strip(decode_rgb(jpeg), geometry)
    tiles = np.ascontiguousarray(strip.reshape(INPUT_PX, TILES, INPUT_PX, 3).swapaxes(0, 1))
    fine, coarse = (np.concatenate(list(level), axis=1).astype(np.float16) for level in backbone.middle(tiles))
    profile = strip.reshape(INPUT_PX // 2, 2, COLUMNS, 8, 3).mean((1, 3)) / 255.0
    return ResultMap(fine, coarse, profile.astype(np.float16), located)
