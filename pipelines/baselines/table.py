"""The baselines by name: what each needs, how it is fitted, restored and configured. One row each.

Modules are imported when a row is used: torch must not come with the table.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pipelines.grids import MODALITIES, PAIRS

__all__ = ["BASELINES", "Baseline"]

ALONE: tuple[tuple[str, ...], ...] = tuple((name,) for name in MODALITIES)
LAYERED: tuple[tuple[str, ...], ...] = (("rgb",), ("geo",))
"""Modalities whose cells are lite0's lower, then its deeper channels: presets of some methods divide them there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Baseline:
    """A method. `kind` "grid" is a GridMethod on GridData, "seam" a SeamMethod on SeamGoods.

    `takes`: the sets of grid modalities that its presets are made for, any of them; of a seam method the kinds of
    stream that it looks at.
    """

    kind: Literal["grid", "seam"]
    module: str
    class_name: str
    takes: tuple[tuple[str, ...], ...]
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the configuration that tell it from another row of the same class."""

    @property
    def fit(self) -> Callable[..., Any]:
        """`fit(train, held_out, config, loop, tell)`."""
        found: Callable[..., Any] = getattr(self._loaded(), f"fit_{self.module}")
        return found

    @property
    def restore(self) -> Callable[..., Any]:
        """`restore(about, tensors)`."""
        found: Callable[..., Any] = getattr(self._loaded(), self.class_name).restore
        return found

    def config(self, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> Any:
        """The configuration of a preset."""
        config = getattr(self._loaded(), f"{self.class_name}Config").preset(preset, size)
        return dataclasses.replace(config, **self.flags)

    def _loaded(self) -> Any:
        return importlib.import_module(f"pipelines.baselines.{self.module}")


BASELINES: dict[str, Baseline] = {
    "memory_bank": Baseline("grid", "memory_bank", "MemoryBank", (*PAIRS, *ALONE), {"joint": False}),
    "memory_bank_concat": Baseline("grid", "memory_bank", "MemoryBank", PAIRS, {"each": False}),
    "patchcore": Baseline("grid", "patchcore", "PatchCore", ALONE),
    "dinomaly": Baseline("grid", "dinomaly", "Dinomaly", LAYERED),
    "simplenet": Baseline("grid", "simplenet", "SimpleNet", ALONE),
    "efficientad": Baseline("grid", "efficientad", "EfficientAd", LAYERED),
    "memae": Baseline("grid", "memae", "MemAe", ALONE),
    "sensor_mahalanobis": Baseline("seam", "sensor_mahalanobis", "SensorMahalanobis", (("sensor",),)),
    "late_fusion": Baseline("seam", "late_fusion", "LateFusion", (("audio", "video"), ("audio",), ("video",))),
}
