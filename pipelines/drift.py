"""Do the good seams still score like those that the limit was learned from? An alarm before false alarms come.

A mean shift that takes false alarms from 1 % to 3 % moves *every* good seam's score; counting flags would need
hundreds of seams to see it. So each accepted seam gets a smoothed conformal p-value among the calibration goods below
the limit and the accepted seams before it. While seams are exchangeable these p-values are uniform and independent,
and bets against that cannot win: the Shiryaev–Roberts sum R ← (1 + R)·b has expectation n after n seams, hence

    P(R reaches c within n seams) ≤ n / c.

b is the likelihood ratio of z = Φ⁻¹(1 − p) for a shift by δ standard deviations; R is the mean over a few δ. Sources:
Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman, *Retrain or not retrain: conformal test martingales for
change-point detection* (arXiv:2102.10439); Vovk, Nouretdinov, Gammerman, *Validity and efficiency of the conformal
CUSUM procedure* (arXiv:2412.03464), whose betting function for Gaussian changes this is.

Two departures. A seam joins the reference only `LAG` seams later, so that a change does not hide among its own seams.
And seams of a session are alike: one session with a worn tip is no drift. The calibration goods say how much of a
score's variance is between sessions, ρ, and the likelihoods are those of a normal random effect of so much, so that a
session weighs little more than its difference from other sessions allows. The bound is then no longer a theorem;
`edged bench drift` measures it (docs/thresholds.md).
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
    """One threshold's test. `seams` counts what it was shown; `alarm_at` is the seam at which it rang, and stays.

    `rho` is the share of the scores' variance that is between sessions. Of the session that is being welded,
    `session_z` is the sum of its z and `session_seams` how many there are.
    """

    reference: list[float]
    limit: float
    rho: float = 0.0
    sums: list[float] = dataclasses.field(default_factory=lambda: [0.0] * len(SHIFTS))
    waiting: deque[float] = dataclasses.field(default_factory=deque)
    session: str | None = None
    session_z: float = 0.0
    session_seams: int = 0
    seams: int = 0
    alarm_at: int | None = None

    @classmethod
    def of(cls, scores: Sequence[float], limit: float, rho: float = 0.0) -> "DriftTest":
        """Begin with the raw scores of the calibration goods and the limit below which seams are accepted."""
        return cls(sorted(score for score in scores if score < limit), limit, min(max(rho, 0.0), 0.95))

    @property
    def evidence(self) -> float:
        """R, to be held against `ALARM`."""
        return sum(self.sums) / len(self.sums)

    def add(self, raw: float, key: str, session: str = "") -> bool:
        """Take an accepted seam's raw score; whether it is this one that rings the alarm.

        Scores from the limit on, as a part's smaller share of its budget may accept, are left out. `key` (the seam's
        number) breaks ties as by a die, but the same way whenever the seam is shown again.
        """
        if raw >= self.limit:
            return False
        self.seams += 1
        if len(self.reference) < MIN_REFERENCE:
            bisect.insort(self.reference, raw)
            return False
        self._bet(_NORMAL.inv_cdf(1.0 - self._p_value(raw, _uniform(key))), session)
        self.waiting.append(raw)
        if len(self.waiting) > LAG:
            self._admit(self.waiting.popleft())
        if self.alarm_at is None and self.evidence >= ALARM:
            self.alarm_at = self.seams
            return True
        return False

    def _bet(self, z: float, session: str) -> None:
        """R ← (1 + R)·b, b the ratio of two predictive normals given the seams of this session before."""
        if session != self.session:
            self.session, self.session_z, self.session_seams = session, 0.0, 0
        n, rho = self.session_seams, self.rho
        known = 1.0 + (n - 1.0) * rho if n else 1.0
        variance = 1.0 - n * rho * rho / known
        expected = rho * self.session_z / known
        # A shift by δ moves the prediction by what the session has not shown yet.
        moved = 1.0 - n * rho / known
        self.sums = [
            min((1.0 + total) * math.exp(_log_ratio(z - expected, shift * moved, variance)), 1e300)
            for total, shift in zip(self.sums, SHIFTS, strict=True)
        ]
        self.session_z += z
        self.session_seams += 1

    def _p_value(self, raw: float, die: float) -> float:
        low, high = bisect.bisect_left(self.reference, raw), bisect.bisect_right(self.reference, raw)
        n = len(self.reference)
        p = (n - high + die * (high - low + 1)) / (n + 1)
        return min(max(p, TINY), 1.0 - TINY)

    def _admit(self, raw: float) -> None:
        if len(self.reference) < MAX_REFERENCE:
            bisect.insort(self.reference, raw)


def _log_ratio(off: float, shift: float, variance: float) -> float:
    """log N(off; shift, variance) − log N(off; 0, variance)."""
    return shift * (off - shift / 2.0) / variance


def _uniform(key: str) -> float:
    """A number in (0, 1) that depends on the key alone."""
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) + 0.5) / 2**48
