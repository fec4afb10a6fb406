"""Eyecandies: `<Class>/{train,val,test_public,test_private}/data/<number>_<part>.<ext>`.

Bonfiglioli et al., "The Eyecandies Dataset for Unsupervised Multimodal Anomaly Detection and Localization",
ACCV 2022.
test_private comes without labels, so it is not loaded. `read_points` makes the points of a depth map as published.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.folders import class_folders, folders, need_folder
from pipelines.datasets.item import GOOD, Item
from pipelines.datasets.reading import read_depth_counts, read_mask

__all__ = ["CLASSES", "load", "read_depth", "read_points"]

CLASSES = (
    *("CandyCane", "ChocolateCookie", "ChocolatePraline", "Confetto", "GummyBear"),
    *("HazelnutTruffle", "LicoriceSandwich", "Lollipop", "Marshmallow", "PeppermintCandy"),
)
FOLDER_SPLITS = {"train": "train", "val": "validation", "test_public": "test"}
UNLABELLED = "test_private"
DEFECTS = ("bumps", "dents", "colors", "normals")
IMAGE = "image_4"
"""Lit from the left: what M3DM and the CFM family take of the six images."""
PARTS = {"image": f"{IMAGE}.png", "depth": "depth.png", "info_depth": "info_depth.yaml", "pose": "pose.txt"}

FOCAL_PX = 711.11
NEAR, FAR, ASIDE = -0.02, 1.8, 1.0
"""Limits of the foreground in the conveyor's axes, M3DM's; the depth maps' unit."""


def load(root: Path, classes: Sequence[str] | None = None) -> list[Item]:
    """Train, validation and public test items of all classes below `root`, or of `classes`.

    Reads the test masks: an item is good where its mask is empty, else its defects are those whose own masks are not,
    joined by "+". Raises ValueError naming a missing folder, part or mask, or an extra class or folder.
    """
    return [item for folder in class_folders(root, CLASSES, classes) for item in _load_class(folder)]


def read_depth(item: Item) -> NDArray[np.float32]:
    """(H, W) depth, metres. Raises ValueError for a depth map or range that cannot be read."""
    if item.depth is None:
        raise ValueError(f"{item.id} has no depth map; is it an Eyecandies item?")
    low, high = _depth_range(item.others["info_depth"])
    return (low + read_depth_counts(item.depth) / np.float32(65535.0) * (high - low)).astype(np.float32)


def read_points(item: Item) -> NDArray[np.float32]:
    """(H, W, 3) points as M3DM makes them of depth and pose: background (0, 0, 0), axes of MVTec 3D-AD.

    There a background point lies on a plane of x = 0, which its readers then drop; here it is 0 in all three.
    """
    depth = read_depth(item)
    points = _points(depth, _pose(item.others["pose"]))
    first, last = points[0, depth.shape[1] // 2], points[-1, depth.shape[1] // 2]
    start = np.array([0.0, last[1], last[2]])
    rise, run = first[1] - last[1], first[2] - last[2]
    cosine, sine = run / np.hypot(rise, run), rise / np.hypot(rise, run)
    turned = (points - start) @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]).T
    background = (turned[..., 1] > NEAR) | (turned[..., 2] > FAR) | (np.abs(turned[..., 0]) > ASIDE)
    points[background] = 0
    return (points[..., [0, 2, 1]] * [0.1, -0.1, 0.1]).astype(np.float32)


def _points(depth: NDArray[np.float32], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, 3): pixels back through the pinhole camera, principal point in the middle, into the world."""
    height, width = depth.shape
    rows, columns = np.mgrid[:height, :width]
    z = depth.astype(np.float64)
    camera = [(columns - width / 2) * z / FOCAL_PX, (rows - height / 2) * z / FOCAL_PX, z, np.ones_like(z)]
    world: NDArray[np.float64] = np.stack(camera, axis=-1) @ np.linalg.inv(pose).T
    return world[..., :3]


def _pose(path: Path) -> NDArray[np.float64]:
    pose = np.loadtxt(path)
    if pose.shape != (4, 4):
        raise ValueError(f"{path}: pose of {pose.shape}, not 4×4; unpack the data set again")
    return pose


def _depth_range(path: Path) -> tuple[float, float]:
    found = dict(re.findall(r"\b(min|max)\s*:\s*([-+.\deE]+)", path.read_text(encoding="utf-8")))
    try:
        return float(found["min"]), float(found["max"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: no normalization with numbers min and max; unpack the data set again") from error


def _load_class(folder: Path) -> list[Item]:
    extra = [entry.name for entry in folders(folder) if entry.name not in (*FOLDER_SPLITS, UNLABELLED)]
    if extra:
        known = ", ".join((*FOLDER_SPLITS, UNLABELLED))
        raise ValueError(f"{folder} has the extra folder {extra[0]!r}; known: {known}: move it elsewhere")
    return [item for name in FOLDER_SPLITS for item in _load_split(folder, name)]


def _load_split(folder: Path, name: str) -> list[Item]:
    data = need_folder(folder / name / "data", "the layout is <Class>/{train,val,test_public}/data/")
    numbers = sorted({path.name.split("_")[0] for path in data.glob("*_*.*")})
    if not numbers:
        raise ValueError(f"{data} has no <number>_{IMAGE}.png; unpack the data set again")
    return [_item(folder.name, FOLDER_SPLITS[name], data, number) for number in numbers]


def _item(program: str, split: str, data: Path, number: str) -> Item:
    paths = {part: _present(data / f"{number}_{ending}") for part, ending in PARTS.items()}
    mask = _present(data / f"{number}_mask.png") if split == "test" else None
    defect = GOOD if mask is None else _defect(mask, data, number)
    name = f"{program}/{split}/{number}"
    others = {part: paths[part] for part in ("info_depth", "pose")}
    return Item(
        name, program, split, defect, name, image=paths["image"], depth=paths["depth"], mask=mask, others=others
    )


def _defect(mask: Path, data: Path, number: str) -> str:
    if not read_mask(mask).any():
        return GOOD
    found = [name for name in DEFECTS if read_mask(_present(data / f"{number}_{name}_mask.png")).any()]
    if not found:
        raise ValueError(f"{mask} marks pixels, but none of the masks of {', '.join(DEFECTS)} does; unpack it again")
    return "+".join(found)


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is missing; unpack the data set again")
    return path
