"""A backbone without weights: fixed random convolutions in lite0's shapes.

It stands where lite0 stands (images → feature maps) for continuous integration and for a box without the weights
package. Random filters that are never trained still tell textures, edges and brightness apart (Saxe et al., *On
random weights and unsupervised feature learning*, ICML 2011), but less well than trained ones: no figure of edged
rests on it.

The filters are the top 53 bits of PCG64's raw output, scaled: no libm and no distribution's algorithm takes part, so
that the weights are the same to the bit on every machine and with every numpy; `WEIGHTS_SHA256` holds them to it.
Their sums are float32 products of the BLAS at hand and agree to some 1e-6.

    image (b, 224, 224, 3) → ×1/4 → (56, 56, 24) → ×1/2 → fine (28, 28, 40) → ×1/2 → coarse (14, 14, 112)
                           → ×1/2 → (7, 7, 192) → 1×1 → map (7, 7, 1280), ReLU after each
"""

import hashlib
import itertools

import numpy as np
from numpy.typing import NDArray

from pipelines.features.lite0 import FEATURES, INPUT_PX

__all__ = ["WEIGHTS_SHA256", "TinyBackbone", "filters"]

SEED = 20_251_221
WEIGHTS_SHA256 = "2e56f509e8042a0064f77c2b9851da92af7bfb57aecd3e1fa41d6b68bac1574d"

LAYERS = (  # kernel, stride, channels in, channels out
    (4, 4, 3, 24),
    (3, 2, 24, 40),
    (3, 2, 40, 112),
    (3, 2, 112, 192),
    (1, 1, 192, FEATURES),
)
BRIGHTNESS = 8
"""Filters of the first layer that keep their mean and so see brightness and colour; the rest see contrast only."""


def filters() -> tuple[NDArray[np.float32], ...]:
    """One matrix `(kernel · kernel · channels in, channels out)` a layer, little-endian float32, uniform with He's
    variance."""
    source = np.random.PCG64(SEED)
    made = []
    for i, (kernel, _, c_in, c_out) in enumerate(LAYERS):
        fan_in = kernel * kernel * c_in
        unit = (source.random_raw(fan_in * c_out) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        weights = ((2.0 * unit - 1.0) * np.sqrt(6.0 / fan_in)).reshape(fan_in, c_out)
        if i == 0:
            # Added in order, since numpy's own sum may pair its terms as the processor likes.
            total = list(itertools.accumulate(weights[:, BRIGHTNESS:]))[-1]
            weights[:, BRIGHTNESS:] -= total / fan_in
        made.append(weights.astype("<f4"))
    return tuple(made)


class TinyBackbone:
    """A `Backbone` (see `pipelines.features.lite0`) that is the same everywhere and needs nothing."""

    def __init__(self) -> None:
        self._filters = filters()
        found = hashlib.sha256(b"".join(weights.tobytes() for weights in self._filters)).hexdigest()
        if found != WEIGHTS_SHA256:
            raise ValueError(
                f"the tiny backbone's filters have sha256 {found}, expected {WEIGHTS_SHA256}: reinstall numpy"
            )

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(b, 224, 224, 3)` uint8 RGB → `(b, 7, 7, 1280)` float32. Raises ValueError on any other shape."""
        return self._run(images, len(LAYERS))[-1]

    def middle(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same images → `(b, 28, 28, 40)`, `(b, 14, 14, 112)` float32."""
        fine, coarse = self._run(images, 3)[1:]
        return fine, coarse

    def _run(self, images: NDArray[np.uint8], depth: int) -> list[NDArray[np.float32]]:
        if images.ndim != 4 or images.shape[1:] != (INPUT_PX, INPUT_PX, 3):
            raise ValueError(
                f"the tiny backbone takes images of shape (b, {INPUT_PX}, {INPUT_PX}, 3), got {images.shape}"
            )
        x = (images.astype(np.float32) - 127.0) / 128.0
        maps = []
        for (kernel, stride, _, _), weights in zip(LAYERS[:depth], self._filters, strict=False):
            x = np.maximum(_patches(x, kernel, stride) @ weights, np.float32(0.0))
            maps.append(x)
        return maps


def _patches(x: NDArray[np.float32], kernel: int, stride: int) -> NDArray[np.float32]:
    """`(b, h, w, c)` → `(b, h / stride, w / stride, kernel · kernel · c)`, edges padded with zeros for a kernel of
    3."""
    margin = 1 if kernel == 3 else 0
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    b, h, w = windows.shape[:3]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(b, h, w, -1)
