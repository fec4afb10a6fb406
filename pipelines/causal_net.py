"""The trainable part of Causal-HM: process tokens in, predicted result tokens out.

Glossary (Causal-HM, arXiv 2512.21650)::

    B batch · T tokens of 100 ms · S = 10 T sensor steps · d width · Q result queries · K numbers of a result token
    γ, β   scale and shift of a token, from the sensor state at its end; γ = 1 + γ′, zero-initialised

Sensor steps → Mamba (`pipelines/causal_sensor.py`) → every tenth state is a token; it modulates the video and audio
token of its 100 ms and stands beside them itself, so that a cell without camera and microphone still has a process.
The noisy bottleneck (training only) keeps the decoder (`pipelines/causal_decoders.py`) from passing on what it never
saw in good welds. As the decoder meets the process only through running sums, its memory does not grow with the seam.
Every part has other forms (`pipelines/causal_config.py`), which the bench compares.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipelines.causal_config import NetConfig
from pipelines.causal_decoders import RunningSums, decoder
from pipelines.causal_sensor import both_ways, per_sample, sensor_encoder
from pipelines.causal_targets import target_of

__all__ = ["Bottleneck", "CausalNet", "NetConfig", "ProcessBatch", "RunningSums", "positions", "projector"]


class ProcessBatch(NamedTuple):
    """Standardised process of B seams, padded at the end.

    steps (B, S, sensor); video (B, T, video); audio (B, T, audio); *_known (B, T) bool, False in padding;
    tokens (B, T) bool: which tokens exist; program (B,) index; sensor (B,) bool: whether there are waveforms.
    """

    steps: Tensor
    video: Tensor
    video_known: Tensor
    audio: Tensor
    audio_known: Tensor
    tokens: Tensor
    program: Tensor
    sensor: Tensor


class Bottleneck(nn.Module):
    """Noise and a random mask on every number, in training only; either may be switched off with 0."""

    def __init__(self, mask_ratio: float, noise_std: float) -> None:
        super().__init__()
        self.mask_ratio, self.noise_std = mask_ratio, noise_std

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.training:
            return tokens
        keep = torch.rand_like(tokens) >= self.mask_ratio
        noisy = tokens + self.noise_std * tokens.detach().std() * torch.randn_like(tokens)
        return noisy * keep / (1.0 - self.mask_ratio)


class CausalNet(nn.Module):
    """Process → result. `forward` for training; `encode`, `accumulate` and `decode` are its streaming parts."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        if config.direction != "forward":
            raise ValueError(f"direction = {config.direction}: make a pipelines.causal_reverse.ReverseNet")
        self.config, d = config, config.d
        self.sensor = sensor_encoder(config)
        if config.form == "bidirectional" and config.sensor_encoder != "mean":
            self.sensor_back: nn.Module | None = sensor_encoder(config)
        else:
            self.sensor_back = None
        self.film = nn.Linear(config.d_sensor, 2 * d) if "film" in config.modulation else None
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)
        self.project_sensor = nn.Linear(config.d_sensor, d) if "token" in config.modulation else None
        self.project_video, self.project_audio = projector(config.video, d), projector(config.audio, d)
        self.kind = nn.Parameter(0.02 * torch.randn(3, d))
        self.program = nn.Embedding(config.programs, d)
        self.bottleneck = Bottleneck(config.mask_ratio, config.noise_std)
        self.decoder = decoder(config)
        self.target = target_of(config)
        self.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]

    def forward(self, batch: ProcessBatch) -> Tensor:
        """Predicted result tokens (B, Q, K), standardised."""
        steps = per_sample(batch.steps) if self.config.sensor_scaling == "per_sample" else batch.steps
        whole = None
        if self.config.form == "bidirectional":
            states, whole = both_ways(self.sensor, self.sensor_back, steps, batch.tokens)
        else:
            states, _ = self.sensor(steps, None)
        tokens, known = self.encode(states, batch, first_token=0, whole=whole)
        return self.decode(self.accumulate(tokens, known, None), batch.program)

    def encode(
        self, states: Tensor, batch: ProcessBatch, first_token: int, whole: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Process tokens (B, 2 T or 3 T, d) and which count; `first_token` is their position in the seam.

        `whole` (B, 1, d_sensor) modulates instead of each token's own state.
        """
        there = batch.sensor[:, None]  # without waveforms γ = 1, β = 0
        video, audio = self.project_video(batch.video), self.project_audio(batch.audio)
        if self.film is not None:
            modulation = self.film(states if whole is None else whole) * there[..., None]
            gain, shift = modulation.chunk(2, -1)  # γ′, β: (B, T or 1, d)
            video, audio = video * (1 + gain) + shift, audio * (1 + gain) + shift
        parts, known = [video, audio], [batch.video_known, batch.audio_known]
        kinds = list(self.kind[1:])
        if self.project_sensor is not None:
            parts, known = [self.project_sensor(states), *parts], [batch.tokens & there, *known]
            kinds = list(self.kind)
        place = positions(first_token, states.shape[1], self.config.d).to(states)
        context = place + self.program(batch.program)[:, None]
        tokens = torch.cat([part + context + kind for part, kind in zip(parts, kinds, strict=True)], 1)
        return self.bottleneck(tokens), torch.cat(known, 1)

    def accumulate(self, tokens: Tensor, known: Tensor, before: RunningSums | None) -> RunningSums:
        """Add process tokens to the running sums."""
        now = self.decoder.sums(tokens, known.to(tokens))
        return now if before is None else self.decoder.join(before, now)

    def decode(self, sums: RunningSums, program: Tensor) -> Tensor:
        """Result tokens (B, Q, K) from the sums."""
        out: Tensor = self.decoder(sums, self.program(program))
        return out


DECODER_PARTS = ("queries", "blocks", "out_norm", "out")


def _rename(net: nn.Module, state: dict[str, Any] | Mapping[str, Any], *_: Any) -> None:
    """Models of the first version have the decoder's parameters beside the others."""
    assert isinstance(state, dict)  # load_state_dict hands on a copy of its own
    for name in [n for n in state if n.split(".")[0] in DECODER_PARTS]:
        state[f"decoder.{name}"] = state.pop(name)


def projector(size: int, d: int) -> nn.Module:
    """A stream's tokens (…, size) → (…, d)."""
    return nn.Sequential(nn.Linear(size, d), nn.LayerNorm(d), nn.GELU(), nn.Linear(d, d), nn.LayerNorm(d))


def positions(first: int, n: int, d: int) -> Tensor:
    """Sines of the token's time (1, n, d), periods from 0.6 s to about 10 min."""
    t = torch.arange(first, first + n, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.linspace(0.0, -math.log(1000.0), d // 2))
    return torch.cat([torch.sin(t * rates), torch.cos(t * rates)], -1)[None]
