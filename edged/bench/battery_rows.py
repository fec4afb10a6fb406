"""Rows of `edged bench battery`: scans read, maps made with and without training, and what is measured of them."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edged.bench.battery_cells import ScanCells, assembled, grid_data
from pipelines.aupro import aupro, aupro_compat, pixel_auroc
from pipelines.datasets import Item
from pipelines.datasets.battery_weld import BAND_PX, edge_distance, normalised, read_height, seam_band
from pipelines.metrics import auroc
from pipelines.pixel_bootstrap import count_pixels

__all__ = [
    "Array",
    "Preset",
    "Scan",
    "Scores",
    "Tell",
    "edge_prior",
    "figures",
    "maps_of",
    "read_scan",
    "scores_of",
    "untrained",
]

EPOCHS, PATIENCE = 200, 20

Array = NDArray[np.float32]
Tell = Callable[[str, int, int], None]
Preset = Literal["cell", "compat"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One scan and its truth; `mask` (H, W), all false for a good one."""

    item: Item
    height: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a row says: `image` (n,) of all tested scans, `maps` (H, W) of the defective ones where it makes any."""

    name: str
    role: str
    image: NDArray[np.float64]
    maps: list[Array] | None = None


def edge_prior(height: NDArray[np.uint8]) -> Array:
    """(H, W) nearness to the plate's edge in (0, 1], 0 off the plate; 1 all over where the scan shows no edge."""
    distance = edge_distance(height)
    if np.isinf(distance).all():
        return np.ones(height.shape, np.float32)
    return np.where(distance > 0, np.exp(-distance / BAND_PX), 0.0).astype(np.float32)


def read_scan(item: Item) -> Scan:
    return Scan(item, read_height(item), item.read_mask())


def untrained(test: Sequence[Scan]) -> list[Scores]:
    """Rows that know no good scan. The first two look at no weld at all."""
    defective = [scan.height for scan in test if not scan.item.is_good]
    mean_valid = [-float(scan.height[scan.height > 0].mean()) for scan in test]
    size = [-abs(scan.height.shape[0] - 256.0) for scan in test]
    off = [np.abs(normalised(scan.height)[0]) for scan in test]
    return [
        Scores("mean_valid", "no training", np.array(mean_valid)),
        Scores("image_size", "no training", np.array(size)),
        Scores("edge_prior", "no training", np.zeros(len(test)), [edge_prior(height) for height in defective]),
        Scores(
            "median_distance",
            "no training",
            np.array([float(values.mean()) for values in off]),
            [values for values, scan in zip(off, test, strict=True) if not scan.item.is_good],
        ),
    ]


def maps_of(
    name: str,
    train: Sequence[ScanCells],
    held_out: Sequence[ScanCells],
    test: Sequence[ScanCells],
    seed: int,
    tell: Tell,
    preset: Preset = "cell",
    **flags: Any,
) -> list[Array]:
    """(H, W) map of each tested scan by a baseline, fitted on `train`; `flags` differ from the preset's config."""
    from pipelines.baselines.table import BASELINES
    from pipelines.loop import LoopConfig

    goods, standard = grid_data(train)
    others, _ = grid_data(held_out, standard)
    method = BASELINES[name]
    loop = LoopConfig(epochs=EPOCHS, patience=PATIENCE, seed=seed)
    model = method.fit(
        goods,
        others,
        dataclasses.replace(method.config(preset), **flags),
        loop,
        lambda stage, done, total, _: tell(f"{name}: {stage}", done, total),
    )
    return [assembled(scan, model.error_maps(grid_data([scan], standard)[0])["geo"]) for scan in test]


def scores_of(name: str, role: str, maps: Sequence[Array], test: Sequence[Scan]) -> Scores:
    """A scan's score is its map's largest value."""
    image = np.array([float(m.max()) for m in maps])
    return Scores(name, role, image, [m for m, scan in zip(maps, test, strict=True) if not scan.item.is_good])


def figures(scores: Scores, test: Sequence[Scan]) -> dict[str, Any]:
    found = auroc([not scan.item.is_good for scan in test], scores.image.tolist(), [scan.item.group for scan in test])
    row: dict[str, Any] = {"pipeline": scores.name, "role": scores.role, "auroc": found.value, "ci": found.ci}
    row |= dict.fromkeys(("pixel_auroc", "pixel_auroc_ci", "aupro", "aupro_ci", "aupro_compat", "aupro_to_1"))
    if scores.name == "edge_prior":
        row |= {"auroc": None, "ci": None}  # it says nothing of a scan as a whole
    if scores.maps is None:
        return row
    defective = [scan for scan in test if not scan.item.is_good]
    masks, welds = [scan.mask for scan in defective], [scan.item.group for scan in defective]
    bands = [seam_band(scan.height) for scan in defective]
    count = functools.partial(count_pixels, scores.maps, masks, welds)
    return row | {
        "pixel_auroc": pixel_auroc(scores.maps, masks, bands),
        "pixel_auroc_ci": count(bands).pixel_auroc_ci(),
        "aupro": aupro(scores.maps, masks),
        "aupro_ci": count().aupro_ci(),
        "aupro_compat": aupro_compat(scores.maps, masks),
        "aupro_to_1": aupro(scores.maps, masks, 1.0),
    }
