"""A seam on a grid: what the two-modality methods (MAFR, Uni-RCM, IB-IUMAD, CFM, memory bank, …) work on.

Cells lie across × along the seam in the seam's own frame, so that photograph, height map and process say something
of the same place. `pipelines/seam_grid.py` makes them from a seam's features.

Glossary: n seams, H cells across, W cells along the seam, C channels of a modality.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["MODALITIES", "NEEDS", "PAIRS", "GridData", "GridMethod", "Modality", "NetMethod", "Tell", "requires_of"]

Modality = Literal["rgb", "geo", "proc"]
MODALITIES: tuple[Modality, ...] = ("rgb", "geo", "proc")
"""Post-weld photograph, height map, process laid onto the place that it made."""
PAIRS: tuple[tuple[Modality, Modality], ...] = (("rgb", "geo"), ("rgb", "proc"), ("geo", "proc"))
NEEDS: Mapping[Modality, str] = {"rgb": "result", "geo": "profile", "proc": "welder"}
"""Modality → the kind of stream without which it does not exist."""

Array = NDArray[np.float32]


def requires_of(pair: tuple[str, ...]) -> tuple[str, ...]:
    """Stream kinds that a pair of modalities needs."""
    return tuple(sorted(NEEDS[name] for name in pair))  # type: ignore[index]


class Tell(Protocol):
    """Progress: stage, done, total and the current held-out loss."""

    def __call__(self, stage: str, done: int, total: int, loss: float) -> None:
        """Said often; must be cheap."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GridData:
    """n seams: `cells[modality]` (n, H, W, C) float32, standardised on training goods; `valid` (n, H, W) bool: where
    every modality was measured; `program` (n,) int64: index of each seam's welding program of `programs`."""

    cells: Mapping[str, Array]
    valid: NDArray[np.bool_]
    program: NDArray[np.int64]
    programs: int

    def __len__(self) -> int:
        return len(self.program)

    @property
    def pair(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.cells)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> "GridData":
        """Some of the seams."""
        return GridData(
            {name: cells[rows] for name, cells in self.cells.items()},
            self.valid[rows],
            self.program[rows],
            self.programs,
        )


class GridMethod(Protocol):
    """A fitted method. Each comes with `fit_NAME(train, held_out, config, loop, tell) -> GridMethod`."""

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """How anomalous every cell looks, by modality `(n, H, W)` ≥ 0; 0 where `valid` is false."""
        ...

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        ...

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays; TOML-ready."""
        ...

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """What `about` and `tensors` gave."""
        ...


class NetMethod(GridMethod, Protocol):
    """A method of networks, which may lie on a GPU; what it takes and gives is numpy all the same."""

    def to(self, device: str) -> Self:
        """Itself, its networks moved to "cpu" or "cuda"."""
        ...
