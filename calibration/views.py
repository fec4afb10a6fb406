"""Where a result camera stands: its pose before the seam from pictures of coded markers whose places are known.

What comes out is the `ViewGeometry` with which `pipelines/rectify.py` brings every later picture of the view onto the
seam's mm, how well it does so, and how the camera keeps its place from picture to picture.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.board_views import MAX_BLUR_PX, Rejection
from calibration.files import CalibrationError
from calibration.sharpness import edge_blur_px
from pipelines.markers import find_markers
from pipelines.rectify import (
    MISPLACED_MM,
    Corners,
    Placed,
    ViewGeometry,
    fit_markers,
    flattened,
    marker_corners_mm,
    pose_of,
)

__all__ = ["LEAST_PX_PER_MM", "ViewPicture", "ViewResult", "calibrate_view"]

LEAST_PICTURES = 3
LEAST_STEADY = 5
STEADY_MM = 0.15
"""A camera whose pictures differ by less (σ, anywhere between the markers) stays put."""
LEAST_PX_PER_MM = 8.0
"""A crop of the bead needs so many, or pores and cracks are lost."""
SIZE_TOLERANCE = 0.06
"""A marker's side may differ so much from what the layout says: at 40 px a side it is known to 1 %."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ViewPicture:
    """One picture that is used: its markers and where it shows the seam."""

    name: str
    corners: Corners
    placed: Placed


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ViewResult:
    """What came of the pictures.

    `residual_mm`: RMS of all corners against the layout. `repeat_mm`: spread (σ) of a place between the markers from
    picture to picture, at its worst. `px_per_mm`: the smaller of along and across on the seam, smallest along it.
    `camera_mm`: where the camera stands, along, across and above the markers' plane; None without its intrinsics.
    """

    geometry: ViewGeometry
    size_px: tuple[int, int]
    pictures: tuple[ViewPicture, ...]
    rejected: tuple[Rejection, ...]
    residual_mm: float
    repeat_mm: float
    px_per_mm: float
    camera_mm: tuple[float, float, float] | None
    tilt_deg: float | None


def calibrate_view(
    pictures: Iterable[tuple[str, NDArray[np.uint8] | None]],
    layout: ViewGeometry,
    seam_mm: float,
    looked: Callable[[str, str | None], None] = lambda _name, _reason: None,
) -> ViewResult:
    """The view's geometry from grey or RGB pictures; `layout` has the camera's intrinsics where they are known.

    `seam_mm`: the seam's length; `looked` hears each picture's name and why it is refused. Raises CalibrationError
    when too few pictures can be used, or the layout is wrong.
    """
    if layout.above_mm and layout.camera is None:
        raise CalibrationError(
            f"markers {layout.above_mm:g} mm above the plate need the camera's own calibration; give --camera, or "
            "lay them onto the plate"
        )
    seen: dict[str, Corners] = {}
    rejected: list[Rejection] = []
    size_px: tuple[int, int] | None = None
    for name, image in pictures:
        found = _look(image, layout, size_px)
        if isinstance(found, str):
            rejected.append(Rejection(name, found))
        else:
            assert image is not None
            size_px = (image.shape[1], image.shape[0])
            seen[name] = found
            if layout.size_px not in (None, size_px):
                raise CalibrationError(
                    f"{name}: is {size_px[0]}×{size_px[1]} px, the camera was calibrated with pictures of "
                    f"{layout.size_px[0]}×{layout.size_px[1]}; calibrate it at the size at which it is used"
                )
        looked(name, found if isinstance(found, str) else None)
    if seen:
        _check_size(list(seen.values()), layout)
        _check_places(list(seen.values()), layout)
    used = [ViewPicture(name, corners, fit_markers(corners, layout)) for name, corners in seen.items()]
    rejected += _outliers(used)
    refused = {item.name for item in rejected}
    used = [picture for picture in used if picture.name not in refused]
    if len(used) < LEAST_PICTURES or size_px is None:
        why = [f"  {item.name}: {item.reason}" for item in rejected]
        raise CalibrationError("\n".join([f"{len(used)} pictures can be used, {LEAST_PICTURES} are needed", *why]))
    return _result(used, rejected, layout, size_px, seam_mm)


def _look(image: NDArray[np.uint8] | None, layout: ViewGeometry, size_px: tuple[int, int] | None) -> Corners | str:
    """Corners of all the layout's markers, or why the picture cannot be used."""
    import cv2

    if image is None:
        return "is no picture that can be read; give PNG, JPEG, BMP or TIFF"
    if size_px is not None and (image.shape[1], image.shape[0]) != size_px:
        return f"is {image.shape[1]}×{image.shape[0]} px, the others {size_px[0]}×{size_px[1]}"
    wanted = frozenset(ident for ident, _, _ in layout.markers)
    corners = find_markers(image, wanted, layout.dictionary)
    if len(corners) < len(wanted):
        mirrored = find_markers(np.ascontiguousarray(image[:, ::-1]), wanted, layout.dictionary)
        if len(mirrored) > len(corners):
            return "is mirrored; switch the camera's mirror image off, and print markers as they are"
        missing = ", ".join(str(ident) for ident in sorted(wanted - corners.keys()))
        return f"marker {missing} is not seen; free it from dirt and glare, and see that it is whole and in focus"
    grey: Any = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    blur_px = edge_blur_px(grey, _around(corners, grey.shape))
    if blur_px > MAX_BLUR_PX:
        return f"blurred: its markers' edges are {blur_px:.1f} px wide (σ), at most {MAX_BLUR_PX:g} px; focus it"
    return corners


def _check_size(seen: Sequence[Corners], layout: ViewGeometry) -> None:
    """Raises CalibrationError where the markers' squares do not fit their distances; needs four markers."""
    import cv2

    centres = {ident: (along, across) for ident, along, across in layout.markers}
    if len(centres) < 4:
        return
    there = np.array(list(centres.values()), np.float64)
    sides = []
    for corners in seen:
        flat = {ident: flattened(corners[ident], layout.camera) for ident in centres}
        onto, _ = cv2.findHomography(np.stack([v.mean(0) for v in flat.values()]), there)
        for marker in flat.values():
            mm = np.asarray(cv2.perspectiveTransform(marker[:, None], np.asarray(onto, np.float64)))[:, 0]
            sides.append(float(np.linalg.norm(np.roll(mm, -1, axis=0) - mm, axis=1).mean()))
    side_mm = float(np.median(sides))
    if abs(side_mm / layout.marker_mm - 1) > SIZE_TOLERANCE:
        raise CalibrationError(
            f"the markers measure {side_mm:.2f} mm a side by their distances, the layout says {layout.marker_mm:g}; "
            "measure the black square and the distances again"
        )


def _check_places(seen: Sequence[Corners], layout: ViewGeometry) -> None:
    """Raises CalibrationError naming the marker that stands elsewhere: the one without which the others fit best."""
    idents = [ident for ident, _, _ in layout.markers]
    if len(idents) < 3:
        return
    places = marker_corners_mm(layout)
    without: dict[int, list[float]] = {ident: [] for ident in idents}
    off: dict[int, list[Array]] = {ident: [] for ident in idents}
    for corners in seen:
        for ident in idents:
            placed = fit_markers({k: corners[k] for k in idents if k != ident}, layout)
            without[ident].append(placed.residual_mm)
            off[ident].append(placed.to_mm(corners[ident]).mean(0) - places[ident].mean(0))
    worst = min(idents, key=lambda ident: float(np.median(without[ident])))
    by = np.median(off[worst], axis=0)
    if np.linalg.norm(by) > MISPLACED_MM:
        raise CalibrationError(
            f"marker {worst} stands {by[0]:+.2f} mm along and {by[1]:+.2f} mm across from where the layout says, "
            "seen from the others; measure its place again"
        )


def _outliers(used: Sequence[ViewPicture]) -> list[Rejection]:
    """Pictures whose markers do not fit the layout that the others fit."""
    if not used:
        return []
    usual_mm = float(np.median([picture.placed.residual_mm for picture in used]))
    return [
        Rejection(
            picture.name,
            f"its markers are {picture.placed.residual_mm:.2f} mm off, those of other pictures {usual_mm:.2f} mm; "
            "was one moved?",
        )
        for picture in used
        if picture.placed.residual_mm > max(3 * usual_mm, MISPLACED_MM / 3)
    ]


def _result(
    used: list[ViewPicture], rejected: list[Rejection], layout: ViewGeometry, size_px: tuple[int, int], seam_mm: float
) -> ViewResult:
    idents = [ident for ident, _, _ in layout.markers]
    mean = {ident: np.mean([p.corners[ident] for p in used], axis=0).astype(np.float32) for ident in idents}
    middle = fit_markers(mean, layout)
    along, across = layout.extent[:2], layout.extent[2:]
    check = np.array([(x, y) for x in np.linspace(*along, 5) for y in np.linspace(*across, 3)])
    shown = np.stack([middle.to_mm(p.placed.to_px(check)) for p in used])
    repeat_mm = float(np.sqrt(shown.var(axis=0, ddof=1).sum(1)).max())
    residual_mm = float(np.sqrt(np.mean([p.placed.residual_mm**2 for p in used])))
    steady = len(used) >= LEAST_STEADY and repeat_mm < STEADY_MM
    onto = tuple(middle.onto.ravel().tolist()) if steady else None
    geometry = dataclasses.replace(layout, steady=onto, size_px=size_px)
    camera_mm, tilt_deg = (None, None) if layout.camera is None else _station(middle.onto)
    return ViewResult(
        geometry, size_px, tuple(used), tuple(rejected), residual_mm, repeat_mm,
        _px_per_mm(middle, seam_mm, layout.above_mm), camera_mm, tilt_deg,
    )  # fmt: skip


def _station(onto: Array) -> tuple[tuple[float, float, float], float]:
    """Where the camera stands (along, across, above the markers' plane; mm), its tilt from straight down."""
    rotation, translation = pose_of(onto)
    along, across, deep = (float(v) for v in -rotation.T @ translation)
    return (along, across, -deep), float(np.degrees(np.arccos(np.clip(rotation[2, 2], -1, 1))))


def _px_per_mm(placed: Placed, seam_mm: float, above_mm: float) -> float:
    x = np.linspace(0.0, seam_mm, 9)
    at, right, down = (
        placed.to_px(np.stack([x + dx, np.full_like(x, dy)], axis=1), -above_mm)
        for dx, dy in ((0, 0), (1, 0), (0, 1))
    )
    return float(min(np.linalg.norm(right - at, axis=1).min(), np.linalg.norm(down - at, axis=1).min()))


def _around(corners: Corners, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    import cv2

    mask = np.zeros(shape, np.uint8)
    for marker in corners.values():
        grown = marker.mean(0) + 1.15 * (marker - marker.mean(0))
        cv2.fillConvexPoly(mask, np.rint(grown).astype(np.int32), [1])
    return mask.astype(bool)
