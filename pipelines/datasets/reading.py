"""Files of the public data sets → arrays. OpenCV is imported when the first file is read.

OpenCV gives colour channels in the order blue, green, red, and treats the three channels of an xyz TIFF likewise;
both are turned round here, once.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_colour", "read_depth_counts", "read_grey", "read_mask", "read_xyz"]


def read_colour(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB; a grey image is repeated. Raises ValueError where it cannot be read."""
    import cv2

    return np.ascontiguousarray(_read(path, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def read_grey(path: Path) -> NDArray[np.uint8]:
    """(H, W) as stored. Raises ValueError for a file that is not 8-bit grey."""
    array = _unchanged(path)
    if array.dtype != np.uint8 or array.ndim != 2:
        raise ValueError(f"{path}: {array.dtype} {array.shape}, not 8-bit grey (H, W); take the data set's own file")
    return array


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(H, W), true where any channel is not 0. Raises ValueError where it cannot be read."""
    array = _unchanged(path)
    mask: NDArray[np.bool_] = (array if array.ndim == 2 else array[..., :3].max(axis=2)) > 0
    return mask


def read_depth_counts(path: Path) -> NDArray[np.uint16]:
    """(H, W) as stored. Raises ValueError for a file that is not 16-bit grey."""
    array = _unchanged(path)
    if array.dtype != np.uint16 or array.ndim != 2:
        raise ValueError(
            f"{path}: {array.dtype} {array.shape}, not a 16-bit depth map (H, W); a viewer may have saved it"
        )
    return array


def read_xyz(path: Path) -> NDArray[np.float32]:
    """(H, W, 3) x, y, z as stored, never scaled. Raises ValueError for what is not float with 3 channels."""
    array = _unchanged(path)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"{path}: {array.dtype} {array.shape}, not float points (H, W, 3); take the data set's own TIFF"
        )
    return np.ascontiguousarray(array[..., ::-1], np.float32)


def _unchanged(path: Path) -> NDArray[Any]:
    import cv2

    return _read(path, cv2.IMREAD_UNCHANGED)


def _read(path: Path, flags: int) -> NDArray[Any]:
    import cv2

    if not path.is_file():
        raise ValueError(f"{path}: no such file; unpack the data set again")
    array = cv2.imread(str(path), flags)
    if array is None:
        raise ValueError(f"{path}: cannot be decoded as an image; unpack the data set again")
    return array
