"""The one table of data sets. Adding one is adding a row and a file."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets import battery_weld, eyecandies, mvtec_3d_ad, mvtec_ad, weld4m
from pipelines.datasets.item import Item

__all__ = ["DATASETS", "DataSet", "Loader", "dataset"]


class Loader(Protocol):
    """`load(root)` → items. Raises ValueError naming what is wrong in the folder and how to mend it."""

    def __call__(self, root: Path, /) -> list[Item]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class DataSet:
    """A row: how to read it, under what licence it comes, and whether a real copy of it was ever read here."""

    load: Loader
    licence: str
    seen: bool
    read_points: Callable[[Item], NDArray[np.float32]] | None = None
    """(H, W, 3) points after the published preprocessing, where the set has geometry."""


_NON_COMMERCIAL = "CC BY-NC-SA 4.0"

DATASETS: dict[str, DataSet] = {
    "weld4m": DataSet(weld4m.load, "research only, access on request", seen=False),
    "mvtec_3d_ad": DataSet(mvtec_3d_ad.load, _NON_COMMERCIAL, seen=False, read_points=mvtec_3d_ad.read_points),
    "eyecandies": DataSet(eyecandies.load, "see its page", seen=False, read_points=eyecandies.read_points),
    "mvtec_ad": DataSet(mvtec_ad.load, _NON_COMMERCIAL, seen=False),
    "battery_weld": DataSet(battery_weld.load, "CC BY-SA 4.0 (its LICENSE file: Apache-2.0)", seen=True),
}


def dataset(name: str) -> DataSet:
    """The row `name`. Raises ValueError naming the known ones."""
    if name not in DATASETS:
        raise ValueError(f"no data set {name!r}; known data sets: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]
