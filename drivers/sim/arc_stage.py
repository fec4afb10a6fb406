"""What the arc camera sees that does not change from frame to frame: light maps, nozzle, plate, fume, cover glass."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session

__all__ = ["CORE_BOX_MM", "CORE_GAPS_MM", "FIELD_MM", "Stage", "build_stage"]

FIELD_MM = 24.0
"""Width of the view."""
NOISE_COUNTS = 2.0
CORE_GAPS_MM = (0.7, 1.2, 1.8, 2.5, 3.2, 4.0, 5.0, 6.0)
CORE_BOX_MM = (5.0, 9.0, 2.0)
"""Half width, height above and depth below the arc root of the drawn arc column."""

Image = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """What does not change from frame to frame; light maps are twice the frame so that they can be shifted."""

    px_per_mm: float
    origin: tuple[int, int]
    falloff: Image
    cores: tuple[Image, ...]
    halo: Image
    nozzle: Image
    pool: Image
    plate: Image
    fume: Image
    noise: Image
    glass: Image


def build_stage(session: Session, seed: int, preset: ImagePreset) -> Stage:
    """Everything still of one seam's frames."""
    import cv2

    rows, cols = preset.arc_px
    scale = cols / FIELD_MM
    cx = int(cols * 0.56 + session.camera_shift_mm[0] * scale)
    cy = int(rows * 0.66 + session.camera_shift_mm[1] * 0.5 * scale)
    yy, xx = np.mgrid[-rows : 2 * rows, -cols : 2 * cols].astype(np.float32)
    yy, xx = (yy - cy) / scale, (xx - cx) / scale
    r2 = xx * xx + (yy * 1.5) ** 2
    falloff = 95.0 / (1 + r2 / 20.0) ** 1.3
    halo = 95.0 * np.exp(-np.sqrt(r2 + 0.3) / 2.1)
    grain = generator(seed, "camera", "plate").standard_normal((rows, cols * 4)).astype(np.float32)
    # Rolled plate: fine lines along the rolling direction, slower stains.
    plate = 1.0 + 0.25 * cv2.GaussianBlur(grain, (0, 0), 3.0, sigmaY=0.7) * 2.2
    plate += 0.9 * cv2.GaussianBlur(grain, (0, 0), 0.06 * rows)
    soft = generator(seed, "camera", "fume").standard_normal((2 * rows, 2 * cols)).astype(np.float32)
    fume = np.clip(cv2.GaussianBlur(soft, (0, 0), rows * 0.09) * rows * 0.30, 0, None)
    noise = generator(seed, "camera", "noise").standard_normal((2 * rows + 1, cols + 98)).astype(np.float32)
    return Stage(
        px_per_mm=scale,
        origin=(cx, cy),
        falloff=falloff,
        cores=tuple(_core(gap, scale) for gap in CORE_GAPS_MM),
        halo=halo,
        nozzle=_nozzle(rows, cols, cx, scale),
        pool=_pool_template(),
        plate=np.clip(plate, 0.3, 2),
        fume=fume,
        noise=noise * np.float32(NOISE_COUNTS) + np.float32(3.0),
        glass=_glass(session, rows, cols),
    )


def _nozzle(rows: int, cols: int, cx: int, scale: float) -> Image:
    """Multiplier: the gas nozzle hides what is behind it and keeps a faint rim of reflected light."""
    import cv2

    mask = np.ones((rows, cols), np.float32)
    half, low = int(6.5 * scale), int(1.9 * scale)
    cv2.ellipse(mask, (cx, low), (half, int(0.9 * scale)), 0, 0, 360, 2.2, -1, cv2.LINE_AA)
    cv2.rectangle(mask, (cx - half, 0), (cx + half, low), 0.25, -1)
    cv2.ellipse(mask, (cx, low), (int(half * 0.88), int(0.62 * scale)), 0, 0, 360, 0.30, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.05 * scale + 0.5), np.float32)


def _core(gap_mm: float, scale: float) -> Image:
    """The arc column of that length: a bell that widens from the wire to the pool, its foot at the arc root."""
    half, above, below = (int(v * scale) for v in CORE_BOX_MM)
    yy, xx = (np.mgrid[-above:below, -half:half] / scale).astype(np.float32)
    bell = 0.5 + (0.45 + 0.16 * gap_mm) * np.clip(1 + yy / (gap_mm + 0.6), 0, 1.2)
    down = np.where(yy > 0, (yy / 0.6) ** 2, (yy / (gap_mm + 0.5)) ** 6)
    return np.asarray(620.0 * np.exp(-((xx / bell) ** 2) - down), np.float32)


def _pool_template() -> Image:
    """Melt pool from the side, arc at its right end: bright rim, darker mirror, brighter near the arc."""
    yy, xx = np.mgrid[-1:1:48j, -1:1:160j].astype(np.float32)
    # A tear drop: blunt under the arc, pointed behind.
    width = np.sqrt(np.clip(1 - xx * xx, 0, None)) * (0.62 + 0.38 * xx)
    inside = np.clip((width - np.abs(yy)) * 9, 0, 1)
    rim = np.exp(-(((np.abs(yy) - width * 0.93) / 0.09) ** 2)) * (np.abs(xx) < 0.98)
    return np.asarray(inside * (0.45 + 0.35 * xx) + 0.55 * rim * (0.6 + 0.4 * xx), np.float32)


def _glass(session: Session, rows: int, cols: int) -> Image:
    """Spatter burnt onto the cover glass: dark blurred spots."""
    import cv2

    rng = np.random.default_rng(session.lens_seed)
    glass = np.ones((rows, cols), np.float32)
    for _ in range(session.lens_spots):
        centre = (int(rng.uniform(0, cols)), int(rng.uniform(0, rows)))
        cv2.circle(glass, centre, int(rng.uniform(0.008, 0.03) * cols), float(rng.uniform(0.5, 0.85)), -1)
    return np.asarray(cv2.GaussianBlur(glass, (0, 0), 0.006 * cols), np.float32)
