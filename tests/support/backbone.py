"""A backbone that means something and is fast, for tests that are not about lite0."""

import numpy as np
from numpy.typing import NDArray

from pipelines.features.lite0 import FEATURES


class TinyBackbone:
    """Brightness of each cell, spread over the channels."""

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _cells(images, 7, FEATURES)

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return _cells(images, 28, 40), _cells(images, 14, 112)


def _cells(images: NDArray[np.uint8], grid: int, channels: int) -> NDArray[np.float32]:
    side = images.shape[1] // grid
    cells = images.reshape(len(images), grid, side, grid, side, 3).mean((2, 4, 5)) / 255.0
    spread: NDArray[np.float32] = (cells[..., None] * np.linspace(0.5, 2.0, channels)).astype(np.float32)
    return spread
