"""Battery welds: no weld in train and test, scans in units of their own spread; the real set where it is at hand.

The real set is looked for in the folder `battery-weld` of the folder that EDGED_DATA names.
"""

import collections
import os
from pathlib import Path

import numpy as np
import pytest

from pipelines.aupro import aupro, aupro_compat, pixel_auroc
from pipelines.datasets import battery_weld as weld
from pipelines.datasets import of_split, shared_groups
from tests.support import dataset_trees as trees

REAL = Path(os.environ.get("EDGED_DATA", "")) / "battery-weld"


def test_training_scans_of_tested_welds_are_left_out(tmp_path: Path) -> None:
    items = weld.load(trees.battery_weld(tmp_path))
    assert [(item.split, item.defect, item.group) for item in items] == [
        ("train", "good", "6-b"),
        ("test", "defective", "5-r1"),
        ("test", "good", "4-a"),
    ]
    assert items[1].id == "battery_weld/test/defective/5-r1_row256_7"
    assert np.array_equal(items[1].read_mask(), trees.blob(40, 60) > 0)


def test_a_set_without_other_welds_and_a_missing_mask_are_named(tmp_path: Path) -> None:
    root = trees.battery_weld(tmp_path)
    (root / "train/good/6-b_row0_3.png").unlink()
    with pytest.raises(ValueError, match="every training scan is of a weld that is tested"):
        weld.load(root)
    (root / "ground_truth/defective/5-r1_row256_7.png").unlink()
    with pytest.raises(ValueError, match=r"5-r1_row256_7\.png is missing"):
        weld.load(root)


def test_a_scan_is_in_units_of_its_own_spread() -> None:
    height = np.array([[0, 100, 110], [120, 130, 140]], np.uint8)
    scaled, valid = weld.normalised(height)
    assert np.array_equal(valid, height > 0)
    assert np.allclose(scaled[valid], (height[valid] - 120.0) / (1.4826 * 10.0))
    assert scaled[0, 0] == 0
    # Twice the spread about another level, and the same.
    assert np.allclose(weld.normalised(np.where(valid, 2 * (height - 100) + 10, 0).astype(np.uint8))[0], scaled)
    saturated = np.where(np.arange(20) < 17, 255, 250).astype(np.uint8)[None]
    assert weld.normalised(saturated)[0].min() == -5.0
    with pytest.raises(ValueError, match="no valid pixel"):
        weld.normalised(np.zeros((3, 3), np.uint8))


def test_the_seam_band_follows_the_edge_and_not_the_holes() -> None:
    height = np.full((100, 200), 150, np.uint8)
    height[:, :30] = 0
    height[50, 150] = 0
    band = weld.seam_band(height, 40)
    assert np.array_equal(np.nonzero(band[10])[0], np.arange(30, 70))
    assert not weld.seam_band(np.full((20, 20), 9, np.uint8)).any()


@pytest.mark.skipif(not REAL.is_dir(), reason="EDGED_DATA names no folder with battery-weld in it")
def test_the_real_set() -> None:
    """Counts of the part that was published, no scan of train in test, and what one number a pixel already does."""
    items = weld.load(REAL)
    assert collections.Counter((item.split, item.defect) for item in items) == {
        ("train", "good"): 31,
        ("test", "good"): 21,
        ("test", "defective"): 42,
    }
    assert shared_groups(items) == {}
    pixels = [{weld.read_height(item).tobytes() for item in of_split(items, split)} for split in ("train", "test")]
    assert not pixels[0] & pixels[1]
    defective = [item for item in items if not item.is_good]
    heights, masks = [weld.read_height(item) for item in defective], [item.read_mask() for item in defective]
    bands = [weld.seam_band(height) for height in heights]
    inside = [(mask & band).sum() / mask.sum() for mask, band in zip(masks, bands, strict=True)]
    assert np.mean(inside) > 0.9
    low = [np.abs(weld.normalised(height)[0]) for height in heights]
    assert pixel_auroc(low, masks, bands) > 0.5
    assert 0.15 < aupro(low, masks) < 1.0
    assert aupro_compat(low, masks) == pytest.approx(aupro(low, masks), abs=0.05)
