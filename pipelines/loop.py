"""The one training loop of every network: epochs over good seams, early stopping on other goods.

Deterministic for a seed and a number of threads. The network that is kept is the one with the least held-out loss.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.grids import Tell

__all__ = ["LoopConfig", "LoopReport", "train_loop"]

Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class LoopConfig:
    """How to train. `patience` counts epochs without a better held-out loss; 0: the last epoch's network is kept."""

    epochs: int = 60
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    optimiser: Literal["adam", "adamw"] = "adamw"
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    clip: float | None = 1.0
    patience: int = 10
    seed: int = 0
    checkpoint: Path | None = None
    """Where a training that was killed goes on from; None: nowhere."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoopReport:
    """`best_epoch` counts from 1, 0 is the untrained network; losses are held-out ones."""

    best_epoch: int
    epochs: int
    best_loss: float
    first_loss: float
    seconds: float
    peak_mb: float


def train_loop(
    net: nn.Module,
    rows: int,
    loss: Callable[[nn.Module, Rows], Tensor],
    held_out: Callable[[nn.Module], float],
    config: LoopConfig,
    tell: Tell,
) -> LoopReport:
    """Train `net` in place.

    Args:
        rows: number of training seams; they are drawn anew each epoch, in batches.
        loss: mean loss of the seams with these row numbers, with gradients; called in training mode.
        held_out: mean loss of goods that do not train; called in evaluation mode without gradients.
    """
    import resource
    import time

    began = time.monotonic()
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    steps = config.epochs * -(-rows // config.batch)
    make = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    optimiser = make([p for p in net.parameters() if p.requires_grad], config.lr, weight_decay=config.weight_decay)
    schedule = _schedule(optimiser, config, steps)
    best = first = _held_out(net, held_out)
    best_state = {name: value.clone() for name, value in net.state_dict().items()}
    best_epoch = epoch = 0
    for epoch in range(1, config.epochs + 1):
        net.train()
        mixed = rng.permutation(rows)
        for start in range(0, rows, config.batch):
            found = loss(net, mixed[start : start + config.batch])
            optimiser.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]
            if config.clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), config.clip)
            optimiser.step()
            if schedule is not None:
                schedule.step()
        now = _held_out(net, held_out)
        tell("network", epoch, config.epochs, now)
        if now < best or not config.patience:
            best, best_epoch = now, epoch
            best_state = {name: value.clone() for name, value in net.state_dict().items()}
        elif epoch - best_epoch >= config.patience:
            break
    net.load_state_dict(best_state)
    net.eval()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return LoopReport(best_epoch, epoch, best, first, time.monotonic() - began, peak_mb)


def _held_out(net: nn.Module, held_out: Callable[[nn.Module], float]) -> float:
    net.eval()
    with torch.no_grad():
        return held_out(net)


def _schedule(
    optimiser: torch.optim.Optimizer, config: LoopConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps, pct_start=0.1)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    return None
