"""`simplenet`: tells good cells from good cells with noise upon them (after SimpleNet, arXiv 2303.15140).

A linear adaptor moves cells (with their neighbours' mean) to a space of their own; there Gaussian noise makes fake
anomalies, and a small discriminator learns a truncated L1 margin between both (eqs. 3 to 7).

Differs from the paper: one optimiser and rate for both parts, cells as they come instead of two backbone levels, and
the map is softplus(−D) instead of −D: the same order, and no negative figures. σ is in spreads of a channel on
training goods; the published .015 was in a backbone's units. The discriminator normalises by batch, as published, so
processes that share a batch do not train quite as one does.

Glossary: D the discriminator's answer, high for good cells; σ the noise; th the margin.
"""

import dataclasses
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.baselines.cell_net import CellNet, CellShape, NetMethod
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig

__all__ = ["SimpleNet", "SimpleNetConfig", "fit_simplenet"]


@dataclasses.dataclass(frozen=True, slots=True)
class SimpleNetConfig:
    """`hidden` units of the discriminator; `sigma`, `margin`: σ and th."""

    hidden: int = 128
    sigma: float = 0.5
    margin: float = 0.5
    patch: int = 3
    """Side of the neighbourhood whose mean a cell becomes; odd."""

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "SimpleNetConfig":
        """`compat`: the published noise."""
        return cls(hidden={"cpu": 128, "gpu": 1024}[size], sigma=0.015 if preset == "compat" else 0.5)


def _valid_mean(cells: Tensor, valid: Tensor, side: int) -> Tensor:
    """Mean over the valid cells of side × side around each, `(b, H, W, C)`."""
    known = valid[:, None].to(cells.dtype)
    total = F.avg_pool2d(cells.permute(0, 3, 1, 2) * known, side, stride=1, padding=side // 2)
    return (total / F.avg_pool2d(known, side, stride=1, padding=side // 2).clamp_min(1e-6)).permute(0, 2, 3, 1)


class SimpleNetNet(CellNet):
    """Adaptor and discriminator."""

    def __init__(self, config: SimpleNetConfig, shape: CellShape) -> None:
        super().__init__()
        if config.patch % 2 == 0:
            raise ValueError(f"a neighbourhood has a cell in its middle, so an odd side, not {config.patch}")
        self.config = config
        channels = shape[2]
        self.adaptor = nn.Linear(channels, channels)
        nn.init.xavier_normal_(self.adaptor.weight)
        self.discriminator = nn.Sequential(
            nn.Linear(channels, config.hidden),
            nn.BatchNorm1d(config.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(config.hidden, 1, bias=False),
        )

    def _adapted(self, cells: Tensor, valid: Tensor) -> Tensor:
        found: Tensor = self.adaptor(_valid_mean(cells, valid, self.config.patch)[valid])
        return found

    def forward(self, cells: Tensor, valid: Tensor) -> Tensor:
        """max(0, th − D(good)) + max(0, th + D(fake)), mean; the noise is always the same when not training."""
        good = self._adapted(cells, valid)
        generator = None if self.training else torch.Generator(good.device).manual_seed(0)
        noise = torch.randn(good.shape, generator=generator, device=good.device)
        both: Tensor = self.discriminator(torch.cat([good, good + self.config.sigma * noise]))[:, 0]
        of_good, of_fake = both.chunk(2)
        th = self.config.margin
        return ((th - of_good).clamp_min(0) + (th + of_fake).clamp_min(0)).mean()

    def error(self, cells: Tensor, valid: Tensor) -> Tensor:
        """softplus(−D)."""
        found = torch.zeros(valid.shape, dtype=cells.dtype)
        if valid.any():
            found[valid] = F.softplus(-self.discriminator(self._adapted(cells, valid))[:, 0])
        return found


class SimpleNet(NetMethod[SimpleNetConfig]):
    """Fitted; see `pipelines.grids.GridMethod`."""

    net_type, config_type = SimpleNetNet, SimpleNetConfig


def fit_simplenet(
    train: GridData, held_out: GridData, config: SimpleNetConfig, loop: LoopConfig, tell: Tell
) -> SimpleNet:
    """Train on goods of one modality."""
    return SimpleNet.fit(train, held_out, config, loop, tell)
