"""A board's name, its corners and its print."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.boards import BoardError, board_picture, board_png, charuco_board, corners_mm, parse_board


@given(columns=st.integers(3, 15), rows=st.integers(3, 15), square=st.floats(1, 200), share=st.floats(0.31, 0.89))
def test_a_charuco_boards_name_is_read_as_it_is_written(columns: int, rows: int, square: float, share: float) -> None:
    name = f"charuco:{columns}x{rows}:{square:.4f}mm:{square * share:.4f}mm"
    board = parse_board(name)
    assert (board.columns, board.rows) == (columns, rows)
    assert parse_board(str(board)) == parse_board(str(parse_board(str(board))))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("charuco:7x5", "is not understood"),
        ("circles:7x5:20mm", "is not understood"),
        ("charuco:7x5:20", "is not understood"),
        ("charuco:2x5:20mm", "3 to 40 squares"),
        ("charuco:7x5:0mm", "larger than 0 mm"),
        ("charuco:7x5:20mm:25mm", "marker of 25 mm does not fit"),
        ("chessboard:10x7:20mm:15mm", "has no markers"),
        ("chessboard:9x7:20mm", "chessboard:9x8:20mm"),
    ],
)
def test_a_wrong_name_is_named(text: str, told: str) -> None:
    with pytest.raises(BoardError, match=told):
        parse_board(text)


def test_corners_are_those_of_opencv() -> None:
    board = parse_board("charuco:7x5:20mm")
    assert np.array_equal(corners_mm(board), np.asarray(charuco_board(board).getChessboardCorners()))
    assert len(corners_mm(board)) == board.corners == 24
    assert len(charuco_board(board).getIds()) == board.markers


def test_a_chessboards_picture_alternates() -> None:
    picture = board_picture(parse_board("chessboard:4x3:10mm"), 1.0)
    assert picture.shape == (30, 40)
    assert (picture[5::10, 5::10] == [[0, 255, 0, 255], [255, 0, 255, 0], [0, 255, 0, 255]]).all()


def test_the_print_has_its_size_in_mm_and_says_its_dpi() -> None:
    png = board_png(parse_board("charuco:7x5:20mm"), 300)
    at = png.index(b"pHYs")
    per_metre = struct.unpack(">I", png[at + 4 : at + 8])[0]
    page = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert page is not None, "the added chunk must leave a PNG that can be read"
    corners, ids, _, _ = cv2.aruco.CharucoDetector(charuco_board(parse_board("charuco:7x5:20mm"))).detectBoard(page)
    across_px = np.ptp(np.asarray(corners).reshape(-1, 2)[:, 0])
    assert len(ids) == 24
    assert across_px / per_metre * 1000 == pytest.approx(100.0, abs=0.05)


def test_too_coarse_a_print_is_refused() -> None:
    with pytest.raises(BoardError, match="24 px at 30 dpi"):
        board_png(parse_board("charuco:7x5:20mm"), 30)
