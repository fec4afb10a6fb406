"""MVTec 3D-AD: `<class>/{train,validation}/good/{rgb,xyz}/` and `<class>/test/<defect>/{rgb,xyz,gt}/`.

Bergmann et al., "The MVTec 3D-AD Dataset", VISAPP 2022. `xyz` are organised points, float TIFF, metres; `gt`
may be there for test/good as well (empty masks). `read_points` gives them as the published detectors take them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.folders import class_folders, files, folders, matched, need_folder
from pipelines.datasets.item import GOOD, Item
from pipelines.datasets.points import keep_largest_cluster, pad_square, remove_plane

__all__ = ["CLASSES", "load", "read_points"]

CLASSES = ("bagel", "cable_gland", "carrot", "cookie", "dowel", "foam", "peach", "potato", "rope", "tire")
"""In the order of IB-IUMAD's increments."""
CALIBRATION = "calibration"


def load(root: Path, classes: Sequence[str] | None = None) -> list[Item]:
    """Items of all classes below `root`, or of `classes`; `group` is the item's own id.

    Raises ValueError naming a missing folder, points or mask, an extra class, or a file that belongs nowhere.
    """
    return [item for folder in class_folders(root, CLASSES, classes) for item in _load_class(folder)]


def read_points(item: Item) -> NDArray[np.float32]:
    """(S, S, 3) points, metres, background (0, 0, 0), padded to a square of whole hundreds.

    BTF's preprocessing, which M3DM and CFM took over: the plate is removed, the scan padded, and the largest cluster
    kept. An image is brought to the same size by `points.pad_square`.
    """
    return keep_largest_cluster(pad_square(remove_plane(item.read_xyz())))


def _load_class(folder: Path) -> list[Item]:
    splits = ("train", "validation", "test")
    for split in splits:
        need_folder(folder / split, "the layout is <class>/{train,validation,test}/<defect>/{rgb,xyz,gt}")
    extra = [entry.name for entry in folders(folder) if entry.name not in (*splits, CALIBRATION)]
    if extra:
        raise ValueError(f"{folder} has the extra folder {extra[0]!r}; known: {', '.join(splits)}: move it elsewhere")
    return [item for split in splits for item in _load_split(folder, split)]


def _load_split(folder: Path, split: str) -> list[Item]:
    defects = folders(need_folder(folder / split / GOOD, f"{split} needs good scans").parent)
    if split != "test" and len(defects) > 1:
        strange = next(entry.name for entry in defects if entry.name != GOOD)
        raise ValueError(f"{folder / split} has the defect folder {strange!r}; only test may have one: move it there")
    items = []
    for defect in defects:
        images = files(need_folder(defect / "rgb", f"{defect} must hold rgb and xyz"), ".png")
        points = matched(images, defect / "xyz", ".tiff")
        masks: Sequence[Path | None] = [None] * len(images)
        if defect.name != GOOD or (split == "test" and (defect / "gt").is_dir()):
            masks = matched(images, defect / "gt", ".png")
        for image, xyz, mask in zip(images, points, masks, strict=True):
            name = f"{folder.name}/{split}/{defect.name}/{image.stem}"
            items.append(Item(name, folder.name, split, defect.name, name, image=image, xyz=xyz, mask=mask))
    return items
