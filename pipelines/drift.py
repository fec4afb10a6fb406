"""Do the good seams still score like those that the limit was learned from? An alarm before false alarms come.

A mean shift that takes false alarms from 1 % to 3 % moves *every* good seam's score; counting flags would need
hundreds of seams to see it. So each accepted seam gets a smoothed conformal p-value among the calibration goods below
the limit and the accepted seams before it. While seams are exchangeable these p-values are uniform and independent,
and bets against that cannot win: the Shiryaev–Roberts sum R ← (1 + R)·f(p) has expectation n after n seams, hence

    P(R reaches c within n seams) ≤ n / c.

f(p) = exp(δz − δ²/2), z = Φ⁻¹(1 − p), is the likelihood ratio of a shift by δ standard deviations; R is the mean over
a few δ. Sources: Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, *Retrain or not retrain: conformal test
martingales for change-point detection* (arXiv:2102.10439); Vovk, Nouretdinov, Gammerman, *Validity and efficiency of
the conformal CUSUM procedure* (arXiv:2412.03464), whose betting function for Gaussian changes this is.

One departure: a seam joins the reference only `LAG` seams later, so that a change does not hide among its own seams.
The bound is then no longer a theorem; `edged bench drift` measures it (docs/thresholds.md).
"""

import bisect
import dataclasses
import hashlib
import math
from collections import deque
from collections.abc import Sequence
from statistics import NormalDist

__all__ = ["ALARM", "SHIFTS", "DriftTest"]

SHIFTS = (0.3, 0.6, 1.2)
"""δ, in standard deviations of good seams' scores; 0.45 takes a normal score's false alarms from 1 % to 3 %."""
ALARM = 1e6
"""c: one false alarm in about as many seams, at most."""
LAG = 150
"""Seams between a seam's verdict and its joining the reference; see the module."""
MAX_REFERENCE = 20_000
"""Beyond so many seams the reference is known well enough, and stays as it is."""
MIN_REFERENCE = 5
TINY = 1e-12

_NORMAL = NormalDist()


@dataclasses.dataclass(slots=True)
class DriftTest:
    """One threshold's test. `seams` counts what it was shown; `alarm_at` is the seam at which it rang, and stays."""

    reference: list[float]
    limit: float
    sums: list[float] = dataclasses.field(default_factory=lambda: [0.0] * len(SHIFTS))
    waiting: deque[float] = dataclasses.field(default_factory=deque)
    seams: int = 0
    alarm_at: int | None = None

    @classmethod
    def of(cls, scores: Sequence[float], limit: float) -> "DriftTest":
        """Begin with the raw scores of the calibration goods and the limit below which seams are accepted."""
        return cls(sorted(score for score in scores if score < limit), limit)

    @property
    def evidence(self) -> float:
        """R, to be held against `ALARM`."""
        return sum(self.sums) / len(self.sums)

    def add(self, raw: float, key: str) -> bool:
        """Take an accepted seam's raw score; whether it is this one that rings the alarm.

        Scores from the limit on, as a part's smaller share of its budget may accept, are left out.
        `key` (the seam's id) breaks ties as by a die, but the same way whenever the seam is shown again.
        """
        if raw >= self.limit:
            return False
        self.seams += 1
        if len(self.reference) < MIN_REFERENCE:
            bisect.insort(self.reference, raw)
            return False
        z = _NORMAL.inv_cdf(1.0 - self._p_value(raw, _uniform(key)))
        self.sums = [
            min((1.0 + total) * math.exp(shift * z - shift * shift / 2.0), 1e300)
            for total, shift in zip(self.sums, SHIFTS, strict=True)
        ]
        self.waiting.append(raw)
        if len(self.waiting) > LAG:
            self._admit(self.waiting.popleft())
        if self.alarm_at is None and self.evidence >= ALARM:
            self.alarm_at = self.seams
            return True
        return False

    def _p_value(self, raw: float, die: float) -> float:
        low, high = bisect.bisect_left(self.reference, raw), bisect.bisect_right(self.reference, raw)
        n = len(self.reference)
        p = (n - high + die * (high - low + 1)) / (n + 1)
        return min(max(p, TINY), 1.0 - TINY)

    def _admit(self, raw: float) -> None:
        if len(self.reference) < MAX_REFERENCE:
            bisect.insort(self.reference, raw)


def _uniform(key: str) -> float:
    """A number in (0, 1) that depends on the key alone."""
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) + 0.5) / 2**48
