"""Coresets: few rows that cover many, so that a memory bank stays small.

Greedy k-centre selection (PatchCore, arXiv 2106.08265, alg. 1): every next member is the row that lies farthest from
those already chosen. The order is kept: the first m members are the coreset of size m.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["greedy_k_centre"]

Array = NDArray[np.float32]


def greedy_k_centre(rows: Array, members: int, seed: int, dims: int) -> NDArray[np.int64]:
    """Indices `(members,)` into `rows` `(N, C)`, farthest first.

    Distances are those after a random projection to `dims` (Johnson & Lindenstrauss) where C is larger. Raises
    ValueError when there are fewer rows than members.
    """
    if not 0 < members <= len(rows):
        raise ValueError(f"a coreset of {members} members out of {len(rows)} rows")
    flat = _projected(rows, seed, dims)
    square = np.einsum("nd,nd->n", flat, flat)
    nearest = np.full(len(flat), np.inf, np.float32)
    chosen = np.empty(members, np.int64)
    at = int(np.random.default_rng(seed).integers(len(flat)))
    for i in range(members):
        chosen[i] = at
        np.minimum(nearest, square + square[at] - 2.0 * (flat @ flat[at]), out=nearest)
        nearest[at] = -np.inf  # equal rows must not be chosen by turns
        at = int(nearest.argmax())
    return chosen


def _projected(rows: Array, seed: int, dims: int) -> Array:
    if rows.shape[1] <= dims:
        return np.ascontiguousarray(rows, np.float32)
    from sklearn.random_projection import GaussianRandomProjection

    found: Array = GaussianRandomProjection(dims, random_state=seed).fit_transform(rows).astype(np.float32)
    return found
