"""Where a scan lies along the seam, told by the scan itself: the bead's own beginning and end against the nominal.

A profiler is triggered, and a trigger comes a row early or late. The bead's two ends say by how much: where they lie
beyond their nominal places by the same way the scan is shifted; where they move apart the bead is longer, and the
middle of both still tells the shift.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

__all__ = ["ScanPlace", "bead_ends", "laid_by_bead", "scan_place"]

METAL_MM = 0.25
"""As in `pipelines.bead_rows`."""
MARGIN = 0.72
"""Beyond this share of the half width lies bare plate."""
HALF = 0.5
"""The bead begins where its section reaches this share of what it has in its middle."""
LEAST_SECTION_MM2 = 0.5
RUN_ROWS = 3
"""A bead goes on over a hole of fewer rows."""
MAX_SHIFT_MM = 2.0
"""A scan that is further off was not started by its trigger: its bead says nothing then."""
MAX_DISAGREEMENT_MM = 1.5
"""Between the shifts by both ends: beyond it one of the ends is no end of a whole bead."""

Scan = tuple[float, float, float]
"""Place of the first row, mm a row, half of the width; as in `SeamFrame`."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScanPlace:
    """How a scan lies: the bead's ends as the nominal places of its rows say, and what follows.

    `shift_mm` is to be added to the place of its first row; None where the ends cannot tell it. `disagreement_mm` is
    how much longer than nominal the bead is.
    """

    start_mm: float
    end_mm: float
    shift_mm: float | None
    disagreement_mm: float

    def shift_rows(self, scan: Scan) -> int | None:
        """The shift in whole rows: how many rows late the scan began (negative: early)."""
        return None if self.shift_mm is None else round(self.shift_mm / scan[1])


def bead_ends(height_mm: NDArray[np.float32], scan: Scan) -> tuple[float, float] | None:
    """Where the bead begins and ends, mm along by the scan's nominal place; None where there is no bead.

    `height_mm` `(rows, points)`, NaN without a return. To a fraction of a row.
    """
    section = _section_mm2(np.asarray(height_mm, np.float64), scan[2])
    there = np.flatnonzero(section > LEAST_SECTION_MM2)
    if len(there) < 4 * RUN_ROWS:
        return None
    inner = section[there[len(there) // 4] : there[-(len(there) // 4)]]
    limit = HALF * float(np.median(inner))
    first, last = _run(section >= limit, int(np.median(there)))
    if first is None or last is None:
        return None
    # Between the last row below the limit and the first above it lies the end.
    before = first - _share(section[first - 1], section[first], limit)
    after = last + _share(section[last + 1], section[last], limit)
    return scan[0] + before * scan[1], scan[0] + after * scan[1]


def scan_place(height_mm: NDArray[np.float32], scan: Scan, bead: tuple[float, float]) -> ScanPlace | None:
    """How a scan lies; `bead`: where good ones begin and end. None where no bead is in it, or it is cut off."""
    ends = bead_ends(height_mm, scan)
    if ends is None:
        return None
    late = (bead[0] - ends[0], bead[1] - ends[1])
    shift_mm = 0.5 * (late[0] + late[1])
    disagreement_mm = late[0] - late[1]
    usable = abs(shift_mm) <= MAX_SHIFT_MM and abs(disagreement_mm) <= MAX_DISAGREEMENT_MM
    return ScanPlace(ends[0], ends[1], shift_mm if usable else None, disagreement_mm)


def laid_by_bead(height_mm: NDArray[np.float32], scan: Scan, bead: tuple[float, float]) -> Scan:
    """The scan's place by its own bead, in whole rows, because a trigger moves whole rows; else as it was."""
    place = scan_place(height_mm, scan, bead)
    rows = None if place is None else place.shift_rows(scan)
    return scan if rows is None else (scan[0] + rows * scan[1], scan[1], scan[2])


def _section_mm2(heights: NDArray[np.float64], half_mm: float) -> NDArray[np.float64]:
    """Metal above the plate, mm², by row; rows without a return take their neighbours'."""
    y = np.linspace(-half_mm, half_mm, heights.shape[1])
    margin = np.abs(y) > MARGIN * half_mm
    known = np.isfinite(heights)
    heights = np.where(known, heights, np.nan)
    plate = heights[:, margin]
    seen = np.isfinite(plate).sum(1) >= max(2, margin.sum() // 4)
    usable = seen & (known.mean(1) >= HALF)
    if usable.sum() < 2:
        return np.zeros(len(heights))
    plate = plate[usable]
    columns = np.isfinite(plate).any(0)
    # The head hangs alike over all rows; how high it hangs may change from row to row.
    slope = np.polyfit(y[margin][columns], np.nanmedian(plate[:, columns], axis=0), 1)[0]
    level = np.nanmedian(plate - slope * y[margin], axis=1)[:, None]
    above = heights[usable] - slope * y - level
    step = y[1] - y[0]
    section = np.where(above > METAL_MM, above, 0.0).sum(1) * step / known[usable].mean(1)
    rows = np.arange(len(heights))
    return np.asarray(np.interp(rows, rows[usable], section))


def _run(metal: NDArray[np.bool_], inside: int) -> tuple[int | None, int | None]:
    """First and last row of the metal around `inside`; None for an end that the scan cuts off."""
    first, last = inside, inside
    while first > 0 and metal[max(first - RUN_ROWS, 0) : first].any():
        first -= 1
    while last < len(metal) - 1 and metal[last + 1 : last + 1 + RUN_ROWS].any():
        last += 1
    while first < last and not metal[first]:
        first += 1
    while last > first and not metal[last]:
        last -= 1
    return (first if first > 0 else None), (last if last < len(metal) - 1 else None)


def _share(outside: float, inside: float, limit: float) -> float:
    """How far beyond the last row inside the limit is crossed, 0–1 rows."""
    return float(np.clip((inside - limit) / max(inside - outside, 1e-9), 0.0, 1.0))
