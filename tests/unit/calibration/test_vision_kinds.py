"""What calibrations of views and profilers change: frames, geometry, heights."""

import dataclasses

import numpy as np
import pytest

from calibration.kinds import CameraValues, ProfileValues, ScanValues, ViewValues
from drivers.base import StreamSpec
from pipelines.window import SeamFrame
from tests.support.marked_plate import LAYOUT

VIEW = ViewValues(
    markers=LAYOUT.markers,
    marker_mm=6.0,
    dictionary=LAYOUT.dictionary,
    steady=(10.0, 0.0, 200.0, 0.0, 10.0, 150.0, 0.0, 0.0, 1.0),
    image_px=(960, 320),
    px_per_mm=10.0,
    pictures=5,
)
PROFILE = ProfileValues(
    half_width_mm=12.0,
    programs={"lap": ScanValues(scan=(-2.4, 0.251, 12.0), across_mm=0.1, turn_deg=0.0, bead=(-0.1, 39.8), seams=9)},
)


def test_a_view_brings_its_geometry_and_extent() -> None:
    frame = VIEW.of_frame(SeamFrame(40.0), "top", "lap")
    assert frame.views == {"top": (-12.0, 52.0, -10.0, 10.0)}
    assert frame.geometry["top"] == dataclasses.replace(LAYOUT, steady=VIEW.steady, size_px=(960, 320))


def test_where_the_program_says_where_the_view_lies_the_markers_go_there() -> None:
    """One calibrated camera serves programs whose seams begin at other places of the fixture."""
    frame = VIEW.of_frame(SeamFrame(40.0, views={"top": (-7.0, 57.0, -11.0, 9.0)}), "top", "lap")
    geometry = frame.geometry["top"]
    assert geometry.extent == (-7.0, 57.0, -11.0, 9.0)
    assert geometry.steady is not None
    # The same pixel is now 5 mm further along and 1 mm less across.
    onto = np.reshape(geometry.steady, (3, 3)) @ np.array([5.0, -1.0, 1.0])
    assert onto[:2] / onto[2] == pytest.approx([200.0, 150.0])


def test_a_profile_says_where_a_programs_scans_lie_and_where_its_bead_is() -> None:
    frame = SeamFrame(40.0, scan=(-2.5, 0.25, 12.0))
    laid = PROFILE.of_frame(frame, "profiler", "lap")
    assert (laid.scan, laid.bead) == ((-2.4, 0.251, 12.0), (-0.1, 39.8))
    assert PROFILE.of_frame(frame, "profiler", "butt") == frame


def test_heights_become_those_of_the_gauge() -> None:
    values = ProfileValues(half_width_mm=12.0, scale=0.98, offset_mm=0.3, tilt=0.01, points=5)
    raw = StreamSpec("profiler", "profile", 100.0, (5,), "int16", scale=(0.001,), offset=(1.0,))
    data = np.array([[0, 1000, 2000, 3000, 4000]], np.int16)
    y = np.linspace(-12, 12, 5)
    assert values.of_stream(raw).physical(data) == pytest.approx(0.98 * raw.physical(data) + 0.3 + 0.01 * y, abs=1e-5)


def test_rows_of_another_width_are_refused() -> None:
    values = ProfileValues(half_width_mm=12.0, scale=0.98, points=120)
    with pytest.raises(ValueError, match="rows of 5 points, calibrated with 120"):
        values.of_stream(StreamSpec("profiler", "profile", 100.0, (5,), "float32"))


def test_intrinsics_are_in_the_order_of_a_views_geometry() -> None:
    values = CameraValues(
        image_px=(640, 480), fx=1.0, fy=2.0, cx=3.0, cy=4.0, k1=5.0, k2=6.0, p1=7.0, p2=8.0, interval={}, board="b",
        views=9,
    )  # fmt: skip
    assert values.intrinsics == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
