"""The post-weld photographs as result tokens: 28 stretches along the seam, through lite0.

A view is taken whole, its long side along the seam, and cut into four tiles; lite0's map has seven columns
a tile. Every column is pooled over its rows: the mean (how the bead looks) and the maximum (the one odd spot).
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from pipelines.features.frames import decode_rgb, resize_rgb
from pipelines.features.lite0 import FEATURES, GRID, Backbone

__all__ = ["RESULT_FEATURES", "RESULT_TOKENS", "result_tokens"]

TILES = 4
RESULT_TOKENS = TILES * GRID
RESULT_FEATURES = 2 * FEATURES


def result_tokens(jpeg: NDArray[np.uint8], backbone: Backbone) -> NDArray[np.float32]:
    """`(28, 2560)` tokens of one view, from left to right. Raises ValueError when it cannot be decoded."""
    image = decode_rgb(jpeg)
    if image.shape[0] > image.shape[1]:
        image = np.ascontiguousarray(image.transpose(1, 0, 2))
    edges = np.linspace(0, image.shape[1], TILES + 1).round().astype(int)
    tiles = np.stack([resize_rgb(np.ascontiguousarray(image[:, a:b])) for a, b in itertools.pairwise(edges)])
    maps = backbone(tiles)  # (TILES, 7 rows, 7 columns, 1280)
    pooled = np.concatenate([maps.mean(1), maps.max(1)], axis=-1)
    tokens: NDArray[np.float32] = pooled.reshape(RESULT_TOKENS, RESULT_FEATURES)
    return tokens
