"""From a seam's features to its grid: photograph, height map and process, each laid onto the same places of the seam.

The grid covers the seam from arc-on to its end and 12 mm to either side. Photographs lie where their markers say,
height maps where the scan does; a row's process is that of the moment when the arc stood `lag_mm` beyond it, by the
motion stream's speed or the programmed one. Before any fitting; `GridScaler` standardises on training goods.

Glossary: H cells across, W along, T process tokens of 100 ms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.features.grid import STEP_NS, STEPS_PER_TOKEN
from pipelines.features.result import CROP_X, CROP_Y
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.grids import GridData, Modality
from pipelines.normaliser import Normaliser, token_statistics

__all__ = ["GRID", "HALF_WIDTH_MM", "GridScaler", "SeamGrid", "arc_position_mm", "fit_grid_scaler", "seam_grid"]

GRID = (14, 28)
HALF_WIDTH_MM = 12.0
PROCESS_REACH_MM = 1.5
GRID_TABLES = ("waves", "places")
"""Tables of a process that lie on the grid beside its waveforms, sound and picture."""
"""A row's process is the mean over the tokens that lie within this of it."""

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeamGrid:
    """One seam: `cells[modality]` (H, W, C) float32 as measured; `valid` (H, W)."""

    cells: dict[Modality, Array]
    valid: NDArray[np.bool_]


def seam_grid(
    features: SeamFeatures,
    modalities: Sequence[Modality],
    normaliser: Normaliser | None = None,
    shape: tuple[int, int] = GRID,
) -> SeamGrid:
    """The grid of a seam with these modalities; *proc* needs the normaliser that was fitted on training goods.

    Raises ValueError naming what the seam lacks.
    """
    if features.frame is None:
        raise ValueError(
            f"seam {features.seam_id}: the configuration does not say where its photographs and scans lie; "
            f"add [programs.{features.program}.frame] (docs/detectors.md)"
        )
    cells: dict[Modality, Array] = {}
    valid = np.ones(shape, np.bool_)
    for modality in modalities:
        if modality == "rgb":
            cells[modality] = _photograph(features, shape)
        elif modality == "geo":
            cells[modality], known = _heights(features, shape)
            valid &= known
        else:
            if normaliser is None:
                raise ValueError("the process can be laid onto the seam only with a model's normaliser")
            cells[modality] = _process(features, normaliser, shape)
    return SeamGrid(cells, valid)


def overlaps(source: tuple[float, float, int], target: tuple[float, float, int]) -> Array:
    """Weights `(target bins, source bins)` that average source bins over target bins; each (from, to, bins).

    Rows sum to 1 where source and target overlap, a target bin beside the source takes its nearest bin.
    """
    edges = [np.linspace(first, last, n + 1) for first, last, n in (target, source)]
    low = np.maximum(edges[0][:-1, None], edges[1][None, :-1])
    high = np.minimum(edges[0][1:, None], edges[1][None, 1:])
    weight = np.clip(high - low, 0.0, None)
    for row in np.flatnonzero(weight.sum(1) <= 0):
        weight[row, 0 if edges[0][row] < edges[1][0] else -1] = 1.0
    found: Array = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    return found


Extent = tuple[float, float, float, float]
"""Along from, along to, across from, across to; mm."""


def _laid(level: NDArray[Any], extent: Extent, to: Extent, shape: tuple[int, int]) -> Array:
    """A map `(across, along, C)` with that extent (mm) averaged onto the cells of another."""
    across = overlaps((extent[2], extent[3], level.shape[0]), (to[2], to[3], shape[0]))
    along = overlaps((extent[0], extent[1], level.shape[1]), (to[0], to[1], shape[1]))
    half = np.tensordot(across, level.astype(np.float32), axes=(1, 0))
    found: Array = np.tensordot(along, half, axes=(1, 1)).transpose(1, 0, 2)
    return found


def _photograph(features: SeamFeatures, shape: tuple[int, int]) -> Array:
    """The view from above: `(H, W, 40 + 112 + 3)`."""
    frame = features.frame
    assert frame is not None
    name = "top" if "top" in features.views else min(features.views, default="")
    if name not in features.views or name not in frame.views:
        raise ValueError(
            f"seam {features.seam_id}: no post-weld view whose place is known; have {sorted(features.views)}, "
            f"places of {sorted(frame.views)}"
        )
    view = features.views[name]
    if not view.located:
        raise ValueError(f"seam {features.seam_id}: the markers of view {name!r} were not found; free them from dirt")
    x0, x1, y0, y1 = frame.views[name]
    extent = (
        x0 + CROP_X[0] * (x1 - x0),
        x0 + CROP_X[1] * (x1 - x0),
        y0 + CROP_Y[0] * (y1 - y0),
        y0 + CROP_Y[1] * (y1 - y0),
    )
    to = (0.0, frame.length_mm, -HALF_WIDTH_MM, HALF_WIDTH_MM)
    return np.concatenate([_laid(m, extent, to, shape) for m in (view.fine, view.coarse, view.profile)], axis=-1)


def _heights(features: SeamFeatures, shape: tuple[int, int]) -> tuple[Array, NDArray[np.bool_]]:
    """The height map: `(H, W, 40 + 112 + 3)` and where it was measured."""
    frame, geo = features.frame, features.geo
    assert frame is not None
    if geo is None or frame.scan is None:
        raise ValueError(f"seam {features.seam_id}: required stream profile is missing")
    half = frame.scan[2]
    extent = (0.0, frame.length_mm, -half, half)
    to = (0.0, frame.length_mm, -HALF_WIDTH_MM, HALF_WIDTH_MM)
    cells = [_laid(m, extent, to, shape) for m in (geo.fine, geo.coarse, geo.heights)]
    known = _laid(geo.known[..., None], extent, to, shape)[..., 0] >= 0.5
    return np.concatenate(cells, axis=-1), known


def _process(features: SeamFeatures, normaliser: Normaliser, shape: tuple[int, int]) -> Array:
    """What was going on when each row was welded, the same for all cells across, and the cell's place across."""
    frame = features.frame
    assert frame is not None
    process = normaliser.process(features)
    tables = [process.tables[name][0] for name in GRID_TABLES]
    tokens = np.concatenate([token_statistics(process), process.audio, process.video, *tables], axis=1)
    at_mm = arc_position_mm(features)
    rows_mm = (np.arange(shape[1]) + 0.5) / shape[1] * frame.length_mm + frame.lag_mm
    sums = np.concatenate([np.zeros((1, tokens.shape[1]), np.float32), np.cumsum(tokens, axis=0, dtype=np.float64)])
    first = np.searchsorted(at_mm, rows_mm - PROCESS_REACH_MM)
    last = np.searchsorted(at_mm, rows_mm + PROCESS_REACH_MM)
    last = np.clip(np.maximum(last, first + 1), 1, len(tokens))
    first = np.minimum(first, last - 1)
    rows = ((sums[last] - sums[first]) / (last - first)[:, None]).astype(np.float32)  # (W, P)
    y = np.linspace(-1, 1, shape[0], dtype=np.float32)
    place = np.stack([y, y**2, np.abs(y)], axis=1)
    return np.concatenate(
        [
            np.broadcast_to(rows[None], (*shape, rows.shape[1])),
            np.broadcast_to(place[:, None], (*shape, place.shape[1])),
        ],
        axis=-1,
    )


def arc_position_mm(features: SeamFeatures) -> NDArray[np.float64]:
    """Where the arc stood at the middle of every token, mm from arc-on, `(T,)`, never falling.

    From the motion stream's speed; where there is none, from the programmed speed, or even progress over the seam.
    """
    column = SENSOR_FEATURES.index("tcp_speed")
    seconds = STEP_NS / 1e9
    way: NDArray[np.float64]
    if features.sensor_known[:, column].any():
        speed = np.where(features.sensor_known[:, column], features.sensor[:, column], np.nan)
        speed = np.where(np.isnan(speed), np.nanmean(speed), speed)
        way = np.cumsum(np.asarray(np.clip(speed, 0.0, None), np.float64)) * seconds
    else:
        nominal = features.travel_speed_mm_s
        if nominal is None and features.frame is not None:
            nominal = features.frame.length_mm / (features.tokens * STEPS_PER_TOKEN * seconds)
        way = np.asarray(np.arange(1, features.tokens * STEPS_PER_TOKEN + 1) * seconds * (nominal or 0.0), np.float64)
    return way[STEPS_PER_TOKEN // 2 :: STEPS_PER_TOKEN][: features.tokens]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GridScaler:
    """Mean and spread `(C,)` of each modality's channels on training goods."""

    mean: dict[str, Array]
    scale: dict[str, Array]

    def __call__(self, grids: Sequence[SeamGrid], program: NDArray[np.int64], programs: int) -> GridData:
        """Standardised cells of several seams."""
        cells = {}
        for name in self.mean:
            stack = np.stack([grid.cells[name] for grid in grids])  # type: ignore[index]
            stack -= self.mean[name]
            stack /= self.scale[name]
            cells[name] = np.clip(stack, -CLIP, CLIP)
        return GridData(cells, np.stack([grid.valid for grid in grids]), program, programs)

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        return {f"{name}.mean": v for name, v in self.mean.items()} | {
            f"{name}.scale": v for name, v in self.scale.items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array], names: Sequence[str]) -> "GridScaler":
        """What `tensors` gave; `names`: the modalities in their order."""
        return cls({n: tensors[f"{n}.mean"] for n in names}, {n: tensors[f"{n}.scale"] for n in names})


CLIP = 10.0
"""Standardised values beyond this are cut: networks never saw such, and one saturated point must not rule a map."""
LEAST_SPREAD = 0.02
"""Of a modality's median spread: a channel that hardly moves must not be blown up."""


def fit_grid_scaler(grids: Sequence[SeamGrid]) -> GridScaler:
    """Fit on training goods."""
    mean, scale = {}, {}
    for name in grids[0].cells:
        rows = np.concatenate([grid.cells[name][grid.valid] for grid in grids])
        mean[name] = rows.mean(0)
        spread = rows.std(0)
        scale[name] = np.maximum(spread, LEAST_SPREAD * float(np.median(spread)) + 1e-6)
    return GridScaler({str(k): v for k, v in mean.items()}, {str(k): v for k, v in scale.items()})
