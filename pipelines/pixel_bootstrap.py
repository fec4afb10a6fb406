"""Intervals of AUPRO and pixel AUROC by a bootstrap over welds: what a handful of large maps can and cannot say.

The exact figures are those of `pipelines/aupro.py`. Here the scores of each map are counted into bins that hold as
many good pixels each, so a replicate is a weighted sum of counts instead of a pass over millions of pixels. The bins
blur a figure by less than 1 / BINS; intervals are far wider.

Glossary: m maps, w welds, B bins from high to low scores, r replicates.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics import draw_sessions

__all__ = ["BINS", "Interval", "PixelCounts", "count_pixels"]

BINS = 4096
Interval = tuple[float, float]
Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PixelCounts:
    """Per weld and bin `(w, B)`: good pixels, anomalous pixels, and of these each its share of its region."""

    good: Array
    bad: Array
    shares: Array

    def pixel_auroc_ci(self, seed: int = 0) -> Interval | None:
        """95 % interval of the pooled pixel AUROC; None with fewer than two welds."""
        return self._interval("bad", 1.0, seed)

    def aupro_ci(self, limit: float = 0.3, seed: int = 0) -> Interval | None:
        """95 % interval of AUPRO up to `limit`; None with fewer than two welds."""
        return self._interval("shares", limit, seed)

    def replicates(self, drawn: Array, what: Literal["bad", "shares"], limit: float) -> Array:
        """(r,) area below each curve up to `limit`, divided by it; NaN where nothing anomalous was drawn.

        `drawn` (r, w): how often each weld counts; `what` climbs: "bad" for a pixel AUROC, "shares" for AUPRO.
        """
        fpr, hit = _cumulated(drawn @ self.good), _cumulated(drawn @ (self.bad if what == "bad" else self.shares))
        out = np.full(len(drawn), np.nan)
        for k in np.flatnonzero(np.isfinite(fpr[:, -1]) & np.isfinite(hit[:, -1])):
            inside = fpr[k] < limit
            x = np.append(fpr[k, inside], limit)
            y = np.append(hit[k, inside], np.interp(limit, fpr[k], hit[k]))
            out[k] = np.trapezoid(y, x) / limit
        return out

    def _interval(self, what: Literal["bad", "shares"], limit: float, seed: int) -> Interval | None:
        if len(self.good) < 2:
            return None
        drawn = draw_sessions(len(self.good), seed).astype(np.float64)
        areas = self.replicates(drawn, what, limit)
        areas = areas[np.isfinite(areas)]
        if len(areas) == 0:
            return None
        low, high = np.quantile(areas, [0.025, 0.975])
        return float(low), float(high)


def count_pixels(
    maps: Sequence[NDArray[np.floating]],
    masks: Sequence[NDArray[np.bool_]],
    welds: Sequence[str],
    within: Sequence[NDArray[np.bool_]] | None = None,
) -> PixelCounts:
    """Count scores by weld. `within`: only pixels where that is true count. Arguments as `pipelines.aupro.aupro`.

    Raises ValueError when no good pixel is left.
    """
    from scipy.ndimage import label

    areas = within if within is not None else [np.ones(mask.shape, np.bool_) for mask in masks]
    goods = np.concatenate([m[area & ~mask] for m, mask, area in zip(maps, masks, areas, strict=True)])
    if len(goods) == 0:
        raise ValueError("no good pixel is left: a false-positive rate needs some; widen the masks' surroundings")
    edges = np.unique(np.quantile(goods, np.linspace(0.0, 1.0, BINS)))
    bins = len(edges) + 1
    names = sorted(set(welds))
    tables = {name: np.zeros((len(names), bins)) for name in ("good", "bad", "shares")}
    for score, mask, area, weld in zip(maps, masks, areas, welds, strict=True):
        row = names.index(weld)
        bin_of = bins - 1 - np.searchsorted(edges, score, side="right")
        labels, count = label(mask, structure=np.ones((3, 3)))
        size = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
        tables["good"][row] += np.bincount(bin_of[area & ~mask], minlength=bins)
        tables["bad"][row] += np.bincount(bin_of[area & mask], minlength=bins)
        tables["shares"][row] += np.bincount(bin_of[mask], 1.0 / size[labels[mask]], minlength=bins)
    return PixelCounts(tables["good"], tables["bad"], tables["shares"])


def _cumulated(counts: Array) -> Array:
    """(r, B + 1), from 0 to 1 as bins fall; NaN where nothing was counted."""
    total = counts.sum(1, keepdims=True)
    shares = np.cumsum(counts, axis=1) / np.where(total > 0, total, np.nan)
    return np.concatenate([np.zeros((len(counts), 1)), shares], axis=1)
