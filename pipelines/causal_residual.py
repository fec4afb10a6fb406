"""Scores from a trained network of any form: s_R, s_R|P, their likelihood ratio, and the published one; per row too.

    s_R        what is asked about, against held-out goods
    s_RP       what is left of it after the prediction: the row `causal_hm`
    mismatch   log p(R|P) against log p(R), row `causal_hm_mismatch`: zero gain from being odd by itself
    published  1 − cos + 10 × mean of the worst half of |target − predicted| (nothing fitted)

With target frozen_cov distances are Mahalanobis ones (Ledoit & Wolf on held-out goods), otherwise root mean squares.
In the reverse direction the process takes the result's place, and s_R reads s_P. Fitted on goods that stopped the
training, out of fold by session; thresholds come from goods that nothing here has seen.

Glossary: n seams, Q rows, K numbers of a row, P programs.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.causal_data import CausalData
from pipelines.causal_train import Trained, predict
from pipelines.gaussian import Gaussian, Standard, cross_fitted, fit_gaussian, fit_standard

__all__ = ["CausalResidual", "ResidualScores", "fit_residual"]

Array = NDArray[np.float64]
Known = NDArray[np.bool_]
FIGURES = ("mean", "typical", "worst")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResidualScores:
    """parts: (n,) each, higher is more anomalous; along: (n, Q) z-scores "s_R" and "s_RP" as if a row were its seam's
    worst, NaN where the row is not known."""

    parts: Mapping[str, Array]
    along: Mapping[str, Array]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowDistances:
    """How far rows lie from those of goods: their mean, a typical one and the worst one."""

    row: Gaussian
    mean: Gaussian
    standards: Mapping[str, Standard]

    def rows(self, x: Array, program: int) -> Array:
        """Distance of every row, (Q, K) → (Q,)."""
        return self.row.distance(x, program)

    def whole(self, x: Array, known: Known, program: int) -> float:
        """Distance of the seam's mean."""
        off = (x - self.row.mean[program])[known]
        return float(self.mean.distance(off.mean(0), program)) if len(off) else 0.0

    def figures(self, x: Array, known: Known, program: int) -> Array:
        """mean, typical, worst (3,)."""
        each = self.rows(x, program)[known]
        if not len(each):
            return np.zeros(len(FIGURES))
        return np.array([self.whole(x, known, program), each.mean(), each.max()])

    def z(self, x: Array, known: Known, program: int) -> float:
        """The largest z-score of the figures."""
        found = self.figures(x, known, program)
        return max(float(self.standards[n].z(v, program)) for n, v in zip(FIGURES, found, strict=True))

    def along(self, x: Array, known: Known, program: int) -> Array:
        """z-score of every row (Q,)."""
        found: Array = np.where(known, self.standards["worst"].z(self.rows(x, program), program), np.nan)
        return found


def _fit_distances(x: Array, known: Known, data: CausalData, weighted: bool, centred: bool) -> RowDistances:
    """Of x (n, Q, K); `centred`: 0 is the normal value, no mean is fitted."""
    program, programs = data.program, data.programs

    def fit(rows: NDArray[np.int64]) -> RowDistances:
        means = (
            np.zeros((programs, *x.shape[1:])) if centred else _means(x[rows], known[rows], program[rows], programs)
        )
        off = (x[rows] - means[program[rows]]) * known[rows][..., None]
        whole = off.sum(1) / np.maximum(known[rows].sum(1), 1)[:, None]
        zero = np.zeros((programs, x.shape[2]))
        if not weighted:
            plain = np.broadcast_to(np.eye(x.shape[2]), (programs, x.shape[2], x.shape[2]))
            return RowDistances(Gaussian(means, plain), Gaussian(zero, plain), {})
        flat = known[rows]
        owner = np.broadcast_to(program[rows][:, None], flat.shape)[flat]
        white = fit_gaussian(off[flat], owner, programs, mean=zero).whiten
        return RowDistances(Gaussian(means, white), fit_gaussian(whole, program[rows], programs, mean=zero), {})

    table = cross_fitted(data.session, fit, lambda m, i: m.figures(x[i], known[i], int(program[i])))
    standards = {name: fit_standard(table[:, k], program, programs) for k, name in enumerate(FIGURES)}
    return dataclasses.replace(fit(np.arange(len(x))), standards=standards)


def _means(x: Array, known: Known, program: NDArray[np.int64], programs: int) -> Array:
    weight = known[..., None]

    def mean(own: NDArray[np.bool_]) -> Array:
        found: Array = (x[own] * weight[own]).sum(0) / np.maximum(weight[own].sum(0), 1)
        return found

    pooled = mean(np.ones(len(x), np.bool_))
    return np.stack([mean(program == p) if (program == p).any() else pooled for p in range(programs)])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CausalResidual:
    """A network and the goods' distances."""

    trained: Trained
    shown: RowDistances
    left: RowDistances
    ratio: Standard

    def score(self, data: CausalData) -> ResidualScores:
        """Every seam of `data`."""
        target, predicted, known = _sides(self.trained, data)
        return self._scores(target, predicted, known, data.program)

    def _scores(self, target: Array, predicted: Array, known: Known, program: NDArray[np.int64]) -> ResidualScores:
        off = target - predicted
        seams = [(i, known[i], int(p)) for i, p in enumerate(program)]
        gain = _gain(self.shown, self.left, target, off, known, program)
        ratio = np.array([self.ratio.z(gain[i], p) for i, _, p in seams])
        return ResidualScores(
            parts={
                "s_R": np.array([self.shown.z(target[i], k, p) for i, k, p in seams]),
                "s_RP": np.array([self.left.z(off[i], k, p) for i, k, p in seams]),
                "mismatch": ratio,
                "published": np.array([_published(target[i][k], predicted[i][k]) for i, k, _ in seams]),
            },
            along={
                "s_R": np.stack([self.shown.along(target[i], k, p) for i, k, p in seams]),
                "s_RP": np.stack([self.left.along(off[i], k, p) for i, k, p in seams]),
            },
        )


def fit_residual(trained: Trained, held_out: CausalData) -> CausalResidual:
    """Fit on the goods that stopped the training: the `held_out` of `train_net`, of two sessions at least."""
    weighted = trained.net.config.target == "frozen_cov"
    target, predicted, known = _sides(trained, held_out, trained.told)
    shown = _fit_distances(target, known, held_out, weighted, centred=False)
    left = _fit_distances(target - predicted, known, held_out, weighted, centred=True)
    gains = _gain(shown, left, target, target - predicted, known, held_out.program)
    return CausalResidual(trained, shown, left, fit_standard(gains, held_out.program, held_out.programs))


def _gain(
    shown: RowDistances, left: RowDistances, target: Array, off: Array, known: Known, program: NDArray[np.int64]
) -> Array:
    """exp of the signed root of 2 log p(R) − 2 log p(R|P), constants aside: of the seam's mean and of a mean row.

    A gain has the tail of a square; its root has that of a normal.
    """
    size, found = target.shape[2], []
    for i, p in enumerate(program.tolist()):
        k = known[i]
        each = left.rows(off[i], p)[k] ** 2 - shown.rows(target[i], p)[k] ** 2
        whole = left.whole(off[i], k, p) ** 2 - shown.whole(target[i], k, p) ** 2
        gain = size * (whole + each.mean()) if len(each) else 0.0
        found.append(np.sign(gain) * np.sqrt(np.abs(gain)))
    clipped: Array = np.clip(np.array(found), -30.0, 30.0)
    return np.exp(clipped)


def _sides(trained: Trained, data: CausalData, told: NDArray[np.float32] | None = None) -> tuple[Array, Array, Known]:
    """Target and prediction (n, Q, K), both 0 where not known; `told` by the linear way, made here unless given."""
    config = trained.net.config
    rows, known = data.asked(config.direction)
    predicted = predict(trained.net, data).astype(np.float64)
    if trained.linear is not None:
        if told is None:
            given = data.summaries(config.direction)
            told = np.stack([trained.linear.predict(given[i], int(p)) for i, p in enumerate(data.program)])
        predicted = predicted + told
    with torch.inference_mode():
        target, there = trained.net.target(torch.from_numpy(rows), torch.from_numpy(known))
    weight = there.numpy()
    return target.numpy().astype(np.float64) * weight[..., None], predicted * weight[..., None], weight


def _published(target: Array, predicted: Array) -> float:
    """Section 2.8's score of one seam, all its known rows as one vector."""
    z, p = target.ravel(), predicted.ravel()
    if not len(z):
        return 0.0
    cosine = float(z @ p) / max(float(np.linalg.norm(z) * np.linalg.norm(p)), 1e-12)
    worst = np.sort(np.abs(z - p))[len(z) // 2 :]
    return 1.0 - cosine + 10.0 * float(worst.mean())
