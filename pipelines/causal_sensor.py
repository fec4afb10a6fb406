"""The waveforms' way into Causal-HM: 10 ms steps in, one state per 100 ms token out, the state carried.

    mamba   a selective state space (`pipelines/mamba.py`): may remember the whole seam
    gru     two gated recurrent layers of the same width
    mean    each token's own ten steps, no memory
    none    nothing: zeros

All take pieces of a seam, of whole tokens, and give what the whole gives. `both_ways` also reads from arc-off
to arc-on, for the bench.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipelines.causal_config import NetConfig
from pipelines.features.grid import STEPS_PER_TOKEN
from pipelines.mamba import Mamba, MambaState

__all__ = ["SensorState", "both_ways", "per_sample", "sensor_encoder"]

SensorState = Sequence[MambaState] | Tensor
"""What is carried from piece to piece; its size does not depend on length."""
LAYERS = 2


class MambaSensor(nn.Module):
    """(B, S, sensor) → (B, T, d_sensor), causal."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.inp = nn.Linear(config.sensor, config.d_sensor)
        self.norms = nn.ModuleList(nn.LayerNorm(config.d_sensor) for _ in range(LAYERS))
        self.mambas = nn.ModuleList(Mamba(config.d_sensor, config.d_state) for _ in range(LAYERS))
        self.out = nn.LayerNorm(config.d_sensor)

    def forward(self, steps: Tensor, state: Sequence[MambaState] | None) -> tuple[Tensor, SensorState]:
        x = self.inp(steps)
        after = []
        for i, (norm, mamba) in enumerate(zip(self.norms, self.mambas, strict=True)):
            y, last = mamba(norm(x), None if state is None else state[i])
            x = x + y
            after.append(last)
        return self.out(x[:, STEPS_PER_TOKEN - 1 :: STEPS_PER_TOKEN]), after


class GruSensor(nn.Module):
    """(B, S, sensor) → (B, T, d_sensor), causal."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.inp = nn.Linear(config.sensor, config.d_sensor)
        self.gru = nn.GRU(config.d_sensor, config.d_sensor, LAYERS, batch_first=True)
        self.out = nn.LayerNorm(config.d_sensor)

    def forward(self, steps: Tensor, state: Tensor | None) -> tuple[Tensor, SensorState]:
        x, after = self.gru(self.inp(steps), state)  # (B, S, d_sensor), (layers, B, d_sensor)
        return self.out(x[:, STEPS_PER_TOKEN - 1 :: STEPS_PER_TOKEN]), after


class MeanSensor(nn.Module):
    """(B, S, sensor) → (B, T, d_sensor): each token's mean."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.inp = nn.Linear(config.sensor, config.d_sensor)
        self.out = nn.LayerNorm(config.d_sensor)

    def forward(self, steps: Tensor, state: SensorState | None) -> tuple[Tensor, SensorState]:
        return self.out(self.inp(_per_token(steps).mean(2))), ()


class NoSensor(nn.Module):
    """(B, S, sensor) → zeros (B, T, d_sensor)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.width = config.d_sensor

    def forward(self, steps: Tensor, state: SensorState | None) -> tuple[Tensor, SensorState]:
        return steps.new_zeros(len(steps), steps.shape[1] // STEPS_PER_TOKEN, self.width), ()


ENCODERS: dict[str, type[nn.Module]] = {"mamba": MambaSensor, "gru": GruSensor, "mean": MeanSensor}


def sensor_encoder(config: NetConfig) -> nn.Module:
    """The encoder that `config` names: `(steps, state before or None)` → `(states (B, T, d_sensor), state after)`."""
    return NoSensor(config) if config.modulation == "none" else ENCODERS[config.sensor_encoder](config)


def both_ways(ahead: nn.Module, back: nn.Module | None, steps: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """States (B, T, d_sensor) that know the past and the future, and the whole seam's (B, 1, d_sensor).

    The seam's is the last state of either direction, as published; without `back` it is the mean over tokens.
    tokens (B, T) bool: which tokens exist; what is behind them is never read.
    """
    states: Tensor = ahead(steps, None)[0]
    if back is None:
        weight = tokens[..., None].to(states)
        return states, (states * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1)
    count = tokens.sum(1)
    last = (count - 1).clamp(min=0)[:, None, None].expand(-1, 1, states.shape[2])
    turned = back(_turn(steps, count * STEPS_PER_TOKEN), None)[0]  # (B, T, d_sensor), last token first
    return states + _turn(turned, count), states.gather(1, last) + turned.gather(1, last)


def _turn(x: Tensor, length: Tensor) -> Tensor:
    """Each sequence's first `length` entries in reverse; the padding stays where it is."""
    place = torch.arange(x.shape[1], device=x.device)[None]
    turned = torch.where(place < length[:, None], length[:, None] - 1 - place, place)
    return x.gather(1, turned[..., None].expand_as(x))


def per_sample(steps: Tensor) -> Tensor:
    """Values standardised within each seam and channel, as published; steps (B, S, values then their masks)."""
    values, mask = steps.chunk(2, -1)
    n = mask.sum(1, keepdim=True).clamp(min=1)
    off = (values - (values * mask).sum(1, keepdim=True) / n) * mask
    spread = (off.square().sum(1, keepdim=True) / n).sqrt()
    return torch.cat([off / spread.clamp(min=1e-3), mask], -1)


def _per_token(steps: Tensor) -> Tensor:
    return steps.reshape(len(steps), -1, STEPS_PER_TOKEN, steps.shape[-1])
