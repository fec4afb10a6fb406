"""Where along the seam a score points: pixel AUROC and AUPRO of `Run.rows` against the truth's stretch in mm."""

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.scored import Run
from pipelines.aupro import aupro, pixel_auroc

__all__ = ["along_seam", "stretches"]

Mask = NDArray[np.bool_]


def stretches(run: Run) -> Mask:
    """(n, W): the cells whose middle lies between a fault's onset and end; none for goods and faults without a place.

    A fault shorter than a cell gets the cell it lies in; one beyond the seam's ends gets none.
    """
    if run.rows is None or run.rows_mm is None:
        raise ValueError(f"{run.row.get('pipeline')} has no score along the seam")
    cells = run.rows.shape[1]
    start, end = run.rows_mm[:, :1], run.rows_mm[:, 1:]
    middle = start + (np.arange(cells) + 0.5) / cells * (end - start)
    onset = np.array([np.nan if s.onset_mm is None or not s.bad else s.onset_mm for s in run.seams])[:, None]
    last = np.array([np.nan if s.end_mm is None or not s.bad else s.end_mm for s in run.seams])[:, None]
    inside = (middle >= onset) & (middle <= last)
    half = (end - start) / cells / 2
    centre = (onset + last) / 2
    near = (np.abs(middle - centre) <= half) & ~inside.any(1, keepdims=True)
    return np.asarray(inside | near)


def along_seam(run: Run, chosen: Mask, mask: Mask) -> tuple[float | None, float | None]:
    """(pixel AUROC, AUPRO) of all goods and the chosen bads (n,) that have a stretch in `mask` (n, W).

    Cells without a score (not finite) are left out. None where no bad has a stretch or no cell is good.
    """
    if run.rows is None:
        return None, None
    bad = np.array([seam.bad for seam in run.seams])
    maps, masks = [], []
    for k in np.flatnonzero(~bad | (chosen & mask.any(1))):
        valid = np.isfinite(run.rows[k])
        if valid.any():
            maps.append(run.rows[k][valid][None, :])
            masks.append(mask[k][valid][None, :])
    if not any(m.any() for m in masks) or all(m.all() for m in masks):
        return None, None
    return pixel_auroc(maps, masks), aupro(maps, masks)
