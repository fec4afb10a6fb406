"""The named choices of Causal-HM's network: what the product uses (the defaults) and what the bench compares."""

import dataclasses
from typing import Literal, get_args

__all__ = ["NetConfig"]

Form = Literal["streaming", "bidirectional"]
SensorKind = Literal["mamba", "gru", "mean"]
Modulation = Literal["film", "token", "film+token", "none"]
DecoderKind = Literal["mlp", "linattn_1tok", "linattn_tokens", "softmax_tokens"]
TargetKind = Literal["frozen_pca", "frozen_cov", "ema", "trainable_dev"]
Direction = Literal["forward", "reverse"]
SensorScaling = Literal["train", "per_sample"]
Views = Literal["each", "max", "mean"]
CHOICES: dict[str, tuple[str, ...]] = {
    "form": get_args(Form),
    "sensor_encoder": get_args(SensorKind),
    "modulation": get_args(Modulation),
    "decoder": get_args(DecoderKind),
    "target": get_args(TargetKind),
    "direction": get_args(Direction),
    "sensor_scaling": get_args(SensorScaling),
    "views": get_args(Views),
}


@dataclasses.dataclass(frozen=True, slots=True)
class NetConfig:
    """Sizes and forms. `queries` is the number of predicted tokens, `targets` the length of one.

    form: bidirectional reads the waveforms backwards too and modulates by the whole seam's state, as published.
    modulation: how the waveforms come in: scaling and shifting the other streams' tokens, tokens of their own, both.
    decoder: `mlp` and `linattn_1tok` pool the process first; `linattn_tokens` keeps running sums; `softmax_tokens`
    keeps every token. target: what is asked for (`pipelines/causal_targets.py`). direction: reverse predicts the
    process from the result. sensor_scaling: per_sample loses the absolute level, as published. views: every view's
    rows are predicted each, or their maximum or mean.
    """

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
    form: Form = "streaming"
    sensor_encoder: SensorKind = "mamba"
    modulation: Modulation = "film+token"
    decoder: DecoderKind = "linattn_tokens"
    target: TargetKind = "frozen_pca"
    direction: Direction = "forward"
    sensor_scaling: SensorScaling = "train"
    views: Views = "each"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"net: {name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")

    @property
    def bench_only(self) -> tuple[str, ...]:
        """Fields, with their values, that a live cell cannot run: they need the whole seam, or do not give rows."""
        live = {
            "form": ("streaming",),
            "decoder": ("mlp", "linattn_1tok", "linattn_tokens"),
            "target": ("frozen_pca",),
            "direction": ("forward",),
            "sensor_scaling": ("train",),
            "views": ("each",),
        }
        return tuple(f"{n} = {getattr(self, n)}" for n, allowed in live.items() if getattr(self, n) not in allowed)
