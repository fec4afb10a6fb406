"""Rows of a laser profiler from a text file, as the device prints them: heights in mm, separated by commas."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError
from drivers.profile_row import row_heights

__all__ = ["read_rows"]

LEAST_ROWS = 5
LEAST_POINTS = 10


def read_rows(path: Path, no_return: float | None = None, *, counter_column: bool = False) -> NDArray[np.float32]:
    """`(rows, points)` mm, NaN without a return. Raises CalibrationError naming file, line and what is wrong.

    Args:
        no_return: the number by which the device marks a point without a return.
        counter_column: whether each row begins with its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: is no text file; save the profiler's rows as CSV") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        heights = row_heights(line.split(",")[counter_column:], no_return)
        if heights is None:
            raise CalibrationError(f"{path}: line {number}: {line[:40]!r} holds a field that is no number")
        if rows and len(heights) != len(rows[0]):
            raise CalibrationError(
                f"{path}: line {number}: has {len(heights)} points, the first row has {len(rows[0])}"
            )
        rows.append(heights)
    if len(rows) < LEAST_ROWS or len(rows[0]) < LEAST_POINTS:
        points = len(rows[0]) if rows else 0
        raise CalibrationError(
            f"{path}: {len(rows)} rows of {points} points, {LEAST_ROWS} of {LEAST_POINTS} are needed; write one "
            "row a line"
        )
    return np.asarray(rows, np.float32)
