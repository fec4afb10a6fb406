"""A pinhole camera with known intrinsics that photographs flat things at known poses: the truth of vision tests.

Rays are traced from every pixel to the plane, at twice the resolution, then averaged, blurred and made noisy. Poses
are (rotation 3 × 3, translation mm) from the plane's mm to the camera's.
"""

import dataclasses
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
OVERSAMPLING = 2


@dataclasses.dataclass(frozen=True)
class TrueCamera:
    """`distortion`: k1, k2, p1, p2."""

    columns: int = 800
    rows: int = 600
    fx: float = 910.0
    fy: float = 905.0
    cx: float = 413.0
    cy: float = 288.0
    distortion: tuple[float, float, float, float] = (-0.21, 0.07, 0.0006, -0.0009)

    @property
    def matrix(self) -> Array:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @functools.cached_property
    def rays(self) -> Array:
        """Directions `(rows · 2, columns · 2, 2)` through sub-pixels, undistorted."""
        n = OVERSAMPLING
        u = (np.arange(self.columns * n) + 0.5) / n - 0.5
        v = (np.arange(self.rows * n) + 0.5) / n - 0.5
        at = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 1, 2)
        until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-7)
        rays = cv2.undistortPoints(at, self.matrix, np.array(self.distortion), criteria=until)
        return np.asarray(rays).reshape(len(v), len(u), 2)


def looking_at(
    middle_mm: tuple[float, float], distance_mm: float, tilt_deg: float, azimuth_deg: float, turn_deg: float = 0.0
) -> tuple[Array, Array]:
    """A pose that brings `middle_mm` of the plane onto the optical axis, the plane tilted about an axis within it."""
    azimuth = np.deg2rad(azimuth_deg)
    axis = np.deg2rad(tilt_deg) * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    turn, tilt = cv2.Rodrigues(np.array([0, 0, np.deg2rad(turn_deg)]))[0], cv2.Rodrigues(axis)[0]
    rotation = np.asarray(tilt @ turn, np.float64)
    return rotation, np.array([0, 0, distance_mm]) - rotation @ np.array([*middle_mm, 0.0])


def shifted(pose: tuple[Array, Array], by_mm: tuple[float, float]) -> tuple[Array, Array]:
    """The same pose moved sideways in the picture."""
    return pose[0], pose[1] + np.array([*by_mm, 0.0])


def photograph(
    camera: TrueCamera,
    texture: NDArray[np.uint8],
    mm_per_px: float,
    pose: tuple[Array, Array],
    seed: int,
    *,
    blur_px: float = 0.6,
    noise: float = 2.0,
    ground: float = 110.0,
) -> NDArray[np.uint8]:
    """Grey picture `(rows, columns)` of a texture whose top left corner is the plane's (0, 0) mm."""
    rotation, translation = pose
    # A point of the plane is on the ray where R⁻¹ (s · ray − t) has z = 0.
    directions = np.concatenate([camera.rays, np.ones((*camera.rays.shape[:2], 1))], axis=-1) @ rotation
    origin = -rotation.T @ translation
    far = -origin[2] / directions[..., 2]
    at = (origin[:2] + far[..., None] * directions[..., :2]) / mm_per_px - 0.5
    # Texture finer than the sub-pixels would alias.
    shrink = camera.fx * OVERSAMPLING / abs(translation[2]) * mm_per_px
    smooth = cv2.GaussianBlur(texture, (0, 0), max(0.4 / shrink, 0.2)).astype(np.float32)
    lit = 20.0 + 0.8 * smooth
    seen = cv2.remap(
        lit,
        at.astype(np.float32),
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=[ground],
    )
    picture = cv2.resize(seen, (camera.columns, camera.rows), interpolation=cv2.INTER_AREA)
    picture = cv2.GaussianBlur(picture, (0, 0), blur_px)
    rng = np.random.default_rng(seed)
    return np.clip(picture + noise * rng.standard_normal(picture.shape), 0, 255).astype(np.uint8)
