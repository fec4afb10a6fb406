"""CFM, the baseline of the two-modality methods: each modality of a place predicted from the other.

Crossmodal feature mapping (Costanzino et al., CVPR 2024, arXiv 2312.04521), a grid method (`pipelines/grids.py`).

Glossary::

    a, b       the pair's modalities, (B, H, W, Cₐ) and (B, H, W, C_b); 768 and 1152 as published
    h          hidden width, the mean of Cₐ and C_b
    M_a→b      Linear Cₐ→h, GELU, Linear h→h, GELU, Linear h→C_b; M_b→a likewise
    d_b        ‖ norm(M_a→b(a)) − norm(b) ‖₂ of every cell, 0..2
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self

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
from pipelines.torch_device import device_of

__all__ = ["LOOPS", "Cfm", "CfmConfig", "CfmNet", "fit_cfm"]

LOOPS: Mapping[str, LoopConfig] = {
    "compat": LoopConfig(epochs=50, batch=4, lr=1e-3, optimiser="adam", clip=None, patience=0, seed=115),
    "cell": LoopConfig(epochs=100, batch=32, lr=1e-3, optimiser="adamw", schedule="cosine", patience=10),
}
"""How the published code trains, and how we do at size gpu; at size cpu: `pipelines.grid_build.LOOPS`."""


@dataclasses.dataclass(frozen=True, slots=True)
class CfmConfig:
    """most_hidden: the hidden width's limit, 0: none, as published. program_embedding: one network for all programs,
    told which; as published there is one network for each."""

    most_hidden: int = 256
    program_embedding: bool = True

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"]) -> "CfmConfig":
        """The published code's choices, or ours; the published width, or one for two cores."""
        return cls(most_hidden={"cpu": 256, "gpu": 0}[size], program_embedding=preset == "cell")


class Mapper(nn.Module):
    """One direction, (B, H, W, C_from) → (B, H, W, C_to)."""

    def __init__(self, channels: tuple[int, int], programs: int, config: CfmConfig) -> None:
        super().__init__()
        hidden = sum(channels) // 2
        hidden = min(hidden, config.most_hidden) if config.most_hidden else hidden
        self.inp, self.mid, self.out = (
            nn.Linear(channels[0], hidden),
            nn.Linear(hidden, hidden),
            nn.Linear(hidden, channels[1]),
        )
        self.program = nn.Embedding(programs, hidden) if config.program_embedding else None
        if self.program is not None:
            nn.init.zeros_(self.program.weight)  # a program without goods gets what all programs share

    def forward(self, x: Tensor, program: Tensor) -> Tensor:
        x = self.inp(x)
        if self.program is not None:
            x = x + self.program(program)[:, None, None]
        found: Tensor = self.out(F.gelu(self.mid(F.gelu(x))))
        return found


class CfmNet(nn.Module):
    """`channels` of the pair, in order. `forward` predicts each modality from the other."""

    def __init__(self, channels: Mapping[str, int], programs: int, config: CfmConfig) -> None:
        super().__init__()
        if len(channels) != 2:
            raise ValueError(f"CFM maps between two modalities, got {len(channels)}: {', '.join(channels)}")
        self.config, self.channels, self.programs = config, dict(channels), programs
        a, b = channels
        self.source = {a: b, b: a}
        self.into = nn.ModuleDict(
            {to: Mapper((channels[source], channels[to]), programs, config) for to, source in self.source.items()}
        )

    def forward(self, cells: Mapping[str, Tensor], valid: Tensor, program: Tensor) -> dict[str, Tensor]:
        return {to: mapper(cells[self.source[to]], program) for to, mapper in self.into.items()}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Cfm:
    """Two trained networks. `report` says how their training went; None after `restore`."""

    net: CfmNet
    report: LoopReport | None = None

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """d_m of every cell by modality, `(n, H, W)`, 0..2; 0 where `valid` is false.

        Raises ValueError for other modalities or channels than were trained, and for programs unknown in training.
        """
        channels = {name: cells.shape[-1] for name, cells in data.cells.items()}
        if channels != self.net.channels or data.programs > self.net.programs:
            raise ValueError(
                f"trained on channels {self.net.channels} of {self.net.programs} programs, got {channels} of "
                f"{data.programs}: fit the method anew on these"
            )

        def maps(batch: GridBatch) -> dict[str, Tensor]:
            predicted = self.net(*batch)
            return {
                name: torch.linalg.vector_norm(
                    F.normalize(y, dim=-1) - F.normalize(batch.cells[name], dim=-1), dim=-1
                )
                for name, y in predicted.items()
            }

        return map_by_pieces(self.net, data, maps)

    def to(self, device: str) -> Self:
        """Itself, moved."""
        self.net.to(device)
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The networks' parameters."""
        return as_arrays(self.net)

    def about(self) -> dict[str, Any]:
        """Flags and sizes."""
        return about_net(self.net)

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "Cfm":
        """What `about` and `tensors` gave."""
        return cls(restored(CfmNet, CfmConfig, about, tensors))


def cfm_loss(net: nn.Module, batch: GridBatch) -> Tensor:
    """Mean over the seams of 1 − cos over the measured cells, summed over both directions."""
    count = batch.valid.flatten(1).sum(1).clamp(min=1)
    total = torch.zeros(len(count), device=count.device)
    for name, y in net(*batch).items():
        apart = (1.0 - F.cosine_similarity(y, batch.cells[name], dim=-1)) * batch.valid
        total = total + apart.flatten(1).sum(1) / count
    return total.mean()


def fit_cfm(train: GridData, held_out: GridData, config: CfmConfig, loop: LoopConfig, tell: Tell) -> Cfm:
    """Train on goods; the epoch is chosen on `held_out` goods. Raises ValueError without goods, or unless two
    modalities are given."""
    for what, data in (("train", train), ("held_out", held_out)):
        if not len(data):
            raise ValueError(f"CFM needs good seams, {what} has none")
    seams, others = GridTensors(train), GridTensors(held_out)
    torch.manual_seed(loop.seed)
    net = CfmNet(seams.channels, train.programs, config)
    report = train_loop(
        net,
        len(seams),
        lambda net, rows: cfm_loss(net, seams.batch(rows, device_of(net))),
        lambda net: mean_over_seams(net, others, cfm_loss),
        loop,
        tell,
    )
    return Cfm(net, report)
