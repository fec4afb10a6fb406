"""Calibration boards: what `--board charuco:7x5:20mm` names, where its corners lie, and its picture for the printer.

Both kinds count *squares*: OpenCV calls a chessboard of 10 × 7 squares a 9 × 6 one, after its inner corners. A
ChArUco board's markers are of a dictionary of their own (5×5), so that it may lie between the 4×4 markers of a view.
"""

import dataclasses
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError

if TYPE_CHECKING:
    import cv2

__all__ = ["Board", "BoardError", "board_picture", "board_png", "charuco_board", "corners_mm", "parse_board"]

BoardKind = Literal["charuco", "chessboard"]
MARKER_SHARE = 0.75
"""Side of a ChArUco marker against its square where the board's name does not say it."""
SMALLEST, LARGEST = 3, 40
MARGIN_MM = 12.0
FINER = 4
LEAST_SQUARE_PX = 30
INCH_MM = 25.4
_FORM = re.compile(
    r"(?P<kind>[a-z]+):(?P<columns>\d+)x(?P<rows>\d+):(?P<square>\d+(?:\.\d+)?)mm(?::(?P<marker>\d+(?:\.\d+)?)mm)?"
)


class BoardError(CalibrationError):
    """A board's name that cannot be understood; says how it should look."""


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """A flat board of `columns` × `rows` squares; `marker_mm` is None for a chessboard."""

    kind: BoardKind
    columns: int
    rows: int
    square_mm: float
    marker_mm: float | None = None

    def __str__(self) -> str:
        """The name that `parse_board` reads."""
        marker = "" if self.marker_mm is None else f":{self.marker_mm:g}mm"
        return f"{self.kind}:{self.columns}x{self.rows}:{self.square_mm:g}mm{marker}"

    @property
    def corners(self) -> int:
        """Inner corners of the squares."""
        return (self.columns - 1) * (self.rows - 1)

    @property
    def markers(self) -> int:
        """ArUco markers on it: one in every white square."""
        return 0 if self.kind == "chessboard" else self.columns * self.rows // 2

    @property
    def dictionary(self) -> str:
        """The smallest dictionary that has enough markers: the fewer codes, the fewer mistakes."""
        sizes = (100, 250, 1000)
        return f"DICT_5X5_{next(size for size in sizes if size >= self.markers)}"


def parse_board(text: str) -> Board:
    """The board named `KIND:COLUMNSxROWS:SQUAREmm[:MARKERmm]`. Raises BoardError naming what is wrong."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found["kind"] not in ("charuco", "chessboard"):
        raise BoardError(
            f"board {text!r} is not understood; write charuco:COLUMNSxROWS:SQUAREmm or chessboard:COLUMNSxROWS:"
            "SQUAREmm, counting squares, for example charuco:7x5:20mm"
        )
    columns, rows, square_mm = int(found["columns"]), int(found["rows"]), float(found["square"])
    if min(columns, rows) < SMALLEST or max(columns, rows) > LARGEST or square_mm <= 0:
        raise BoardError(f"board {text!r}: it needs {SMALLEST} to {LARGEST} squares a side, larger than 0 mm")
    if found["kind"] == "chessboard":
        return _chessboard(text, columns, rows, square_mm, found["marker"])
    marker_mm = float(found["marker"] or MARKER_SHARE * square_mm)
    if not 0.3 * square_mm <= marker_mm <= 0.9 * square_mm:
        raise BoardError(
            f"board {text!r}: a marker of {marker_mm:g} mm does not fit squares of {square_mm:g} mm; it needs "
            f"{0.3 * square_mm:g} to {0.9 * square_mm:g} mm"
        )
    return Board("charuco", columns, rows, square_mm, marker_mm)


def _chessboard(text: str, columns: int, rows: int, square_mm: float, marker: str | None) -> Board:
    if marker is not None:
        raise BoardError(f"board {text!r}: a chessboard has no markers; leave {marker}mm out or write charuco")
    if (columns + rows) % 2 == 0:
        raise BoardError(
            f"board {text!r} looks the same upside down; use one with an odd and an even number of squares, "
            f"for example chessboard:{columns}x{rows + 1}:{square_mm:g}mm"
        )
    return Board("chessboard", columns, rows, square_mm)


def corners_mm(board: Board) -> NDArray[np.float32]:
    """Inner corners `(n, 3)` float32, mm from the board's top left corner, row by row; z = 0."""
    x, y = np.meshgrid(np.arange(1, board.columns), np.arange(1, board.rows))
    flat = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1) * board.square_mm
    return flat.astype(np.float32)


def charuco_board(board: Board) -> "cv2.aruco.CharucoBoard":
    """OpenCV's object for a ChArUco board."""
    import cv2

    assert board.marker_mm is not None, "a chessboard has no markers"
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, board.dictionary))
    return cv2.aruco.CharucoBoard((board.columns, board.rows), board.square_mm, board.marker_mm, dictionary)


def board_picture(board: Board, px_per_mm: float) -> NDArray[np.uint8]:
    """The bare board `(rows, columns)` uint8 without margin, white 255; squares of whole pixels."""
    square = max(round(board.square_mm * px_per_mm), 1)
    size = (board.columns * square, board.rows * square)
    if board.kind == "charuco":
        return np.asarray(charuco_board(board).generateImage(size, marginSize=0), np.uint8)
    parity = np.add.outer(np.arange(board.rows), np.arange(board.columns)) % 2
    return np.kron(parity * 255, np.ones((square, square))).astype(np.uint8)


def board_png(board: Board, dpi: int) -> bytes:
    """The board with margin, name and a ruler to be measured after printing, as a PNG that says its dpi.

    Raises BoardError where a square would have too few pixels to be printed sharply.
    """
    import cv2

    scale = dpi / INCH_MM
    if board.square_mm * scale < LEAST_SQUARE_PX:
        raise BoardError(f"board {board}: a square is {board.square_mm * scale:.0f} px at {dpi} dpi; use more dpi")
    # Drawn larger and averaged: squares need not have a whole number of pixels to be of the right size.
    size = (round(board.columns * board.square_mm * scale), round(board.rows * board.square_mm * scale))
    drawn = board_picture(board, FINER * scale)
    picture = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    margin = round(MARGIN_MM * scale)
    page = cv2.copyMakeBorder(picture, margin, 2 * margin, margin, margin, cv2.BORDER_CONSTANT, value=[255])
    ruler_mm = int(board.columns * board.square_mm // 10 * 10)
    _ruler(page, (margin, margin + size[1] + margin // 2), scale, ruler_mm)
    _caption(page, f"{board}  print at 100 %, then measure the ruler: {ruler_mm} mm", margin)
    return _with_dpi(cv2.imencode(".png", page)[1].tobytes(), dpi)


def _ruler(page: NDArray[Any], at: tuple[int, int], scale: float, length_mm: int) -> None:
    """A scale of mm, its marks longer at 5 and 10 mm."""
    import cv2

    (left, top), thick = at, max(1, round(0.1 * scale))
    cv2.line(page, at, (left + round(length_mm * scale), top), [0], thick)
    for mm in range(length_mm + 1):
        long_mm = 3.0 if mm % 10 == 0 else 2.0 if mm % 5 == 0 else 1.0
        x = left + round(mm * scale)
        cv2.line(page, (x, top), (x, top + round(long_mm * scale)), [0], thick)


def _caption(page: NDArray[Any], text: str, margin: int) -> None:
    """One line at the foot of the page, as wide as the board at most."""
    import cv2

    wide = page.shape[1] - 2 * margin
    letters = 0.25 * margin / 12
    for _ in range(3):  # a text's width is not quite proportional to its scale
        (width, _high), _base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, letters, 1)
        letters *= min(1.0, 0.97 * wide / width)
    cv2.putText(
        page, text, (margin, page.shape[0] - margin // 3), cv2.FONT_HERSHEY_SIMPLEX, letters, [0], 1, cv2.LINE_AA
    )


def _with_dpi(png: bytes, dpi: int) -> bytes:
    """The PNG with a pHYs chunk after its header: OpenCV writes none, and without it printers scale to the page."""
    per_metre = round(dpi / INCH_MM * 1000)
    body = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header = 8 + 4 + 4 + 13 + 4
    return png[:header] + chunk + png[header:]
