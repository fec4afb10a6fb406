"""A result camera's place against its truth, and layouts and pictures that are refused."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.files import CalibrationError
from calibration.view_layout import read_layout
from calibration.views import calibrate_view
from pipelines.rectify import ViewGeometry, find_and_place, pose_of, rectify
from tests.support.board_camera import TrueCamera, photograph
from tests.support.marked_plate import LAYOUT, PX_PER_MM, SEAM_MM, camera_mm, plate, seam_points, stations, true_px

CAMERA = TrueCamera(960, 400, 1130.0, 1126.0, 492.0, 193.0, (-0.12, 0.04, 0.0004, -0.0006))
INTRINSICS = (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, *CAMERA.distortion)
KNOWN = dataclasses.replace(LAYOUT, camera=INTRINSICS)

Named = list[tuple[str, np.ndarray | None]]


def seen(texture: np.ndarray, poses: list[tuple[np.ndarray, np.ndarray]], blur_px: float = 0.7) -> Named:
    return [
        (f"{k}.png", photograph(CAMERA, texture, 1 / PX_PER_MM, pose, k, blur_px=blur_px))
        for k, pose in enumerate(poses)
    ]


def place_error_mm(result_pictures: tuple, poses: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Largest error of points on the plate around the seam."""
    errors = [
        picture.placed.to_mm(true_px(seam_points(), pose, CAMERA.matrix, CAMERA.distortion)) - seam_points()
        for picture, pose in zip(result_pictures, poses, strict=True)
    ]
    return float(np.abs(errors).max())


@pytest.mark.parametrize("tilt_deg", [0.0, 35.0])
def test_the_pose_is_found(tilt_deg: float) -> None:
    poses = stations(4, tilt_deg, 0.8)
    result = calibrate_view(seen(plate(), poses), KNOWN, SEAM_MM)
    assert result.residual_mm < 0.06
    assert place_error_mm(result.pictures, poses) < 0.03
    for picture, pose in zip(result.pictures, poses, strict=True):
        rotation, translation = pose_of(picture.placed.onto)
        x, y, z = -rotation.T @ translation
        assert np.linalg.norm(np.array([x, y, -z]) - camera_mm(pose)) < 0.5
        assert np.abs(rotation - pose[0]).max() < 0.004
    assert result.tilt_deg == pytest.approx(tilt_deg, abs=1.5)
    assert result.geometry.steady is None, "a camera that moves by a millimetre is none that stays"
    assert 0.5 < result.repeat_mm < 4


def test_without_intrinsics_the_lens_bends_the_places_a_little() -> None:
    poses = stations(3, 20.0, 0.5)
    pictures = seen(plate(), poses)
    plain = calibrate_view(pictures, LAYOUT, SEAM_MM)
    known = calibrate_view(pictures, KNOWN, SEAM_MM)
    assert plain.camera_mm is None
    assert place_error_mm(known.pictures, poses) < 0.03 < place_error_mm(plain.pictures, poses) < 0.3
    assert plain.residual_mm > 1.5 * known.residual_mm


def test_a_camera_that_stays_places_a_picture_without_markers() -> None:
    poses = stations(5, 20.0, 0.0)
    result = calibrate_view(seen(plate(), poses), KNOWN, SEAM_MM)
    assert result.geometry.steady is not None
    _, placed = find_and_place(np.full((400, 960), 90, np.uint8), result.geometry)
    assert placed is not None
    assert placed.used == ()
    px = true_px(seam_points(), poses[0], CAMERA.matrix, CAMERA.distortion)
    assert np.abs(placed.to_mm(px) - seam_points()).max() < 0.03


def test_the_scale_on_the_bead_is_told() -> None:
    near = calibrate_view(seen(plate(), stations(3, 0.0, 0.1)), KNOWN, SEAM_MM)
    assert near.px_per_mm == pytest.approx(CAMERA.fy / 118, rel=0.05)
    oblique = calibrate_view(seen(plate(), stations(3, 40.0, 0.1)), KNOWN, SEAM_MM)
    assert oblique.px_per_mm < 0.85 * near.px_per_mm


@pytest.mark.parametrize("layout", [LAYOUT, KNOWN])
def test_a_marker_that_stands_elsewhere_is_named(layout: ViewGeometry) -> None:
    pictures = seen(plate(moved={2: (1.6, 0.0)}), stations(3, 20.0, 0.5))
    with pytest.raises(CalibrationError, match=r"marker 2 stands \+1\.[4-8]\d mm along"):
        calibrate_view(pictures, layout, SEAM_MM)


def test_markers_of_another_size_are_named() -> None:
    with pytest.raises(CalibrationError, match=r"measure 5\.[34]\d mm a side .* the layout says 6"):
        calibrate_view(seen(plate(side_mm=5.4), stations(3, 20.0, 0.5)), LAYOUT, SEAM_MM)


def test_every_picture_that_cannot_be_used_is_named() -> None:
    good = seen(plate(), stations(2, 10.0, 0.5))
    picture = good[0][1]
    assert picture is not None
    hidden = picture.copy()
    hidden[:, :200] = 90
    bad: Named = [
        ("mirror.png", np.ascontiguousarray(picture[:, ::-1])),
        ("blur.png", np.asarray(cv2.GaussianBlur(picture, (0, 0), 3), np.uint8)),
        ("dirty.png", hidden),
        ("small.png", np.ascontiguousarray(picture[:, :700])),
        ("notes.txt", None),
    ]
    with pytest.raises(CalibrationError) as caught:
        calibrate_view([*good, *bad], LAYOUT, SEAM_MM)
    told = str(caught.value)
    assert told.startswith("2 pictures can be used, 3 are needed")
    for line in (
        "mirror.png: is mirrored",
        "dirty.png: marker 0, 3 is not seen",
        "small.png: is 700×400",
        "no picture",
    ):
        assert line in told
    assert "blur.png: blurred" in told or "blur.png: marker" in told


def test_raised_markers_need_the_camera() -> None:
    raised = dataclasses.replace(LAYOUT, above_mm=3.0)
    with pytest.raises(CalibrationError, match="need the camera's own calibration"):
        calibrate_view([], raised, SEAM_MM)


def test_raised_markers_are_brought_down_to_the_plate() -> None:
    """Seen from 35° aside, 3 mm of height are 2 mm across."""
    pose = stations(1, 35.0, 0.0)[0]
    geometry = dataclasses.replace(KNOWN, above_mm=3.0)
    _, placed = find_and_place(photograph(CAMERA, plate(), 1 / PX_PER_MM, pose, 1), geometry)
    assert placed is not None
    rotation, translation = pose
    lower = (rotation, translation + 3.0 * rotation[:, 2])  # the true plate, beneath the markers' plane
    there = placed.to_px(seam_points(), -3.0)
    assert np.abs(there - true_px(seam_points(), lower, CAMERA.matrix, CAMERA.distortion)).max() < 0.4


def test_the_bead_comes_onto_a_mm_grid() -> None:
    texture = plate()
    line = round((1.5 - -20.0) * PX_PER_MM)
    texture[line - 4 : line + 4, 30 * PX_PER_MM : 70 * PX_PER_MM] = 250  # 0 to 40 mm along, 1.5 mm across
    image = photograph(CAMERA, texture, 1 / PX_PER_MM, stations(1, 30.0, 0.7)[0], 1)
    _, placed = find_and_place(image, KNOWN)
    assert placed is not None
    grid = rectify(image, placed, (-5.0, 45.0, -5.0, 5.0), (100, 500)).astype(float)
    bright = grid > 0.5 * (grid.max() + np.median(grid))
    y = (np.arange(100) + 0.5) / 10 - 5
    x = (np.arange(500) + 0.5) / 10 - 5
    rows = bright[:, 60:440].mean(1)
    assert (rows @ y) / rows.sum() == pytest.approx(1.5, abs=0.05)
    columns = np.flatnonzero(bright[60:70].any(0))
    assert x[columns[0]] == pytest.approx(0.0, abs=0.15)
    assert x[columns[-1]] == pytest.approx(40.0, abs=0.15)


GOOD = "marker_mm = 6\n[markers]\n0 = [-12, -10]\n1 = [52, -10]\n2 = [52, 10]\n3 = [-12, 10]\n"


def test_a_layout_is_read(tmp_path: Path) -> None:
    path = tmp_path / "layout.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert read_layout(path) == LAYOUT
    assert read_layout(path).extent == (-12.0, 52.0, -10.0, 10.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("marker_mm = 6", "marker_mm = 0"), "marker_mm"),
        (GOOD.replace("marker_mm = 6\n", ""), "marker_mm: Field required"),
        (GOOD.replace("[52, 10]", "[52]"), "markers.2"),
        (GOOD.replace("3 =", "three ="), "'three' is no marker's id"),
        (GOOD.replace("[-12, 10]", "[52, 10]"), "at different places"),
        ("marker_mm = 6\n[markers]\n0 = [0, 0]\n", "1 given, 2 are needed"),
        ('dictionary = "DICT_9X9"\n' + GOOD, "no dictionary of OpenCV"),
        ("colour = 1\n" + GOOD, "colour"),
        ("marker_mm = \n", "not valid TOML"),
    ],
)
def test_a_wrong_layout_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "layout.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"layout\.toml") as caught:
        read_layout(path)
    assert told in str(caught.value)
