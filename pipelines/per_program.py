"""One network per welding program behind the face of one grid method, as MAFR and CFM were published.

A seam goes to its program's method alone. Costs a network for each program; `program_embedding` has one for all.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.grid_methods import method_class
from pipelines.grids import Array, GridData, NetMethod

__all__ = ["PerProgram", "fit_per_program", "restore_method"]

FitOne = Callable[[GridData, GridData, int], NetMethod]
"""Goods to train, goods held out, the program's index → its method; the data know that one program, as number 0."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PerProgram:
    """`methods[p]`, all of `detector`, scores the seams of program p."""

    detector: str
    methods: tuple[NetMethod, ...]

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """Each seam by its own program's method. Raises ValueError for programs unknown in training."""
        if data.programs > len(self.methods):
            raise ValueError(f"trained on {len(self.methods)} programs, got {data.programs}: fit the method anew")
        maps: dict[str, Array] = {}
        for program in np.unique(data.program):
            rows = data.program == program
            for name, found in self.methods[program].error_maps(_alone(data, rows)).items():
                maps.setdefault(name, np.zeros(data.valid.shape, np.float32))[rows] = found
        return maps or {name: np.zeros(data.valid.shape, np.float32) for name in data.cells}

    def to(self, device: str) -> Self:
        """Itself, every program's method moved."""
        for method in self.methods:
            method.to(device)
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Those of program p under "p."."""
        return {f"{p}.{name}": v for p, method in enumerate(self.methods) for name, v in method.tensors().items()}

    def about(self) -> dict[str, Any]:
        """What each says, in order."""
        return {"detector": self.detector, "each_program": [method.about() for method in self.methods]}

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "PerProgram":
        """What `about` and `tensors` gave."""
        kind = method_class(about["detector"])
        methods = []
        for p, own in enumerate(about["each_program"]):
            first = f"{p}."
            methods.append(
                kind.restore(own, {k.removeprefix(first): v for k, v in tensors.items() if k.startswith(first)})
            )
        return cls(about["detector"], tuple(methods))


def restore_method(
    detector: str, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], device: str = "cpu"
) -> NetMethod:
    """A method of a model's directory on a device, be it one network or one per program."""
    kind = PerProgram if "each_program" in about else method_class(detector)
    return kind.restore(about, tensors).to(device)


def fit_per_program(
    detector: str, train: GridData, held_out: GridData, names: tuple[str, ...], fit_one: FitOne
) -> PerProgram:
    """Fit each program on its goods alone. Raises ValueError naming a program without goods in either part."""
    methods = []
    for program, name in enumerate(names):
        own, others = train.program == program, held_out.program == program
        if not own.any() or not others.any():
            raise ValueError(
                f"program {name}: {own.sum()} goods to train and {others.sum()} held out do not make a network of "
                "its own; record more, or train with --preset cell, where programs share one"
            )
        methods.append(fit_one(_alone(train, own), _alone(held_out, others), program))
    return PerProgram(detector, tuple(methods))


def _alone(data: GridData, rows: NDArray[np.bool_]) -> GridData:
    some = data.take(rows)
    return GridData(some.cells, some.valid, np.zeros(len(some), np.int64), 1)
