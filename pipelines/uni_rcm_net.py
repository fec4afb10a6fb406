"""The trainable part of Uni-RCM: from one modality's grid to the other's, guided by a learnt picture of good seams.

After Uni-RCM (arXiv 2605.29455) and its released code. Two such nets, one a direction, make the method
(`pipelines/uni_rcm.py`).

Glossary::

    B seams · H cells across · W along · d width · N blocks
    F (B, H, W, d)   the source modality's cells, embedded, then each block's output
    R (1, H, W, d)   the reference: learnt, one value a place of the grid, the same for all seams and blocks of a net
    g, a             gates of the two branches: RFI (reference-guided feature interaction, g from F ⊙ R) passes on the
                     reference, RAM (reference-aware modulation, a from [F; R]) passes on the feature
    α                how much RFI counts, σ of one learnt number a block, ½ at first
    C                α · RFI + (1 − α) · RAM; a block gives C + FFN(LN C)

A block has no way round for F: what leaves it went through a gate that R had a say in. That is what keeps an anomaly
of the source from being passed on, and why no residual connection may be added.
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Direction", "DirectionConfig", "ReferenceBlock", "positions"]

NORM_GROUPS = 8
REFERENCE_STD = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class DirectionConfig:
    """Sizes and choices of one net. Published: d 512, 3 blocks, 56×56, batch norm, both branches, a learnt reference.

    `programs`: 0: the net is not told the welding program, as published.
    """

    source: int
    target: int
    shape: tuple[int, int]
    d: int = 512
    blocks: int = 3
    norm: Literal["batch", "group"] = "batch"
    branch: Literal["both", "rfi", "ram"] = "both"
    reference: Literal["learned", "zeros"] = "learned"
    programs: int = 0


def positions(shape: tuple[int, int], d: int) -> Tensor:
    """Fixed sine and cosine positions `(1, H, W, d)`: the first half of the channels says where across, the other
    where along. Raises ValueError unless d is a multiple of 4."""
    if d % 4:
        raise ValueError(f"positions on a grid need a width that is a multiple of 4, got {d}")
    rate = torch.exp(torch.arange(d // 4, dtype=torch.float32) * (-math.log(10_000.0) / (d // 4)))

    def waves(n: int) -> Tensor:
        angle = torch.arange(n, dtype=torch.float32)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=1)  # (n, d/2)

    rows, columns = shape
    across = waves(rows)[:, None].expand(rows, columns, d // 2)
    along = waves(columns)[None].expand(rows, columns, d // 2)
    return torch.cat([across, along], dim=-1)[None]


class Interaction(nn.Module):
    """RFI: the feature decides, place by place, what of the reference is passed on. No cell attends to another: the
    gate is a sigmoid of a product channel by channel, only the 3×3 convolution mixes neighbours."""

    def __init__(self, d: int, norm: Literal["batch", "group"]) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(d, d) for _ in range(3))
        self.conv = nn.Conv2d(d, d, 3, padding=1, groups=d)
        # Batch statistics of few goods are rough, and make a seam's training depend on its batch.
        self.norm = nn.BatchNorm2d(d) if norm == "batch" else nn.GroupNorm(NORM_GROUPS, d)
        self.out = nn.Linear(d, d)

    def forward(self, f: Tensor, r: Tensor) -> Tensor:
        """f (B, H, W, d), r (1, H, W, d) → (B, H, W, d)."""
        gate = torch.sigmoid(self.query(f) * (self.key(r) * f.shape[-1] ** -0.5))
        told = (gate * self.value(r)).permute(0, 3, 1, 2)  # (B, d, H, W)
        out: Tensor = self.out(self.norm(self.conv(told)).permute(0, 2, 3, 1))
        return out


class Modulation(nn.Module):
    """RAM: feature and reference together decide what of the feature is passed on."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.joint, self.gate, self.out = nn.Linear(2 * d, d), nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, f: Tensor, r: Tensor) -> Tensor:
        """f (B, H, W, d), r (1, H, W, d) → (B, H, W, d)."""
        of_f, of_r = self.joint.weight.chunk(2, dim=1)
        # The same as joint([f; r]), but the reference's half is worked out once and not once a seam.
        hidden = F.gelu(F.linear(f, of_f) + F.linear(r, of_r, self.joint.bias))
        out: Tensor = self.out(torch.sigmoid(self.gate(hidden)) * f)
        return out


class ReferenceBlock(nn.Module):
    """One reference-guide block, (B, H, W, d) → (B, H, W, d)."""

    def __init__(self, config: DirectionConfig) -> None:
        super().__init__()
        d = config.d
        self.norm_f, self.norm_r = nn.LayerNorm(d), nn.LayerNorm(d)
        self.interaction = Interaction(d, config.norm) if config.branch != "ram" else None
        self.modulation = Modulation(d) if config.branch != "rfi" else None
        self.mix = nn.Parameter(torch.zeros(())) if config.branch == "both" else None
        self.ffn = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, f: Tensor, r: Tensor) -> Tensor:
        """f (B, H, W, d), r (1, H, W, d)."""
        f, r = self.norm_f(f), self.norm_r(r)
        parts = [branch(f, r) for branch in (self.interaction, self.modulation) if branch is not None]
        c: Tensor = parts[0] if self.mix is None else torch.lerp(parts[1], parts[0], torch.sigmoid(self.mix))
        out: Tensor = c + self.ffn(c)
        return out


class Direction(nn.Module):
    """One direction: source cells (B, H, W, source) → predicted target cells (B, H, W, target)."""

    place: Tensor

    def __init__(self, config: DirectionConfig) -> None:
        super().__init__()
        d = config.d
        self.embed, self.embed_norm = nn.Linear(config.source, d), nn.LayerNorm(d)
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_out")
        self.register_buffer("place", positions(config.shape, d), persistent=False)
        self.program = nn.Embedding(config.programs, d) if config.programs else None
        if self.program is not None:
            nn.init.zeros_(self.program.weight)
        learnt = config.reference == "learned"
        # Without a reference its positions go too: what is compared is a net that knows nothing of the place's goods.
        self.reference = nn.Parameter(REFERENCE_STD * torch.randn(1, *config.shape, d)) if learnt else None
        self.blocks = nn.ModuleList(ReferenceBlock(config) for _ in range(config.blocks))
        self.head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, config.target))

    def forward(self, cells: Tensor, program: Tensor) -> Tensor:
        """cells (B, H, W, source), program (B,) int64, unread where the net is not told it."""
        f = self.embed_norm(self.embed(cells)) + self.place
        if self.program is not None:
            f = f + self.program(program)[:, None, None]
        r = torch.zeros_like(self.place) if self.reference is None else self.reference + self.place
        for block in self.blocks:
            f = block(f, r)
        out: Tensor = self.head(f)
        return out
