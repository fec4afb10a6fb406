"""Intrinsics against a camera whose truth is known, and every reason to refuse a picture."""

import cv2
import numpy as np
import pytest

from calibration.board_views import BoardView, Rejection, duplicates, find_board
from calibration.boards import Board, corners_mm, parse_board
from calibration.camera import calibrate_camera
from calibration.files import CalibrationError
from tests.support.board_camera import TrueCamera, looking_at, photograph, shifted
from tests.support.board_pictures import PAPER_MM, PX_PER_MM, hand_held, middle_mm, pictures, sheet

CHARUCO = parse_board("charuco:7x5:20mm")
CHESSBOARD = parse_board("chessboard:10x7:14mm")
CAMERA = TrueCamera()
NEAR = looking_at(middle_mm(CHARUCO), 240.0, 25.0, 40.0, 10.0)


def seen(board: Board, pose: tuple[np.ndarray, np.ndarray] = NEAR, blur_px: float = 0.6) -> np.ndarray:
    return photograph(CAMERA, sheet(board), 1 / PX_PER_MM, pose, 1, blur_px=blur_px)


def reason(picture: np.ndarray, board: Board = CHARUCO) -> str:
    found = find_board("a.png", picture, board)
    assert isinstance(found, Rejection), found
    assert found.name == "a.png"
    return found.reason


@pytest.fixture(scope="module")
def good() -> list[tuple[str, np.ndarray | None]]:
    return pictures(CAMERA, CHARUCO, hand_held(CHARUCO, 14, 1), 1)


def test_the_cameras_truth_is_found(good: list[tuple[str, np.ndarray | None]]) -> None:
    result = calibrate_camera(good, CHARUCO)
    found = result.fit.values
    assert len(result.views) == 14
    assert found["fx"] == pytest.approx(CAMERA.fx, rel=0.003)
    assert found["fy"] == pytest.approx(CAMERA.fy, rel=0.003)
    assert found["cx"] == pytest.approx(CAMERA.cx, abs=3.0)
    assert found["cy"] == pytest.approx(CAMERA.cy, abs=3.0)
    assert found["k1"] == pytest.approx(CAMERA.distortion[0], abs=0.01)
    assert result.fit.rms_px < 0.12
    truth = dict(zip(found, (CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, *CAMERA.distortion), strict=True))
    inside = [abs(found[k] - truth[k]) <= result.interval[k] for k in found]
    assert sum(inside) >= 6, "95 % intervals hold most of eight parameters"


def test_a_chessboard_gives_the_same_camera() -> None:
    result = calibrate_camera(pictures(CAMERA, CHESSBOARD, hand_held(CHESSBOARD, 10, 3), 3), CHESSBOARD, 6)
    assert result.fit.values["fx"] == pytest.approx(CAMERA.fx, rel=0.003)
    assert result.fit.values["cy"] == pytest.approx(CAMERA.cy, abs=3.0)


@pytest.mark.parametrize("board", [CHARUCO, CHESSBOARD])
@pytest.mark.parametrize("turn_deg", [0.0, 95.0, 180.0, 265.0])
def test_corners_are_named_right_whichever_end_is_up(board: Board, turn_deg: float) -> None:
    rotation, translation = looking_at(middle_mm(board), 250.0, 15.0, 40.0, turn_deg)
    view = find_board("a.png", seen(board, (rotation, translation)), board)
    assert isinstance(view, BoardView)
    places = (corners_mm(board)[view.ids] + [PAPER_MM, PAPER_MM, 0]).astype(np.float64)
    turned, _ = cv2.Rodrigues(rotation)
    true, _ = cv2.projectPoints(places, turned, translation, CAMERA.matrix, np.array(CAMERA.distortion))
    # A plain chessboard looks the same after half a turn, seen by its corners' order: either is a pose of it.
    off = min(
        np.abs(view.corners_px - true[:, 0]).max(),
        np.abs(view.corners_px[::-1] - true[:, 0]).max() if board.kind == "chessboard" else np.inf,
    )
    assert off < 0.6


def test_a_mirrored_board_is_named() -> None:
    assert "mirrored" in reason(np.ascontiguousarray(seen(CHARUCO)[:, ::-1]))


@pytest.mark.parametrize("name", ["charuco:8x6:20mm", "charuco:5x7:20mm", "charuco:6x5:20mm"])
def test_another_board_is_named(name: str) -> None:
    told = reason(seen(parse_board(name)))
    assert "do not lie as on a charuco:7x5:20mm" in told
    assert f"they fit {name}" in told


def test_another_chessboard_is_named() -> None:
    told = reason(seen(parse_board("chessboard:8x5:15mm")), CHESSBOARD)
    assert "8 × 5 squares is seen" in told


def test_a_blurred_board_is_named_whether_it_is_found_or_not() -> None:
    assert reason(seen(CHARUCO, blur_px=3.0)).startswith("blurred")
    assert "is blurred" in reason(seen(CHARUCO, blur_px=6.0))
    assert reason(seen(CHESSBOARD, blur_px=4.0), CHESSBOARD).startswith("blurred")


def test_a_small_board_a_cut_one_and_none_are_named() -> None:
    assert "nearer" in reason(seen(CHARUCO, looking_at(middle_mm(CHARUCO), 620.0, 20.0, 40.0)))
    assert "of 24 corners" in reason(seen(CHARUCO, shifted(NEAR, (95.0, 60.0))))
    noise = np.random.default_rng(1).integers(0, 255, (480, 640)).astype(np.uint8)
    assert "0 of 17 markers" in reason(noise)
    assert "has an edge" in reason(np.full((480, 640), 120, np.uint8))


def test_of_two_equal_views_the_sharper_stays() -> None:
    moved = seen(CHARUCO, shifted(NEAR, (0.4, 0.0)), blur_px=1.2)
    views = [find_board(name, picture, CHARUCO) for name, picture in (("soft", moved), ("sharp", seen(CHARUCO)))]
    assert all(isinstance(view, BoardView) for view in views)
    (found,) = duplicates([view for view in views if isinstance(view, BoardView)], (640, 480))
    assert found.name == "soft"
    assert "where sharp does" in found.reason


def test_a_bent_board_is_an_outlier(good: list[tuple[str, np.ndarray | None]]) -> None:
    name, picture = good[3]
    assert picture is not None
    rows, columns = np.mgrid[0:480, 0:640].astype(np.float32)
    bent = cv2.remap(picture, columns, rows + 4 * np.sin(columns / 90), cv2.INTER_LINEAR)
    result = calibrate_camera([*good[:3], (name, np.asarray(bent, np.uint8)), *good[4:]], CHARUCO)
    assert [item.name for item in result.rejected] == [name]
    assert "bent or moved" in result.rejected[0].reason


def test_files_that_are_no_picture_or_of_another_size_are_named(good: list[tuple[str, np.ndarray | None]]) -> None:
    small = np.zeros((240, 320), np.uint8)
    result = calibrate_camera([*good, ("notes.png", None), ("small.png", small)], CHARUCO)
    told = {item.name: item.reason for item in result.rejected}
    assert "no picture" in told["notes.png"]
    assert "320×240" in told["small.png"]


def test_too_few_views_say_why_each_of_the_others_was_refused(good: list[tuple[str, np.ndarray | None]]) -> None:
    _, picture = good[7]
    assert picture is not None
    with pytest.raises(CalibrationError, match=r"7 good views, 8 are needed\n  mirror.png: the board is mirrored"):
        calibrate_camera([*good[:7], ("mirror.png", np.ascontiguousarray(picture[:, ::-1]))], CHARUCO)
    with pytest.raises(CalibrationError, match="no picture shows a charuco"):
        calibrate_camera([("mirror.png", np.ascontiguousarray(picture[:, ::-1]))], CHARUCO)


def test_views_that_never_tilt_are_not_enough() -> None:
    flat = pictures(CAMERA, CHARUCO, hand_held(CHARUCO, 10, 2, tilts_deg=(0.0, 3.0)), 2)
    with pytest.raises(CalibrationError, match="tilt the board by 20 to 40°"):
        calibrate_camera(flat, CHARUCO)


def test_views_in_the_middle_only_are_not_enough() -> None:
    poses = [looking_at(middle_mm(CHARUCO), 420.0, 25.0, 40.0 * k, 5.0 * k) for k in range(9)]
    with pytest.raises(CalibrationError, match="into every corner too"):
        calibrate_camera(pictures(CAMERA, CHARUCO, poses, 4), CHARUCO)
