"""Probability of detection against the physical size of a fault: a50, a90 and a90/95.

Hit/miss analysis after MIL-HDBK-1823A: logit π = b0 + b1 · ln(value), and since a fault too small to matter is still
hit as often as a good seam is, POD = α + (1 − α) π with α the false alarms (Abbott's correction; without it one
chance hit among small faults flattens the curve). The fit maximises Firth's penalised likelihood (Biometrika 80,
1993), which stays finite where every fault beyond some size is found and none below, as is usual here. a50 and a90
are where π gets there. The lower 95 % bound is Wald's on the logit; its variance is the larger of the model's and the
one clustered by session, with Student's t of sessions − 1, because seams of one session are not independent.
A hit is a score above the limit that 1 % of the test goods pass: the same meaning for every pipeline and the oracle.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FALSE_ALARMS", "Pod", "fit_pod", "limit_of_goods"]

FALSE_ALARMS = 0.01
CONFIDENCE = 0.95
GRID = 512
TINY = 1e-9
SLACK = 1e-4
"""A slope of nought, as where everything is found, is not a falling one."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Pod:
    """A fitted curve over the values `low`–`high` that were tried; `b1` per unit of ln(value).

    `a50`, `a90`: where the curve reaches 50 and 90 %; `a90_95`: where its lower 95 % bound reaches 90 %. None: not
    within what was tried. A figure that equals `low` means "there or below". `why` says why a figure is None.
    """

    low: float
    high: float
    b0: float | None = None
    b1: float | None = None
    a50: float | None = None
    a90: float | None = None
    a90_95: float | None = None
    why: str | None = None


def limit_of_goods(scores: Array, false_alarms: float = FALSE_ALARMS) -> float | None:
    """The k-th smallest good score, k = ⌈(n + 1)(1 − α)⌉; None where so few goods cannot tell that rate."""
    k = math.ceil((len(scores) + 1) * (1.0 - false_alarms) - TINY)
    return float(np.sort(scores)[k - 1]) if k <= len(scores) else None


def fit_pod(value: Array, hit: NDArray[np.bool_], session: Sequence[str]) -> Pod:
    """Fit faults of size `value` (n,) > 0, found or not. Raises ValueError for none, or sizes not above 0."""
    if len(value) == 0:
        raise ValueError("no fault was given; a POD curve needs hits and misses over several sizes")
    if not (value > 0).all():
        raise ValueError(f"sizes of faults must be above 0 for their logarithm, got {value.min()}")
    low, high = float(value.min()), float(value.max())
    if low == high:
        return Pod(low, high, why="one size only; a curve needs several")
    x = np.log(value)
    centre = float(x.mean())
    design = np.column_stack([np.ones(len(x)), x - centre])
    beta, spread = _fit(design, hit.astype(np.float64))
    clustered = _clustered(design, beta, hit.astype(np.float64), spread, session)
    grid = np.linspace(np.log(low), np.log(high), GRID)
    at = np.column_stack([np.ones(GRID), grid - centre])
    logit = at @ beta
    variance = np.maximum(*(np.einsum("ij,jk,ik->i", at, v, at) for v in (spread, clustered)))
    bound = logit - _quantile(len(set(session))) * np.sqrt(variance)
    if beta[1] > -SLACK:
        # A curve that rises is at least what its bound was at any smaller size; Wald's band widens again at the end.
        bound = np.maximum.accumulate(bound)
    a50, a90, a90_95 = _reach(grid, logit, 0.5), _reach(grid, logit, 0.9), _reach(grid, bound, 0.9)
    why = None if a90 is not None else f"POD stays below 90 % up to {high:g}"
    return Pod(low, high, float(beta[0] - beta[1] * centre), float(beta[1]), a50, a90, a90_95, why)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Curve:
    """The model at some coefficients: `slope` is dPOD/dlogit, `weight` the information of each row."""

    log_hit: Array
    log_miss: Array
    slope: Array
    weight: Array

    @classmethod
    def at(cls, design: Array, beta: Array) -> "_Curve":
        from scipy.special import expit, log_expit

        logit = design @ beta
        found = expit(logit)
        hit, miss = FALSE_ALARMS + (1 - FALSE_ALARMS) * found, (1 - FALSE_ALARMS) * expit(-logit)
        slope = miss * found
        log_miss = math.log(1 - FALSE_ALARMS) + log_expit(-logit)
        # slope² / (hit · miss) with the miss cancelled, which vanishes far up the curve.
        return cls(np.log(hit), log_miss, slope, slope * found / hit)

    def information(self, design: Array) -> Array:
        return np.asarray((design.T * self.weight) @ design + TINY * np.eye(design.shape[1]), np.float64)


def _fit(design: Array, hit: Array) -> tuple[Array, Array]:
    """Coefficients (k,) and the inverse of the information (k, k)."""
    from scipy.optimize import minimize

    def loss(beta: Array) -> float:
        curve = _Curve.at(design, beta)
        likelihood = float(hit @ curve.log_hit + (1 - hit) @ curve.log_miss)
        return -likelihood - 0.5 * float(np.linalg.slogdet(curve.information(design))[1])

    share = (hit.sum() + 0.5) / (len(hit) + 1)
    start = np.array([math.log(share / (1 - share)), 0.0])
    spread = np.array([1.0, 1.0 / design[:, 1].std()])
    # The default simplex has hardly any width along a slope of nought and stops where it began.
    simplex = start / spread + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    best = minimize(
        lambda scaled: loss(scaled * spread),
        simplex[0],
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-9, "initial_simplex": simplex},
    )
    beta = np.asarray(best.x, np.float64) * spread
    return beta, np.asarray(np.linalg.inv(_Curve.at(design, beta).information(design)), np.float64)


def _clustered(design: Array, beta: Array, hit: Array, spread: Array, session: Sequence[str]) -> Array:
    """The sandwich by sessions, with the factor G / (G − 1)."""
    names, index = np.unique(np.asarray(session, dtype=str), return_inverse=True)
    if len(names) < 2:
        return np.zeros_like(spread)
    curve = _Curve.at(design, beta)
    chance = np.exp(curve.log_hit)
    # dPOD/dlogit / (POD (1 − POD)) is π / POD, which is finite everywhere.
    pull = (hit - chance) * (chance - FALSE_ALARMS) / ((1 - FALSE_ALARMS) * chance)
    score = np.zeros((len(names), design.shape[1]))
    np.add.at(score, index, design * pull[:, None])
    return np.asarray(spread @ (score.T @ score) @ spread * len(names) / (len(names) - 1))


def _quantile(sessions: int) -> float:
    from scipy.stats import norm, t

    return float(t.ppf(CONFIDENCE, sessions - 1) if sessions > 1 else norm.ppf(CONFIDENCE))


def _reach(grid: Array, logit: Array, chance: float) -> float | None:
    """The value from which on the curve stays at or above `chance`; None where it ends below."""
    asked = math.log(chance / (1 - chance))
    below = np.flatnonzero(logit < asked)
    if len(below) == 0:
        return float(np.exp(grid[0]))
    last = int(below[-1])
    if last + 1 == len(grid):
        return None
    share = (asked - logit[last]) / (logit[last + 1] - logit[last])
    return float(np.exp(grid[last] + share * (grid[last + 1] - grid[last])))
