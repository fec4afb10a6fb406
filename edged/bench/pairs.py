"""What can be known of pairs at all: the Bayes AUROC on true latents, and how far observed statistics predict a bead.

A *pair* shows the bead of another good seam of its program and session. Whoever knew the latents without noise could
still only use the likelihood ratio log p(P, R) − log p(P) p(R); its AUROC bounds every detector that reads these
latents' traces.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import program_named
from drivers.sim.seam import SeamPlan
from drivers.sim.sessions import session_named
from drivers.sim.variation import draw_latents
from edged.bench.probes import folds
from edged.bench.study import Study
from edged.bench.tables import Matrix, Tables
from pipelines.metrics import Auroc, auroc

__all__ = ["PROCESS_LATENTS", "R2_COLUMNS", "R2_LIMITS", "RESULT_LATENTS", "R2Row", "held_out", "latents_of",
           "likelihood_ratio", "pair_bayes", "r2_rows"]  # fmt: skip

PROCESS_LATENTS = ("wire speed", "travel speed", "CTWD", "source voltage")
"""Means over the seam without its first and last eighth: what the process is, before any sensor."""
RESULT_LATENTS = ("bead width", "bead height", "area above the plate")
"""Means of the true bead over the same part. The gap, the plate's warmth, wetting and recovery are not among the
process's latents: they shape the bead and leave hardly a trace in the process."""
R2_LIMITS = (0.4, 0.8)
R2_RESAMPLES = 1000
R2_QUANTITIES = ("width_mm", "height_mm", "area_mm2")
R2_COLUMNS = (
    "mean i_mean", "mean i_std", "mean u_mean", "mean u_std", "mean power", "mean wire", "mean speed",
    "mean area_mm2", "mean heat_j_mm", "mean current_per_wire", "mean short_rate", "mean short_share",
    "mean arc_u", "mean arc_i",
    "mean frame_mean", "mean frame_above_128", "mean frame_y_250", "mean frame_joint_wide", "mean sound_rms",
)  # fmt: skip
"""Observed process statistics that ridge regression predicts the bead from."""
RIDGE, OWN_RIDGE = 30.0, 300.0
"""Between values compared on 196 seams of this seed, where own slopes of 20 seams a program overfitted."""


@dataclasses.dataclass(frozen=True, slots=True)
class R2Row:
    """Held-out R² of one bead quantity within one program; `ok`: within `R2_LIMITS`."""

    program: str
    quantity: str
    r2: float
    ci: tuple[float, float]
    n: int
    ok: bool


def latents_of(plan: SeamPlan) -> tuple[Matrix, Matrix]:
    """True (`PROCESS_LATENTS`, `RESULT_LATENTS`) of a good seam."""
    from drivers.sim.bead import form_bead

    program, session = program_named(plan.program), session_named(plan.session)
    state = draw_latents(program, session, plan.seed)
    inner = slice(len(state.wire_mm_s) // 8, -len(state.wire_mm_s) // 8)
    arrays = (state.wire_mm_s, state.travel_mm_s, state.ctwd_mm, state.source_v)
    bead = form_bead(program, session, state, plan.seed).summary()
    return np.array([a[inner].mean() for a in arrays]), np.array([bead[name] for name in R2_QUANTITIES])


def pair_bayes(study: Study, seed: int, draws: int, progress: Callable[[Sequence[str]], Any] = iter) -> Auroc:
    """AUROC of the likelihood ratio for the study's pairs against its goods; the interval resamples sessions.

    The joint Gaussian of each program is fitted on `draws` good seams of its own, not on the study's.
    """
    programs = sorted({plan.program for plan in study.base})
    sessions = sorted({plan.session for plan in study.base})
    own = [latents_of(plan) for plan in study.base]
    process, result = (np.stack([latent[side] for latent in own]) for side in (0, 1))
    partner = np.array(study.partner)
    score_good, score_pair = np.empty(len(own)), np.empty(len(own))
    for number, name in enumerate(progress(programs)):
        rng = np.random.default_rng([seed, number])
        fresh = [
            latents_of(SeamPlan(k, name, sessions[k % len(sessions)], int(rng.integers(1 << 62))))
            for k in range(draws)
        ]
        ratio = likelihood_ratio(*(np.stack([latent[side] for latent in fresh]) for side in (0, 1)))
        mine = np.array([plan.program == name for plan in study.base])
        score_good[mine] = -ratio(process[mine], result[mine])
        score_pair[mine] = -ratio(process[mine], result[partner[mine]])
    n = len(own)
    session = [plan.session for plan in study.base]
    return auroc([False] * n + [True] * n, [*score_good, *score_pair], session * 2)


def likelihood_ratio(process: Matrix, result: Matrix) -> Callable[[Matrix, Matrix], Matrix]:
    """log p(P, R) − log p(P) − log p(R) under the Gaussian of the goods `process` (n, p) and `result` (n, r)."""
    from scipy.stats import multivariate_normal

    split = process.shape[1]
    both = np.hstack([process, result])
    centre, scale = both.mean(0), both.std(0)
    if (scale <= 0).any():
        raise ValueError(f"latent number {int(scale.argmin())} never varies; a Gaussian needs spread")
    covariance = np.cov(((both - centre) / scale).T)
    zero = np.zeros(len(centre))
    joint, p, r = (
        multivariate_normal(zero[part], covariance[part, part])
        for part in (slice(None), slice(None, split), slice(split, None))
    )

    def ratio(some_process: Matrix, some_result: Matrix) -> Matrix:
        z = (np.hstack([some_process, some_result]) - centre) / scale
        return np.asarray(joint.logpdf(z) - p.logpdf(z[:, :split]) - r.logpdf(z[:, split:]))

    return ratio


def r2_rows(tables: Tables) -> list[R2Row]:
    """Held-out R² within program of true width, height and area from observed process statistics of good seams.

    Folds by session. All columns are standardised within program on the training folds; ridge regression over all
    programs gives common slopes, a second one on each program's own rest its departures from them.
    """
    columns = [tables.process_names.index(name) for name in R2_COLUMNS]
    guess = held_out(
        np.nan_to_num(tables.sides["good"].process[:, columns]), tables.bead, tables.program, tables.session
    )
    out = []
    for name in np.unique(tables.program):
        mine = tables.program == name
        value, interval = _explained(tables.bead[mine], guess[mine], tables.session[mine])
        for quantity, r2, low, high in zip(R2_QUANTITIES, value, *interval, strict=True):
            ok = bool(R2_LIMITS[0] <= r2 <= R2_LIMITS[1])
            out.append(R2Row(str(name), quantity, float(r2), (float(low), float(high)), int(mine.sum()), ok))
    return out


def _explained(y: Matrix, guess: Matrix, session: NDArray[np.str_]) -> tuple[Matrix, Matrix]:
    """R² of each column of `y` (n, j), and its 95 % interval (2, j) from resampled sessions."""

    def r2(rows: NDArray[np.int64]) -> Matrix:
        lost, spread = (y[rows] - guess[rows]) ** 2, (y[rows] - y[rows].mean(0)) ** 2
        return np.asarray(1 - lost.sum(0) / spread.sum(0))

    members = [np.flatnonzero(session == name) for name in np.unique(session)]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(members), (R2_RESAMPLES, len(members)))
    resampled = [r2(np.concatenate([members[k] for k in picks])) for picks in drawn]
    return r2(np.arange(len(y))), np.percentile(resampled, (2.5, 97.5), axis=0)


def held_out(x: Matrix, y: Matrix, program: NDArray[np.str_], session: NDArray[np.str_]) -> Matrix:
    """`y` (n, j) of each seam as regressions on `x` (n, k) that saw none of its session predict it."""
    guess = np.empty(y.shape)
    for train, test in folds(session):
        zx, zy, scale = np.zeros(x.shape), np.zeros(y.shape), np.ones(y.shape)
        centre = np.tile(y[train].mean(0), (len(y), 1))
        for name in np.unique(program[train]):
            mine, fitted = program == name, (program == name) & train
            zx[mine], _, _ = _standard(x[mine], x[fitted])
            zy[mine], centre[mine], scale[mine] = _standard(y[mine], y[fitted])
        common = _slopes(zx[train], zy[train], RIDGE)
        for name in np.unique(program[test]):
            fitted, tested = (program == name) & train, (program == name) & test
            own = _slopes(zx[fitted], zy[fitted] - zx[fitted] @ common, OWN_RIDGE)
            guess[tested] = centre[tested] + scale[tested] * (zx[tested] @ (common + own))
    return guess


def _standard(rows: Matrix, fitted: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """`rows` in standard deviations of `fitted`; with their centre and scale."""
    centre, spread = fitted.mean(0), fitted.std(0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    return (rows - centre) / spread, centre, spread


def _slopes(x: Matrix, y: Matrix, ridge: float) -> Matrix:
    return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y))
