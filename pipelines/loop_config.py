"""How `pipelines/loop.py` trains and what it reports: configuration, report, and what both say of a training."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed, nn

__all__ = ["AMP_DTYPES", "LoopConfig", "LoopReport", "made_for", "make_optimiser", "make_schedule", "refuse"]

AMP_DTYPES = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    """Directory in which a training that was killed finds where to go on; None: nowhere."""
    checkpoint_every_s: float = 30.0
    """Checkpoints come after each epoch, and within one this long after the last; 0: after each batch."""
    stage: str = "network"
    """What is told, and the checkpoint's name: a method that trains several networks names each differently."""
    data: str = ""
    """Digest of what is trained on; a checkpoint of another one is refused."""
    amp: Literal["off", "bf16", "fp16"] = "off"
    """Mixed precision in training; held-out losses are always in full precision. fp16 needs CUDA."""
    device: str = "cpu"
    """"cpu" or "cuda": where the network is trained, and stays."""


@dataclasses.dataclass(frozen=True, slots=True)
class LoopReport:
    """`best_epoch` counts from 1, 0 is the untrained network; losses are held-out ones, but for `train_losses`.

    `seconds` counts what was trained before a kill too. `peak_mb` is the most memory the process ever held, resident;
    `peak_cuda_mb` the most that tensors held on the GPU, None without one. `train_losses` and `held_out_losses` are
    one an epoch. `resumed_at` counts the batches that a checkpoint brought.
    """

    best_epoch: int
    epochs: int
    best_loss: float
    first_loss: float
    seconds: float
    peak_mb: float
    peak_cuda_mb: float | None = None
    train_losses: tuple[float, ...] = ()
    held_out_losses: tuple[float, ...] = ()
    resumed_at: int = 0
    processes: int = 1


def refuse(rows: int, config: LoopConfig, device: torch.device, processes: int) -> None:
    """Raise ValueError for what cannot be trained."""
    if rows < 1 or config.epochs < 1 or config.batch < 1:
        raise ValueError(
            f"{config.stage}: {rows} training seams, {config.epochs} epochs in batches of {config.batch}: "
            "each must be 1 or more"
        )
    if config.amp == "fp16" and device.type != "cuda":
        raise ValueError(
            f'{config.stage}: amp = "fp16" needs CUDA and the network is on {device}; use "bf16" or "off"'
        )
    if processes > 1 and not distributed.is_initialized():
        raise ValueError(
            f"{config.stage}: started as one of {processes} processes that did not meet; train inside "
            "pipelines.distributed.joined(), or start without torchrun"
        )


def made_for(net: nn.Module, rows: int, config: LoopConfig, first: float, processes: int) -> dict[str, Any]:
    """What must be the same in a training that goes on. `first` also tells other held-out goods."""
    digest = hashlib.sha256()
    for name, value in net.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    fields = dataclasses.asdict(config)
    for name in ("checkpoint", "checkpoint_every_s", "device"):
        del fields[name]
    return fields | {
        "seams": rows,
        "untrained_network": digest.hexdigest()[:16],
        "untrained_held_out_loss": first,
        "processes": processes,
    }


def make_optimiser(net: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """Over the parameters that learn."""
    make = torch.optim.AdamW if config.optimiser == "adamw" else torch.optim.Adam
    return make([p for p in net.parameters() if p.requires_grad], config.lr, weight_decay=config.weight_decay)


def make_schedule(
    optimiser: torch.optim.Optimizer, config: LoopConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """Stepped after each of `steps` batches; None: constant."""
    if config.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=steps, pct_start=0.1)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    return None
