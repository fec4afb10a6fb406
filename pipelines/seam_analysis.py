"""All that Causal-HM finds out about one seam, before it becomes a verdict: every signal, and the score along it.

`CausalHM.analyse` gives it; `CausalHM.score` and the bench read it.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

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
        return {name: float(self.standardised(name, z)) for name, z in largest.items()}

    def standardised(self, part: str, z: Array | float) -> Array:
        """z-scores of a part's signals against the largest signal of good seams; NaN stays."""
        return self.standards[part].z(np.exp(np.minimum(z, MOST)), self.program)

    @property
    def course(self) -> Array:
        """`live` as `components` weighs s_P, so that one limit serves both."""
        return np.where(np.isfinite(self.live), self.standardised("s_P", self.live), -np.inf)

    @property
    def raw(self) -> float:
        """The seam's raw score."""
        return raw_score(max(self.components.values()))

    def along(self) -> Array | None:
        """The larger of s_R and s_RP at each of the scan's 28 places, which divide the seam evenly; None without one.

        A photograph's rows reach beyond the seam's ends and lie elsewhere.
        """
        scan = [self.rows[name] for name in ("s_R.scan", "s_RP.scan") if name in self.rows]
        return np.fmax.reduce(scan) if scan else None
