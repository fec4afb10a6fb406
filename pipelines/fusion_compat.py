"""The CFM family's published scores from error maps (CFM, arXiv 2312.04521; MAFR, arXiv 2510.21793; Uni-RCM).

Each seam is normalised by itself, so these compare seams of a benchmark and carry no threshold; the cell's scores are
`pipelines/fusion.py`.

Glossary: n seams, H × W cells, ψ the fused and blurred error map of a seam.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CompatScores", "blur", "compat_scores"]

Doubles = NDArray[np.float64]
BOXES = (5, 5, 5, 5, 5, 7, 7, 7)


def blur(maps: NDArray[Any]) -> Doubles:
    """Five passes of a 5 × 5 box, then three of a 7 × 7 box, zero padding, over the last two axes: nearly a Gaussian.

    Without running sums, so that a place far from every error stays exactly 0, as the means over non-zero need.
    """
    from scipy.ndimage import convolve1d

    found: Doubles = np.asarray(maps, np.float64)
    for size in BOXES:
        box = np.full(size, 1.0 / size)
        for axis in (-2, -1):
            found = convolve1d(found, box, axis=axis, mode="constant")
    return found


class CompatScores(NamedTuple):
    """Published scores of n seams: `image` (n,) for AUROC; `aupro_map`, `pixel_map` (n, H, W) for the metrics of
    places. They differ in how a seam is normalised by itself."""

    image: Doubles
    aupro_map: Doubles
    pixel_map: Doubles


COMPAT_RULES: Mapping[str, Callable[[Doubles], Doubles]] = {
    "mul": lambda maps: np.prod(maps, axis=0),
    "add": lambda maps: np.sum(maps, axis=0),
    "max": lambda maps: np.max(maps, axis=0),
}


def compat_scores(maps: Mapping[str, NDArray[Any]], fusion: Literal["mul", "add", "max"] = "mul") -> CompatScores:
    """The CFM family's scores from error maps (n, H, W) that are 0 in the background.

    ψ = the fused maps, blurred. Image: max of ψ / √(mean over non-zero); AUPRO: ψ / mean over non-zero; pixel AUROC:
    ψ / √mean. Raises ValueError where a seam's ψ is 0 throughout: it was not measured, and must not pass as good.
    """
    psi = blur(COMPAT_RULES[fusion](np.stack([np.asarray(m, np.float64) for m in maps.values()])))
    inside = (psi != 0).sum((1, 2), keepdims=True)
    if not inside.all():
        seam = int(np.argmin(inside.ravel()))
        raise ValueError(f"seam {seam}: the fused map of {', '.join(maps)} is 0 everywhere; it has no measured cell")
    total = psi.sum((1, 2), keepdims=True)
    root = psi / np.sqrt(total / inside)
    pixel = psi / np.sqrt(total / psi[0].size)
    return CompatScores(root.max((1, 2)), psi / (total / inside), pixel)
