"""The choices of Uni-RCM: the published code's and ours, each a named field, and the presets made of them.

`pipelines/uni_rcm.py` fits by them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self

from pipelines.loop import LoopConfig

__all__ = ["LOOPS", "UniRcmConfig"]


@dataclasses.dataclass(frozen=True, slots=True)
class UniRcmConfig:
    """The choices, as published.

    d, blocks, norm, branch, reference: see `DirectionConfig`. `program_embedding` tells the nets the welding program
    (published: no). `mse_weight`: loss = (1 − cos) + mse_weight · MSE. `quantiser` off leaves the q term out, and
    nothing to fall back on. `levels`, `codes` by modality, `iterations`, `normalise_first`, `rows_per_code`: see
    `QuantiserConfig`. `q_scale` and `beta` by modality: see `pipelines/uni_rcm.py`. `direction_weights`: "equal", or
    each direction by its R² on held-out goods (process → photograph is one-to-many: texture cannot be told from
    current and voltage).
    """

    d: int = 512
    blocks: int = 3
    norm: Literal["batch", "group"] = "batch"
    branch: Literal["both", "rfi", "ram"] = "both"
    reference: Literal["learned", "zeros"] = "learned"
    program_embedding: bool = False
    mse_weight: float = 0.01
    quantiser: bool = True
    levels: int = 4
    codes: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"rgb": 4096, "geo": 1024, "proc": 1024})
    iterations: int = 20
    normalise_first: bool = True
    rows_per_code: int = 0
    q_scale: Literal["image_max", "goods_p99"] = "image_max"
    beta: Mapping[str, float] = dataclasses.field(default_factory=lambda: {"rgb": 0.05, "geo": 0.10, "proc": 0.10})
    direction_weights: Literal["equal", "r2"] = "equal"

    @classmethod
    def preset(cls, name: Literal["compat", "cell"], size: Literal["cpu", "gpu"]) -> Self:
        """`compat` is the published code, `cell` what a welding cell should use; sizes for two cores or a GPU."""
        return cls(**(_PRESETS[name] | _SIZES[size]))


_PRESETS: dict[str, dict[str, Any]] = {
    "compat": {},
    "cell": {"norm": "group", "program_embedding": True, "q_scale": "goods_p99", "direction_weights": "r2"},
}
_SIZES: dict[str, dict[str, Any]] = {
    "cpu": {"d": 128, "blocks": 3, "codes": {"rgb": 512, "geo": 256, "proc": 256}, "rows_per_code": 128},
    "gpu": {},
}
LOOPS: dict[tuple[str, str], LoopConfig] = {
    ("compat", "gpu"): LoopConfig(epochs=200, batch=32, lr=3e-4, optimiser="adam", clip=None, patience=0, seed=115),
    ("compat", "cpu"): LoopConfig(epochs=30, batch=32, lr=3e-4, optimiser="adam", clip=None, patience=0, seed=115),
    ("cell", "gpu"): LoopConfig(epochs=200, batch=32, lr=3e-4, optimiser="adam", patience=20),
}
"""How presets and sizes train; ("compat", "gpu") as published: no schedule, the last epoch's nets are kept.

Preset cell at size cpu trains by `pipelines.grid_build.LOOPS`."""
