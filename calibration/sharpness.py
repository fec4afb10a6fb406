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
EDGE_SHARE = 0.02
"""Of all pixels, those with the largest gradient are taken for edges."""
WIDEST_PX = 20.0


def edge_blur_px(grey: NDArray[np.uint8], inside: NDArray[np.bool_] | None = None) -> float:
    """σ of the blur at the strongest edges of `grey` `(rows, columns)`, px, the pixel's own width included.

    `inside`: where to look, same shape. A picture without any edge gives `WIDEST_PX`.
    """
    import cv2

    image = grey.astype(np.float32)
    once: NDArray[Any] = cv2.GaussianBlur(image, (0, 0), FIRST_PX)
    twice: NDArray[Any] = cv2.GaussianBlur(image, (0, 0), float(np.hypot(FIRST_PX, AGAIN_PX)))
    sharp, soft = _slope(once), _slope(twice)
    looked = np.ones(grey.shape, np.bool_) if inside is None else inside
    if not looked.any():
        return WIDEST_PX
    least = float(np.quantile(sharp[looked], 1 - EDGE_SHARE))
    edges = looked & (sharp >= max(least, 1e-3))
    if not edges.any():
        return WIDEST_PX
    ratio = float(np.median(sharp[edges] / np.maximum(soft[edges], 1e-6)))
    if ratio <= 1.0:
        return WIDEST_PX
    # sharp ∝ 1/√(σ² + first²), soft ∝ 1/√(σ² + first² + again²)
    variance = AGAIN_PX**2 / (ratio**2 - 1.0) - FIRST_PX**2
    return float(np.clip(np.sqrt(max(variance, 0.0)), 0.0, WIDEST_PX))


def _slope(image: NDArray[Any]) -> NDArray[np.float32]:
    import cv2

    across = cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=3)
    found: NDArray[np.float32] = np.hypot(across, down)
    return found
