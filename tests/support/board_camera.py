"""A pinhole camera with known intrinsics that photographs flat things at known poses: the truth of vision tests.

Rays are traced from every pixel to the plane, whose texture was smoothed to the pixel's size; then comes blur and
noise. Poses are (rotation 3 × 3, translation mm) from the plane's mm to the camera's.
"""

import dataclasses
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PIXEL_SIGMA = 0.4
"""Of a Gaussian that smooths about as much as the mean over a pixel."""


@dataclasses.dataclass(frozen=True)
class TrueCamera:
    """`distortion`: k1, k2, p1, p2."""

    columns: int = 640
    rows: int = 480
    fx: float = 730.0
    fy: float = 726.0
    cx: float = 331.0
    cy: float = 229.0
    distortion: tuple[float, float, float, float] = (-0.21, 0.07, 0.0006, -0.0009)

    @property
    def matrix(self) -> Array:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @functools.cached_property
    def rays(self) -> NDArray[np.float32]:
        """Directions `(rows, columns, 3)` through the pixels, undistorted."""
        at = np.stack(np.meshgrid(np.arange(self.columns), np.arange(self.rows)), axis=-1).reshape(-1, 1, 2)
        until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-7)
        rays = cv2.undistortPoints(at.astype(np.float64), self.matrix, np.array(self.distortion), criteria=until)
        ahead = np.concatenate([np.asarray(rays)[:, 0], np.ones((len(at), 1))], axis=1)
        return ahead.reshape(self.rows, self.columns, 3).astype(np.float32)


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
    directions = camera.rays @ rotation.astype(np.float32)
    origin = (-rotation.T @ translation).astype(np.float32)
    far = -origin[2] / directions[..., 2]
    at = (origin[:2] + far[..., None] * directions[..., :2]) / np.float32(mm_per_px) - np.float32(0.5)
    # A pixel averages over its own size, and texture finer than it would alias.
    pixel = float(abs(translation[2])) / camera.fx / mm_per_px
    smooth = cv2.GaussianBlur(texture, (0, 0), max(PIXEL_SIGMA * pixel, 0.2)).astype(np.float32)
    picture = cv2.remap(20.0 + 0.8 * smooth, at, None, cv2.INTER_LINEAR, borderValue=[ground])
    picture = cv2.GaussianBlur(picture, (0, 0), blur_px)
    rng = np.random.default_rng(seed)
    return np.clip(picture + noise * rng.standard_normal(picture.shape, np.float32), 0, 255).astype(np.uint8)
