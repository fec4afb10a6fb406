"""MVTec AD and sets in its layout: `<class>/{train/good, test/<defect>, ground_truth/<defect>}/`.

Bergmann et al., "MVTec AD", CVPR 2019. A mask is `ground_truth/<defect>/<image>_mask.png`; good images have none.
"""

from collections.abc import Sequence
from pathlib import Path

from pipelines.datasets.folders import class_folders, files, folders, matched, need_folder
from pipelines.datasets.item import GOOD, Item

__all__ = ["CLASSES", "load", "load_class"]

CLASSES = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
    *("tile", "toothbrush", "transistor", "wood", "zipper"),
)


def load(root: Path, classes: Sequence[str] | None = None) -> list[Item]:
    """Train and test items of all classes below `root`, or of `classes`, which may be others than MVTec's.

    Raises ValueError naming a missing folder or mask, an extra class, or a file that belongs nowhere.
    """
    return [item for folder in class_folders(root, CLASSES, classes) for item in load_class(folder)]


def load_class(folder: Path, mask_ending: str = "_mask") -> list[Item]:
    """The items of one class folder; `group` is the item's own id. Raises ValueError as `load`."""
    known = ("train", "test", "ground_truth")
    for name in known:
        need_folder(folder / name, "the layout is <class>/{train/good,test/<defect>,ground_truth/<defect>}")
    _refuse_extra(folder, known)
    _refuse_extra(folder / "train", (GOOD,))
    defects = [entry.name for entry in folders(folder / "test")]
    _refuse_extra(folder / "ground_truth", tuple(name for name in defects if name != GOOD))
    train = files(need_folder(folder / "train" / GOOD, "training needs good images"), ".png")
    items = [_item(folder, "train", GOOD, path, None) for path in train]
    for defect in defects:
        images = files(folder / "test" / defect, ".png")
        masks: Sequence[Path | None] = [None] * len(images)
        if defect != GOOD:
            masks = matched(images, folder / "ground_truth" / defect, ".png", mask_ending)
        items += [_item(folder, "test", defect, *pair) for pair in zip(images, masks, strict=True)]
    return items


def _item(folder: Path, split: str, defect: str, image: Path, mask: Path | None) -> Item:
    name = f"{folder.name}/{split}/{defect}/{image.stem}"
    return Item(name, folder.name, split, defect, name, image=image, mask=mask)


def _refuse_extra(folder: Path, known: Sequence[str]) -> None:
    extra = [entry.name for entry in folders(folder) if entry.name not in known]
    if extra:
        raise ValueError(f"{folder} has the extra folder {extra[0]!r}; known: {', '.join(known)}: move it elsewhere")
