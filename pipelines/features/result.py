"""The post-weld photographs as result tokens: 28 stretches along the seam, through lite0.

Where four coded markers (ArUco 4×4, ids 0–3, clockwise from the top left) stand around the seam, the strip between
them is cut out and straightened first: pose and distance of the camera no longer show, and the bead gets the pixels.
Without them the whole view is taken, its long side along the seam. The strip is cut into four tiles; lite0's map has
seven columns a tile. Every column is pooled over its rows: the mean (how the bead looks) and the maximum (the one
odd spot).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.frames import decode_rgb
from pipelines.features.lite0 import FEATURES, GRID, INPUT_PX, Backbone

__all__ = ["RESULT_FEATURES", "RESULT_TOKENS", "result_tokens", "seam_strip"]

TILES = 4
RESULT_TOKENS = TILES * GRID
RESULT_FEATURES = 2 * FEATURES
STRIP_PX = (INPUT_PX, TILES * INPUT_PX)
CROP_X, CROP_Y = (0.12, 0.88), (0.0, 1.0)
"""The part of the rectangle between the markers' centres that is looked at."""


def seam_strip(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The seam as `(224, 896, 3)`: straightened between its markers, or the whole `(h, w, 3)` view."""
    import cv2

    if image.shape[0] > image.shape[1]:
        image = np.ascontiguousarray(image.transpose(1, 0, 2))
    rows, columns = STRIP_PX
    corners = _marker_centres(image)
    found: Any
    if corners is None:
        found = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    else:
        first, last = np.array([CROP_X, CROP_Y], np.float32).T
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        place = (square - first) / (last - first) * np.array([columns, rows], np.float32)
        onto = cv2.getPerspectiveTransform(corners, place.astype(np.float32))
        found = cv2.warpPerspective(image, onto, (columns, rows), flags=cv2.INTER_LINEAR)
    strip: NDArray[np.uint8] = found
    return strip


def _marker_centres(image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Centres of the markers 0–3 `(4, 2)` px; None unless each is seen once."""
    import cv2

    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    corners, ids, _ = detector.detectMarkers(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if ids is None or sorted(i for i in ids.ravel().tolist() if i < 4) != [0, 1, 2, 3]:
        return None
    centres = {int(i): corner.reshape(4, 2).mean(0) for i, corner in zip(ids.ravel(), corners, strict=True)}
    return np.stack([centres[i] for i in range(4)]).astype(np.float32)


def result_tokens(jpeg: NDArray[np.uint8], backbone: Backbone) -> NDArray[np.float32]:
    """`(28, 2560)` tokens of one view, from left to right. Raises ValueError when it cannot be decoded."""
    strip = seam_strip(decode_rgb(jpeg))
    tiles = np.ascontiguousarray(strip.reshape(INPUT_PX, TILES, INPUT_PX, 3).swapaxes(0, 1))
    maps = backbone(tiles)  # (TILES, 7 rows, 7 columns, 1280)
    pooled = np.concatenate([maps.mean(1), maps.max(1)], axis=-1)
    tokens: NDArray[np.float32] = pooled.reshape(RESULT_TOKENS, RESULT_FEATURES)
    return tokens
