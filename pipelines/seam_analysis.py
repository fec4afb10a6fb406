"""All that Causal-HM finds out about one seam, before it becomes a verdict: every signal, and the score along it.

`CausalHM.analyse` gives it; `CausalHM.score` and the bench read it.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.features.result import RESULT_ROWS
from pipelines.gaussian import Standard, raw_score

__all__ = ["SeamAnalysis"]

Array = NDArray[np.float64]
MOST = 600.0
"""Its exponential is still a number."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeamAnalysis:
    """parts: z-score of every signal of s_P, s_R and s_RP; live: z per 100 ms token `(T,)`, −inf where unknown.

    rows: "s_R.photo", "s_RP.photo" `(views · 28,)`, the same of "scan" `(28,)` where the seam has one; NaN where a
    view is missing. A row's s_R is the z
    that the seam would have with this row its worst; its s_RP is the residual in the direction that the process
    tells best, in standard deviations. stage_ms: where the time went.
    """

    program: int
    standards: Mapping[str, Standard]
    parts: Mapping[str, Mapping[str, float]]
    live: Array
    rows: Mapping[str, Array]
    stage_ms: Mapping[str, float]

    @property
    def components(self) -> dict[str, float]:
        """The largest z of each part, against the largest of good seams: parts of many signals gain nothing."""
        largest = {name: max(z.values()) for name, z in self.parts.items()}
        return {
            name: float(self.standards[name].z(np.exp(min(z, MOST)), self.program)) for name, z in largest.items()
        }

    @property
    def raw(self) -> float:
        """The seam's raw score."""
        return raw_score(max(self.components.values()))

    def along(self) -> Array:
        """The larger of s_R and s_RP at each of the 28 places along the seam, over all views and the scan `(28,)`."""
        every = np.concatenate([row.reshape(-1, RESULT_ROWS) for row in self.rows.values()])
        known = np.where(np.isnan(every), -np.inf, every).max(0)
        found: Array = np.where(np.isneginf(known), np.nan, known)
        return found

    @staticmethod
    def rows_mm(begin_mm: float, end_mm: float) -> Array:
        """Where the 28 places lie, `(28, 2)`, when the photographed strip shows the seam from begin to end."""
        edges = np.linspace(begin_mm, end_mm, RESULT_ROWS + 1)
        return np.stack([edges[:-1], edges[1:]], 1)
