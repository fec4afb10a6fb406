"""One printed row of a laser profiler → heights: what the csv_serial and the file drivers of profiles share.

A point without a return (the laser was shadowed, or hit a mirror or nothing) is NaN in the stream. Devices mark it by
an empty field, by "nan", or by a number of their own, which the option `no_return` names.
"""

import math
from collections.abc import Sequence

__all__ = ["row_heights"]


def row_heights(fields: Sequence[str] | Sequence[bytes], no_return: float | None) -> list[float] | None:
    """The points of a row, NaN where nothing returned; None when a field is neither a finite number nor a mark."""
    heights = []
    for field in fields:
        try:
            height = float(field) if field.strip() else math.nan
        except ValueError:
            return None
        if math.isinf(height):
            return None
        heights.append(math.nan if height == no_return else height)
    return heights
