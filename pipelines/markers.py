"""Coded markers in a photograph of a part: their corners, found in bad light and at the picture's very edge."""

from collections.abc import Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["VIEW_DICTIONARY", "find_markers"]

VIEW_DICTIONARY = "DICT_4X4_50"
"""OpenCV's name of the dictionary of the markers beside a seam where nobody says another."""
RIM_PX = 16


def find_markers(
    image: NDArray[np.uint8], wanted: Set[int], dictionary: str = VIEW_DICTIONARY
) -> dict[int, NDArray[np.float32]]:
    """Id → corners `(4, 2)` px, clockwise from the marker's own top left, of the `wanted` markers that are seen.

    `image`: `(rows, columns, 3)` RGB or `(rows, columns)` grey. Of two markers with one id the first found counts.
    """
    import cv2

    bare: Any = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    plate = float(np.median(bare))
    # A marker at the picture's very edge has no rim to be told from: lend it one.
    grey = cv2.copyMakeBorder(bare, RIM_PX, RIM_PX, RIM_PX, RIM_PX, cv2.BORDER_CONSTANT, value=[plate])
    # Paper as dark as the plate: else its own outline hides that of the black square within.
    attempts = (np.minimum(grey, np.uint8(plate)), cv2.threshold(grey, 0.55 * plate, 255, cv2.THRESH_BINARY)[1], grey)
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, dictionary)))
    found: dict[int, NDArray[np.float32]] = {}
    for attempt in attempts:
        corners, ids, _ = detector.detectMarkers(attempt)
        for i, corner in zip([] if ids is None else np.asarray(ids).ravel(), corners, strict=True):
            found.setdefault(int(i), np.asarray(corner, np.float32).reshape(4, 2))
        if found.keys() >= wanted:
            break
    names = sorted(found.keys() & wanted)
    if not names:
        return {}
    rough = np.concatenate([found[i] for i in names]).astype(np.float32)
    until = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.02)
    fine: Any = cv2.cornerSubPix(grey, rough[:, None].copy(), (4, 4), (-1, -1), until)
    corners_px = np.asarray(fine, np.float32).reshape(-1, 4, 2) - RIM_PX
    return dict(zip(names, corners_px, strict=True))
