"""The score along the seam: rows land where the frame says, in the unit of the score, never above it."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.along import PLACES, analysed_along, fused_along, laid, points
from pipelines.features.result import CROP_X
from pipelines.fusion import RULES, fit_fusion
from pipelines.gaussian import Standard
from pipelines.seam_analysis import SeamAnalysis
from pipelines.window import SeamFrame

ROWS = np.arange(28.0)
FLAT = {name: Standard(np.zeros(1), 1.0) for name in ("s_P", "s_R", "s_RP")}


def analysis(rows: dict[str, Any], **components: float) -> SeamAnalysis:
    parts = {name: {"z": components.get(name, 0.0)} for name in FLAT}
    return SeamAnalysis(0, FLAT, parts, np.zeros(3), rows, {})


def test_rows_that_cover_the_seam_stay_in_order() -> None:
    np.testing.assert_array_equal(laid(ROWS, 0.0, 30.0, 30.0), ROWS)
    np.testing.assert_array_equal(laid(ROWS, 30.0, 0.0, 30.0), ROWS[::-1])


def test_a_photograph_that_reaches_beyond_the_seam_is_cut() -> None:
    """Twice as long as the seam and centred on it: its middle half, each row at two places."""
    np.testing.assert_array_equal(laid(ROWS, -15.0, 45.0, 30.0), np.repeat(ROWS[7:21], 2))


def test_beside_a_photograph_nothing_is_known() -> None:
    found = laid(ROWS, 15.0, 30.0, 30.0)
    assert np.isnan(found[:14]).all()
    np.testing.assert_array_equal(found[14:] // 2, np.arange(14))


@given(first=st.floats(-50, 50), length=st.floats(1, 100), seam=st.floats(5, 500))
def test_what_is_at_a_place_is_the_row_that_holds_it(first: float, length: float, seam: float) -> None:
    found = laid(ROWS, first, first + length, seam)
    middle = (np.arange(PLACES) + 0.5) / PLACES * seam
    for mm, row in zip(middle, found, strict=True):
        edges = first + (row + np.arange(2)) / 28 * length
        assert np.isnan(row) != (first + 1e-6 < mm < first + length - 1e-6) or min(abs(mm - edges)) < 1e-3
        assert np.isnan(row) or edges[0] - 1e-6 <= mm <= edges[1] + 1e-6


def test_a_scans_worst_row_is_at_its_place_in_units_of_the_limit() -> None:
    rows = np.full(28, -1.0)
    rows[20] = 5.0
    frame = SeamFrame(28.0)
    found = analysed_along(analysis({"s_R.scan": rows}, s_R=6.0), (), frame, limit=2.0)
    assert [p.mm for p in found] == pytest.approx([i + 0.5 for i in range(28)])
    worst = max(found, key=lambda p: p.score)
    assert worst.mm == pytest.approx(20.5)
    assert worst.score == pytest.approx(np.logaddexp(0, 5.0) / 2.0)


def test_no_place_is_worse_than_the_seam() -> None:
    """A row's residual alone says more than the seam's mismatch, which knows how many rows there are."""
    found = analysis({"s_RP.scan": np.full(28, 4.0)}, s_RP=1.5, s_R=-1.0)
    along = analysed_along(found, (), SeamFrame(28.0), limit=2.0)
    assert max(p.score for p in along) == pytest.approx(found.raw / 2.0)


def test_photographs_lie_between_their_markers_and_the_worse_kind_is_shown() -> None:
    markers = (-10.0, 38.0, -20.0, 20.0)
    first, last = (-10.0 + share * 48.0 for share in CROP_X)
    photo, scan = np.full(56, np.nan), np.full(28, -2.0)
    photo[28 + 14] = 3.0  # of the second view
    scan[2] = 1.0
    found = analysis({"s_R.photo": photo, "s_R.scan": scan}, s_R=3.0)
    frame = SeamFrame(28.0, 0.0, {"top": markers})
    along = analysed_along(found, ("left", "top"), frame, limit=1.0)
    high = [p.mm for p in along if p.score > 2.0]
    expected = first + np.array([14, 15]) / 28 * (last - first)
    assert high
    assert all(expected[0] - 0.5 <= mm <= expected[1] + 0.5 for mm in high)
    assert along[2].score == pytest.approx(np.logaddexp(0, 1.0))


def test_without_frame_or_limit_there_are_no_places() -> None:
    found = analysis({"s_R.scan": ROWS}, s_R=1.0)
    assert analysed_along(found, (), None, 1.0) == ()
    assert analysed_along(found, (), SeamFrame(28.0), None) == ()
    assert analysed_along(analysis({"s_R.photo": ROWS}), (), SeamFrame(28.0, 0.0, {"top": (0, 1, 0, 1)}), 1.0) == ()


def test_what_is_not_known_is_left_out() -> None:
    assert [p.mm for p in points(np.array([np.nan, 1.0, np.nan, 2.0]), 8.0, 1.0)] == [3.0, 7.0]


@pytest.mark.parametrize("rule", RULES)
def test_a_grids_worst_column_stands_out_and_none_exceeds_the_seam(rule: Any) -> None:
    rng = np.random.default_rng(0)
    goods = {name: np.exp(rng.normal(size=(40, 6, 10))) for name in ("rgb", "proc")}
    valid = np.ones((40, 6, 10), np.bool_)
    fusion = fit_fusion(goods, valid, np.zeros(40, np.int64), 1, np.arange(40) // 4, rule)
    maps = {name: np.exp(rng.normal(size=(6, 10))) for name in goods}
    for errors in maps.values():
        errors[1:4, 7] *= 200.0
    known = np.ones((6, 10), np.bool_)
    known[:, 2] = False
    known[5, 4] = False
    for errors in maps.values():
        errors[5, 4] *= 1e6  # nobody measured it
    whole = fusion.score(maps, known, 0).raw
    found = fused_along(fusion, maps, known, 0, whole)
    assert np.isnan(found[2])
    assert np.nanargmax(found) == 7
    assert np.nanmax(found) <= whole
    assert np.nanmax(np.delete(found, 7)) < np.nanmax(found)


def test_standards_of_the_parts_apply() -> None:
    """A part of many signals is held against the largest of good seams at its places too."""
    shifted = FLAT | {"s_R": Standard(np.array([1.0]), 2.0)}
    found = dataclasses.replace(analysis({"s_R.scan": np.full(28, 2.0)}, s_R=5.0), standards=shifted)
    along = analysed_along(found, (), SeamFrame(28.0), 1.0)
    assert along[0].score == pytest.approx(np.logaddexp(0, 0.5))


def test_the_course_in_time_is_held_against_goods_as_the_score_is() -> None:
    shifted = FLAT | {"s_P": Standard(np.array([1.0]), 2.0)}
    found = dataclasses.replace(analysis({}, s_P=5.0), standards=shifted, live=np.array([-np.inf, 0.0, 5.0]))
    assert found.course.tolist() == [-np.inf, -0.5, found.components["s_P"]]


def test_the_frame_is_what_the_cell_says() -> None:
    """Longer seam, same rows: places move apart."""
    for length in (10.0, 100.0):
        along = analysed_along(analysis({"s_R.scan": ROWS / 28}, s_R=1.0), (), SeamFrame(length), 1.0)
        assert along[-1].mm == pytest.approx(length * 27.5 / 28)
