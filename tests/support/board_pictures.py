"""Pictures of calibration boards by the camera of `board_camera.py`: sixteen good ones, and bad ones."""

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.boards import Board, board_picture
from tests.support.board_camera import Array, TrueCamera, looking_at, photograph, shifted

PX_PER_MM = 8
PAPER_MM = 10
Picture = NDArray[np.uint8]
Pose = tuple[Array, Array]


def sheet(board: Board) -> Picture:
    """The board on white paper that reaches `PAPER_MM` beyond it."""
    edge = PAPER_MM * PX_PER_MM
    return cv2.copyMakeBorder(
        board_picture(board, PX_PER_MM), edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=[255]
    )


def middle_mm(board: Board) -> tuple[float, float]:
    """Its middle on the paper."""
    return board.columns * board.square_mm / 2 + PAPER_MM, board.rows * board.square_mm / 2 + PAPER_MM


def hand_held(board: Board, count: int, seed: int, tilts_deg: tuple[float, float] = (5.0, 40.0)) -> list[Pose]:
    """Poses as of a board that somebody holds into all corners of the picture."""
    rng = np.random.default_rng(seed)
    size_mm = 1.8 * max(board.columns, board.rows) * board.square_mm
    poses = []
    for k in range(count):
        far = rng.uniform(0.8, 1.25) * size_mm
        pose = looking_at(
            middle_mm(board), far, rng.uniform(*tilts_deg), 360 * k / count + rng.uniform(-20, 20), rng.normal(0, 15)
        )
        corner = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)][k % 4]) * rng.uniform(0.0, 1.0)
        poses.append(shifted(pose, tuple(corner * far * (0.21, 0.15))))
    return poses


def pictures(camera: TrueCamera, board: Board, poses: list[Pose], seed: int) -> list[tuple[str, Picture | None]]:
    """Named photographs at these poses, none quite as sharp as another."""
    rng = np.random.default_rng(seed)
    paper = sheet(board)
    found: list[tuple[str, Picture | None]] = []
    for k, pose in enumerate(poses):
        picture = photograph(camera, paper, 1 / PX_PER_MM, pose, seed * 1000 + k, blur_px=rng.uniform(0.5, 1.1))
        found.append((f"{k:02d}.png", picture))
    return found
