"""A board in one picture: its corners to a few hundredths of a pixel, or the reason why the picture cannot be used.

First step of `edged calibrate camera`; `calibration/camera.py` goes on with what is found here.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.boards import Board, charuco_board, corners_mm
from calibration.sharpness import WIDEST_PX, edge_blur_px

__all__ = ["BoardView", "Rejection", "duplicates", "find_board"]

LEAST_CORNERS, LEAST_SHARE = 6, 0.4
"""A view needs so many corners, and such a share of the board's."""
MAX_BLUR_PX = 2.0
"""At this σ corners are some 0.1 px off and ChArUco markers begin to be missed (docs/calibration-vision.md)."""
LEAST_AREA = 0.03
"""Share of the picture that the found corners must span."""
SAME_POSE = 0.003
"""Two views whose corners lie nearer to each other than this share of the picture's diagonal tell the same."""
MISFIT = 0.25
"""Markers further than this share of a square from where the board has them are another board's."""
LEAST_MARKERS = 4

Grey = NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BoardView:
    """Corners found: `ids` (n,) into `boards.corners_mm`, `corners_px` (n, 2) float32."""

    name: str
    ids: NDArray[np.int64]
    corners_px: NDArray[np.float32]
    blur_px: float
    area_share: float


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """A picture that is not used, and why, for whoever holds the board."""

    name: str
    reason: str


def find_board(name: str, grey: Grey, board: Board) -> BoardView | Rejection:
    """The board in a picture `(rows, columns)` uint8."""
    found = _charuco(grey, board) if board.kind == "charuco" else _chessboard(grey, board)
    if isinstance(found, str):
        return Rejection(name, found)
    ids, corners = found
    hull = _hull(corners)
    # A few corners span no area that has edges in it.
    inside = _mask(hull, grey.shape) if len(ids) > LEAST_SHARE * board.corners else None
    view = BoardView(name, ids, corners, edge_blur_px(grey, inside), _area(hull) / grey.size)
    problem = _problem(view, board)
    return view if problem is None else Rejection(name, problem)


def duplicates(views: list[BoardView], size_px: tuple[int, int]) -> list[Rejection]:
    """Views that show the board where another one does; of each pair the less sharp; `size_px`: (width, height)."""
    limit_px = SAME_POSE * float(np.hypot(*size_px))
    out: dict[str, Rejection] = {}
    for first, second in itertools.combinations(views, 2):
        if first.name in out or second.name in out:
            continue
        common, a, b = np.intersect1d(first.ids, second.ids, return_indices=True)
        if len(common) < LEAST_CORNERS:
            continue
        moved_px = float(np.abs(first.corners_px[a] - second.corners_px[b]).mean())
        if moved_px < limit_px:
            worse, better = (first, second) if first.blur_px > second.blur_px else (second, first)
            out[worse.name] = Rejection(
                worse.name, f"shows the board where {better.name} does ({moved_px:.1f} px apart); move or tilt it"
            )
    return list(out.values())


def _problem(view: BoardView, board: Board) -> str | None:
    if view.blur_px > MAX_BLUR_PX:
        return (
            f"blurred: its edges are {view.blur_px:.1f} px wide (σ), at most {MAX_BLUR_PX:g} px; focus the lens, "
            "hold the board still, or give more light"
        )
    wanted = max(LEAST_CORNERS, round(LEAST_SHARE * board.corners))
    places = corners_mm(board)[view.ids, :2]
    if len(view.ids) < wanted or np.linalg.matrix_rank(places - places[0]) < 2:
        return (
            f"only {len(view.ids)} of {board.corners} corners are seen, {wanted} are needed, not in one line; show "
            "the whole board, nearer, without reflections"
        )
    if view.area_share < LEAST_AREA:
        return (
            f"the board covers {view.area_share:.1%} of the picture, at least {LEAST_AREA:.0%} are needed; hold it "
            "nearer"
        )
    return None


def _not_found(grey: Grey, what: str) -> str:
    blur_px = edge_blur_px(grey)
    if blur_px >= WIDEST_PX:
        return f"{what}: nothing in the picture has an edge; is the lens covered, is there light?"
    if blur_px > MAX_BLUR_PX:
        return (
            f"{what}: the picture is blurred, edges {blur_px:.1f} px wide (σ); focus the lens, hold the board still"
        )
    return f"{what}; show it whole, lit evenly, and check --board"


Found = tuple[NDArray[np.int64], NDArray[np.float32]] | str
"""Ids and corners, or why there are none."""


def _charuco(grey: Grey, board: Board) -> Found:
    import cv2

    detector = cv2.aruco.CharucoDetector(charuco_board(board))
    markers, ids = _markers(grey, board)
    mirrored = _markers(np.ascontiguousarray(grey[:, ::-1]), board)[1]
    if len(mirrored) >= LEAST_MARKERS and len(mirrored) > 2 * len(ids):
        return "the board is mirrored; print it as it is, and switch the camera's mirror image off"
    if len(ids) < LEAST_MARKERS:
        return _not_found(grey, f"no {board} found ({len(ids)} of {board.markers} markers)")
    if _misfit(board, markers, ids) > MISFIT:
        other = _other_board(board, markers, ids)
        return f"the markers do not lie as on a {board}; " + (
            f"they fit {other}: is --board right?" if other else "is it flat, and is --board right?"
        )
    corners, corner_ids, _, _ = detector.detectBoard(grey)
    if corner_ids is None or len(corner_ids) == 0:
        return _not_found(grey, f"{len(ids)} markers but no corner of the {board} found")
    return np.asarray(corner_ids, np.int64).ravel(), np.asarray(corners, np.float32).reshape(-1, 2)


def _markers(grey: Grey, board: Board) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centres `(n, 2)` px and ids `(n,)` of the dictionary's markers, those of other boards included."""
    import cv2

    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))
    corners, ids, _ = cv2.aruco.ArucoDetector(dictionary).detectMarkers(grey)
    if ids is None or len(ids) == 0:
        return np.empty((0, 2), np.float32), np.empty(0, np.int64)
    centres = np.asarray(corners, np.float32).reshape(-1, 4, 2).mean(1)
    return centres, np.asarray(ids, np.int64).ravel()


def _misfit(board: Board, centres: NDArray[np.float32], ids: NDArray[np.int64]) -> float:
    """How far the markers lie from the board's places, in squares, after the best perspective; inf: not its ids."""
    import cv2

    if ids.max() >= board.markers:
        return np.inf
    corners = np.asarray([np.asarray(c)[:, :2] for c in charuco_board(board).getObjPoints()])
    places = corners.mean(1)[ids].astype(np.float32)
    onto: Any = cv2.findHomography(centres, places, cv2.LMEDS)[0]
    if onto is None:
        return np.inf
    there: NDArray[Any] = cv2.perspectiveTransform(centres[:, None], onto)[:, 0]
    # Lens distortion bends a true board by a few hundredths of a square; a wrong one misses by whole ones.
    return float(np.quantile(np.linalg.norm(there - places, axis=1), 0.75)) / board.square_mm


def _other_board(board: Board, centres: NDArray[np.float32], ids: NDArray[np.int64]) -> Board | None:
    """The smallest board of another number of squares on which the markers do lie so."""
    sizes = sorted(itertools.product(range(3, 16), repeat=2), key=lambda size: size[0] * size[1])
    for columns, rows in sizes:
        other = dataclasses.replace(board, columns=columns, rows=rows)
        if other.dictionary == board.dictionary and _misfit(other, centres, ids) < MISFIT / 2:
            return other
    return None


def _chessboard(grey: Grey, board: Board) -> Found:
    """A plain chessboard; nothing on it tells a mirrored one from a true one."""
    import cv2

    size = (board.columns - 1, board.rows - 1)
    flags = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_LARGER
    ok, corners, seen = cv2.findChessboardCornersSBWithMeta(grey, size, flags)
    if not ok:
        ok, _, seen = cv2.findChessboardCornersSBWithMeta(grey, (3, 3), flags)
        if not ok:
            return _not_found(grey, f"no {board} found")
    shape = tuple(np.asarray(seen).shape[:2])
    if sorted(shape) != sorted(size):
        columns, rows = max(shape) + 1, min(shape) + 1
        return f"a chessboard of {columns} × {rows} squares is seen, not all of a {board}; is --board right?"
    return np.arange(board.corners), np.asarray(corners, np.float32).reshape(-1, 2)


def _hull(corners: NDArray[np.float32]) -> NDArray[Any]:
    import cv2

    return np.asarray(cv2.convexHull(corners))


def _area(hull: NDArray[Any]) -> float:
    import cv2

    return float(cv2.contourArea(hull)) if len(hull) > 2 else 0.0


def _mask(hull: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    import cv2

    mask = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), [1])
    return mask.astype(bool)
