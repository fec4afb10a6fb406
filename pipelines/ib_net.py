"""The network of IB-IUMAD: two modalities reconstructed from what a program's good seams look like, fused through
an information bottleneck.

Glossary (IB-IUMAD, arXiv 2603.02629; MRN after UniAD, arXiv 2206.03687, and IUF, arXiv 2407.11783)::

    B batch · m modality · h, w grid of tokens, L = h·w · C_m channels · d width · P programs
    F_m      (B, h, w, C_m) the cells, pooled to tokens: frozen features in place of the paper's MFEN
    M_m^l    (B, L, d) level l of the modality's Mamba decoder (`pipelines/ib_scan.py`); multiplies MRN's queries
    MRN      encoder layers (self-attention), decoder layers (a learned query reads the memory, then the layer before)
    R_m^l    (B, L, d) output of MRN's decoder layer l
    F¹, F²   Σ_m R_m^4 and Σ_m R_m^2, the two streams of IBFM
    F_fu     (B, L, d) the streams fused: cross-attention, or their sum, or a linear of both side by side
    F^g_fu   (B, L, d) F_fu through linear → dropout → ReLU → linear; a linear each makes F^g_m (B, h, w, C_m)
    L_R, L_D cross-entropy of the program told by each modality's Mamba decoder
    L_IB     KL[P(Y|F_fu) ‖ P(Y|F^g_fu)], both by one head: mean over tokens, then linear

The raw images of the paper's Mamba decoders are replaced by a learned linear of the cells, for edged keeps cells.
Which levels make the streams is read off the paper's figure; how P(Y|·) comes about is not printed there.
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from pipelines.ib_scan import Attention, Embedding, MambaDecoder, mean_of_seen

__all__ = ["Fusion", "IbNet", "IbOut", "NetConfig", "feed_forward_ends"]

Fusion = Literal["cross", "add", "concat"]


@dataclasses.dataclass(frozen=True, slots=True)
class NetConfig:
    """Sizes and structure; `channels` by modality in order, `targets` the modalities that are reconstructed."""

    channels: Mapping[str, int]
    targets: tuple[str, ...]
    grid: tuple[int, int]
    programs: int
    d: int
    feed_forward: int
    heads: int
    levels: int
    expand: int
    d_state: int
    bottleneck: int
    dropout: float
    mamba: bool
    ibfm: bool
    fusion: Fusion
    cross_residual: bool
    condition_detached: bool
    jitter: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class IbOut:
    """`maps`: target → F^g_m (B, h, w, C_m). `told`: logits (B, P) of the Mamba decoders, none without them.

    `fused`, `squeezed`: logits of F_fu and F^g_fu, None without IBFM. `levels`: R_m^l of every modality and level.
    """

    maps: dict[str, Tensor]
    told: list[Tensor]
    fused: Tensor | None
    squeezed: Tensor | None
    levels: list[Tensor]


def _feed_forward(d: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, d))


class EncoderLayer(nn.Module):
    """Post-norm self-attention; `times` multiplies its query."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.attention = Attention(config.d, config.heads)
        self.feed_forward = _feed_forward(config.d, config.feed_forward, config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(config.d) for _ in range(2))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, place: Tensor, times: Tensor | None, seen: Tensor) -> Tensor:
        x = self.norms[0](x + self.drop(self.attention(x + place, x + place, x, seen, times)))
        out: Tensor = self.norms[1](x + self.drop(self.feed_forward(x)))
        return out


class DecoderLayer(nn.Module):
    """Post-norm; a learned query reads the encoder's memory, then the layer before. It has no way past its query,
    so that an anomaly is not copied."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        tokens = config.grid[0] * config.grid[1]
        self.query = nn.Parameter(torch.randn(tokens, config.d))
        self.reads = nn.ModuleList(Attention(config.d, config.heads) for _ in range(2))
        self.feed_forward = _feed_forward(config.d, config.feed_forward, config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(config.d) for _ in range(3))
        self.drop = nn.Dropout(config.dropout)

    def forward(self, before: Tensor, memory: Tensor, place: Tensor, seen: Tensor) -> Tensor:
        x = self.query.expand(len(memory), -1, -1)
        for read, norm, source in zip(self.reads, self.norms, (memory, before), strict=False):
            x = norm(x + self.drop(read(x + place, source + place, source, seen)))
        out: Tensor = self.norms[2](x + self.drop(self.feed_forward(x)))
        return out


class Mrn(nn.Module):
    """Reconstruction of one modality: (B, h, w, C) → `levels` × (B, L, d)."""

    def __init__(self, channels: int, config: NetConfig) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(channels, config.d), Embedding(config.grid, config.d)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.levels))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.levels))

    def forward(self, cells: Tensor, conditions: list[Tensor] | None, seen: Tensor) -> list[Tensor]:
        place = self.place()
        memory = self.embed(cells).flatten(1, 2)
        for i, layer in enumerate(self.encoder):
            memory = layer(memory, place, None if conditions is None else conditions[i], seen)
        levels: list[Tensor] = []
        for layer in self.decoder:
            levels.append(layer(levels[-1] if levels else memory, memory, place, seen))
        return levels


class Ibfm(nn.Module):
    """Two streams fused and squeezed: (B, L, d) twice → F_fu, F^g_fu."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.fusion, self.cross_residual = config.fusion, config.cross_residual
        self.cross = Attention(config.d, config.heads) if config.fusion == "cross" else None
        self.beside = nn.Linear(2 * config.d, config.d) if config.fusion == "concat" else None
        self.bottleneck = nn.Sequential(
            nn.Linear(config.d, config.bottleneck),
            nn.Dropout(config.dropout),
            nn.ReLU(),
            nn.Linear(config.bottleneck, config.d),
        )

    def forward(self, first: Tensor, second: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        if self.cross is not None:
            fused = self.cross(first, second, second, seen)
            fused = first + fused if self.cross_residual else fused
        elif self.beside is not None:
            fused = self.beside(torch.cat([first, second], -1))
        else:
            fused = first + second
        return fused, self.bottleneck(fused)


class IbNet(nn.Module):
    """All of it. Modules that a flag switches off do not exist."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = c = config
        self.mrn = nn.ModuleDict({name: Mrn(channels, c) for name, channels in c.channels.items()})
        self.mamba = nn.ModuleDict()
        if c.mamba:
            for name, channels in c.channels.items():
                self.mamba[name] = MambaDecoder(
                    channels, c.grid, c.d, c.levels, c.expand, c.d_state, c.heads, c.programs
                )
        self.ibfm = Ibfm(c) if c.ibfm else None
        self.head = nn.Linear(c.d, c.programs) if c.ibfm else None
        self.out = nn.ModuleDict({name: nn.Linear(c.d, c.channels[name]) for name in c.targets})

    def forward(self, cells: Mapping[str, Tensor], seen: Tensor) -> IbOut:
        """cells[m] (B, h, w, C_m), 0 where nothing is valid; seen (B, L) bool."""
        told, levels = [], []
        for name, given in cells.items():
            noisy = self._jittered(given)
            conditions = None
            if name in self.mamba:
                conditions, logits = self.mamba[name](given, seen)
                told.append(logits)
                if self.config.condition_detached:
                    conditions = [level.detach() for level in conditions]
            levels.append(self.mrn[name](noisy, conditions, seen))
        last = torch.stack([found[-1] for found in levels]).sum(0)
        flat = [level for found in levels for level in found]
        if self.ibfm is None or self.head is None:  # naive fusion: the modalities' reconstructions added
            return IbOut(self._maps(last), told, None, None, flat)
        middle = torch.stack([found[self.config.levels // 2 - 1] for found in levels]).sum(0)
        fused, squeezed = self.ibfm(last, middle, seen)
        heads = [self.head(mean_of_seen(f, seen)) for f in (fused, squeezed)]
        return IbOut(self._maps(squeezed), told, heads[0], heads[1], flat)

    def _jittered(self, cells: Tensor) -> Tensor:
        """Feature jitter of UniAD: every token gets noise in proportion to its own norm."""
        if not self.training or not self.config.jitter:
            return cells
        scale = cells.norm(dim=-1, keepdim=True) * (self.config.jitter / cells.shape[-1])
        noisy: Tensor = cells + torch.randn_like(cells) * scale
        return noisy

    def _maps(self, tokens: Tensor) -> dict[str, Tensor]:
        return {name: net(tokens).unflatten(1, self.config.grid) for name, net in self.out.items()}

    def grow(self, programs: int) -> None:
        """Give the label heads more programs; what they say of the old ones stays."""
        heads: list[tuple[nn.Module, str]] = [(net, "classifier") for net in self.mamba.values()]
        heads += [(self, "head")] if self.head is not None else []
        for owner, attribute in heads:
            old: nn.Linear = getattr(owner, attribute)
            new = nn.Linear(old.in_features, programs)
            with torch.no_grad():
                new.weight[: old.out_features] = old.weight
                new.bias[: old.out_features] = old.bias
            setattr(owner, attribute, new)
        self.config = dataclasses.replace(self.config, programs=programs)


def feed_forward_ends(net: IbNet) -> dict[str, nn.Linear]:
    """The second linear of every feed-forward of MRN, by name: what the SVD guard holds (5.4 of IUF's code)."""
    return {
        name: layer.feed_forward[3]
        for name, layer in net.named_modules()
        if isinstance(layer, EncoderLayer | DecoderLayer) and isinstance(layer.feed_forward[3], nn.Linear)
    }
