"""Upper tails of good welds: how rare a figure is among them, as the z-score that is as rare under a normal law.

Peaks over a threshold (Pickands 1975; Coles 2001, chapter 4): what goods exceed their 90 % quantile by follows a
generalised Pareto law, here by probability-weighted moments (Hosking & Wallis 1987), which need no search and are
steadier than likelihood for a few dozen excesses. Figures of different tails become alike: one odd good weld of a
heavy-tailed figure would else set its program's limit so far out that no other figure is heard there.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_EXCESSES", "Tail", "fit_tail"]

Array = NDArray[np.float64]
BEYOND = 0.1
"""Share of goods whose figure is in the tail."""
BEGIN_Z = 1.2816
"""Of which this is the z-score under a normal law."""
LEAST_EXCESSES = 20
"""Goods in the tail that a shape can be told from; with fewer the figure stays what it is."""
SHAPES = (0.0, 0.5)
"""Exponential, to where the law's variance ends and the moments say nothing. A tail that ends somewhere (a negative
shape) would call all beyond its end impossible."""
LEAST_BEGIN = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class Tail:
    """`begin`: where the tail begins; `shape` and `scale` of its generalised Pareto law; in the figure's units."""

    begin: float
    shape: float
    scale: float

    def normal(self, x: Array | float) -> Array:
        """The z-score that is as rare as `x`; below the tail in proportion. Monotone, NaN stays."""
        from scipy.special import ndtri_exp

        value = np.asarray(x, np.float64)
        beyond = np.maximum(value - self.begin, 0.0) / self.scale
        decay = np.log1p(self.shape * beyond) / self.shape if self.shape > 0 else beyond
        found: Array = np.where(value > self.begin, -ndtri_exp(np.log(BEYOND) - decay), value / self.begin * BEGIN_Z)
        return found


def fit_tail(figures: Array) -> Tail | None:
    """Fit on goods' figures `(n,)`, whose typical value is 0; None where goods are too few to tell."""
    begin = float(np.quantile(figures, 1 - BEYOND))
    excess = np.sort(figures[figures > begin]) - begin
    n = len(excess)
    if n < LEAST_EXCESSES or begin < LEAST_BEGIN or excess[-1] <= 0:
        return None
    mean = float(excess.mean())
    weighted = float(np.mean(excess * (1 - (np.arange(1, n + 1) - 0.35) / n)))
    shape = float(np.clip(2 - mean / (mean - 2 * weighted), *SHAPES)) if mean > 2 * weighted else SHAPES[1]
    return Tail(begin, shape, mean * (1 - shape))
