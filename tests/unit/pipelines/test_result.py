"""The post-weld photograph: markers found, pose and light taken out, the place across the seam kept."""

import dataclasses

import cv2
import numpy as np
import pytest

from drivers.sim.bead import form_bead
from drivers.sim.damage import no_marks
from drivers.sim.photograph import render_view
from drivers.sim.programs import PROGRAMS
from drivers.sim.seam import IMAGE_PRESETS
from drivers.sim.sessions import session_named
from drivers.sim.variation import draw_latents
from drivers.sim.views import VIEWS, marker_centres_mm
from pipelines.features.frames import decode_rgb
from pipelines.features.result import RESULT_ROWS, ROW_FEATURES, result_map, seam_strip
from pipelines.rectify import ViewGeometry, find_and_place
from tests.support.backbone import TinyBackbone


def photograph(seed: int = 3, session: str = "a") -> np.ndarray:
    program, shift = PROGRAMS["short-butt-3"], session_named(session)
    bead = form_bead(program, shift, draw_latents(program, shift, seed), seed)
    jpeg = render_view(program, shift, bead, no_marks(program.length_mm), seed, IMAGE_PRESETS["small"])
    return decode_rgb(np.frombuffer(jpeg, np.uint8))


@pytest.mark.parametrize("seed", range(6))
def test_markers_are_found_whatever_the_pose(seed: int) -> None:
    strip, located = seam_strip(photograph(seed))
    assert located
    assert strip.shape == (224, 896, 3)


def test_a_marker_at_the_edge_of_the_picture_is_found() -> None:
    image = photograph()
    columns = np.flatnonzero((image < 40).all(-1).sum(0) > 20)
    assert seam_strip(np.ascontiguousarray(image[:, columns[0] - 1 :]))[1]


def test_pose_and_light_do_not_show() -> None:
    image = photograph()
    turn = cv2.getRotationMatrix2D((480, 160), 1.2, 0.97)
    moved = cv2.warpAffine(image, turn, (960, 320), borderMode=cv2.BORDER_REPLICATE)
    darker = np.clip(moved * np.array([0.7, 0.75, 0.8]), 0, 255).astype(np.uint8)
    there, here = seam_strip(image)[0].astype(float), seam_strip(darker)[0].astype(float)
    assert np.abs(image.astype(float) - darker).mean() > 25
    assert np.abs(there - here)[20:-20].mean() < 8


def test_without_markers_the_whole_view_is_taken_and_said_so() -> None:
    image = photograph()
    image[:, :150] = image[:, -150:] = 128
    strip, located = seam_strip(image)
    assert not located
    assert strip.shape == (224, 896, 3)


def test_rows_keep_the_place_across_the_seam() -> None:
    image = np.full((320, 960, 3), 90, np.uint8)
    wide = image.copy()
    image[120:200], wide[112:208] = 200, 200
    rows = [result_map(cv2.imencode(".png", i)[1], TinyBackbone()).rows() for i in (image, wide)]
    assert rows[0].shape == (RESULT_ROWS, ROW_FEATURES)
    differs = np.abs(rows[1] - rows[0]).reshape(RESULT_ROWS, -1)[:, : 28 * 40].reshape(RESULT_ROWS, 28, 40).max(2)
    across = np.flatnonzero(differs.max(0) > 0.05)
    assert set(across) <= {9, 10, 17, 18}
    assert len(across) >= 2


def calibrated() -> ViewGeometry:
    centres = marker_centres_mm(PROGRAMS["short-butt-3"].length_mm)
    return ViewGeometry(tuple((k, x, y) for k, (x, y) in centres.items()), VIEWS["top"].marker_mm)


def test_a_calibrated_view_shows_the_same_strip() -> None:
    plain, calibrated_strip = seam_strip(photograph())[0], seam_strip(photograph(), calibrated())
    assert calibrated_strip[1]
    assert np.abs(plain.astype(float) - calibrated_strip[0]).mean() < 4


def test_a_calibrated_view_does_with_two_markers() -> None:
    image = photograph()
    whole, _ = seam_strip(image, calibrated())
    found, _ = find_and_place(image, calibrated())
    for ident in (1, 3):
        centre = found[ident].mean(0).astype(int)
        image[centre[1] - 50 : centre[1] + 50, max(centre[0] - 50, 0) : centre[0] + 50] = 90
    assert not seam_strip(image)[1], "without a calibration all four are needed"
    strip, located = seam_strip(image, calibrated())
    assert located
    assert np.abs(whole.astype(float) - strip)[60:-60, 100:-100].mean() < 8


def test_a_camera_that_stays_does_with_one_marker_and_none_is_not_located() -> None:
    image = photograph()
    _, placed = find_and_place(image, calibrated())
    assert placed is not None
    steady = dataclasses.replace(calibrated(), steady=tuple(placed.onto.ravel().tolist()))
    image[:, 200:] = 90
    image[200:] = 90
    assert not seam_strip(image, calibrated())[1]
    assert seam_strip(image, steady)[1]
    assert not seam_strip(np.full_like(image, 90), steady)[1]


def test_a_picture_of_another_size_is_not_located() -> None:
    other = dataclasses.replace(calibrated(), size_px=(1920, 640))
    assert not seam_strip(photograph(), other)[1]
