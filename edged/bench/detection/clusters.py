"""AUROCs whose intervals resample sessions, paired between runs: the arithmetic below rows, contrasts and bars.

Seams of one session share tip wear, lighting and gas batch, so the bootstrap draws sessions. Two runs over the same
seams get the same draws from the same seed, so a difference of their replicates is a paired difference.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOOTSTRAPS", "Clusters", "draws", "interval", "two_sided_p"]

BOOTSTRAPS = 1000
LEVEL = 0.95

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """One score over n seams of S sessions. `bad` (n,); `of_bad` (b,): the session number of each bad seam.

    `wins` (b, S): goods of each session that a bad seam outscores, ties are halves; `goods` (S,): goods a session.
    """

    sessions: tuple[str, ...]
    bad: Mask
    of_bad: NDArray[np.int64]
    wins: Array
    goods: Array

    @classmethod
    def of(cls, bad: Sequence[bool] | Mask, score: Array, session: Sequence[str]) -> "Clusters":
        """Sort everything by session. Raises ValueError for a score that is NaN, since it orders nothing."""
        is_bad, values = np.asarray(bad, np.bool_), np.asarray(score, np.float64)
        if np.isnan(values).any():
            raise ValueError(f"{int(np.isnan(values).sum())} of {len(values)} scores are NaN; every seam needs one")
        names, index = np.unique(np.asarray(session, dtype=str), return_inverse=True)
        wins = np.zeros((int(is_bad.sum()), len(names)))
        for number in range(len(names)):
            goods = np.sort(values[~is_bad & (index == number)])
            wins[:, number] = sum(np.searchsorted(goods, values[is_bad], side) / 2 for side in ("left", "right"))
        goods_of = np.bincount(index[~is_bad], minlength=len(names)).astype(np.float64)
        return cls(tuple(names.tolist()), is_bad, index[is_bad], wins, goods_of)

    def area(self, chosen: Mask | None = None) -> float | None:
        """AUROC of the chosen bads (b,) against all goods; None where one side is empty."""
        wins = self.wins if chosen is None else self.wins[chosen]
        pairs = len(wins) * self.goods.sum()
        return float(wins.sum() / pairs) if pairs else None

    def areas(self, drawn: Array, chosen: Mask | None = None) -> Array:
        """AUROC (r,) of each replicate in `drawn` (r, S); NaN for one that drew no good or no bad."""
        member = np.eye(len(self.sessions))[self.of_bad if chosen is None else self.of_bad[chosen]]
        wins = member.T @ (self.wins if chosen is None else self.wins[chosen])
        pairs = (drawn @ member.sum(0)) * (drawn @ self.goods)
        won = np.einsum("rs,st,rt->r", drawn, wins, drawn, optimize=True)
        some = pairs > 0
        out = np.full(len(drawn), np.nan)
        out[some] = won[some] / pairs[some]
        return out


def draws(sessions: int, seed: int = 0, replicates: int = BOOTSTRAPS) -> Array:
    """(replicates, sessions): how often each session is drawn, with replacement."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(sessions, np.full(sessions, 1 / sessions), replicates).astype(np.float64)


def interval(replicates: Array, sessions: int) -> tuple[float, float] | None:
    """Percentile interval of 95 %; None with fewer than two sessions, or where no replicate has a value."""
    found = replicates[np.isfinite(replicates)]
    if sessions < 2 or len(found) == 0:
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def two_sided_p(replicates: Array) -> float:
    """Twice the smaller share of replicates on either side of 0, never below 2 / (r + 1)."""
    found = replicates[np.isfinite(replicates)]
    beyond = min(int((found <= 0).sum()), int((found >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(found) + 1))
