"""A scan's place by its bead: rows late or early, holes, and scans that cannot say."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.scan_place import bead_ends, laid_by_bead, scan_place
from tests.support.scanned_parts import SCAN, heights_of

ROWS, POINTS = 150, 60
PLAIN = (-2.5, 0.25, 12.0)


def plain(first: int, last: int, height_mm: float = 2.0, wide_mm: float = 6.0, tilt: float = 0.01) -> np.ndarray:
    """A bead of a parabola's section in the rows `first` … `last`."""
    y = np.linspace(-12, 12, POINTS)
    cap = height_mm * np.clip(1 - (2 * y / wide_mm) ** 2, 0, None)
    rows = np.zeros((ROWS, 1))
    rows[first : last + 1] = 1.0
    noise = 0.02 * np.random.default_rng(1).standard_normal((ROWS, POINTS))
    return (rows * cap + tilt * y + 0.4 + noise).astype(np.float32)


@settings(deadline=None, max_examples=50)
@example(late=3, height_mm=0.8, wide_mm=4.0, tilt=0.05)
@example(late=3, height_mm=0.8, wide_mm=4.0, tilt=-0.05)
@given(
    late=st.integers(-7, 7), height_mm=st.floats(0.8, 4.0), wide_mm=st.floats(4.0, 12.0), tilt=st.floats(-0.05, 0.05)
)
def test_whole_rows_are_found_whatever_the_bead(late: int, height_mm: float, wide_mm: float, tilt: float) -> None:
    nominal = bead_ends(plain(10, 109), PLAIN)
    assert nominal is not None
    place = scan_place(plain(10 - late, 109 - late, height_mm, wide_mm, tilt), PLAIN, nominal)
    assert place is not None
    assert place.shift_rows(PLAIN) == late
    assert abs(place.disagreement_mm) < 0.3


@pytest.mark.parametrize("late", [-1, 0, 1])
@pytest.mark.parametrize("program", ["short-butt-3", "spray-lap-5", "short-fillet-4"])
def test_a_row_early_or_late_is_found_in_the_virtual_cell(program: str, late: int) -> None:
    good = [bead_ends(heights_of(program, seed), SCAN) for seed in range(1, 6)]
    nominal = tuple(np.median([ends for ends in good if ends is not None], axis=0))
    for seed in range(11, 15):
        scan = laid_by_bead(heights_of(program, seed, late), SCAN, (nominal[0], nominal[1]))
        assert scan == pytest.approx((SCAN[0] + late * SCAN[1], SCAN[1], SCAN[2]))


def test_holes_and_missing_rows_do_not_move_it() -> None:
    whole = plain(10, 109)
    nominal = bead_ends(whole, PLAIN)
    assert nominal is not None
    holed = whole.copy()
    holed[40:42] = 0.4
    holed[9:11, ::3] = np.nan
    holed[60:66] = np.nan
    found = bead_ends(holed, PLAIN)
    assert found == pytest.approx(nominal, abs=0.13)


def test_a_bead_that_is_longer_keeps_its_middle() -> None:
    nominal = bead_ends(plain(10, 109), PLAIN)
    assert nominal is not None
    place = scan_place(plain(8, 111), PLAIN, nominal)
    assert place is not None
    assert place.shift_rows(PLAIN) == 0
    assert place.disagreement_mm == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    "heights",
    [
        plain(10, 139),
        plain(25, 124),
        plain(0, 149),
        np.zeros((ROWS, POINTS), np.float32),
        np.full((ROWS, POINTS), np.nan, np.float32),
    ],
)
def test_what_cannot_say_leaves_the_scan_where_it_was(heights: np.ndarray) -> None:
    nominal = bead_ends(plain(10, 109), PLAIN)
    assert nominal is not None
    assert laid_by_bead(heights, PLAIN, nominal) == PLAIN
