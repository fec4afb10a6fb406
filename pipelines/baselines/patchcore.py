"""`patchcore`: nearest good patches of one modality (PatchCore, arXiv 2106.08265).

A patch is a cell with the mean of its neighbourhood (sec. 3.1), the bank a coreset of good patches (3.2), the
distance that to the nearest member, raised where that member is itself rare (3.3, eq. 7).

Differs from the paper: one level of features as the cells give it, and the weight of eq. 7 is applied to every cell,
not to the image's worst one alone, so that the map's maximum is the seam's score.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.baselines.bank import Bank, BankConfig, fit_bank
from pipelines.baselines.cells import neighbourhood, only_modality
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig

__all__ = ["PatchCore", "PatchCoreConfig", "fit_patchcore"]

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class PatchCoreConfig:
    """`share`, `dims`, `per_program`, `candidates`: see BankConfig."""

    share: float = 0.01
    dims: int = 32
    per_program: bool = True
    candidates: int = 100_000
    patch: int = 3
    """Cells along the side of a neighbourhood; odd."""
    reweight: int = 9
    """Members around the nearest one that say how rare it is; 0: plain distance."""

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "PatchCoreConfig":
        """`compat`: the paper's 10 %; `cell`: ours."""
        return cls(share=0.1 if preset == "compat" or size == "gpu" else 0.02)

    @property
    def bank(self) -> BankConfig:
        """What its bank is made by."""
        return BankConfig(self.share, self.dims, self.per_program, self.candidates)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PatchCore:
    """A fitted bank of one modality's patches."""

    config: PatchCoreConfig
    modality: str
    bank: Bank

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """Re-weighted distance of every cell's patch, `(n, H, W)`."""
        patches = neighbourhood(data.cells[self.modality], data.valid, self.config.patch)
        found = np.zeros(data.valid.shape, np.float32)
        group = _groups(data, self.config)
        for g in np.unique(group[data.valid]):
            own = data.valid & (group == g)
            found[own] = self._distance(patches[own], int(g))
        return {self.modality: found}

    def _distance(self, patches: Array, group: int) -> Array:
        distance, at = self.bank.nearest(patches, group, 1)
        around = min(self.config.reweight, int((self.bank.owner == group).sum()))
        if around < 2:
            return distance[:, 0]
        unique, back = np.unique(at[:, 0], return_inverse=True)
        _, beside = self.bank.nearest(self.bank.members[unique], group, around)
        weight = np.empty(len(patches), np.float32)
        for i, members in enumerate(beside):  # patches that share their nearest member share its surroundings
            rows = np.flatnonzero(back == i)
            to = np.linalg.norm(patches[rows, None] - self.bank.members[members], axis=-1)
            top = np.maximum(to.max(1), distance[rows, 0])
            weight[rows] = 1.0 - np.exp(distance[rows, 0] - top) / np.exp(to - top[:, None]).sum(1)
        found: Array = np.maximum(distance[:, 0] * weight, 0.0)
        return found

    @property
    def state_mb(self) -> float:
        """What the bank holds, in 10⁶ bytes."""
        return self.bank.state_mb

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        return self.bank.tensors("bank")

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays."""
        return {"config": dataclasses.asdict(self.config), "modality": self.modality}

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "PatchCore":
        """What `about` and `tensors` gave."""
        return cls(PatchCoreConfig(**about["config"]), about["modality"], Bank.from_tensors("bank", tensors))


def fit_patchcore(
    train: GridData, held_out: GridData, config: PatchCoreConfig, loop: LoopConfig, tell: Tell
) -> PatchCore:
    """From goods of one modality. `held_out` is not needed; of `loop` only the seed is used."""
    modality = only_modality(train)
    patches = neighbourhood(train.cells[modality], train.valid, config.patch)[train.valid]
    bank = fit_bank(patches, _groups(train, config)[train.valid], config.bank, loop.seed)
    tell("bank", 1, 1, float("nan"))
    return PatchCore(config, modality, bank)


def _groups(data: GridData, config: PatchCoreConfig) -> NDArray[np.int64]:
    program = data.program if config.per_program else np.zeros_like(data.program)
    return np.broadcast_to(program[:, None, None], data.valid.shape)
