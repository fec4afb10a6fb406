"""What the baselines with a network on one modality have in common: training, maps, the model file.

A method is a `CellNet` and its configuration; `NetMethod` is its fitted form.

Glossary: b seams of a batch, H cells across, W along, C channels.
"""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.baselines.cells import only_modality
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig, LoopReport, train_loop

__all__ = ["CellNet", "CellShape", "NetMethod", "masked_mean"]

BATCH = 32
CellShape = tuple[int, int, int]
"""H, W, C."""
Config = TypeVar("Config")


class CellNet(nn.Module, abc.ABC):
    """A network that says how odd cells look. `forward` is its loss, so that wrapped networks train alike."""

    @abc.abstractmethod
    def forward(self, cells: Tensor, valid: Tensor) -> Tensor:
        """Mean loss of cells `(b, H, W, C)` over those that are valid `(b, H, W)`."""

    @abc.abstractmethod
    def error(self, cells: Tensor, valid: Tensor) -> Tensor:
        """`(b, H, W)` ≥ 0, more for odder cells; anything where not valid."""

    def calibrate(self, cells: Tensor, valid: Tensor) -> None:
        """Set what depends on held-out goods; most networks have nothing of the kind."""


@dataclasses.dataclass(frozen=True, eq=False)
class NetMethod(Generic[Config]):
    """A fitted network of one modality. A method names its network and configuration by the two class variables."""

    net_type: ClassVar[Any]
    config_type: ClassVar[Any]

    config: Config
    modality: str
    shape: CellShape
    net: CellNet
    report: LoopReport | None = None

    @classmethod
    def fit(cls, train: GridData, held_out: GridData, config: Config, loop: LoopConfig, tell: Tell) -> Self:
        """Train on goods of one modality; the network with the least loss on `held_out` goods is kept."""
        modality = only_modality(train)
        height, width, channels = train.cells[modality].shape[1:]
        shape = (height, width, channels)
        torch.manual_seed(loop.seed)
        net: CellNet = cls.net_type(config, shape)
        cells, valid = _tensors(train, modality)
        other, other_valid = _tensors(held_out, modality)

        def loss(wrapped: nn.Module, rows: NDArray[np.int64]) -> Tensor:
            at = torch.from_numpy(rows)
            found: Tensor = wrapped(cells[at], valid[at])
            return found

        def held_out_loss(wrapped: nn.Module) -> float:
            parts = [float(wrapped(x, known)) * len(x) for x, known in _batches(other, other_valid)]
            return sum(parts) / len(other)

        report = train_loop(net, len(train), loss, held_out_loss, loop, tell)
        with torch.no_grad():
            net.calibrate(other, other_valid)
        return cls(config, modality, shape, net, report)

    def error_maps(self, data: GridData) -> dict[str, NDArray[np.float32]]:
        """How odd every cell looks, `(n, H, W)`; 0 where not valid. Raises ValueError for cells of another shape."""
        cells, valid = _tensors(data, self.modality)
        if tuple(cells.shape[1:]) != self.shape:
            raise ValueError(f"{self.modality} cells of shape {tuple(cells.shape[1:])}, trained on {self.shape}")
        parts = []
        with torch.inference_mode():
            for x, known in _batches(cells, valid):
                parts.append(self.net.error(x, known).clamp_min(0.0) * known)
        return {self.modality: torch.cat(parts).numpy()}

    @property
    def state_mb(self) -> float:
        """What the network holds, in 10⁶ bytes."""
        return sum(values.nbytes for values in self.tensors().values()) / 1e6

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        return {name: value.detach().numpy() for name, value in self.net.state_dict().items()}

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays."""
        config = {name: getattr(self.config, name) for name in _fields(self.config)}
        return {
            "config": {name: list(v) if isinstance(v, tuple) else v for name, v in config.items()},
            "modality": self.modality,
            "shape": list(self.shape),
        }

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """What `about` and `tensors` gave."""
        config = cls.config_type(
            **{name: tuple(v) if isinstance(v, list) else v for name, v in about["config"].items()}
        )
        height, width, channels = about["shape"]
        net: CellNet = cls.net_type(config, (height, width, channels))
        net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
        net.eval()
        return cls(config, about["modality"], (height, width, channels), net)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of `(b, H, W)` over valid cells; 0 when there are none."""
    return (values * valid).sum() / valid.sum().clamp_min(1)


def _batches(cells: Tensor, valid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for at in range(0, len(cells), BATCH):
        yield cells[at : at + BATCH], valid[at : at + BATCH]


def _fields(config: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(config)]


def _tensors(data: GridData, modality: str) -> tuple[Tensor, Tensor]:
    """Cells with zeros where not valid, and where they are."""
    valid = torch.from_numpy(np.ascontiguousarray(data.valid))
    return torch.from_numpy(np.ascontiguousarray(data.cells[modality])) * valid[..., None], valid
