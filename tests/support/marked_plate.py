"""A plate with coded markers beside a seam, for the camera of `board_camera.py`: truth of views' calibrations."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.rectify import ViewGeometry
from tests.support.board_camera import Array, looking_at

PX_PER_MM = 14
FROM_MM = (-30.0, -20.0)
SIZE_MM = (100, 40)
SEAM_MM = 40.0
RIM_MM = 0.9

LAYOUT = ViewGeometry(((0, -12.0, -10.0), (1, 52.0, -10.0), (2, 52.0, 10.0), (3, -12.0, 10.0)), 6.0)


def plate(
    layout: ViewGeometry = LAYOUT, moved: dict[int, tuple[float, float]] | None = None, side_mm: float | None = None
) -> NDArray[np.uint8]:
    """Its texture, `PX_PER_MM`, top left corner at `FROM_MM`; some markers `moved` by mm, or of another side."""
    rng = np.random.default_rng(0)
    grain = rng.standard_normal((SIZE_MM[1] * PX_PER_MM, SIZE_MM[0] * PX_PER_MM), np.float32)
    brushed = cv2.GaussianBlur(grain, (0, 0), 12, sigmaY=2)
    picture = np.clip(115 + 18 * brushed / brushed.std(), 40, 180).astype(np.uint8)
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, layout.dictionary))
    side = round((side_mm or layout.marker_mm) * PX_PER_MM / 2) * 2
    rim = round(RIM_MM * PX_PER_MM)
    for ident, along, across in layout.markers:
        dx, dy = (moved or {}).get(ident, (0.0, 0.0))
        left = round((along + dx - FROM_MM[0]) * PX_PER_MM) - side // 2
        top = round((across + dy - FROM_MM[1]) * PX_PER_MM) - side // 2
        picture[top - rim : top + side + rim, left - rim : left + side + rim] = 235
        picture[top : top + side, left : left + side] = cv2.aruco.generateImageMarker(dictionary, ident, side)
    return picture


def stations(count: int, tilt_deg: float, wobble: float, seed: int = 0) -> list[tuple[Array, Array]]:
    """Poses of a camera over the seam's middle that hangs a little differently each time, `wobble` mm and degrees."""
    rng = np.random.default_rng(seed)
    middle = (SEAM_MM / 2 - FROM_MM[0], -FROM_MM[1])
    poses = []
    for _ in range(count):
        dx, dy, dz, da, db, dc = wobble * rng.standard_normal(6)
        poses.append(looking_at((middle[0] + dx, middle[1] + dy), 118.0 + dz, tilt_deg + da, db, 0.5 * dc))
    return poses


def camera_mm(pose: tuple[Array, Array]) -> Array:
    """Where the camera stands: along the seam, across it, above the plate."""
    rotation, translation = pose
    at = -rotation.T @ translation
    return np.array([at[0] + FROM_MM[0], at[1] + FROM_MM[1], -at[2]])


def seam_points(across_mm: tuple[float, ...] = (-4.0, 0.0, 4.0)) -> Array:
    """Points on the plate around the seam, `(n, 2)` mm."""
    return np.array([(x, y) for x in np.linspace(0, SEAM_MM, 5) for y in across_mm])


def true_px(points_mm: Array, pose: tuple[Array, Array], matrix: Array, distortion: tuple[float, ...]) -> Array:
    """Where the camera sees them, `(n, 2)` px."""
    places = np.concatenate([points_mm - np.array(FROM_MM), np.zeros((len(points_mm), 1))], axis=1)
    turn, _ = cv2.Rodrigues(pose[0])
    seen, _ = cv2.projectPoints(places, turn, pose[1], matrix, np.array(distortion))
    return np.asarray(seen, np.float64)[:, 0]
