"""What the arc camera sees that does not change from frame to frame: light maps, nozzle, plate, fume, cover glass.

`arc_draw.py` lays these over each other for every frame; lengths are mm at the torch, light is in counts of the
camera at an arc power of `arc_camera.REFERENCE_W`.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session

__all__ = [
    "CORE_BOX_MM",
    "CORE_GAPS_MM",
    "FIELD_MM",
    "SEAMS_A_SESSION",
    "Stage",
    "build_stage",
    "cover_glass",
    "glass_spots",
]

FIELD_MM = 24.0
"""Width of the view."""
MARGIN_MM = 5.0
"""How far the arc may wander from its place; light maps are larger than the frame by this on every side."""
BLACK_COUNTS = 3.0
NOISE_COUNTS = 2.0
CORE_GAPS_MM = (0.7, 1.2, 1.8, 2.5, 3.2, 4.0, 5.0, 6.0)
CORE_BOX_MM = (5.0, 9.0, 2.0)
"""Half width, height above and depth below the arc root of the drawn arc column."""
CORE_COUNTS_MM2 = 3600.0
"""Light of the arc column, counts times area: it follows the power, whatever the length of the arc."""
SEAMS_A_SESSION = 30.0
"""Spatter on the glass grows over so many seams, until the shift ends and the glass is changed."""
JOINT_SHADE = {"butt": (1.0, 1.0), "lap": (1.35, 0.85), "fillet": (0.65, 1.1)}
"""Brightness of the plate beyond and before the joint: an upper sheet near the arc, an upright web facing away."""

Image = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Still parts of one seam's frames. `falloff` and `halo` exceed the frame by `margin` px so that they can shift.

    `mask` is what nozzle and cover glass let through; `noise` holds the black level and exceeds the frame too.
    """

    px_per_mm: float
    origin: tuple[int, int]
    margin: int
    falloff: Image
    halo: Image
    cores: tuple[Image, ...]
    pool: Image
    drop: tuple[Image, Image]
    hole: Image
    plate: Image
    fume: Image
    noise: Image
    mask: Image


def build_stage(program: Program, session: Session, seed: int, preset: ImagePreset) -> Stage:
    """Everything still of one seam's frames."""
    import cv2

    rows, cols = preset.arc_px
    scale = cols / FIELD_MM
    cx = int(cols * 0.56 + session.camera_shift_mm[0] * scale)
    cy = int(rows * 0.66 + session.camera_shift_mm[1] * 0.5 * scale)
    falloff, halo = _light_maps(rows, cols, cx, cy)
    noise = generator(seed, "camera", "noise").standard_normal((2 * rows, cols + 97), np.float32)
    # Fume is soft: drawn at a quarter of the size.
    soft = generator(seed, "camera", "fume").standard_normal((rows // 2, cols // 2), np.float32)
    soft = cv2.GaussianBlur(soft, (0, 0), rows * 0.0225) * np.float32(rows * 0.075)
    return Stage(
        px_per_mm=scale,
        origin=(cx, cy),
        margin=round(MARGIN_MM * scale),
        falloff=falloff,
        halo=halo,
        cores=_cores(scale),
        pool=_pool_template(),
        drop=_drop_template(),
        hole=_hole_template(),
        plate=_plate(program, seed, rows, cols, cy),
        fume=np.asarray(cv2.resize(np.clip(soft, 0, None), (2 * cols, 2 * rows)), np.float32),
        noise=noise * np.float32(NOISE_COUNTS) + np.float32(BLACK_COUNTS),
        mask=_nozzle(rows, cols, cx, scale) * cover_glass(session, glass_spots(session, seed), rows, cols),
    )


@functools.lru_cache(maxsize=4)
def _light_maps(rows: int, cols: int, cx: int, cy: int) -> tuple[Image, Image]:
    """Light of the arc on the plate, and around the arc itself, per unit of power."""
    scale = cols / FIELD_MM
    m = round(MARGIN_MM * scale)
    yy, xx = np.mgrid[-m : rows + m, -m : cols + m].astype(np.float32)
    yy, xx = (yy - cy) / scale, (xx - cx) / scale
    r2 = xx * xx + (yy * 1.5) ** 2
    return 95.0 / (1 + r2 / 20.0) ** np.float32(1.3), 95.0 * np.exp(-np.sqrt(r2 + 0.3) / 2.1)


def _plate(program: Program, seed: int, rows: int, cols: int, cy: int) -> Image:
    """Rolled plate, four frames long: fine lines along the rolling direction, stains, the joint's two sides."""
    import cv2

    grain = generator(seed, "camera", "plate").standard_normal((rows, cols * 4), np.float32)
    plate = 1.0 + 0.55 * cv2.GaussianBlur(grain, (0, 0), 3.0, sigmaY=0.7)
    stains = cv2.resize(grain[::4, ::4], (cols // 2, rows // 8))
    stains = cv2.resize(cv2.GaussianBlur(stains, (0, 0), 2.0), (cols * 4, rows))
    far, near = JOINT_SHADE[program.joint]
    shade = np.where(np.arange(rows) < cy, far, near).astype(np.float32)
    return np.asarray(np.clip(plate + 0.3 * stains, 0.3, 2) * shade[:, np.newaxis], np.float32)


def _nozzle(rows: int, cols: int, cx: int, scale: float) -> Image:
    """Multiplier: the gas nozzle hides what is behind it and keeps a faint rim of reflected light."""
    import cv2

    mask = np.ones((rows, cols), np.float32)
    half, low = int(6.5 * scale), int(1.9 * scale)
    cv2.ellipse(mask, (cx, low), (half, int(0.9 * scale)), 0, 0, 360, 2.2, -1, cv2.LINE_AA)
    cv2.rectangle(mask, (cx - half, 0), (cx + half, low), 0.25, -1)
    cv2.ellipse(mask, (cx, low), (int(half * 0.88), int(0.62 * scale)), 0, 0, 360, 0.30, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.05 * scale + 0.5), np.float32)


@functools.lru_cache(maxsize=4)
def _cores(scale: float) -> tuple[Image, ...]:
    return tuple(_core(gap, scale) for gap in CORE_GAPS_MM)


def _core(gap_mm: float, scale: float) -> Image:
    """The arc column of that length: a bell that widens from the wire to the pool, its foot at the arc root."""
    half, above, below = (int(v * scale) for v in CORE_BOX_MM)
    yy, xx = (np.mgrid[-above:below, -half:half] / scale).astype(np.float32)
    bell = 0.5 + (0.45 + 0.16 * gap_mm) * np.clip(1 + yy / (gap_mm + 0.6), 0, 1.2)
    down = np.where(yy > 0, (yy / 0.6) ** 2, (yy / (gap_mm + 0.5)) ** 6)
    light = np.exp(-((xx / bell) ** 2) - down)
    return np.asarray(light * (CORE_COUNTS_MM2 * scale * scale / light.sum()), np.float32)


@functools.cache
def _pool_template() -> Image:
    """Melt pool from the side, arc at its right end: bright rim, darker mirror, brighter near the arc."""
    yy, xx = np.mgrid[-1:1:48j, -1:1:160j].astype(np.float32)
    # A tear drop: blunt under the arc, pointed behind.
    width = np.sqrt(np.clip(1 - xx * xx, 0, None)) * (0.62 + 0.38 * xx)
    inside = np.clip((width - np.abs(yy)) * 9, 0, 1)
    rim = np.exp(-(((np.abs(yy) - width * 0.93) / 0.09) ** 2)) * (np.abs(xx) < 0.98)
    return np.asarray(inside * (0.45 + 0.35 * xx) + 0.55 * rim * (0.6 + 0.4 * xx), np.float32)


@functools.cache
def _drop_template() -> tuple[Image, Image]:
    """The drop at the wire's end: what it covers, 0–1, and how much the arc below it lights its surface."""
    yy, xx = np.mgrid[-1:1:32j, -1:1:32j].astype(np.float32)
    cover = np.clip((1 - np.hypot(xx, yy)) * 7, 0, 1)
    return cover, np.clip(0.55 + 0.6 * yy - 0.35 * (xx * xx + yy * yy), 0, 1)


@functools.cache
def _hole_template() -> Image:
    """What a dark opening takes away, 0–1, with an edge of melt."""
    yy, xx = np.mgrid[-1:1:40j, -1:1:80j].astype(np.float32)
    return np.asarray(np.clip((1 - np.hypot(xx, yy)) * 4, 0, 1), np.float32)


def glass_spots(session: Session, seed: int) -> int:
    """How many spatter spots the cover glass carries at the seam, whose place in its session its seed draws."""
    place = generator(seed, "camera", "place").uniform(0.0, SEAMS_A_SESSION)
    return session.lens_spots + int(session.lens_growth * place)


def cover_glass(session: Session, spots: int, rows: int, cols: int) -> Image:
    """What the cover glass lets through, (rows, cols) of 0–1, after the first `spots` spots of the session.

    Spots come in one order per session and none goes away: more spots are never brighter anywhere.
    """
    rng = np.random.default_rng(session.lens_seed)
    glass = np.ones((rows, cols), np.float32)
    for x, y, size, depth in rng.uniform(size=(spots, 4)):
        radius = (0.005 + 0.022 * size**2) * cols
        # Out of focus: the edge is as soft as the spot is large.
        reach = int(1.6 * radius) + 2
        cx, cy = int(x * cols), int(y * rows)
        a, b, c, d = max(cx - reach, 0), min(cx + reach, cols), max(cy - reach, 0), min(cy + reach, rows)
        yy, xx = np.ogrid[c - cy : d - cy, a - cx : b - cx]
        glass[c:d, a:b] *= 1 - np.float32(0.25 + 0.45 * depth) * np.exp(-(((xx * xx + yy * yy) / radius**2) ** 2))
    return glass
