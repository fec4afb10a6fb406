"""`memory_bank`: nearest good cells in each modality, fused by a one-class machine (after M3DM, arXiv 2303.00601);
`memory_bank_concat`: nearest good cells in all modalities at once.

Each modality has a coreset bank of its own; a cell's distances to them are one vector, and a linear one-class SVM
that saw vectors of held-out goods weighs them (M3DM's decision layer, sec. 3.4). Its normal vector is a sum of such
vectors, all ≥ 0, so its response to a cell grows with every distance; that response is the map "joint".
With `joint` a further bank holds the modalities' cells side by side: what neither modality shows alone but their
combination does. Its distance is the map "concat", and one more entry of the fused vector. `memory_bank` has the
banks of each modality alone and so is blind to pairs, `memory_bank_concat` the further one alone.

Differs from M3DM: its learned fusion block (contrastive, of both modalities) is the plain concatenation here, the
features are this cell's, the distances are of cells on the seam's grid, and no image-level second machine.

Glossary: d (n, H, W): a cell's distance / √C; w: the machine's weights, one per entry of the distance vector.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.baselines.bank import Bank, BankConfig, fit_bank
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig

__all__ = ["MemoryBank", "MemoryBankConfig", "fit_memory_bank", "plateau"]

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryBankConfig:
    """`share`, `dims`, `per_program`, `candidates`: see BankConfig."""

    share: float = 0.01
    dims: int = 32
    per_program: bool = True
    candidates: int = 100_000
    neighbours: int = 3
    """A distance is the mean over this many nearest members; M3DM's is to the nearest."""
    each: bool = True
    """Whether each modality has a bank of its own; without, there is `joint`'s alone."""
    joint: bool = True
    """Whether a further bank holds the modalities' cells side by side."""
    scaled_fusion: bool = True
    """Whether the machine sees distances relative to held-out goods' median, so that no modality's units rule."""
    nu: float = 0.5

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "MemoryBankConfig":
        """`compat`: M3DM's choices; `cell`: ours."""
        if preset == "compat":
            return cls(share=0.1, neighbours=1, joint=True, scaled_fusion=False)
        return cls(share={"cpu": 0.02, "gpu": 0.1}[size])

    @property
    def bank(self) -> BankConfig:
        """What each of its banks is made by."""
        return BankConfig(self.share, self.dims, self.per_program, self.candidates)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MemoryBank:
    """`banks` by modality, and "concat"; `weights`: the machine's, over `banks` in order (all 1 for one bank)."""

    config: MemoryBankConfig
    banks: Mapping[str, Bank]
    weights: Array

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """By modality `(n, H, W)`, "concat" with a joint bank, and "joint": the fused one."""
        maps = _distances(self.banks, data, self.config)
        if len(maps) > 1:
            fused = np.tensordot(self.weights, np.stack(list(maps.values())), axes=(0, 0))
            maps["joint"] = fused.astype(np.float32)
        return maps

    def truncated(self, share: float) -> "MemoryBank":
        """The same with smaller banks and the weights kept: for the curve of accuracy against size."""
        if not 0.0 < share <= self.config.share:
            raise ValueError(f"banks of share {self.config.share} have no part of share {share}")
        smaller = {name: bank.truncated(share / self.config.share) for name, bank in self.banks.items()}
        return MemoryBank(dataclasses.replace(self.config, share=share), smaller, self.weights)

    @property
    def state_mb(self) -> float:
        """What the banks hold, in 10⁶ bytes."""
        return sum(bank.state_mb for bank in self.banks.values())

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        found: dict[str, NDArray[Any]] = {"weights": self.weights}
        for name, bank in self.banks.items():
            found |= bank.tensors(name)
        return found

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays."""
        return {"config": dataclasses.asdict(self.config), "banks": list(self.banks)}

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "MemoryBank":
        """What `about` and `tensors` gave."""
        banks = {name: Bank.from_tensors(name, tensors) for name in about["banks"]}
        return cls(MemoryBankConfig(**about["config"]), banks, tensors["weights"])


def fit_memory_bank(
    train: GridData, held_out: GridData, config: MemoryBankConfig, loop: LoopConfig, tell: Tell
) -> MemoryBank:
    """Banks from `train`, the machine from `held_out`; both goods. Of `loop` only the seed is used.

    Raises ValueError when `held_out` has no valid cell, and for a config without any bank.
    """
    banks: dict[str, Bank] = {}
    group = _groups(train, config)
    alone = config.each or len(train.pair) < 2
    names = [*(train.pair if alone else ()), *(["concat"] if config.joint and len(train.pair) > 1 else [])]
    if not names:
        raise ValueError("a memory bank with neither each nor joint holds no cells; set one of them")
    for done, name in enumerate(names):
        cells = _cells(train, name)[train.valid]
        banks[name] = fit_bank(cells, group[train.valid], config.bank, loop.seed)
        tell("bank", done + 1, len(names), float("nan"))
    distances = np.stack([m[held_out.valid] for m in _distances(banks, held_out, config).values()], axis=1)
    if not len(distances):
        raise ValueError("the held-out goods have no valid cell to weigh the modalities by")
    return MemoryBank(config, banks, _weights(distances, config, loop.seed))


def plateau(shares: Mapping[float, float], tolerance: float = 0.005) -> float:
    """The smallest share whose figure (an AUROC) is within `tolerance` of the best: more cells buy nothing."""
    best = max(shares.values())
    return min(share for share, figure in shares.items() if figure >= best - tolerance)


def _weights(distances: Array, config: MemoryBankConfig, seed: int) -> Array:
    if distances.shape[1] == 1:
        return np.ones(1, np.float32)
    from sklearn.linear_model import SGDOneClassSVM

    scale = np.maximum(np.median(distances, axis=0), 1e-9) if config.scaled_fusion else np.ones(distances.shape[1])
    machine = SGDOneClassSVM(nu=config.nu, random_state=seed, max_iter=1000).fit(distances / scale)
    weights = np.maximum(machine.coef_.ravel(), 0.0) / scale
    found: Array = (weights / weights.sum()).astype(np.float32)
    return found


def _groups(data: GridData, config: MemoryBankConfig) -> NDArray[np.int64]:
    program = data.program if config.per_program else np.zeros_like(data.program)
    return np.broadcast_to(program[:, None, None], data.valid.shape)


def _cells(data: GridData, name: str) -> Array:
    """Cells `(n, H, W, C)` of a modality, or all side by side, divided by √C: modalities then weigh alike."""
    if name == "concat":
        return np.concatenate([_cells(data, modality) for modality in data.cells], axis=-1)
    cells = data.cells[name]
    return cells / np.float32(np.sqrt(cells.shape[-1]))


def _distances(banks: Mapping[str, Bank], data: GridData, config: MemoryBankConfig) -> dict[str, Array]:
    group = _groups(data, config)
    maps = {}
    for name, bank in banks.items():
        cells, found = _cells(data, name), np.zeros(data.valid.shape, np.float32)
        for g in np.unique(group[data.valid]):
            own = data.valid & (group == g)
            found[own] = bank.nearest(cells[own], int(g), config.neighbours)[0].mean(1)
        maps[name] = found
    return maps
