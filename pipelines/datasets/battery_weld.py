"""Battery weld height maps: MVTec-AD's layout without a class level, scans with the plate's edge in them.

Kang Zhang, "Battery-Weld-Anomaly-Detection-Dataset", 2025. A file `<weld>_row<N>_<number>.png` is a crop of
`<weld>`, so a crop of a tested weld may lie in train: those are dropped here. Good maps are brighter than
defective ones, so a detector sees scans in units of their own spread.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.item import Item
from pipelines.datasets.mvtec_ad import load_class
from pipelines.datasets.reading import read_grey

__all__ = ["edge_distance", "load", "normalised", "read_height", "seam_band", "weld_of"]

PROGRAM = "battery_weld"
NO_RETURN = 0
MAD_TO_SIGMA = 1.4826
ONE_GREY_LEVEL = 1.0
BAND_PX = 64
"""How far from the plate's edge the seam may lie; see `seam_band`."""
OUTSIDE_MIN_SHARE = 0.005
"""Share of a scan below which an area without return is a hole in the plate, not the surroundings of its edge."""


def load(root: Path) -> list[Item]:
    """Train and test items; `group` is the weld. Training scans of welds that are tested are left out.

    Raises ValueError naming a missing folder or mask, or a file that belongs nowhere.
    """
    items = [
        dataclasses.replace(item, id=_id(item), program=PROGRAM, group=weld_of(item.image))
        for item in load_class(root, mask_ending="")
        if item.image is not None
    ]
    tested = {item.group for item in items if item.split == "test"}
    kept = [item for item in items if item.split == "test" or item.group not in tested]
    if not any(item.split == "train" for item in kept):
        raise ValueError(f"{root}: every training scan is of a weld that is tested; add good scans of other welds")
    return kept


def weld_of(path: Path) -> str:
    """The weld of a scan: its name before `_row`."""
    return re.split(r"_row\d+", path.stem, maxsplit=1)[0]


def read_height(item: Item) -> NDArray[np.uint8]:
    """(H, W) grey levels as stored, 0 = no return. Raises ValueError for a scan that is not 8-bit grey."""
    if item.image is None:
        raise ValueError(f"{item.id} has no scan; is it a battery-weld item?")
    return read_grey(item.image)


def normalised(height: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """((H, W) height in robust standard deviations from the scan's median, 0 where invalid; (H, W) valid).

    Median and median absolute deviation are of the scan's own valid pixels. Where more than half of them are one
    level (saturated maps) the deviation is 0 and one grey level, the map's resolution, stands for it. Raises
    ValueError for a scan without a valid pixel.
    """
    valid = height != NO_RETURN
    if not valid.any():
        raise ValueError(f"scan {height.shape} has no valid pixel; leave it out")
    values = height[valid].astype(np.float32)
    centre = np.median(values)
    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(values - centre))), ONE_GREY_LEVEL)
    return np.where(valid, (height.astype(np.float32) - centre) / spread, 0).astype(np.float32), valid


def seam_band(height: NDArray[np.uint8], width_px: int = BAND_PX) -> NDArray[np.bool_]:
    """(H, W), true on the plate within `width_px` of its edge, where the seam lies: the area that is scored.

    The data set names no seam. The edge is where returns end at an area without any that is too large to be a hole;
    the crop's own border is no edge. Known from the scan alone, never from masks. With 64 px it holds 95 %
    of a mask (mean of 42, least 74 %) and 64 % of the valid pixels.
    """
    distance = edge_distance(height)
    band: NDArray[np.bool_] = (distance > 0) & (distance <= width_px)
    return band


def edge_distance(height: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W) px from the plate's edge; 0 off the plate, infinite where the scan shows no edge."""
    from scipy.ndimage import distance_transform_edt, label

    holes, count = label(height == NO_RETURN)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    sizes[0] = 0
    outside = (sizes >= OUTSIDE_MIN_SHARE * height.size)[holes]
    if not outside.any():
        return np.full(height.shape, np.inf, np.float32)
    found: NDArray[np.float32] = distance_transform_edt(~outside).astype(np.float32)
    return found


def _id(item: Item) -> str:
    return f"{PROGRAM}/{item.split}/{item.defect}/{'' if item.image is None else item.image.stem}"
