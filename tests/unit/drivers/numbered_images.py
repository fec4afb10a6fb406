"""Test images that carry their own number as 16 black or white bars, so that order and loss can be read off."""

import cv2
import numpy as np

BITS = 16
BAR_PX = 20


def numbered_image(number: int) -> np.ndarray:
    """Grey noise over bars; `(240, 320, 3)` uint8."""
    image = np.random.default_rng(number).integers(0, 60, (240, BITS * BAR_PX, 3), dtype=np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            image[:, bit * BAR_PX : (bit + 1) * BAR_PX] += 190
    return image


def numbered_jpeg(number: int) -> bytes:
    """`numbered_image` as JPEG."""
    return cv2.imencode(".jpg", numbered_image(number), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def number_of(jpeg: np.ndarray) -> int:
    """The number that an encoded image `(n_bytes,)` carries."""
    image = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
    bars = image.reshape(image.shape[0], BITS, BAR_PX).mean(axis=(0, 2))
    return int(sum(1 << bit for bit in range(BITS) if bars[bit] > 127))
