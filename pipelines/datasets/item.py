"""`Item`: one sample of a public data set, as every loader of this package gives it.

Items hold paths; arrays are read when asked for, so that a list of items costs nothing.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.reading import read_colour, read_mask, read_xyz

__all__ = ["GOOD", "SPLITS", "Item", "completeness", "of_split", "shared_groups"]

GOOD = "good"
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One sample. `program` is the object class or weld program; `group` is what no two splits may share."""

    id: str
    program: str
    split: str
    defect: str
    group: str
    image: Path | None = None
    xyz: Path | None = None
    depth: Path | None = None
    mask: Path | None = None
    others: Mapping[str, Path] = dataclasses.field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Further files by name: a depth map's range and pose, a weld's log, sound and video."""

    @property
    def is_good(self) -> bool:
        return self.defect == GOOD

    def read_image(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB. Raises ValueError where there is no image or it cannot be read."""
        return read_colour(self._path("image", self.image))

    def read_xyz(self) -> NDArray[np.float32]:
        """(H, W, 3) organised points in the file's unit, (0, 0, 0) = no return. Raises ValueError as `read_image`."""
        return read_xyz(self._path("xyz", self.xyz))

    def read_mask(self) -> NDArray[np.bool_]:
        """(H, W), true = anomalous; all false for a good item without a file, in the size of its image or points."""
        if self.mask is not None:
            return read_mask(self.mask)
        if not self.is_good:
            raise ValueError(f"{self.id} ({self.defect}) has no mask: its data set gives none for this split")
        size = self.read_image().shape if self.image is not None else self.read_xyz().shape
        return np.zeros(size[:2], np.bool_)

    def _path(self, name: str, path: Path | None) -> Path:
        if path is None:
            raise ValueError(
                f"{self.id} has no {name}: its data set gives none; see its loader in pipelines/datasets"
            )
        return path


def of_split(items: Iterable[Item], split: str) -> list[Item]:
    """The items of a split. Raises ValueError for a split that is none."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown; known: {', '.join(SPLITS)}")
    return [item for item in items if item.split == split]


def shared_groups(items: Iterable[Item]) -> dict[str, tuple[str, ...]]:
    """Group → its splits, for every group that is in more than one: what may flatter a score."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for item in items:
        found[item.group].add(item.split)
    return {group: tuple(sorted(splits)) for group, splits in sorted(found.items()) if len(splits) > 1}


def completeness(items: Iterable[Item], parts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Defect → number of items, and of items without each part (`image`, `xyz`, … or a name of `others`)."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for item in items:
        counts[item.defect]["items"] += 1
        for part in parts:
            path = getattr(item, part) if part in ("image", "xyz", "depth", "mask") else item.others.get(part)
            counts[item.defect][f"without_{part}"] += path is None
    return {defect: dict(count) for defect, count in sorted(counts.items())}
