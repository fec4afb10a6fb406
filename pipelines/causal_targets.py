"""What Causal-HM's network is asked to predict of the result, and the losses against it.

    frozen_pca     the result's rows as they are: PCA-whitened on training goods (the product's)
    frozen_cov     the rows times W, WᵀW the inverse covariance (Ledoit & Wolf, 2004) of held-out goods' rows
    ema            a trained encoding of the rows; the target is its slow copy, without gradient
    trainable_dev  a trained encoding with gradients into both sides, as the paper's development code has it: a
                   constant is a global optimum of every term, and `collapse` says how near the encoding came

All have K numbers a token. The published loss is 1 − cos plus the SmoothL1 of a seam's half of all numbers that is
worst predicted, optionally its Gram matrix over the batch; the paper's text term (CLIP) is left out: it pulls every
prediction to one constant.

Glossary: B batch · V views · R rows of a view · Q = V R, or R where views are pooled · K numbers of a token.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.causal_config import NetConfig

__all__ = ["Target", "published_loss", "squared_loss", "target_of", "variance_term"]

EMA_DECAY = 0.99
SMOOTH_L1_BETA = 0.1
TOP_SHARE = 0.5


class Target(nn.Module):
    """Rows (B, V R, K) and which are known → targets (B, Q, K) and which are known."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.views, self.queries = config.views, config.queries

    def forward(self, rows: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be predicted."""
        return self.pool(self.encoded(rows), known)

    def encoded(self, rows: Tensor) -> Tensor:
        """Each row by itself."""
        return rows

    def learning(self, rows: Tensor) -> Tensor | None:
        """The side of the encoding that learns, where it is not the target itself."""
        return None

    def after_step(self) -> None:
        """Called between steps of the optimiser."""

    def pool(self, z: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Over views, as configured."""
        if self.views == "each":
            return z, known
        z = z.reshape(len(z), -1, self.queries, z.shape[2])  # (B, V, R, K)
        known = known.reshape(len(known), -1, self.queries)
        there = known[..., None]
        if self.views == "max":
            pooled = z.masked_fill(~there, -torch.inf).amax(1)
        else:
            pooled = (z * there).sum(1) / there.sum(1).clamp(min=1)
        any_known = known.any(1)
        return pooled.masked_fill(~any_known[..., None], 0.0), any_known


class WeightedTarget(Target):
    """frozen_cov; `weight` (K, K) is set by `fit` before training."""

    weight: Tensor

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.register_buffer("weight", torch.eye(config.targets))

    def encoded(self, rows: Tensor) -> Tensor:
        return rows @ self.weight.T

    def fit(self, rows: NDArray[np.float32], known: NDArray[np.bool_]) -> None:
        """W from the rows of held-out goods, deviations from their program's mean (n, V R, K)."""
        from pipelines.gaussian import fit_gaussian

        own = rows[known].astype(np.float64)
        found = fit_gaussian(own, np.zeros(len(own), np.int64), 1, mean=np.zeros((1, own.shape[1])))
        self.weight.copy_(torch.from_numpy(found.whiten[0]))


class DevTarget(Target):
    """trainable_dev."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        k, d = config.targets, config.d
        self.encoder = nn.Sequential(nn.Linear(k, d), nn.LayerNorm(d), nn.SiLU(), nn.Linear(d, k))

    def encoded(self, rows: Tensor) -> Tensor:
        out: Tensor = self.encoder(rows)
        return out


class EmaTarget(DevTarget):
    """ema; the encoder learns to be predictable and to keep its variance, the teacher follows it."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__(config)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def encoded(self, rows: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = self.teacher(rows)
        return out

    def learning(self, rows: Tensor) -> Tensor | None:
        out: Tensor = self.encoder(rows)
        return out

    @torch.no_grad()
    def after_step(self) -> None:
        for slow, fast in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - EMA_DECAY)


TARGETS: dict[str, type[Target]] = {
    "frozen_pca": Target,
    "frozen_cov": WeightedTarget,
    "ema": EmaTarget,
    "trainable_dev": DevTarget,
}


def target_of(config: NetConfig) -> Target:
    """The target that `config` names."""
    return TARGETS[config.target](config)


def squared_loss(predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Squared error per known token. The seam's mean counts by itself too: size shows in it before any token."""
    weight = known[..., None].to(predicted)
    error = (predicted - target) * weight
    mean = error.sum(1) / weight.sum(1).clamp(min=1)
    return error.square().sum() / (weight.sum() * predicted.shape[-1]) + mean.square().mean()


def published_loss(predicted: Tensor, target: Tensor, known: Tensor, gram: float = 0.0) -> Tensor:
    """1 − cos, SmoothL1 (β 0.1) of the worst half of the numbers, and `gram` × the Gram matrices' difference.

    A seam's vector is all its known tokens, unknown ones 0; (B, Q, K) → scalar.
    """
    weight = known[..., None].to(predicted)
    p, z = (predicted * weight).flatten(1), (target * weight).flatten(1)  # (B, Q K)
    cosine = 1.0 - F.cosine_similarity(p, z, dim=1, eps=1e-4)
    each = F.smooth_l1_loss(p, z, reduction="none", beta=SMOOTH_L1_BETA)
    worst = each.topk(max(1, int(TOP_SHARE * each.shape[1])), dim=1).values
    found = (cosine + worst.mean(1)).mean()
    if gram:
        size = p.shape[1]
        found = found + gram * F.mse_loss(p @ p.T / size, z @ z.T / size)
    return found


def variance_term(z: Tensor, known: Tensor) -> Tensor:
    """How far every number's spread over the batch's known tokens falls short of 1 (VICReg, arXiv 2105.04906)."""
    own = z[known]
    if len(own) < 2:
        return z.new_zeros(())
    return F.relu(1.0 - (own.var(0) + 1e-4).sqrt()).mean()
