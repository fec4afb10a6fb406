"""The trainable part of Causal-HM: process tokens in, predicted result tokens out.

Glossary (Causal-HM, arXiv 2512.21650; the linear attention is Dinomaly's)::

    B batch · T tokens of 100 ms · S = 10 T sensor steps · d width · Q result queries · H heads · k = d / H
    γ, β   scale and shift of a token, from the Mamba state at its end; γ = 1 + γ′, zero-initialised
    φ      elu + 1, the feature map of linear attention
    S_h    Σ φ(k_t) v_tᵀ (k, k) and z_h = Σ φ(k_t) (k,): all that the decoder keeps of the process

Sensor steps → Mamba → every tenth state is a token; it modulates the video and audio token of its 100 ms and
stands beside them itself, so that a cell without camera and microphone still has a process. The noisy
bottleneck (training only) keeps the decoder from passing on what it never saw in good welds. As the decoder
meets the process only through running sums, its memory does not grow with the seam.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.features.grid import STEPS_PER_TOKEN
from pipelines.mamba import Mamba, MambaState

__all__ = ["CausalNet", "NetConfig", "ProcessBatch", "RunningSums"]


@dataclasses.dataclass(frozen=True, slots=True)
class NetConfig:
    """Sizes. `queries` is the number of result tokens over all views, `targets` the length of one."""

    sensor: int
    video: int
    audio: int
    targets: int
    queries: int
    programs: int
    d: int = 128
    d_sensor: int = 32
    d_state: int = 8
    heads: int = 4
    layers: int = 2
    mask_ratio: float = 0.2
    noise_std: float = 0.1


class ProcessBatch(NamedTuple):
    """Standardised process of B seams, padded at the end.

    steps (B, S, sensor); video (B, T, video); audio (B, T, audio); *_known (B, T) bool, False in padding;
    tokens (B, T) bool: which tokens exist; program (B,) index.
    """

    steps: Tensor
    video: Tensor
    video_known: Tensor
    audio: Tensor
    audio_known: Tensor
    tokens: Tensor
    program: Tensor


class RunningSums(NamedTuple):
    """What the decoder keeps of the process, one pair a layer: S (B, H, k, k) and z (B, H, k)."""

    s: tuple[Tensor, ...]
    z: tuple[Tensor, ...]


def _phi(x: Tensor) -> Tensor:
    return F.elu(x) + 1.0


class SensorEncoder(nn.Module):
    """10 ms steps → one state per token; (B, S, sensor) → (B, T, d_sensor), state carried."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.inp = nn.Linear(config.sensor, config.d_sensor)
        self.norms = nn.ModuleList(nn.LayerNorm(config.d_sensor) for _ in range(2))
        self.mambas = nn.ModuleList(Mamba(config.d_sensor, config.d_state) for _ in range(2))
        self.out = nn.LayerNorm(config.d_sensor)

    def forward(self, steps: Tensor, state: Sequence[MambaState] | None) -> tuple[Tensor, list[MambaState]]:
        x = self.inp(steps)
        after = []
        for i, (norm, mamba) in enumerate(zip(self.norms, self.mambas, strict=True)):
            y, last = mamba(norm(x), None if state is None else state[i])
            x = x + y
            after.append(last)
        return self.out(x[:, STEPS_PER_TOKEN - 1 :: STEPS_PER_TOKEN]), after


class LinearCrossAttention(nn.Module):
    """Queries read the process through running sums (Katharopoulos et al., arXiv 2006.16236)."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))

    def sums(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, d), (B, T) → S (B, H, k, k), z (B, H, k)."""
        key = _phi(self._split(self.key(tokens))) * known[:, None, :, None]  # (B, H, T, k)
        return torch.einsum("bhtk,bhtv->bhkv", key, self._split(self.value(tokens))), key.sum(2)

    def forward(self, queries: Tensor, s: Tensor, z: Tensor) -> Tensor:
        q = _phi(self._split(self.query(queries)))  # (B, H, Q, k)
        read = torch.einsum("bhqk,bhkv->bhqv", q, s) / (torch.einsum("bhqk,bhk->bhq", q, z)[..., None] + 1e-6)
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class DecoderBlock(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.norm_tokens, self.norm_queries, self.norm_ffn = (nn.LayerNorm(d) for _ in range(3))
        self.attend = LinearCrossAttention(d, heads)
        self.ffn = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def sums(self, tokens: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        return self.attend.sums(self.norm_tokens(tokens), known)

    def forward(self, queries: Tensor, s: Tensor, z: Tensor) -> Tensor:
        queries = queries + self.attend(self.norm_queries(queries), s, z)
        out: Tensor = queries + self.ffn(self.norm_ffn(queries))
        return out


class CausalNet(nn.Module):
    """Process → result. `forward` for training; `encode`, `accumulate` and `decode` are its streaming parts."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config, d = config, config.d
        self.sensor = SensorEncoder(config)
        self.film = nn.Linear(config.d_sensor, 2 * d)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        self.project_sensor = nn.Linear(config.d_sensor, d)
        self.project_video, self.project_audio = _projector(config.video, d), _projector(config.audio, d)
        self.kind = nn.Parameter(0.02 * torch.randn(3, d))
        self.program = nn.Embedding(config.programs, d)
        self.queries = nn.Parameter(torch.randn(config.queries, d) / math.sqrt(d))
        self.blocks = nn.ModuleList(DecoderBlock(d, config.heads) for _ in range(config.layers))
        self.out_norm, self.out = nn.LayerNorm(d), nn.Linear(d, config.targets)
        # Predictions start at the program's mean: what the process cannot tell costs nothing.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, batch: ProcessBatch) -> Tensor:
        """Predicted result tokens (B, Q, targets), standardised."""
        states, _ = self.sensor(batch.steps, None)
        tokens, known = self.encode(states, batch, first_token=0)
        return self.decode(self.accumulate(tokens, known, None), batch.program)

    def encode(self, states: Tensor, batch: ProcessBatch, first_token: int) -> tuple[Tensor, Tensor]:
        """Process tokens (B, 3 T, d) and which count (B, 3 T); `first_token` is their position in the seam."""
        gain, shift = self.film(states).chunk(2, -1)  # γ′, β: (B, T, d)
        video = self.project_video(batch.video) * (1 + gain) + shift
        audio = self.project_audio(batch.audio) * (1 + gain) + shift
        place = _positions(first_token, states.shape[1], self.config.d).to(states)
        context = place + self.program(batch.program)[:, None]
        parts = [self.project_sensor(states), video, audio]
        tokens = torch.cat([part + context + kind for part, kind in zip(parts, self.kind, strict=True)], 1)
        known = torch.cat([batch.tokens, batch.video_known, batch.audio_known], 1)
        return self._bottleneck(tokens), known

    def _bottleneck(self, tokens: Tensor) -> Tensor:
        if not self.training:
            return tokens
        keep = torch.rand_like(tokens) >= self.config.mask_ratio
        noisy = tokens + self.config.noise_std * tokens.detach().std() * torch.randn_like(tokens)
        return noisy * keep / (1.0 - self.config.mask_ratio)

    def accumulate(self, tokens: Tensor, known: Tensor, before: RunningSums | None) -> RunningSums:
        """Add process tokens to the running sums."""
        pairs = [block.sums(tokens, known.to(tokens)) for block in self.blocks]  # type: ignore[operator]
        s, z = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
        if before is None:
            return RunningSums(s, z)
        return RunningSums(
            tuple(a + b for a, b in zip(before.s, s, strict=True)),
            tuple(a + b for a, b in zip(before.z, z, strict=True)),
        )

    def decode(self, sums: RunningSums, program: Tensor) -> Tensor:
        """Result tokens (B, Q, targets) from the sums."""
        x = self.queries[None] + self.program(program)[:, None]
        for block, s, z in zip(self.blocks, sums.s, sums.z, strict=True):
            x = block(x, s, z)
        out: Tensor = self.out(self.out_norm(x))
        return out


def _projector(size: int, d: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, d), nn.LayerNorm(d), nn.GELU(), nn.Linear(d, d), nn.LayerNorm(d))


def _positions(first: int, n: int, d: int) -> Tensor:
    """Sines of the token's time (1, n, d), periods from 0.6 s to about 10 min."""
    t = torch.arange(first, first + n, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.linspace(0.0, -math.log(1000.0), d // 2))
    return torch.cat([torch.sin(t * rates), torch.cos(t * rates)], -1)[None]
