"""MAFR (arXiv 2510.21793): two modalities of a place are restored from one latent; what cannot be, is odd.

A grid method (`pipelines/grids.py`). Ψ_m = ‖X̂_m − X_m‖₂ of every cell is a modality's error map; their fusion is
`pipelines/fusion.py`. The published code trains one network per program: give `fit_mafr` that program's goods
alone, with `program_embedding` off.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.grid_nets import (
    GridBatch,
    GridTensors,
    about_net,
    as_arrays,
    map_by_pieces,
    mean_over_seams,
    restored,
)
from pipelines.grids import Array, GridData, Tell
from pipelines.loop import LoopConfig, LoopReport, train_loop
from pipelines.mafr_losses import avgpool_l1, smoothness, soft_census, znssd
from pipelines.mafr_net import MafrConfig, MafrNet
from pipelines.torch_device import device_of

__all__ = ["LOOPS", "Mafr", "MafrConfig", "fit_mafr", "mafr_loss"]

LOOPS: Mapping[str, LoopConfig] = {
    "compat": LoopConfig(epochs=100, batch=1, lr=1e-3, optimiser="adam", clip=None, patience=0, seed=115),
    "cell": LoopConfig(epochs=100, batch=32, lr=1e-3, optimiser="adamw", schedule="cosine", patience=10),
}
"""How the published scripts train, one seam a step, and we at size gpu; at size cpu: `pipelines.grid_build.LOOPS`."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Mafr:
    """A trained network. `report` says how its training went; None after `restore`."""

    net: MafrNet
    report: LoopReport | None = None

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """‖X̂ − X‖₂ of every cell by modality, `(n, H, W)`; 0 where `valid` is false.

        Raises ValueError for other modalities or channels than were trained, and for programs unknown in training.
        """
        _refuse_strangers(self.net, data)

        def maps(batch: GridBatch) -> dict[str, Tensor]:
            made = self.net(*batch)
            return {name: self._error(batch.cells[name], made[name]) for name in made}

        return map_by_pieces(self.net, data, maps)

    def _error(self, x: Tensor, y: Tensor) -> Tensor:
        if self.net.config.normalised_score:
            x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
        found: Tensor = torch.linalg.vector_norm(y - x, dim=-1)
        return found

    def to(self, device: str) -> Self:
        """Itself, moved."""
        self.net.to(device)
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The network's parameters."""
        return as_arrays(self.net)

    def about(self) -> dict[str, Any]:
        """Flags and sizes."""
        return about_net(self.net)

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Mafr":
        """What `about` and `tensors` gave."""
        return cls(restored(MafrNet, MafrConfig, about, tensors))


def _refuse_strangers(net: MafrNet, data: GridData) -> None:
    channels = {name: cells.shape[-1] for name, cells in data.cells.items()}
    if channels != net.channels or data.programs > net.programs:
        raise ValueError(
            f"trained on channels {net.channels} of {net.programs} programs, got {channels} of {data.programs}: "
            "fit the method anew on these"
        )


def mafr_loss(net: nn.Module, batch: GridBatch, config: MafrConfig) -> Tensor:
    """Mean over the seams of ZNSSD + smoothness + census, weighted, summed over the modalities."""
    restored = net(*batch)
    weight = batch.valid.float() if config.masked_losses else torch.ones_like(batch.valid, dtype=torch.float32)
    total = torch.zeros(len(weight), device=weight.device)
    for name, y in restored.items():
        x = batch.cells[name]
        total = total + config.weight_znssd * znssd(x, y, weight)
        total = total + config.weight_smooth * smoothness(x, y, weight, config.smooth_channels)
        total = total + config.weight_census * _census(x, y, weight, config)
    return total.mean()


def _census(x: Tensor, y: Tensor, weight: Tensor, config: MafrConfig) -> Tensor:
    if config.census == "avgpool_l1":
        return avgpool_l1(x, y, weight, config.window, config.masked_losses)
    if config.census == "soft":
        return soft_census(x, y, weight, config.window)
    return torch.zeros(len(x), device=x.device)


def fit_mafr(train: GridData, held_out: GridData, config: MafrConfig, loop: LoopConfig, tell: Tell) -> Mafr:
    """Train on goods; the epoch is chosen on `held_out` goods.

    Raises ValueError without goods, and for a modality of one channel, whose standardised vector says nothing.
    """
    for what, data in (("train", train), ("held_out", held_out)):
        if not len(data):
            raise ValueError(f"MAFR needs good seams, {what} has none")
    seams, others = GridTensors(train), GridTensors(held_out)
    if thin := [name for name, channels in seams.channels.items() if channels < 2]:
        raise ValueError(f"MAFR compares a cell's channels among themselves; {', '.join(thin)} has only one")
    torch.manual_seed(loop.seed)
    net = MafrNet(seams.channels, train.programs, config)

    def loss(net: nn.Module, batch: GridBatch) -> Tensor:
        return mafr_loss(net, batch, config)

    report = train_loop(
        net,
        len(seams),
        lambda net, rows: loss(net, seams.batch(rows, device_of(net))),
        lambda net: mean_over_seams(net, others, loss),
        loop,
        tell,
    )
    return Mafr(net, report)
