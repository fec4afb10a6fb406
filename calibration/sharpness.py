"""How sharp a picture is: the width of its sharpest edges, in pixels, whatever the picture shows and however bright.

An edge blurred by a Gaussian of σ has the gradient's peak 1/σ; blurred once more by σ₀ the peak falls to
1/√(σ² + σ₀²). The ratio of both gives σ (Zhuo & Sim, "Defocus map estimation from a single image", Pattern
Recognition 44, 2011). The variance of a Laplacian, often used for this, grows with contrast and texture as much as
with sharpness.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WIDEST_PX", "edge_blur_px"]

FIRST_PX, AGAIN_PX = 1.0, 2.0
"""σ of the blur that tames noise before the gradients are taken, and of the second one."""
WEAKEST = 0.5
"""Edges are the crests of the gradient that reach this share of the strong ones: texture is left out."""
WIDEST_PX = 20.0
STRONG_QUANTILE = 0.999
LEAST_SLOPE = 1.0
"""Grey levels times 8 (Sobel's weights) a pixel; less is no edge."""


def edge_blur_px(grey: NDArray[np.uint8], inside: NDArray[np.bool_] | None = None) -> float:
    """σ of the blur at the strongest edges of `grey` `(rows, columns)`, px, the pixel's own width included.

    Beyond some 5 px noise makes it too small, though never sharp.
    `inside`: where to look, same shape. A picture without any edge gives `WIDEST_PX`.
    """
    import cv2

    image = grey.astype(np.float32)
    once: NDArray[Any] = cv2.GaussianBlur(image, (0, 0), FIRST_PX)
    twice: NDArray[Any] = cv2.GaussianBlur(image, (0, 0), float(np.hypot(FIRST_PX, AGAIN_PX)))
    (sharp, crest), (soft, _) = _slope(once), _slope(twice)
    edges = crest if inside is None else crest & inside
    if not edges.any():
        return WIDEST_PX
    strong = np.quantile(sharp if inside is None else sharp[inside], STRONG_QUANTILE)
    edges &= sharp >= WEAKEST * strong
    ratio = float(np.median(sharp[edges] / np.maximum(soft[edges], 1e-6)))
    if ratio <= 1.0:
        return WIDEST_PX
    # sharp ∝ 1/√(σ² + first²), soft ∝ 1/√(σ² + first² + again²)
    variance = AGAIN_PX**2 / (ratio**2 - 1.0) - FIRST_PX**2
    return float(np.clip(np.sqrt(max(variance, 0.0)), 0.0, WIDEST_PX))


def _slope(image: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The gradient's length, and where it is no smaller than at both neighbours across the edge."""
    import cv2

    across = np.asarray(cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=3), np.float32)
    down = np.asarray(cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=3), np.float32)
    slope: NDArray[np.float32] = np.hypot(across, down)
    crest = np.zeros(slope.shape, np.bool_)
    inner = slope[1:-1, 1:-1]
    upright = np.abs(across)[1:-1, 1:-1] >= np.abs(down)[1:-1, 1:-1]
    beside = np.maximum(slope[1:-1, :-2], slope[1:-1, 2:])
    above = np.maximum(slope[:-2, 1:-1], slope[2:, 1:-1])
    crest[1:-1, 1:-1] = (inner > LEAST_SLOPE) & (inner >= np.where(upright, beside, above))
    return slope, crest
