"""Organised point clouds as the published detectors preprocess them: plate removed, padded, largest cluster kept.

The figures are those of BTF's (Horwitz & Hoshen, "Back to the Feature", 2023) preprocessing, which M3DM and CFM took
over. Open3D does it there; here RANSAC is seeded, so a scan always gives the same points, and a point on the very
edge of a threshold may fall otherwise. (0, 0, 0) is no point, as is any point with a coordinate that is exactly 0.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.dbscan import dbscan

__all__ = ["keep_largest_cluster", "pad_square", "remove_plane", "valid_points"]

T = TypeVar("T", bound=np.generic)

BORDER_PX = 10
RANSAC_POINTS = 50
RANSAC_ROUNDS = 1000
RANSAC_DISTANCE_M = 0.004
PLANE_DISTANCE_M = 0.005
CLUSTER_DISTANCE_M = 0.006
CLUSTER_MIN_POINTS = 30
PAD_TO_PX = 100


def valid_points(xyz: NDArray[np.floating]) -> NDArray[np.bool_]:
    """(H, W), true where a point was measured."""
    valid: NDArray[np.bool_] = np.all(xyz != 0, axis=-1)
    return valid


def remove_plane(xyz: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """`xyz` (H, W, 3; metres) without the points within 5 mm of the plane through its border.

    Raises ValueError where the border has too few points for a plane.
    """
    border = np.ones(xyz.shape[:2], np.bool_)
    border[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = False
    points = xyz[border & valid_points(xyz)].astype(np.float64)
    if len(points) < RANSAC_POINTS:
        raise ValueError(
            f"{len(points)} points in the {BORDER_PX} px border of a {xyz.shape} scan, {RANSAC_POINTS} are needed "
            "for its plane; it was perhaps preprocessed before: then take its points as they are"
        )
    normal, offset = _plane(points, np.random.default_rng(seed))
    cleaned = xyz.copy()
    cleaned[np.abs(xyz @ normal + offset) < PLANE_DISTANCE_M] = 0
    return cleaned


def _plane(points: NDArray[np.float64], rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """(unit normal, offset) of the plane that most points are near, by RANSAC, refitted on those points."""
    best: NDArray[np.bool_] = np.ones(len(points), np.bool_)
    most = -1
    for _ in range(RANSAC_ROUNDS):
        normal, offset = _fit(points[rng.integers(0, len(points), RANSAC_POINTS)])
        near = np.abs(points @ normal + offset) < RANSAC_DISTANCE_M
        if (count := int(near.sum())) > most:
            best, most = near, count
        if most == len(points):
            break
    return _fit(points[best]) if most >= 3 else _fit(points)


def _fit(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    centre = points.mean(axis=0)
    centred = points - centre
    normal: NDArray[np.float64] = np.linalg.eigh(centred.T @ centred)[1][:, 0]
    return normal, float(-normal @ centre)


def pad_square(array: NDArray[T]) -> NDArray[T]:
    """(H, W) or (H, W, C) with zeros around it to a square whose side is the next whole hundred of the longer one."""
    height, width = array.shape[:2]
    side = -(-max(height, width) // PAD_TO_PX) * PAD_TO_PX
    top, left = (side - height) // 2, (side - width) // 2
    pads = [(top, side - height - top), (left, side - width - left)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, pads)


def keep_largest_cluster(xyz: NDArray[np.float32]) -> NDArray[np.float32]:
    """`xyz` (H, W, 3; metres) with only its largest DBSCAN cluster (6 mm, 30 points); unchanged when it is empty.

    As published, the noise counts as a cluster of its own.
    """
    valid = valid_points(xyz)
    points = xyz[valid].astype(np.float64)
    if len(points) == 0:
        return xyz.copy()
    label = dbscan(points, CLUSTER_DISTANCE_M, CLUSTER_MIN_POINTS)
    labels, counts = np.unique(label, return_counts=True)
    keep = label == labels[np.argmax(counts)]
    cleaned = np.zeros_like(xyz)
    cleaned[valid] = np.where(keep[:, None], xyz[valid], 0)
    return cleaned
