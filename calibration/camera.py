"""Intrinsics of a camera from views of a board: what is refused, the fit, its residuals and intervals.

Pinhole with k1, k2, p1, p2 (Brown's model, as OpenCV writes it); k3 and beyond stay 0, because views of a weld fill a
small field. Zhang, "A flexible new technique for camera calibration", PAMI 22 (2000). The board's absolute size does
not enter the intrinsics; it scales the poses only.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.board_views import BoardView, Rejection, duplicates, find_board
from calibration.boards import Board, corners_mm
from calibration.files import CalibrationError

__all__ = ["PARAMETERS", "CameraFit", "CameraResult", "calibrate_camera", "fit_camera", "spread_problems"]

PARAMETERS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")
LEAST_VIEWS = 8
LEAST_TILTED = 4
TILTED_DEG = 12.0
"""Views straight onto the board tell focal length and distance apart only together."""
COVERAGE_CELLS = (4, 4)
LEAST_COVERAGE = 0.7
"""Share of the picture's cells that corners of some view must lie in: distortion is not extrapolated."""
OUTLIER = 3.0
OUTLIER_PX = 0.2
"""A view is an outlier beyond this many times the median view's residual, and beyond this many px."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CameraFit:
    """One fit: `values` and `sigma` by `PARAMETERS`; `view_rms_px` by view; `tilt_deg` and `azimuth_deg` (views,)."""

    values: dict[str, float]
    sigma: dict[str, float]
    rms_px: float
    view_rms_px: dict[str, float]
    tilt_deg: Array
    azimuth_deg: Array


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CameraResult:
    """What came of the pictures."""

    fit: CameraFit
    size_px: tuple[int, int]
    views: tuple[BoardView, ...]
    rejected: tuple[Rejection, ...]
    coverage: float

    @property
    def interval(self) -> dict[str, float]:
        """Half width of the 95 % interval by parameter, from the fit's covariance."""
        return {name: 1.96 * sigma for name, sigma in self.fit.sigma.items()}


def calibrate_camera(
    pictures: Iterable[tuple[str, NDArray[np.uint8] | None]],
    board: Board,
    least_views: int = LEAST_VIEWS,
    looked: Callable[[BoardView | Rejection], None] = lambda _: None,
) -> CameraResult:
    """Intrinsics from grey pictures `(rows, columns)` uint8; None for a file that is none.

    `looked` hears of every picture at once. Raises CalibrationError when too few good views are left, or they do not
    tilt and spread enough; the message has every rejected picture with its reason.
    """
    views: list[BoardView] = []
    rejected: list[Rejection] = []
    size_px: tuple[int, int] | None = None
    for name, grey in pictures:
        found = _look(name, grey, board, size_px)
        if isinstance(found, BoardView):
            assert grey is not None
            size_px = (grey.shape[1], grey.shape[0])
            views.append(found)
        else:
            rejected.append(found)
        looked(found)
    if size_px is None:
        raise CalibrationError(_told(f"no picture shows a {board}", rejected))
    rejected += duplicates(views, size_px)
    views = _without(views, rejected)
    _enough(views, least_views, rejected)
    fit = fit_camera(views, board, size_px)
    while (outlier := _outlier(fit)) is not None:
        rejected.append(outlier)
        views = _without(views, rejected)
        _enough(views, least_views, rejected)
        fit = fit_camera(views, board, size_px)
    coverage = _coverage(views, size_px)
    if problems := spread_problems(fit, coverage):
        raise CalibrationError(_told("; ".join(problems), rejected))
    return CameraResult(fit, size_px, tuple(views), tuple(rejected), coverage)


def fit_camera(views: Sequence[BoardView], board: Board, size_px: tuple[int, int]) -> CameraFit:
    """Least squares over all corners of all views; `size_px`: (width, height)."""
    import cv2

    places = corners_mm(board)
    rms_px, matrix, distortion, turns, _, sigma, _, by_view = cv2.calibrateCameraExtended(
        [places[view.ids] for view in views],
        [view.corners_px[:, None] for view in views],
        size_px,
        np.eye(3),
        np.zeros(5),
        flags=cv2.CALIB_FIX_K3,
    )
    k: Array = np.asarray(matrix, np.float64)
    values = [k[0, 0], k[1, 1], k[0, 2], k[1, 2], *np.asarray(distortion).ravel()[:4]]
    normals = np.asarray([cv2.Rodrigues(np.asarray(turn))[0][:, 2] for turn in turns])
    return CameraFit(
        dict(zip(PARAMETERS, map(float, values), strict=True)),
        dict(zip(PARAMETERS, map(float, np.asarray(sigma).ravel()[: len(PARAMETERS)]), strict=True)),
        float(rms_px),
        {view.name: float(e) for view, e in zip(views, np.asarray(by_view).ravel(), strict=True)},
        np.degrees(np.arccos(np.clip(np.abs(normals[:, 2]), 0, 1))),
        np.degrees(np.arctan2(normals[:, 1], normals[:, 0])),
    )


def spread_problems(fit: CameraFit, coverage: float) -> list[str]:
    """What the views lack, and how to hold the board to mend it."""
    problems = []
    tilted = fit.tilt_deg >= TILTED_DEG
    if np.count_nonzero(tilted) < LEAST_TILTED:
        problems.append(
            f"{np.count_nonzero(tilted)} views are tilted by {TILTED_DEG:g}° or more, {LEAST_TILTED} are needed; "
            "tilt the board by 20 to 40° to all four sides"
        )
    elif _one_sided(fit.azimuth_deg[tilted]):
        problems.append("the board is always tilted about the same axis; tilt it about both")
    if coverage < LEAST_COVERAGE:
        problems.append(
            f"the board was seen in {coverage:.0%} of the picture, {LEAST_COVERAGE:.0%} are needed; hold it into "
            "every corner too"
        )
    return problems


def _one_sided(azimuth_deg: Array) -> bool:
    """Whether all tilts are about one axis, within 30°: opposite sides are the same axis."""
    doubled = np.exp(2j * np.radians(azimuth_deg))
    return bool(abs(doubled.mean()) > np.cos(np.radians(30)))


def _look(
    name: str, grey: NDArray[np.uint8] | None, board: Board, size_px: tuple[int, int] | None
) -> BoardView | Rejection:
    if grey is None:
        return Rejection(name, "is no picture that can be read; give PNG, JPEG, BMP or TIFF")
    if size_px is not None and (grey.shape[1], grey.shape[0]) != size_px:
        return Rejection(
            name,
            f"is {grey.shape[1]}×{grey.shape[0]} px, the others are {size_px[0]}×{size_px[1]}; a calibration holds "
            "for one size of picture",
        )
    return find_board(name, grey, board)


def _without(views: Sequence[BoardView], rejected: Sequence[Rejection]) -> list[BoardView]:
    names = {item.name for item in rejected}
    return [view for view in views if view.name not in names]


def _enough(views: Sequence[BoardView], least: int, rejected: Sequence[Rejection]) -> None:
    if len(views) < least:
        raise CalibrationError(_told(f"{len(views)} good views, {least} are needed", rejected))


def _outlier(fit: CameraFit) -> Rejection | None:
    """The worst view where it is far worse than the others: a bent board, a moved one, a wrong picture."""
    name, worst_px = max(fit.view_rms_px.items(), key=lambda item: item[1])
    usual_px = float(np.median(list(fit.view_rms_px.values())))
    if worst_px <= max(OUTLIER * usual_px, OUTLIER_PX):
        return None
    return Rejection(
        name,
        f"its corners are {worst_px:.2f} px off, those of the other views {usual_px:.2f} px; was the board bent or "
        "moved, is it another board?",
    )


def _coverage(views: Sequence[BoardView], size_px: tuple[int, int]) -> float:
    corners = np.concatenate([view.corners_px for view in views])
    counts: NDArray[Any] = np.histogram2d(
        corners[:, 0], corners[:, 1], bins=COVERAGE_CELLS, range=((0, size_px[0]), (0, size_px[1]))
    )[0]
    return float((counts > 0).mean())


def _told(what: str, rejected: Sequence[Rejection]) -> str:
    return "\n".join([what, *(f"  {item.name}: {item.reason}" for item in rejected)])
