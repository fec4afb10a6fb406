"""The Mamba decoder of IB-IUMAD: a selective scan over a grid of tokens that learns to tell the programs apart.

Glossary (IB-IUMAD, arXiv 2603.02629, its supplement's block figure; ES2D: EfficientVMamba, arXiv 2403.09977)::

    B batch · h, w grid of tokens · L = h·w · C channels of a modality · d width · E = expand·d · N state size
    R   rank of the step size Δ · P programs
    ESSM   x + Linear( SiLU(Linear(LN x)) ⊙ LN(ES2D(SiLU(DwConv(Linear(LN x))))) ),
           then + attention(LN ·), then + DwConv(x)
    ES2D   skip-2 scan: the grid falls into four interleaved grids of half its size, each read in its own direction

The levels' outputs condition the reconstruction (`pipelines/ib_net.py`), the last level's mean names the program.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.selective_scan import selective_scan

__all__ = ["Attention", "Embedding", "Es2d", "Essm", "MambaDecoder", "mean_of_seen"]


class _Route(NamedTuple):
    """Which interleaved grid (first row, first column), read along columns or rows, and whether from its end."""

    row: int
    column: int
    down: bool
    backwards: bool


ROUTES = (_Route(0, 0, False, False), _Route(1, 0, True, False), _Route(0, 1, False, True), _Route(1, 1, True, True))


class Es2d(nn.Module):
    """Four directions over four interleaved grids, (B, h, w, E) → (B, h, w, E): each token is scanned once."""

    def __init__(self, channels: int, d_state: int) -> None:
        super().__init__()
        k, self.rank, self.d_state = len(ROUTES), math.ceil(channels / 16), d_state
        self.x_proj = nn.Parameter(torch.empty(k, self.rank + 2 * d_state, channels).uniform_(-1, 1) / channels**0.5)
        self.dt_weight = nn.Parameter(torch.empty(k, channels, self.rank).uniform_(-1, 1) / self.rank**0.5)
        dt = torch.exp(torch.rand(k, channels) * math.log(100.0) + math.log(1e-3))  # Δ log-uniform in [1e-3, 0.1]
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, d_state + 1)).repeat(k, channels, 1))
        self.D = nn.Parameter(torch.ones(k, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Needs at least 2 × 2 tokens."""
        y = torch.empty_like(x)
        for k, route in enumerate(ROUTES):
            part = x[:, route.row :: 2, route.column :: 2]  # (B, h′, w′, E)
            part = part.transpose(1, 2) if route.down else part
            steps = part.reshape(len(x), -1, x.shape[-1])  # (B, L′, E)
            out = self._scan(k, steps.flip(1) if route.backwards else steps)
            out = (out.flip(1) if route.backwards else out).reshape(part.shape)
            y[:, route.row :: 2, route.column :: 2] = out.transpose(1, 2) if route.down else out
        return y

    def _scan(self, k: int, steps: Tensor) -> Tensor:
        wide = F.linear(steps, self.x_proj[k])  # (B, L′, R + 2 N)
        low, b, c = torch.split(wide, [self.rank, self.d_state, self.d_state], dim=-1)
        dt = F.softplus(F.linear(low, self.dt_weight[k], self.dt_bias[k]))  # (B, L′, E)
        start = steps.new_zeros(len(steps), steps.shape[-1], self.d_state)
        y, _ = selective_scan(
            steps.contiguous(), dt, -torch.exp(self.A_log[k]), b.contiguous(), c.contiguous(), self.D[k], start
        )
        return y


class Attention(nn.Module):
    """Multi-head softmax attention over tokens; invalid keys are not read. 4 d² + 4 d parameters."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, times: Tensor | None = None) -> Tensor:
        """(B, L, d) each, seen (B, L) bool. `times` (B, L, d) multiplies the projected query's input."""
        query = query if times is None else query * times
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        # A seam without a valid token must not divide by nothing: it reads everything, and its error map is 0.
        mask = (seen | ~seen.any(1, keepdim=True))[:, None, None, :]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, heads, L, d / heads)
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class _DwConv(nn.Module):
    """Depth-wise 3 × 3 convolution of (B, h, w, E)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.movedim(-1, 1)).movedim(1, -1)
        return out


class Essm(nn.Module):
    """One level of the decoder, (B, h, w, d) → (B, h, w, d)."""

    def __init__(self, d: int, expand: int, d_state: int, heads: int) -> None:
        super().__init__()
        wide = expand * d
        self.norm, self.attention_norm, self.scan_norm = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(wide)
        self.gate, self.inner, self.out = nn.Linear(d, wide), nn.Linear(d, wide), nn.Linear(wide, d)
        self.conv, self.local = _DwConv(wide), _DwConv(d)
        self.scan = Es2d(wide, d_state)
        self.attention = Attention(d, heads)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        normed = self.norm(x)
        scanned = self.scan_norm(self.scan(F.silu(self.conv(self.inner(normed)))))
        y: Tensor = x + self.out(F.silu(self.gate(normed)) * scanned)
        tokens = self.attention_norm(y).flatten(1, 2)  # (B, L, d)
        y = y + self.attention(tokens, tokens, tokens, seen).view_as(y)
        out: Tensor = y + self.local(x)
        return out


class Embedding(nn.Module):
    """Learned 2-D positions, half of the width for rows and half for columns: (L, d)."""

    def __init__(self, grid: tuple[int, int], d: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(0.02 * torch.randn(grid[0], d // 2))
        self.columns = nn.Parameter(0.02 * torch.randn(grid[1], d - d // 2))

    def forward(self) -> Tensor:
        h, w = len(self.rows), len(self.columns)
        both = [self.columns[None].expand(h, -1, -1), self.rows[:, None].expand(-1, w, -1)]
        return torch.cat(both, -1).flatten(0, 1)


def mean_of_seen(tokens: Tensor, seen: Tensor) -> Tensor:
    """(B, L, d), (B, L) → (B, d): global average pooling over valid tokens."""
    weight = seen.to(tokens.dtype)[..., None]
    found: Tensor = (tokens * weight).sum(1) / weight.sum(1).clamp_min(1.0)
    return found


class MambaDecoder(nn.Module):
    """Cells of one modality → a feature map a level, and which program it was."""

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        d: int,
        levels: int,
        expand: int,
        d_state: int,
        heads: int,
        programs: int,
    ) -> None:
        super().__init__()
        self.embed, self.place = nn.Linear(channels, d), Embedding(grid, d)
        self.levels = nn.ModuleList(Essm(d, expand, d_state, heads) for _ in range(levels))
        self.classifier = nn.Linear(d, programs)

    def forward(self, cells: Tensor, seen: Tensor) -> tuple[list[Tensor], Tensor]:
        """cells (B, h, w, C), seen (B, L) → levels × (B, L, d), logits (B, P)."""
        x: Tensor = self.embed(cells)
        x = x + self.place().view(x.shape[1:])
        features = []
        for level in self.levels:
            x = level(x, seen)
            features.append(x.flatten(1, 2))
        return features, self.classifier(mean_of_seen(features[-1], seen))
