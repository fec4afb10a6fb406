"""Scans laid onto photographs of the virtual cell, against how each part truly lay."""

import numpy as np
import pytest

from calibration.files import CalibrationError
from calibration.registration import register, register_all
from tests.support.scanned_parts import SCAN, Part, scanned_part

PROGRAM = "pulsed-lap-4"


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return [scanned_part(PROGRAM, seed) for seed in range(1, 6)]


def test_each_parts_place_is_found_to_a_row_or_two(parts: list[Part]) -> None:
    found = [register(part.photo, part.area, part.heights, SCAN, part.length_mm) for part in parts]
    off = np.array([(r.along_mm, r.across_mm, r.turn_rad) for r in found]) - [part.lies for part in parts]
    assert np.median(np.abs(off[:, 0])) < 0.3
    assert np.median(np.abs(off[:, 1])) < 0.2
    assert np.median(np.abs(off[:, 2])) < 0.008


def test_all_together_say_where_the_scan_lies(parts: list[Part]) -> None:
    """A nominal place that is 1 mm wrong along and 0.6 mm across is put right."""
    part = parts[0]
    wrong = (SCAN[0] - 1.0, SCAN[1], SCAN[2])
    shifted = [(p.photo, np.roll(p.heights, 6, axis=1)) for p in parts]  # 6 points are 1.2 mm across
    _, together = register_all(shifted, part.area, wrong, part.length_mm)
    lies = np.median([p.lies for p in parts], axis=0)
    assert together.scan[0] - lies[0] == pytest.approx(SCAN[0], abs=0.45)
    assert together.scan[1] == pytest.approx(SCAN[1], rel=0.01)
    assert together.middle.across_mm - lies[1] == pytest.approx(-6 * 2 * 12 / 119, abs=0.3)
    assert together.parts == 5
    assert together.interval_mm[0] < 1.0


def test_a_scan_that_runs_the_other_way_is_named(parts: list[Part]) -> None:
    part = parts[0]
    # With as much bare plate before the bead as behind it, so that only the bead tells.
    back = [(p.photo, np.ascontiguousarray(p.heights[:-10][::-1])) for p in parts]
    with pytest.raises(CalibrationError, match="from the seam's end to its start"):
        register_all(back, part.area, SCAN, part.length_mm)


def test_too_few_parts_and_scans_of_nothing_are_named(parts: list[Part]) -> None:
    part = parts[0]
    with pytest.raises(CalibrationError, match="2 parts with photograph and scan, 5 are needed"):
        register_all([(p.photo, p.heights) for p in parts[:2]], part.area, SCAN, part.length_mm)
    rng = np.random.default_rng(1)
    bare = [(p.photo, 0.02 * rng.standard_normal(p.heights.shape).astype(np.float32)) for p in parts]
    with pytest.raises(CalibrationError, match=r"tell .* of the photographs"):
        register_all(bare, part.area, SCAN, part.length_mm)
