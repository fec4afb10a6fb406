"""What networks over grids share: seams as batches of tensors, error maps in pieces, parameters as named arrays.

Between `pipelines/grids.py`, which knows no torch, and the networks of MAFR and CFM.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.grids import Array, GridData
from pipelines.torch_device import device_of

__all__ = [
    "GridBatch",
    "GridTensors",
    "about_net",
    "as_arrays",
    "load_arrays",
    "map_by_pieces",
    "mean_over_seams",
    "restored",
]

N = TypeVar("N", bound=nn.Module)

CELLS_PER_PIECE = 65536
"""So many cells go through a network at once, whatever the grid: some 100 MB at 512 channels."""


class GridBatch(NamedTuple):
    """B seams: cells by modality (B, H, W, C); valid (B, H, W) bool; program (B,) int64."""

    cells: dict[str, Tensor]
    valid: Tensor
    program: Tensor


class GridTensors:
    """Seams, checked once, from which batches are drawn.

    Raises ValueError where a measured cell is not finite. Cells that were not measured may hold anything; what is not
    finite there is taken as 0.
    """

    def __init__(self, data: GridData) -> None:
        self.programs = data.programs
        if len(data) and not 0 <= data.program.min() <= data.program.max() < data.programs:
            raise ValueError(
                f"programs must be 0..{data.programs - 1}, got {data.program.min()}..{data.program.max()}: "
                "fit the method anew with the program's goods"
            )
        self._cells = {name: torch.from_numpy(_finite(name, c, data.valid)) for name, c in data.cells.items()}
        self._valid = torch.from_numpy(np.ascontiguousarray(data.valid))
        self._program = torch.from_numpy(np.ascontiguousarray(data.program))

    def __len__(self) -> int:
        return len(self._program)

    @property
    def channels(self) -> dict[str, int]:
        """Channels by modality."""
        return {name: cells.shape[-1] for name, cells in self._cells.items()}

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> GridBatch:
        """The seams with these row numbers."""
        picked = torch.from_numpy(rows)
        cells = {name: c[picked].to(device) for name, c in self._cells.items()}
        return GridBatch(cells, self._valid[picked].to(device), self._program[picked].to(device))

    def pieces(self) -> list[NDArray[np.int64]]:
        """Row numbers in pieces of about `CELLS_PER_PIECE` cells."""
        _, height, width = self._valid.shape
        size = max(1, CELLS_PER_PIECE // max(1, height * width))
        return [np.arange(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def _finite(name: str, cells: Array, valid: NDArray[np.bool_]) -> Array:
    finite = np.isfinite(cells).all(-1)
    if finite.all():
        return np.ascontiguousarray(cells, np.float32)
    if (bad := (~finite & valid).any((1, 2))).any():
        raise ValueError(
            f"{name}: measured cells of seam {int(np.argmax(bad))} are not finite; mark them as not valid"
        )
    return np.where(np.isfinite(cells), cells, 0).astype(np.float32)


def mean_over_seams(net: nn.Module, data: GridTensors, loss: Callable[[nn.Module, GridBatch], Tensor]) -> float:
    """The mean of a loss over all seams, in pieces; the loss of a batch must be a mean over its seams."""
    device, total = device_of(net), 0.0
    for rows in data.pieces():
        total += float(loss(net, data.batch(rows, device))) * len(rows)
    return total / max(1, len(data))


def map_by_pieces(
    net: nn.Module, data: GridData, maps: Callable[[GridBatch], Mapping[str, Tensor]]
) -> dict[str, Array]:
    """Error maps by modality, (n, H, W); 0 where `valid` is false."""
    tensors, device = GridTensors(data), device_of(net)
    out = {name: np.zeros(data.valid.shape, np.float32) for name in data.cells}
    net.eval()
    with torch.no_grad():
        for rows in tensors.pieces():
            batch = tensors.batch(rows, device)
            for name, found in maps(batch).items():
                out[name][rows] = torch.where(batch.valid, found, 0.0).cpu().numpy()
    return out


def as_arrays(net: nn.Module) -> dict[str, NDArray[Any]]:
    """Parameters as named arrays for the model file."""
    return {name: value.detach().cpu().numpy().copy() for name, value in net.state_dict().items()}


def about_net(net: Any) -> dict[str, Any]:
    """What `restored` needs beside the arrays. `modalities` keeps the order, which tables of a file may lose."""
    return {
        "config": dataclasses.asdict(net.config),
        "modalities": list(net.channels),
        "channels": list(net.channels.values()),
        "programs": net.programs,
    }


def restored(
    kind: Callable[..., N], config: Callable[..., Any], about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> N:
    """A network of `kind` as `about_net` and `as_arrays` gave it, in evaluation mode."""
    channels = dict(zip(about["modalities"], about["channels"], strict=True))
    net = kind(channels, about["programs"], config(**about["config"]))
    load_arrays(net, arrays)
    return net.eval()


def load_arrays(net: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """What `as_arrays` gave, into a network of the same shape. Raises RuntimeError where they do not fit."""
    net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
