"""How often a limit learned from n goods will really flag a good seam: two intervals.

The limit is the j-th largest of n scores, j = ⌊α(n + 1)⌋. If all seams are exchangeable, the share of good seams
above it is Beta(j, n + 1 − j) distributed over such samples (Vovk, *Conditional validity of inductive conformal
predictors*, 2012). Seams of one session share tip wear, gas and light, so n of them say less than n: the second
interval counts them as n / (1 + (m − 1) ρ), the design effect of m seams a session with the correlation ρ of their
ranks (Kish, *Survey Sampling*, 1965). Learning needs this, the daemon does not: it imports scipy.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics import Rate, false_alarm_rate
from pipelines.thresholds import Threshold

__all__ = [
    "across_sessions",
    "clustered_interval",
    "effective_goods",
    "exchangeable_interval",
    "session_correlation",
    "with_intervals",
]

TAILS = (0.025, 0.975)


def exchangeable_interval(goods: float, alpha: float) -> tuple[float, float]:
    """95 % interval of the realised false-alarm rate of a limit at budget `alpha` from so many exchangeable goods."""
    from scipy.stats import beta

    above = max(alpha * (goods + 1.0), 1e-9)
    if float(goods).is_integer():
        above = max(math.floor(above + 1e-9), 1)
    low, high = beta.ppf(TAILS, above, goods + 1.0 - above)
    return float(low), float(high)


def effective_goods(scores: Sequence[float], sessions: Sequence[str]) -> float:
    """How many independent goods these are worth; `sessions` names each score's session."""
    n, sizes = len(scores), np.unique(np.asarray(sessions), return_counts=True)[1]
    return n / (1.0 + (float((sizes**2).sum()) / n - 1.0) * session_correlation(scores, sessions))


def session_correlation(scores: Sequence[float], sessions: Sequence[str]) -> float:
    """ρ: the share of variance between sessions (analysis of variance, not below 0) of the scores' normal ranks.

    Ranks, so that it does not hang on the scores' units or on one of them; 0 where there is one session only.
    """
    from scipy.stats import norm, rankdata

    _, index, sizes = np.unique(np.asarray(sessions), return_inverse=True, return_counts=True)
    n, groups = len(scores), len(sizes)
    if groups < 2 or n <= groups:
        return 0.0
    z: NDArray[np.float64] = norm.ppf((rankdata(scores) - 0.5) / n)
    means = np.bincount(index, z) / sizes
    between = float((sizes * (means - z.mean()) ** 2).sum() / (groups - 1))
    within = float(((z - means[index]) ** 2).sum() / (n - groups))
    typical = (n - float((sizes**2).sum()) / n) / (groups - 1)
    return max((between - within) / (between + (typical - 1.0) * within), 0.0) if between > 0.0 else 0.0


def clustered_interval(scores: Sequence[float], sessions: Sequence[str], alpha: float) -> tuple[float, float]:
    """The interval where seams of a session are alike; never narrower than the exchangeable one."""
    low, high = exchangeable_interval(len(scores), alpha)
    worth = effective_goods(scores, sessions)
    if worth >= len(scores):
        return low, high
    wide_low, wide_high = exchangeable_interval(worth, alpha)
    return min(low, wide_low), max(high, wide_high)


def with_intervals(threshold: Threshold, scores: Sequence[float], sessions: Sequence[str]) -> Threshold:
    """A threshold that was calibrated from `scores` of `sessions`, with both intervals and its count of sessions."""
    return dataclasses.replace(
        threshold,
        sessions=len(set(sessions)),
        interval=exchangeable_interval(len(scores), threshold.alpha),
        interval_by_session=clustered_interval(scores, sessions, threshold.alpha),
        session_correlation=session_correlation(scores, sessions),
    )


def across_sessions(scores: Sequence[float], sessions: Sequence[str], alpha: float) -> Rate:
    """What limits learned without a session flag in it, over all sessions; clustered by session.

    Where the others are too few for `alpha`, their largest score is the limit, and the rate an upper bound.
    """
    raw, names = np.asarray(scores, np.float64), np.asarray(sessions)
    flagged = np.zeros(len(raw), np.bool_)
    for name in np.unique(names):
        own = names == name
        others = np.sort(raw[~own])
        if len(others):
            k = min(math.ceil((len(others) + 1) * (1.0 - alpha) - 1e-9), len(others))
            flagged[own] = raw[own] > others[k - 1]
    return false_alarm_rate(flagged.tolist(), names.tolist())
