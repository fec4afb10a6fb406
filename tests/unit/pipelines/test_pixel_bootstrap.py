"""Counted pixels give what repeated maps give exactly; one weld has no interval."""

import numpy as np
import pytest

from pipelines.aupro import aupro, pixel_auroc
from pipelines.metrics import draw_sessions
from pipelines.pixel_bootstrap import count_pixels


def _maps(count: int = 6) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(3)
    maps, masks, areas = [], [], []
    for k in range(count):
        mask = np.zeros((40, 50), np.bool_)
        mask[5 : 12 + k, 10:20] = True
        mask[30:34, 30 : 40 - k] = True
        maps.append(rng.normal(size=mask.shape) + mask * rng.uniform(0.2, 2.0))
        masks.append(mask)
        areas.append(np.arange(50)[None] >= np.full((40, 1), 8))
    return maps, masks, areas


def test_intervals_are_quantiles_of_replicates_made_by_repeating_maps() -> None:
    maps, masks, areas = _maps()
    welds = list("aabbcd")
    drawn = draw_sessions(4)[:40]
    names = sorted(set(welds))
    exact_pro, exact_pixel = [], []
    for times in drawn:
        rows = [k for k, weld in enumerate(welds) for _ in range(times[names.index(weld)])]
        exact_pro.append(aupro([maps[k] for k in rows], [masks[k] for k in rows]))
        exact_pixel.append(pixel_auroc(*([x[k] for k in rows] for x in (maps, masks, areas))))
    counts, banded = count_pixels(maps, masks, welds), count_pixels(maps, masks, welds, areas)
    weights = drawn.astype(np.float64)
    assert counts.replicates(weights, "shares", 0.3) == pytest.approx(exact_pro, abs=2e-3)
    assert banded.replicates(weights, "bad", 1.0) == pytest.approx(exact_pixel, abs=1e-3)
    low, high = counts.aupro_ci() or (1.0, 0.0)
    assert low < aupro(maps, masks) < high


def test_one_weld_has_no_interval_and_masks_without_good_pixels_are_refused() -> None:
    maps, masks, _ = _maps(2)
    assert count_pixels(maps, masks, ["a", "a"]).pixel_auroc_ci() is None
    with pytest.raises(ValueError, match="no good pixel is left"):
        count_pixels(maps, [np.ones_like(mask) for mask in masks], ["a", "b"])
