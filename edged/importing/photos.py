"""Post-weld photographs of a run, with the sticker that shows the class blanked before anything else sees them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edged.importing.mapping import PhotoMapping

__all__ = ["blanked_photo", "find_stickers"]

JPEG_QUALITY = 92
WHITE_MIN = 190
COLOUR_MAX = 45
MIN_SHARE, MAX_SHARE = 0.002, 0.12
RECTANGULAR = 0.75
MARGIN_PX = 12


def blanked_photo(path: Path, mapping: PhotoMapping) -> NDArray[np.uint8] | None:
    """The photo as JPEG `(n_bytes,)` without its sticker; None when it is no image or no sticker was found."""
    import cv2

    raw = np.fromfile(path, np.uint8)
    image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    if image is None:
        return None
    height, width = image.shape[:2]
    boxes = [
        (round(x * width), round(y * height), round(w * width), round(h * height)) for x, y, w, h in mapping.boxes
    ]
    if mapping.sticker == "detect":
        boxes += find_stickers(np.asarray(image, np.uint8))
    if not boxes and mapping.sticker != "none":
        return None
    # The same grey everywhere: a fill taken from the surroundings would tell how the plate looked there.
    for x, y, w, h in boxes:
        cv2.rectangle(image, (x, y), (x + w, y + h), (128, 128, 128), -1)
    ok, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return np.asarray(encoded, np.uint8).reshape(-1) if ok else None


def find_stickers(image: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Boxes (x, y, width, height) of the white rectangles in a BGR image, with a margin."""
    import cv2

    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    white = cv2.inRange(hsv, np.array([0, 0, WHITE_MIN]), np.array([180, COLOUR_MAX, 255]))
    white = cv2.morphologyEx(white, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    contours, _ = cv2.findContours(white, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        (_, (w, h), _) = cv2.minAreaRect(contour)
        area = w * h
        if not MIN_SHARE <= area / (image.shape[0] * image.shape[1]) <= MAX_SHARE:
            continue
        if cv2.contourArea(contour) / area < RECTANGULAR or max(w, h) > 6 * min(w, h):
            continue
        x, y, width, height = cv2.boundingRect(contour)
        left, top = max(0, x - MARGIN_PX), max(0, y - MARGIN_PX)
        found.append((left, top, x + width + MARGIN_PX - left, y + height + MARGIN_PX - top))
    return found
