"""`memae`: an autoencoder that may only combine remembered good cells (after MemAE, arXiv 1904.02639).

A cell with its neighbours is encoded; the code addresses a memory by cosine, small addresses are cut to nothing
(hard shrinkage, eq. 7), and what is read from the memory is decoded. The loss adds the entropy of the addresses, so
that few memories answer (eq. 9).

Differs from the paper: cells of frozen features instead of pixels, so a code per cell and one 3×3 convolution instead
of a stack of strided ones.

Glossary: N memories, w (b, H, W, N) addresses, λ shrinkage threshold, α weight of the entropy.
"""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.baselines.cell_net import CellNet, CellShape, NetMethod, masked_mean
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig

__all__ = ["MemAe", "MemAeConfig", "addresses", "fit_memae"]


@dataclasses.dataclass(frozen=True, slots=True)
class MemAeConfig:
    """`shrink`: λ in units of 1/N, the paper says 1 to 3; 0 switches it off."""

    hidden: int = 96
    code: int = 32
    memories: int = 256
    shrink: float = 1.0
    entropy: float = 2e-4
    sharpness: float = 1.0
    """Factor of the cosines before the softmax."""

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "MemAeConfig":
        """`compat`: plain cosines as published; with a few hundred memories they address all alike."""
        hidden, code, memories = {"cpu": (96, 32, 256), "gpu": (256, 128, 2000)}[size]
        return cls(hidden, code, memories, sharpness=1.0 if preset == "compat" else 10.0)


def addresses(cosine: Tensor, shrink: float) -> Tensor:
    """Addresses `(…, N)` from scaled cosines: softmax, what is below λ = shrink / N cut to 0, sum 1 again."""
    w = cosine.softmax(-1)
    if shrink <= 0.0:
        return w
    above = w - shrink / w.shape[-1]
    w = F.relu(above) * w / (above.abs() + 1e-12)
    return F.normalize(w, p=1.0, dim=-1, eps=1e-12)


class MemAeNet(CellNet):
    """Encoder, memory and decoder."""

    def __init__(self, config: MemAeConfig, shape: CellShape) -> None:
        super().__init__()
        self.config = config
        channels = shape[2]
        self.context = nn.Conv2d(channels, config.hidden, 3, padding=1)
        self.encoder = nn.Sequential(nn.GELU(), nn.Linear(config.hidden, config.code))
        self.memory = nn.Parameter(torch.randn(config.memories, config.code) / config.code**0.5)
        self.decoder = nn.Sequential(
            nn.Linear(config.code, config.hidden), nn.GELU(), nn.Linear(config.hidden, channels)
        )

    def read(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction `(b, H, W, C)` and addresses."""
        code = self.encoder(self.context(cells.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        cosine = F.normalize(code, dim=-1) @ F.normalize(self.memory, dim=-1).T
        w = addresses(self.config.sharpness * cosine, self.config.shrink)
        return self.decoder(w @ self.memory), w

    def forward(self, cells: Tensor, valid: Tensor) -> Tensor:
        """Squared error and α · entropy of the addresses."""
        found, w = self.read(cells)
        entropy = -(w * (w + 1e-12).log()).sum(-1)
        return masked_mean((found - cells).square().mean(-1) + self.config.entropy * entropy, valid)

    def error(self, cells: Tensor, valid: Tensor) -> Tensor:
        """Mean squared error over a cell's channels."""
        return (self.read(cells)[0] - cells).square().mean(-1)


class MemAe(NetMethod[MemAeConfig]):
    """Fitted; see `pipelines.grids.GridMethod`."""

    net_type, config_type = MemAeNet, MemAeConfig


def fit_memae(train: GridData, held_out: GridData, config: MemAeConfig, loop: LoopConfig, tell: Tell) -> MemAe:
    """Train on goods of one modality."""
    return MemAe.fit(train, held_out, config, loop, tell)
