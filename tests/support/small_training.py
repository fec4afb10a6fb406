"""A training of two seconds: b = f(a) + noise, learned by a small network with dropout. Also a script.

`python -m tests.support.small_training --out F.json [--checkpoint DIR] [--kill-at N] [--dropout P]` trains as
one process or, under torchrun, as several; `--kill-at` ends the process with SIGKILL inside its Nth batch.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.distributed import joined
from pipelines.loop import LoopConfig, LoopReport, Rows, train_loop

__all__ = ["CONFIG", "ROWS", "SmallTraining", "digest"]

ROWS = 37  # in batches of 8: the last one is of 5, and its shares in two processes are not equal
CONFIG = LoopConfig(epochs=5, batch=8, lr=1e-2, schedule="one_cycle", patience=0, seed=3, checkpoint_every_s=0.0)


class SmallTraining:
    """Network and data of a known law; `batches` counts the calls of the loss."""

    def __init__(self, dropout: float = 0.2, kill_at: int | None = None, shift: float = 0.0) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))
        rng = np.random.default_rng(1)
        self.a = torch.from_numpy(rng.normal(size=(ROWS + 20, 6)).astype(np.float32))
        self.b = torch.sin(self.a[:, :4]) + shift
        self.kill_at, self.batches = kill_at, 0
        self.told: list[tuple[str, int, int, float]] = []

    def loss(self, net: nn.Module, rows: Rows) -> Tensor:
        self.batches += 1
        if self.batches == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return F.mse_loss(net(self.a[:ROWS][rows]), self.b[:ROWS][rows])

    def held_out(self, net: nn.Module) -> float:
        return float(F.mse_loss(net(self.a[ROWS:]), self.b[ROWS:]))

    def tell(self, stage: str, done: int, total: int, loss: float) -> None:
        self.told.append((stage, done, total, loss))

    def run(self, config: LoopConfig = CONFIG, **changes: Any) -> LoopReport:
        return train_loop(self.net, ROWS, self.loss, self.held_out, dataclasses.replace(config, **changes), self.tell)


def digest(net: nn.Module) -> str:
    """Over every bit of the weights."""
    found = hashlib.sha256()
    for value in net.state_dict().values():
        found.update(value.numpy().tobytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--dropout", type=float, default=0.2)
    arguments = parser.parse_args()
    training = SmallTraining(arguments.dropout, arguments.kill_at)
    with joined() as here:
        report = training.run(checkpoint=arguments.checkpoint)
        said = {**dataclasses.asdict(report), "digest": digest(training.net), "told": len(training.told)}
        arguments.out.with_suffix(f".{here.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
