"""How much a model forgot: from scores after every stage of learning to the forgetting measure with its interval.

Glossary (algorithms of class-incremental learning)::

    l, K   stage, from 0 · j program, learnt at one stage · a[l][j] AUROC of program j after stage l
    FM_K   mean over programs j learnt before K of ( max_{l<K} a[l][j] − a[K][j] ): signed, positive is forgotten

The sources do not print FM; published ones are negative at times, so it is not clipped. The bootstrap draws sessions,
the same ones for every stage, program and method: differences of methods are paired. A maximum of noisy figures is
too large on average, so a little forgetting shows where there is none.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics import areas_of_draws, draw_sessions

__all__ = ["Areas", "Interval", "areas_after_stages", "contrast", "forgetting", "mean_auroc"]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval; None where it cannot be had."""

    value: float | None
    ci: tuple[float, float] | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """a[l][j] as (1 + R, stages, programs): the figure itself, then R replicates; NaN before a program is learnt."""

    areas: Array
    learnt: tuple[int, ...]
    """Stage at which each program is learnt."""


def areas_after_stages(
    scores: Sequence[Array],
    bad: NDArray[np.bool_],
    program: NDArray[np.int64],
    session: Sequence[str],
    learnt: Sequence[int],
    seed: int = 0,
) -> Areas:
    """AUROC of every program after every stage.

    Args:
        scores: per stage (n,), higher is more anomalous; not looked at where the program is not learnt yet.
        learnt: stage of each program.

    Raises ValueError where a program lacks goods or bads, or a needed score is not finite.
    """
    names = sorted(set(session))
    index = np.array([names.index(name) for name in session], np.int64)
    drawn = np.concatenate([np.ones((1, len(names)), np.int64), draw_sessions(len(names), seed)])
    found = np.full((len(drawn), len(scores), len(learnt)), np.nan)
    for j, since in enumerate(learnt):
        own = program == j
        if not bad[own].any() or bad[own].all():
            raise ValueError(
                f"program {j} has {int((~bad[own]).sum())} good and {int(bad[own].sum())} bad test seams"
            )
        for stage in range(since, len(scores)):
            score = scores[stage][own]
            if not np.isfinite(score).all():
                raise ValueError(
                    f"program {j} after stage {stage}: {int((~np.isfinite(score)).sum())} scores are not finite"
                )
            found[:, stage, j] = areas_of_draws(bad[own], score, index[own], drawn)
    return Areas(found, tuple(learnt))


def forgetting(areas: Areas, stage: int) -> Array:
    """FM after `stage` ≥ 1, (1 + R,): the figure, then its replicates."""
    old = [j for j, since in enumerate(areas.learnt) if since < stage]
    if stage < 1 or not old:
        raise ValueError(f"after stage {stage} there is nothing to forget: it needs programs learnt before")
    lost = np.stack(
        [areas.areas[:, areas.learnt[j] : stage, j].max(1) - areas.areas[:, stage, j] for j in old], axis=1
    )
    return _mean_of_known(lost)


def mean_auroc(areas: Areas, stage: int) -> Array:
    """Mean AUROC of the programs learnt by `stage`, (1 + R,)."""
    return _mean_of_known(areas.areas[:, stage, [j for j, since in enumerate(areas.learnt) if since <= stage]])


def contrast(first: Array, second: Array) -> Interval:
    """first − second of figures with the same draws."""
    return interval(first - second)


def interval(figures: Array) -> Interval:
    """The figure and the 2.5 % and 97.5 % quantiles of its replicates."""
    replicates = figures[1:][~np.isnan(figures[1:])]
    if len(replicates) < 2 or np.isnan(figures[0]):
        return Interval(None if np.isnan(figures[0]) else float(figures[0]), None)
    low, high = np.quantile(replicates, [0.025, 0.975])
    return Interval(float(figures[0]), (float(low), float(high)))


def _mean_of_known(figures: Array) -> Array:
    """Mean over the last axis of what is not NaN: a replicate may have drawn no goods of a program."""
    known = ~np.isnan(figures)
    count = known.sum(-1)
    total = np.where(known, figures, 0.0).sum(-1)
    found: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found
