"""The result's score along the seam, in mm: Causal-HM's rows, or a grid's columns, laid onto 28 even places.

Sits behind the detectors. What stands at a place is in the unit of the seam's score, 1.0 the limit, and never above
it: the score is the largest of all signals, and a place knows some of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.features.result import CROP_X, RESULT_ROWS
from pipelines.fusion import Fusion
from pipelines.gaussian import raw_score
from pipelines.seam_analysis import SeamAnalysis
from pipelines.window import AlongPoint, SeamFrame

__all__ = ["PLACES", "analysed_along", "fused_along", "laid", "points"]

PLACES = 28
"""As many as a scan or a photograph has rows."""

Array = NDArray[np.float64]


def laid(rows: Array, first_mm: float, last_mm: float, length_mm: float) -> Array:
    """Rows that divide first…last evenly → the places `(28,)`: the row that holds a place's middle, NaN beside them.

    A photograph may show the seam from its end: `last_mm` < `first_mm`.
    """
    middle = (np.arange(PLACES) + 0.5) / PLACES * length_mm
    at = (middle - first_mm) / (last_mm - first_mm) * len(rows)
    there = (at >= 0) & (at < len(rows))
    return np.where(there, rows[np.clip(at, 0, len(rows) - 1).astype(np.int64)], np.nan)


def points(raw: Array, length_mm: float, limit: float | None) -> tuple[AlongPoint, ...]:
    """Raw scores `(n,)` of places that divide a seam evenly, NaN: not known; no points without a limit."""
    if limit is None:
        return ()
    middle = (np.arange(len(raw)) + 0.5) / len(raw) * length_mm
    return tuple(
        AlongPoint(float(mm), float(value) / limit)
        for mm, value in zip(middle, raw, strict=True)
        if np.isfinite(value)
    )


def fused_along(
    fusion: Fusion, maps: Mapping[str, NDArray[np.float32]], valid: NDArray[np.bool_], program: int, most: float
) -> Array:
    """Raw scores `(W,)` that a seam would have if each column of its error maps (H, W) had been measured alone.

    `most`: the whole seam's raw score, the mean of several worst cells: a single one's may be larger.
    """
    found = np.full(valid.shape[1], np.nan)
    for column in np.flatnonzero(valid.any(0)).tolist():
        alone = np.zeros_like(valid)
        alone[:, column] = valid[:, column]
        found[column] = min(fusion.score(maps, alone, program).raw, most)
    return found


def analysed_along(
    found: SeamAnalysis, views: Sequence[str], frame: SeamFrame | None, limit: float | None
) -> tuple[AlongPoint, ...]:
    """Of Causal-HM. `views`: names of the photographs whose rows `found` holds, in order, empty where their place is
    not known. Nothing without a frame: nobody said where the result lies."""
    if frame is None:
        return ()
    extents = {("photo", i): _photographed(frame.views[n]) for i, n in enumerate(views) if n in frame.views}
    extents[("scan", 0)] = (0.0, frame.length_mm)
    worst = np.full(PLACES, np.nan)
    for part, rows in _as_score(found).items():
        name, _, kind = part.partition(".")
        for (of, i), (first, last) in extents.items():
            own = rows[i * RESULT_ROWS : (i + 1) * RESULT_ROWS]
            if of == kind and len(own):
                worst = np.fmax(worst, laid(np.minimum(own, found.components[name]), first, last, frame.length_mm))
    raw = [raw_score(z) if np.isfinite(z) else np.nan for z in worst.tolist()]
    return points(np.array(raw), frame.length_mm, limit)


def _as_score(found: SeamAnalysis) -> Mapping[str, Array]:
    """Rows as `SeamAnalysis.components` weighs the parts: against the largest signal of good seams."""
    return {part: found.standardised(part.partition(".")[0], rows) for part, rows in found.rows.items()}


def _photographed(markers: tuple[float, float, float, float]) -> tuple[float, float]:
    """mm along the seam from where to where a photograph's rows reach, by the centres of its markers."""
    x0, x1 = markers[:2]
    return x0 + CROP_X[0] * (x1 - x0), x0 + CROP_X[1] * (x1 - x0)
