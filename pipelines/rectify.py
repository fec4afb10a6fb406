"""A photograph of the part brought onto a mm grid of the seam, by markers whose places are known.

`ViewGeometry` is what a calibration of the view says, as plain values; `docs/calibration-vision.md` has how it is
measured. Coordinates of the seam: x along it from where the arc began, y across it, positive to the right of the
direction of travel seen from above, z into the plate; mm. Every picture is placed by the markers it shows, because a
camera on a robot never hangs quite the same; a camera that does (`steady`) places a picture whose markers are dirty.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.markers import VIEW_DICTIONARY, find_markers

__all__ = [
    "MISPLACED_MM",
    "Area",
    "Corners",
    "Placed",
    "ViewGeometry",
    "find_and_place",
    "fit_markers",
    "flattened",
    "marker_corners_mm",
    "place_view",
    "pose_of",
    "rectify",
]

Area = tuple[float, float, float, float]
"""Along from, along to, across from, across to; mm."""
Corners = Mapping[int, NDArray[np.float32]]
Array = NDArray[np.float64]

LEAST_SPREAD = 0.35
"""Two or more markers place a picture when they span this share of the layout along the seam."""
MISPLACED_MM = 0.5
"""A marker further from its place than this does not help to place the picture: it was moved or misread."""
LARGEST_OVERSAMPLING = 4


@dataclasses.dataclass(frozen=True, slots=True)
class ViewGeometry:
    """What is known of one view.

    `markers`: (id, along, across) of each marker's centre, mm, all upright (their top to the left of the travel).
    `marker_mm`: side of the black square. `above_mm`: how far the markers lie above the plate; needs the camera.
    `camera`: fx, fy, cx, cy, k1, k2, p1, p2 in px of the view's pictures, None where it was not calibrated.
    `steady`: 3 × 3 row by row from mm on the marker plane to the flat image (`Placed`), of a camera that stays put.
    `size_px`: width and height of the pictures that it holds for; None holds for any.
    """

    markers: tuple[tuple[int, float, float], ...]
    marker_mm: float
    dictionary: str = VIEW_DICTIONARY
    above_mm: float = 0.0
    camera: tuple[float, float, float, float, float, float, float, float] | None = None
    steady: tuple[float, ...] | None = None
    size_px: tuple[int, int] | None = None

    @property
    def extent(self) -> Area:
        """The rectangle around the markers' centres, as in `SeamFrame.views`."""
        along, across = [m[1] for m in self.markers], [m[2] for m in self.markers]
        return min(along), max(along), min(across), max(across)

    def moved(self, along_mm: float, across_mm: float) -> Self:
        """The same markers and camera beside a seam that lies elsewhere: everything shifted by that much."""
        steady = None
        if self.steady is not None:
            back = np.array([[1, 0, -along_mm], [0, 1, -across_mm], [0, 0, 1.0]])
            steady = tuple((np.reshape(self.steady, (3, 3)) @ back).ravel().tolist())
        markers = tuple((ident, x + along_mm, y + across_mm) for ident, x, y in self.markers)
        return dataclasses.replace(self, markers=markers, steady=steady)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Where a picture shows the seam.

    `onto` (3, 3): mm on the marker plane → the flat image, which is the picture itself without a calibrated camera,
    and ideal coordinates of it (undistorted, focal length 1) with one. `used`: markers that placed it, none where it
    was the steady camera. `residual_mm`: RMS of their corners against their places.
    """

    onto: Array
    camera: tuple[float, ...] | None
    used: tuple[int, ...]
    residual_mm: float

    def to_px(self, points_mm: NDArray[Any], above_mm: float = 0.0) -> Array:
        """Pixels `(n, 2)` of points `(n, 2)` that lie `above_mm` above the marker plane (below: negative)."""
        import cv2

        onto = self.onto if not above_mm else _raised(self.onto, above_mm)
        flat: Any = cv2.perspectiveTransform(np.asarray(points_mm, np.float64).reshape(-1, 1, 2), onto)
        return _distorted(flat.reshape(-1, 2), self.camera)

    def to_mm(self, points_px: NDArray[Any]) -> Array:
        """Places on the marker plane `(n, 2)`, mm, of pixels `(n, 2)`."""
        import cv2

        flat = flattened(points_px, self.camera)[:, None]
        found: Any = cv2.perspectiveTransform(flat, np.linalg.inv(self.onto))
        return np.asarray(found, np.float64).reshape(-1, 2)


def marker_corners_mm(geometry: ViewGeometry) -> dict[int, Array]:
    """Id → corners `(4, 2)` mm in the order in which `find_markers` gives them."""
    half = geometry.marker_mm / 2
    square = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    return {ident: square + np.array([along, across]) for ident, along, across in geometry.markers}


def place_view(found: Corners, geometry: ViewGeometry) -> Placed | None:
    """Where the picture with these markers shows the seam; None: too few are seen and the camera is not steady."""
    places = marker_corners_mm(geometry)
    names = sorted(found.keys() & places.keys())
    while _suffice(names, geometry):
        placed = fit_markers({name: found[name] for name in names}, geometry)
        off_mm = {n: float(np.abs(placed.to_mm(found[n]) - places[n]).max()) for n in names}
        worst = max(off_mm, key=lambda name: off_mm[name])
        if off_mm[worst] <= MISPLACED_MM:
            return placed
        names.remove(worst)
    if geometry.steady is None:
        return None
    return Placed(np.reshape(np.asarray(geometry.steady, np.float64), (3, 3)), geometry.camera, (), 0.0)


def rectify(
    image: NDArray[np.uint8], placed: Placed, area: Area, shape: tuple[int, int], above_mm: float = 0.0
) -> NDArray[np.uint8]:
    """The `area` of the plate as `shape` (across, along) cells, each the mean of the picture over it.

    `image` `(rows, columns[, 3])`; `above_mm`: how far the markers lie above the plate. Beyond the picture it is 0.
    """
    import cv2

    finer = _oversampling(placed, area, shape, above_mm)
    rows, columns = shape[0] * finer, shape[1] * finer
    x = area[0] + (np.arange(columns) + 0.5) / columns * (area[1] - area[0])
    y = area[2] + (np.arange(rows) + 0.5) / rows * (area[3] - area[2])
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    at = placed.to_px(grid, -above_mm).astype(np.float32).reshape(rows, columns, 2)
    seen = cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=[0, 0, 0])  # type: ignore[call-overload]
    if finer > 1:
        seen = cv2.resize(seen, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(seen, np.uint8)


def find_and_place(image: NDArray[np.uint8], geometry: ViewGeometry) -> tuple[Corners, Placed | None]:
    """The view's markers in a picture, and where it shows the seam; None too for a picture of another size."""
    if geometry.size_px not in (None, (image.shape[1], image.shape[0])):
        return {}, None
    found = find_markers(image, frozenset(m[0] for m in geometry.markers), geometry.dictionary)
    return found, place_view(found, geometry)


def flattened(points_px: NDArray[Any], camera: tuple[float, ...] | None) -> Array:
    """Pixels `(n, 2)` → flat coordinates: themselves without a camera, ideal ones with it."""
    import cv2

    points = np.asarray(points_px, np.float64).reshape(-1, 1, 2)
    if camera is None:
        return points[:, 0]
    matrix, distortion = _opencv(camera)
    until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-9)
    ideal: Any = cv2.undistortPoints(points, matrix, distortion, criteria=until)
    return np.asarray(ideal, np.float64).reshape(-1, 2)


def _distorted(flat: Array, camera: tuple[float, ...] | None) -> Array:
    import cv2

    if camera is None:
        return flat
    matrix, distortion = _opencv(camera)
    rays = np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
    seen: Any = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), matrix, distortion)[0]
    return np.asarray(seen, np.float64).reshape(-1, 2)


def _opencv(camera: tuple[float, ...]) -> tuple[Array, Array]:
    fx, fy, cx, cy, *distortion = camera
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.array(distortion)


def _suffice(names: list[int], geometry: ViewGeometry) -> bool:
    along = [m[1] for m in geometry.markers if m[0] in names]
    whole = geometry.extent[1] - geometry.extent[0]
    return len(along) >= 2 and max(along) - min(along) >= LEAST_SPREAD * whole


def fit_markers(found: Corners, geometry: ViewGeometry) -> Placed:
    """The place of a picture by all of these markers, whatever their residual."""
    import cv2

    names, places = sorted(found), marker_corners_mm(geometry)
    mm = np.concatenate([places[name] for name in names])
    flat = flattened(np.concatenate([found[name] for name in names]), geometry.camera)
    onto: Any = _posed(mm, flat) if geometry.camera is not None else cv2.findHomography(mm, flat)[0]
    placed = Placed(np.asarray(onto, np.float64), geometry.camera, tuple(names), 0.0)
    back = placed.to_mm(np.concatenate([found[name] for name in names]))
    return dataclasses.replace(placed, residual_mm=float(np.sqrt(((back - mm) ** 2).sum(1).mean())))


def _posed(mm: Array, ideal: Array) -> Array:
    """The homography of the best pose: six numbers instead of eight, so that two markers suffice well."""
    import cv2

    plane = np.concatenate([mm, np.zeros((len(mm), 1))], axis=1)
    eye, none = np.eye(3), np.zeros(4)
    _, turns, shifts, _ = cv2.solvePnPGeneric(plane, ideal, eye, none, flags=cv2.SOLVEPNP_IPPE)
    turn, shift = cv2.solvePnPRefineLM(plane, ideal, eye, none, turns[0], shifts[0])
    rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)
    return np.stack([rotation[:, 0], rotation[:, 1], np.asarray(shift, np.float64).ravel()], axis=1)


def pose_of(onto: Array) -> tuple[Array, Array]:
    """Rotation `(3, 3)` and translation `(3,)` mm of the marker plane before the camera, from its homography."""
    first, second, third = onto.T
    scale = 2.0 / (np.linalg.norm(first) + np.linalg.norm(second))
    scale = np.copysign(scale, third[2] * scale)
    rough = np.stack([first * scale, second * scale, np.cross(first, second) * scale**2], axis=1)
    left, _, right = np.linalg.svd(rough)
    return np.asarray(left @ right, np.float64), np.asarray(third * scale, np.float64)


def _raised(onto: Array, above_mm: float) -> Array:
    """The homography of the plane `above_mm` above the markers'; only where `onto` leads to ideal coordinates."""
    rotation, translation = pose_of(onto)
    rotated = np.stack([rotation[:, 0], rotation[:, 1], translation - above_mm * rotation[:, 2]], axis=1)
    return np.asarray(rotated, np.float64)


def _oversampling(placed: Placed, area: Area, shape: tuple[int, int], above_mm: float) -> int:
    """How many pixels of the picture lie in a cell, along or across, in the area's middle."""
    middle = np.array([(area[0] + area[1]) / 2, (area[2] + area[3]) / 2])
    cell = np.array([(area[1] - area[0]) / shape[1], (area[3] - area[2]) / shape[0]])
    at = placed.to_px(middle + np.array([[0, 0], [cell[0], 0], [0, cell[1]]]), -above_mm)
    px = max(float(np.linalg.norm(at[1] - at[0])), float(np.linalg.norm(at[2] - at[0])))
    return int(np.clip(round(px), 1, LARGEST_OVERSAMPLING))
