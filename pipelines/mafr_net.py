"""MAFR's network: cells of all modalities into one latent, and each modality restored from it.

Glossary (MAFR, arXiv 2510.21793, and its published code)::

    B seams · H × W cells · C channels of a modality (768 and 1152 as published) · d latent (960) · h = C
    cells     {modality: (B, H, W, C)}
    latent    (B, H, W, d), d at most half of all channels together: 960 = (768 + 1152) / 2 as published
    restored  {modality: (B, H, W, C)}

Encoder: 3 × [Linear, GELU, LayerNorm], dropout between. Decoder of a modality: 3 × [Linear, LayerNorm, GELU,
dropout], CBAM, Linear; beside them a linear skip from the latent. The published code has one LayerNorm in all places
of a part.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Cbam", "MafrConfig", "MafrNet"]

SQUEEZE = 16
SPATIAL = 7


@dataclasses.dataclass(frozen=True, slots=True)
class MafrConfig:
    """What the published code chose, and what we do.

    hidden: the latent, at most; half of all channels where they are fewer, as otherwise it could hold every cell
        whole and restore what it never saw.
    cbam: attention sees each cell alone, as published ("percell": there the spatial one is a scalar gate of the
        cell), the whole grid, as the paper has it ("grid"), or is left out.
    census: window means, as published, or a comparison of neighbours that is one; `window` in cells.
    smooth_channels: how many channels the smoothness sees, 2 as published; 0: all.
    masked_losses: cells that were not measured have no part in the losses; as published they have.
    normalised_score: both vectors brought to length 1 before they are compared, as CFM does and MAFR does not.
    program_embedding: the welding program is told to the encoder, for one network over all programs; as published
        there is one network for each.
    """

    hidden: int = 256
    cbam: Literal["percell", "grid", "none"] = "grid"
    census: Literal["avgpool_l1", "soft", "none"] = "avgpool_l1"
    window: int = 3
    smooth_channels: int = 0
    masked_losses: bool = True
    normalised_score: bool = False
    weight_znssd: float = 1.0
    weight_smooth: float = 1.0
    weight_census: float = 1.0
    shared_norm: bool = True
    dropout: float = 0.1
    skip: bool = True
    program_embedding: bool = True

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"]) -> "MafrConfig":
        """The published code's choices, or ours; the published latent, or one for two cores."""
        return cls(hidden=HIDDEN[size], **PRESETS[preset])


HIDDEN = {"cpu": 256, "gpu": 960}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "compat": {
        "cbam": "percell",
        "window": 7,
        "smooth_channels": 2,
        "masked_losses": False,
        "program_embedding": False,
    },
    "cell": {},
}


class Cbam(nn.Module):
    """Channel and spatial attention (Woo et al., arXiv 1807.06521), `(B, H, W, C)` → same."""

    def __init__(self, channels: int, whole_grid: bool) -> None:
        super().__init__()
        squeezed = max(1, channels // SQUEEZE)
        self.whole_grid = whole_grid
        self.mlp = nn.Sequential(
            nn.Linear(channels, squeezed, bias=False), nn.ReLU(), nn.Linear(squeezed, channels, bias=False)
        )
        self.conv = nn.Conv2d(2, 1, SPATIAL, padding=SPATIAL // 2, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return self._grid(x, valid[..., None]) if self.whole_grid else self._each_cell(x)

    def _grid(self, x: Tensor, valid: Tensor) -> Tensor:
        count = valid.sum((1, 2)).clamp(min=1)
        mean = (x * valid).sum((1, 2)) / count  # (B, C)
        most = torch.where(valid, x, -torch.inf).amax((1, 2))
        most = torch.where(torch.isfinite(most), most, 0.0)  # a seam without any measured cell
        x = x * torch.sigmoid(self.mlp(mean) + self.mlp(most))[:, None, None]
        seen = torch.stack([x.mean(-1), x.amax(-1)], 1) * valid[:, None, ..., 0]  # (B, 2, H, W)
        gate: Tensor = torch.sigmoid(self.conv(seen))[:, 0, ..., None]
        return x * gate

    def _each_cell(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(2.0 * self.mlp(x))  # the mean and the largest of one cell are that cell
        seen = torch.stack([x.mean(-1), x.amax(-1)], -1)  # (B, H, W, 2)
        centre = self.conv.weight[0, :, SPATIAL // 2, SPATIAL // 2]  # around one cell there is only padding
        return x * torch.sigmoid(seen @ centre)[..., None]


class Norms(nn.Module):
    """LayerNorms of consecutive places; one and the same where they are shared."""

    def __init__(self, places: int, size: int, shared: bool) -> None:
        super().__init__()
        self.each = nn.ModuleList(nn.LayerNorm(size) for _ in range(1 if shared else places))

    def forward(self, x: Tensor, place: int) -> Tensor:
        found: Tensor = self.each[min(place, len(self.each) - 1)](x)
        return found


class FusionEncoder(nn.Module):
    """All modalities of a cell → its latent, (B, H, W, Σ C) → (B, H, W, d)."""

    def __init__(self, channels: int, latent: int, programs: int, config: MafrConfig) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(n, latent) for n in (channels, latent, latent))
        self.norms = Norms(3, latent, config.shared_norm)
        self.dropout = nn.Dropout(config.dropout)
        self.program = nn.Embedding(programs, latent) if config.program_embedding else None
        if self.program is not None:
            nn.init.zeros_(self.program.weight)  # a program without goods gets what all programs share

    def forward(self, x: Tensor, program: Tensor) -> Tensor:
        for place, linear in enumerate(self.linears):
            x = linear(x)
            if place == 0 and self.program is not None:
                x = x + self.program(program)[:, None, None]
            x = self.norms(F.gelu(x), place)
            x = self.dropout(x) if place < len(self.linears) - 1 else x
        found: Tensor = x
        return found


class Decoder(nn.Module):
    """Latent → one modality, (B, H, W, d) → (B, H, W, C)."""

    def __init__(self, latent: int, channels: int, config: MafrConfig) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(n, channels) for n in (latent, channels, channels))
        self.norms = Norms(3, channels, config.shared_norm)
        self.dropout = nn.Dropout(config.dropout)
        self.cbam = None if config.cbam == "none" else Cbam(channels, config.cbam == "grid")
        self.out = nn.Linear(channels, channels)
        self.skip = nn.Linear(latent, channels) if config.skip else None

    def forward(self, latent: Tensor, valid: Tensor) -> Tensor:
        x = latent
        for place, linear in enumerate(self.linears):
            x = self.dropout(F.gelu(self.norms(linear(x), place)))
        if self.cbam is not None:
            x = self.cbam(x, valid)
        found: Tensor = self.out(x)
        return found if self.skip is None else found + self.skip(latent)


class MafrNet(nn.Module):
    """`channels`: of each modality, in the order in which they are laid side by side."""

    def __init__(self, channels: Mapping[str, int], programs: int, config: MafrConfig) -> None:
        super().__init__()
        self.config, self.channels, self.programs = config, dict(channels), programs
        together = sum(channels.values())
        latent = max(1, min(config.hidden, together // 2))
        self.encoder = FusionEncoder(together, latent, programs, config)
        self.decoders = nn.ModuleDict({name: Decoder(latent, c, config) for name, c in channels.items()})

    def forward(self, cells: Mapping[str, Tensor], valid: Tensor, program: Tensor) -> dict[str, Tensor]:
        latent = self.encoder(torch.cat([cells[name] for name in self.channels], -1), program)
        return {name: decoder(latent, valid) for name, decoder in self.decoders.items()}
