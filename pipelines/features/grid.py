"""The fixed time grids on which all features lie: 10 ms steps and 100 ms tokens, counted from arc-on.

Which step an item belongs to depends on its time only, never on how its stream was cut into chunks.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["STEPS_PER_TOKEN", "STEP_NS", "TOKEN_NS", "cells"]

STEP_NS = 10_000_000
STEPS_PER_TOKEN = 10
TOKEN_NS = STEP_NS * STEPS_PER_TOKEN


def cells(times_ns: NDArray[np.int64], arc_on_ns: int, cell_ns: int) -> NDArray[np.int64]:
    """Index of the grid cell of every item, `(n,)`; negative before arc-on."""
    return (times_ns - arc_on_ns) // cell_ns
