"""Baselines that look at a seam's process as a whole and have no grid: one figure per seam.

Each comes with `fit_NAME(train, held_out, config, loop, tell) -> SeamMethod`; a method without a network uses only
the seed of `loop`, or nothing of it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.normaliser import Process

__all__ = ["SeamGoods", "SeamMethod"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeamGoods:
    """Good seams: `program` (n,) int64, index of each seam's welding program of `programs`."""

    processes: Sequence[Process]
    program: NDArray[np.int64]
    programs: int

    def __post_init__(self) -> None:
        if not len(self.processes) == len(self.program) > 0:
            raise ValueError(f"{len(self.processes)} seams with {len(self.program)} programs: one each, and some")


class SeamMethod(Protocol):
    """A fitted method."""

    def score(self, process: Process, program: int) -> float:
        """How anomalous the seam is, > 0, higher is more. Raises ValueError when it lacks what is looked at."""
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
