"""DBSCAN of dense point clouds in little memory; `points` cleans scans with it.

scikit-learn's keeps every point's neighbours: 150 000 points with some 3000 neighbours each take gigabytes. Here
points are sorted into cubes of diagonal `distance`: all points of a cube are neighbours, so cubes are joined, not
points (Gunawan, "A faster algorithm for DBSCAN", 2013).
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["NOISE", "dbscan"]

NOISE = -1


def dbscan(points: NDArray[np.float64], distance: float, min_points: int) -> NDArray[np.int64]:
    """(N, 3) → (N,) cluster numbers from 0, NOISE for points that are near no core point.

    A core point has at least `min_points` points, itself counted, within `distance`; a point near cores of several
    clusters goes to the nearest.
    """
    from scipy.spatial import cKDTree

    _, cell = np.unique(np.floor(points / _side(distance)).astype(np.int64), axis=0, return_inverse=True)
    core = np.bincount(cell)[cell] >= min_points  # a full cube needs no counting
    if not core.all():
        tree = cKDTree(points)
        core[~core] = tree.query_ball_point(points[~core], distance, return_length=True) >= min_points
    labels = np.full(len(points), NOISE, np.int64)
    if not core.any():
        return labels
    labels[core] = _core_clusters(points[core], distance)
    if not core.all():
        near, index = cKDTree(points[core]).query(points[~core], distance_upper_bound=distance * (1 + 1e-12))
        labels[~core] = np.where(np.isfinite(near), np.append(labels[core], NOISE)[index], NOISE)
    return labels


def _side(distance: float) -> float:
    return float(distance / np.sqrt(3.0))


def _core_clusters(points: NDArray[np.float64], distance: float) -> NDArray[np.int64]:
    """Cluster number of each core point: cubes with two cores within `distance` are one cluster."""
    from scipy.spatial import cKDTree
    from scipy.spatial.distance import cdist

    cells, index = np.unique(np.floor(points / _side(distance)).astype(np.int64), axis=0, return_inverse=True)
    order = np.argsort(index, kind="stable")
    members = np.split(points[order], np.cumsum(np.bincount(index))[:-1])
    pairs = cKDTree(cells).query_pairs(2.0, p=np.inf, output_type="ndarray")
    gap = np.abs(cells[pairs[:, 0]] - cells[pairs[:, 1]]).sum(axis=1)
    parent = np.arange(len(cells))
    for a, b in pairs[np.argsort(gap, kind="stable")]:  # nearest cubes first: most others are then joined already
        root_a, root_b = _root(parent, a), _root(parent, b)
        if root_a != root_b and cdist(members[a], members[b]).min() <= distance:
            parent[root_b] = root_a
    roots = np.array([_root(parent, cell) for cell in range(len(cells))])
    clusters: NDArray[np.int64] = np.unique(roots, return_inverse=True)[1][index]
    return clusters


def _root(parent: NDArray[np.int64], cell: int) -> int:
    while parent[cell] != cell:
        parent[cell] = parent[parent[cell]]
        cell = int(parent[cell])
    return cell
