"""What the baselines on one modality do to cells before they look at them."""

import numpy as np
from numpy.typing import NDArray

from pipelines.grids import GridData

__all__ = ["neighbourhood", "only_modality"]

Array = NDArray[np.float32]


def only_modality(data: GridData) -> str:
    """The name of the one modality. Raises ValueError when there are more."""
    if len(data.pair) != 1:
        raise ValueError(f"this method works on one modality, got {', '.join(data.pair)}: give it one of them")
    return data.pair[0]


def neighbourhood(cells: Array, valid: NDArray[np.bool_], side: int) -> Array:
    """Mean over the valid cells among the side × side around each, `(n, H, W, C)`; 0 where there is none.

    Raises ValueError when `side` is even.
    """
    if side % 2 == 0:
        raise ValueError(f"a neighbourhood has a cell in its middle, so an odd side, not {side}")
    reach = side // 2
    pad = ((0, 0), (reach, reach), (reach, reach))
    height, width = valid.shape[1:]
    known = np.pad(valid, pad).astype(np.float32)
    padded = np.pad(cells * valid[..., None], (*pad, (0, 0)))
    total, count = np.zeros_like(cells), np.zeros(valid.shape, np.float32)
    for y in range(side):
        for x in range(side):
            total += padded[:, y : y + height, x : x + width]
            count += known[:, y : y + height, x : x + width]
    total /= np.maximum(count, 1.0)[..., None]
    return total
