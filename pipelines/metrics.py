"""How well a score separates good from bad, with intervals: AUROC clustered by session, false-alarm rate.

Seams of one session share tip wear, lighting and gas batch, so the bootstrap draws sessions, not seams.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Auroc", "Rate", "areas_of_draws", "auroc", "draw_sessions", "false_alarm_rate"]

BOOTSTRAPS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Auroc:
    """Area under the ROC with its 95 % interval; `value` is None where one side is empty."""

    value: float | None
    ci: tuple[float, float] | None
    n: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """A rate with its 95 % interval; None where nothing was counted."""

    value: float | None
    ci: tuple[float, float] | None
    n: int


def _area(bad: NDArray[np.bool_], score: NDArray[np.float64]) -> float | None:
    from sklearn.metrics import roc_auc_score

    if bad.all() or not bad.any():
        return None
    return float(roc_auc_score(bad, score))


def _wins(
    bad: NDArray[np.bool_], score: NDArray[np.float64], index: NDArray[np.int64], sessions: int
) -> NDArray[np.float64]:
    """(s, t): pairs of a bad of session s and a good of session t that the score orders rightly; ties are halves."""
    above = score[bad][:, None] - score[~bad][None, :]
    right = (above > 0) + 0.5 * (above == 0)
    by_bad = np.zeros((sessions, right.shape[1]))
    np.add.at(by_bad, index[bad], right)
    wins = np.zeros((sessions, sessions))
    np.add.at(wins.T, index[~bad], by_bad.T)
    return wins


def draw_sessions(sessions: int, seed: int = 0) -> NDArray[np.int64]:
    """(BOOTSTRAPS, sessions): how often each session is drawn in each replicate of a bootstrap."""
    rng = np.random.default_rng(seed)
    drawn: NDArray[np.int64] = rng.multinomial(sessions, np.full(sessions, 1 / sessions), BOOTSTRAPS)
    return drawn


def areas_of_draws(
    bad: NDArray[np.bool_], score: NDArray[np.float64], index: NDArray[np.int64], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """AUROC of each replicate, NaN where it drew no goods or no bads; `index` is each seam's session of `drawn`.

    Figures that are compared use the same draws: then their differences are paired.
    """
    wins = _wins(bad, score, index, drawn.shape[1])
    n_bad, n_good = (np.bincount(index[rows], minlength=drawn.shape[1]) for rows in (bad, ~bad))
    pairs = (drawn @ n_bad) * (drawn @ n_good)
    areas = np.full(len(drawn), np.nan)
    some = pairs > 0
    areas[some] = np.einsum("rs,st,rt->r", drawn, wins, drawn)[some] / pairs[some]
    return areas


def auroc(bad: Sequence[bool], score: Sequence[float], session: Sequence[str], seed: int = 0) -> Auroc:
    """AUROC of `score` (higher = more anomalous) for `bad`; the interval resamples sessions.

    An interval needs at least two sessions; replicates without goods or without bads are not counted.
    """
    is_bad, values = np.asarray(bad, np.bool_), np.asarray(score, np.float64)
    value = _area(is_bad, values)
    names = sorted(set(session))
    if value is None or len(names) < 2:
        return Auroc(value, None, int(is_bad.sum()))
    index = np.array([names.index(name) for name in session])
    areas = areas_of_draws(is_bad, values, index, draw_sessions(len(names), seed))
    areas = areas[~np.isnan(areas)]
    if len(areas) == 0:
        return Auroc(value, None, int(is_bad.sum()))
    low, high = np.quantile(areas, [0.025, 0.975])
    return Auroc(value, (float(low), float(high)), int(is_bad.sum()))


def false_alarm_rate(flagged: Sequence[bool], session: Sequence[str]) -> Rate:
    """Share of goods that were flagged; beta-binomial interval with the spread between sessions.

    Jeffreys' Beta(k + ½, n − k + ½), with n shrunk by the design effect 1 + (m − 1) ρ: m the mean number of seams a
    session, ρ the intra-session correlation (analysis of variance, not below 0).
    """
    from scipy.stats import beta

    n, k = len(flagged), int(np.sum(np.asarray(flagged, np.bool_)))
    if n == 0:
        return Rate(None, None, 0)
    effect = _design_effect(np.asarray(flagged, np.float64), np.asarray(session))
    good, bad = (n - k) / effect, k / effect
    low, high = beta.ppf([0.025, 0.975], bad + 0.5, good + 0.5)
    return Rate(k / n, (0.0 if k == 0 else float(low), 1.0 if k == n else float(high)), n)


def _design_effect(flagged: NDArray[np.float64], session: NDArray[np.str_]) -> float:
    _, index, sizes = np.unique(session, return_inverse=True, return_counts=True)
    groups, n = len(sizes), len(flagged)
    if groups < 2 or n <= groups or flagged.min() == flagged.max():
        return 1.0
    means = np.bincount(index, flagged) / sizes
    between = float((sizes * (means - flagged.mean()) ** 2).sum() / (groups - 1))
    within = float(((flagged - means[index]) ** 2).sum() / (n - groups))
    typical = (n - (sizes**2).sum() / n) / (groups - 1)
    rho = max(0.0, (between - within) / (between + (typical - 1) * within + 1e-12))
    return float(1.0 + (n / groups - 1.0) * rho)
