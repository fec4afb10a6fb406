"""Height maps of battery welds ↔ lite0's cells: pictures cut into tiles going in, maps put together coming out.

A scan is drawn in units of its own spread, so that its brightness, which tells good from bad by itself, is gone: grey
is the inverse hyperbolic sine of the height (saturated scans have values of a hundred deviations), black no return.
Tiles are 224 px wide, as lite0 takes them, at the scan's own resolution: a cell of the finer middle map is 8 px.

Glossary: n tiles, 28 × 28 cells, C = 40 + 112 channels: lite0's finer middle map, then the coarser one enlarged.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.battery_weld import edge_distance, normalised
from pipelines.features.lite0 import INPUT_PX, Backbone
from pipelines.grids import GridData

__all__ = ["CELL_PX", "ScanCells", "as_stored", "assembled", "cells_of", "grid_data", "linear", "picture"]

CELL_PX = 8
CELLS = INPUT_PX // CELL_PX
MID_GREY = 136.0
GREY_PER_UNIT = 24.0
"""A height of ±1 robust deviation is drawn 21 grey levels from the median, ±70 some 119."""
SMOOTHING_PX = 4.0
"""PatchCore's own: its maps are smoothed with a Gaussian of 4 px."""

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ScanCells:
    """A scan's tiles: `corners` (row, column) px of each, `cells` (n, 28, 28, C), `plate` (n, 28, 28): on it.

    `whole`: the one tile is the whole scan, shrunk.
    """

    shape: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    cells: Array
    plate: NDArray[np.bool_]
    whole: bool = False


def picture(height: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) what lite0 is shown. Raises ValueError for a scan without a valid pixel."""
    units, valid = normalised(height)
    grey = np.clip(MID_GREY + GREY_PER_UNIT * np.arcsinh(units), 16.0, 255.0)
    drawn: NDArray[np.uint8] = np.where(valid, grey, 0.0).round().astype(np.uint8)
    return np.repeat(drawn[..., None], 3, axis=2)


def linear(height: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same, drawn in proportion to the height as far as ten robust deviations."""
    units, valid = normalised(height)
    grey = np.clip(MID_GREY + units / 10.0 * (255.0 - MID_GREY), 16.0, 255.0)
    drawn: NDArray[np.uint8] = np.where(valid, grey, 0.0).round().astype(np.uint8)
    return np.repeat(drawn[..., None], 3, axis=2)


def as_stored(height: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Not normalised: brightness tells good from bad."""
    return np.repeat(height[..., None], 3, axis=2)


def cells_of(
    height: NDArray[np.uint8],
    backbone: Backbone,
    draw: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = picture,
    *,
    whole: bool = False,
) -> ScanCells:
    """Cells of one scan; a scan smaller than a tile is mirrored beyond its end, where cells do not count.

    `whole`: the scan is shrunk to one tile, whatever its sides.
    """
    import cv2

    rows, columns = height.shape
    below, right = (0, 0) if whole else (max(0, INPUT_PX - rows), max(0, INPUT_PX - columns))
    drawn = np.pad(draw(height), ((0, below), (0, right), (0, 0)), mode="symmetric")
    on_plate: NDArray[np.bool_] = np.pad(edge_distance(height) > 0, ((0, below), (0, right)))
    if whole:
        drawn = np.asarray(cv2.resize(drawn, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA), np.uint8)
        share = cv2.resize(on_plate.astype(np.float32), (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA)
        on_plate = np.asarray(share) > 0
    corners = tuple((y, x) for y in _starts(drawn.shape[0]) for x in _starts(drawn.shape[1]))
    tiles = np.stack([drawn[y : y + INPUT_PX, x : x + INPUT_PX] for y, x in corners])
    fine, coarse = backbone.middle(tiles)
    enlarged = np.stack([cv2.resize(level, (CELLS, CELLS), interpolation=cv2.INTER_LINEAR) for level in coarse])
    plate = np.stack([on_plate[y : y + INPUT_PX, x : x + INPUT_PX] for y, x in corners])
    known: NDArray[np.bool_] = plate.reshape(len(tiles), CELLS, CELL_PX, CELLS, CELL_PX).max((2, 4))
    return ScanCells((rows, columns), corners, np.concatenate([fine, enlarged], axis=3), known, whole)


def grid_data(
    scans: Sequence[ScanCells], like: Mapping[str, Array] | None = None
) -> tuple[GridData, dict[str, Array]]:
    """All tiles as one program, standardised per channel by `like`, by default by these scans themselves.

    Returns what it standardised by: `mean`, `std` (C,).
    """
    cells = np.concatenate([scan.cells for scan in scans])
    valid = np.concatenate([scan.plate for scan in scans])
    if like is None:
        own = cells[valid]
        like = {"mean": own.mean(0), "std": np.maximum(own.std(0), 1e-6)}
    standard = ((cells - like["mean"]) / like["std"]).astype(np.float32)
    return GridData({"geo": standard}, valid, np.zeros(len(cells), np.int64), 1), dict(like)


def assembled(scan: ScanCells, errors: Array) -> Array:
    """(H, W) from the error maps of a scan's tiles (n, 28, 28): enlarged, averaged where tiles overlap, smoothed."""
    import cv2
    from scipy.ndimage import gaussian_filter

    height = max(y for y, _ in scan.corners) + INPUT_PX
    width = max(x for _, x in scan.corners) + INPUT_PX
    total, count = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for (y, x), error in zip(scan.corners, errors, strict=True):
        place = slice(y, y + INPUT_PX), slice(x, x + INPUT_PX)
        total[place] += cv2.resize(error, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR)
        count[place] += 1.0
    found: Array = gaussian_filter(total / count, SMOOTHING_PX)
    if scan.whole:
        return np.asarray(cv2.resize(found, scan.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    return found[: scan.shape[0], : scan.shape[1]]


def _starts(size: int) -> list[int]:
    """Where tiles begin: as few as cover `size` px, evenly spread."""
    tiles = -(-size // INPUT_PX)
    return [round(float(at)) for at in np.linspace(0, size - INPUT_PX, tiles)]
