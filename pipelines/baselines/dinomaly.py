"""`dinomaly`: reconstruction that is kept from copying (after Dinomaly, arXiv 2405.14325; facts from its code).

What keeps it: a bottleneck whose dropout is the whole noise, linear attention that cannot focus on a cell itself, and
a loose loss: the cosine of whole maps of a group of channels, in which cells that are already easy pull a tenth.

Differs from the paper: frozen lite0 cells stand for DINOv2 tokens, the groups are ranges of channels instead of
averaged layers, positions are learned beside them (a transformer's tokens carry theirs), AdamW with one rate instead
of StableAdamW with warm-up. Standardised cells have lost their mean, and with it what a cosine of typical cells is
measured against: `anchor` puts a constant beside the channels again (`compat`: none).

Glossary: N = H·W cells, d width, q/k/v (b, heads, N, d/heads); φ = elu + 1; p share of easy cells.
"""

import dataclasses
import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.baselines.cell_net import CellNet, CellShape, NetMethod
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig

__all__ = ["Dinomaly", "DinomalyConfig", "fit_dinomaly", "linear_attention"]


@dataclasses.dataclass(frozen=True, slots=True)
class DinomalyConfig:
    """`width` of a token; `split`: channels at which a new group begins, none: one group of all."""

    width: int = 128
    blocks: int = 4
    heads: int = 4
    widening: int = 4
    dropout: float = 0.2
    split: tuple[int, ...] = ()
    easy_share: float = 0.9
    """p at its end."""
    easy_ramp: int = 1000
    """Steps over which p grows from 0."""
    easy_pull: float = 0.1
    """Factor of easy cells' gradients; 1: a plain cosine."""
    anchor: float = 1.0
    """Constant beside the channels of a group, times √C: 0, none."""

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "DinomalyConfig":
        """`compat`: the published loss; `gpu`: the published width and depth."""
        width, blocks, heads = {"cpu": (128, 4, 4), "gpu": (768, 8, 12)}[size]
        # Shorter trainings here: p is at its end after a like share of them.
        ramp, anchor = (1000, 0.0) if preset == "compat" else (200, 1.0)
        return cls(width, blocks, heads, split=(40,), easy_ramp=ramp, anchor=anchor)


def linear_attention(q: Tensor, k: Tensor, v: Tensor, known: Tensor) -> Tensor:
    """φ(q)ᵀ(Σ φ(k) vᵀ) / (φ(q)ᵀ Σ φ(k)) `(b, h, N, c)`, over the tokens that are `known` `(b, N)`.

    With one token this is v, whatever q and k: a length of 1 makes it a plain linear layer.
    """
    q, k = F.elu(q) + 1.0, (F.elu(k) + 1.0) * known[:, None, :, None]
    weighed = q @ (k.transpose(-1, -2) @ v)
    return weighed / (q * k.sum(-2, keepdim=True)).sum(-1, keepdim=True).clamp_min(1e-9)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, widening: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, widening * width), nn.GELU(), nn.Linear(widening * width, width))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """(b, N, d) → the same."""
        qkv: Tensor = self.qkv(self.norm1(x))
        q, k, v = qkv.reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(linear_attention(q, k, v, known).transpose(1, 2).flatten(2))
        found: Tensor = x + self.mlp(self.norm2(x))
        return found


class DinomalyNet(CellNet):
    """Cells → bottleneck → decoder → groups of channels."""

    step: Tensor

    def __init__(self, config: DinomalyConfig, shape: CellShape) -> None:
        super().__init__()
        height, width, channels = shape
        edges = (0, *config.split, channels)
        if list(edges) != sorted(set(edges)):
            raise ValueError(f"groups that begin at {config.split} do not divide {channels} channels")
        self.config = config
        self.sizes = [b - a for a, b in itertools.pairwise(edges)]
        if config.blocks < len(self.sizes):
            raise ValueError(f"{config.blocks} blocks cannot decode {len(self.sizes)} groups: one each at least")
        d, wide, drop = config.width, config.widening * config.width, config.dropout
        self.embed = nn.Linear(channels, d)
        self.place = nn.Parameter(0.02 * torch.randn(height * width, d))
        self.bottleneck = nn.Sequential(
            nn.Dropout(drop), nn.Linear(d, wide), nn.GELU(), nn.Dropout(drop), nn.Linear(wide, d), nn.Dropout(drop)
        )
        self.blocks = nn.ModuleList(Block(d, config.heads, config.widening) for _ in range(config.blocks))
        self.heads = nn.ModuleList(nn.Linear(d, size) for size in self.sizes)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def reconstruct(self, cells: Tensor, known: Tensor) -> list[Tensor]:
        """Groups `(b, N, C_g)` of cells `(b, N, C)`: the first blocks give the last group, deep features first."""
        x = self.bottleneck(self.embed(cells) + self.place)
        states = []
        for block in self.blocks:
            x = block(x, known)
            states.append(x)
        groups, each = len(self.sizes), len(states) // len(self.sizes)
        means = [torch.stack(states[g * each : (g + 1) * each]).mean(0) for g in range(groups)]
        return [head(mean) for head, mean in zip(self.heads, reversed(means), strict=True)]

    def forward(self, cells: Tensor, valid: Tensor) -> Tensor:
        """1 − cosine of whole maps, mean over groups and seams; training counts a step."""
        x, known = cells.flatten(1, 2), valid.flatten(1)
        share = 0.0
        if self.training:
            share = self.config.easy_share * min(1.0, float(self.step) / self.config.easy_ramp)
            self.step += 1
        losses = []
        for wanted, found in zip(torch.split(x, self.sizes, -1), self.reconstruct(x, known), strict=True):
            a, b = self._anchored(wanted), self._anchored(found)
            if self.training and found.requires_grad:
                self._loosen(found, 1.0 - F.cosine_similarity(a, b, dim=-1), known, share)
            mask = known[..., None]
            losses.append(1.0 - F.cosine_similarity((a * mask).flatten(1), (b * mask).flatten(1)))
        return torch.stack(losses).mean()

    def error(self, cells: Tensor, valid: Tensor) -> Tensor:
        """1 − cosine per cell, mean over groups."""
        x, known = cells.flatten(1, 2), valid.flatten(1)
        pairs = zip(torch.split(x, self.sizes, -1), self.reconstruct(x, known), strict=True)
        off = [1.0 - F.cosine_similarity(self._anchored(a), self._anchored(b), dim=-1) for a, b in pairs]
        return torch.stack(off).mean(0).reshape(valid.shape)

    def _anchored(self, x: Tensor) -> Tensor:
        constant = self.config.anchor * x.shape[-1] ** 0.5
        return F.pad(x, (0, 1), value=constant) if constant else x

    def _loosen(self, found: Tensor, distance: Tensor, known: Tensor, share: float) -> None:
        """Let the easiest `share` of the cells pull less."""
        if share <= 0.0 or not known.any():
            return
        easy = distance.detach() < torch.quantile(distance.detach()[known], share)
        pull = torch.where(easy, self.config.easy_pull, 1.0)[..., None]
        found.register_hook(lambda gradient: gradient * pull)  # type: ignore[no-untyped-call]


class Dinomaly(NetMethod[DinomalyConfig]):
    """Fitted; see `pipelines.grids.GridMethod`."""

    net_type, config_type = DinomalyNet, DinomalyConfig


def fit_dinomaly(
    train: GridData, held_out: GridData, config: DinomalyConfig, loop: LoopConfig, tell: Tell
) -> Dinomaly:
    """Train on goods of one modality."""
    return Dinomaly.fit(train, held_out, config, loop, tell)
