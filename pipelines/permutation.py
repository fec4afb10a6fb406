"""Whether an AUROC could be luck: the share of relabellings that reach it.

Labels move over the given scores, so nothing is fitted anew. Seams of a session are alike in more than their fault; a
relabelling within sessions asks whether a score tells good from bad among seams that were welded together.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["PERMUTATIONS", "permutation_p"]

PERMUTATIONS = 5000


def permutation_p(
    bad: Sequence[bool], score: Sequence[float], session: Sequence[str] | None = None, seed: int = 0
) -> float | None:
    """One-sided p of the AUROC of `score` (higher = more anomalous), never below 1 / (PERMUTATIONS + 1).

    With `session`, labels move within sessions only. None where no relabelling differs: one class is empty, or no
    session holds both.
    """
    from scipy.stats import rankdata

    labels = np.asarray(bad, np.bool_)
    strata = np.zeros(len(labels), np.int64) if session is None else np.unique(session, return_inverse=True)[1]
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    mixed = [rows for rows in groups if labels[rows].any() and not labels[rows].all()]
    if not mixed:
        return None
    ranks = rankdata(np.asarray(score, np.float64))  # the sum of the bads' ranks orders as AUROC does
    rng = np.random.default_rng(seed)
    found = sum(float(ranks[rows][labels[rows]].sum()) for rows in mixed)
    drawn = sum(_rank_sums(ranks[rows], int(labels[rows].sum()), rng) for rows in mixed)
    reached = int(np.sum(drawn >= found - 1e-9))
    return (reached + 1) / (PERMUTATIONS + 1)


def _rank_sums(ranks: NDArray[np.float64], bads: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(PERMUTATIONS,) sums of `bads` ranks drawn without replacement."""
    order = rng.random((PERMUTATIONS, len(ranks))).argpartition(bads - 1, axis=1)[:, :bads]
    found: NDArray[np.float64] = ranks[order].sum(1)
    return found
