"""Draws one frame of the arc camera as linear light: the still `Stage` lit by the moving `Scene`.

Rows are lit as the rolling shutter saw them (`light`, one value a row); what glows of its own heat is not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc_scene import TRAIL_STEP_MM, Scene
from drivers.sim.arc_stage import CORE_BOX_MM, CORE_GAPS_MM, Stage

__all__ = ["bloom", "draw_frame"]

Image = NDArray[np.float32]
Point = tuple[int, int]

BLOOM_MM = 1.0
BLOOM_SHARE = 0.06
"""Part of the light beyond full well that spills over, and how far."""
SHIFT_MM = 4.5
"""The arc leaves its place by no more than this, within the stage's margin."""


def draw_frame(stage: Stage, scene: Scene, k: int, light: Image) -> Image:
    """Linear light of frame `k`, (rows, cols) counts before gain and noise; `light` (rows,) in reference powers."""
    import cv2

    rows, cols = stage.mask.shape
    scale, (cx, cy) = stage.px_per_mm, stage.origin
    across_mm = 0.35 * scene.lateral_mm[k] + 0.6 * scene.sink_mm[k]
    dx, dy = (int(scale * np.clip(mm, -SHIFT_MM, SHIFT_MM)) for mm in (scene.wander_mm[k], across_mm))
    root = (cx + dx, cy + dy)
    if light.any():
        shift = int(scene.position_mm[k] * scale) % (3 * cols)
        image = _window(stage, stage.falloff, dx, dy) * stage.plate[:, shift : shift + cols]
        _joint_and_bead(image, stage, scene, k, dy)
        drift, side = (k * 3) % rows, (k * 5) % cols
        smoke = stage.fume[rows - drift : 2 * rows - drift, side : side + cols] * np.float32(scene.fume[k])
        smoke += 1
        smoke *= _window(stage, stage.halo, dx, dy)
        image += smoke
        image *= (light * np.float32(scene.shade[k]))[:, np.newaxis]
    else:
        image = np.zeros((rows, cols), np.float32)
    _pool_into(cv2, image, stage, scene, k, root, light)
    _hole_into(cv2, image, stage, scene, k, root)
    tip = _wire_into(image, stage, scene, k, root)
    core = stage.cores[int(np.abs(np.array(CORE_GAPS_MM) - scene.gap_mm[k]).argmin())]
    corner = (root[0] - core.shape[1] // 2, root[1] - int(CORE_BOX_MM[1] * scale))
    _add_at(image, core, corner, light * np.float32(scene.shade[k]))
    _drop_into(cv2, image, stage, scene, k, tip, light)
    _grains_into(cv2, image, stage, scene, k, root)
    image *= stage.mask
    return image


def bloom(image: Image, full_well: float, px_per_mm: float) -> None:
    """Spill what is brighter than `full_well` over the surroundings, in place; nothing where no pixel is."""
    import cv2

    rows, cols = image.shape
    small = cv2.resize(image, (max(cols // 4, 1), max(rows // 4, 1)), interpolation=cv2.INTER_AREA)
    excess = cv2.threshold(small - np.float32(full_well), 0, 0, cv2.THRESH_TOZERO)[1]
    if not excess.any():
        return
    spilt = cv2.GaussianBlur(excess, (0, 0), BLOOM_MM * px_per_mm / 4) * np.float32(BLOOM_SHARE)
    image += cv2.resize(spilt, (cols, rows))


def _window(stage: Stage, big: Image, dx: int, dy: int) -> Image:
    """The frame-sized piece of a light map whose centre moved by (dx, dy) pixels."""
    rows, cols = stage.mask.shape
    top, left = stage.margin - dy, stage.margin - dx
    return big[top : top + rows, left : left + cols]


def _add_at(image: Image, patch: Image, corner: Point, row_light: Image) -> None:
    """Add a patch with its upper left corner at (x, y), each row lit as the shutter saw it; clipped to the frame."""
    x0, y0 = corner
    a, b = max(x0, 0), min(x0 + patch.shape[1], image.shape[1])
    c, d = max(y0, 0), min(y0 + patch.shape[0], image.shape[0])
    if a < b and c < d:
        image[c:d, a:b] += patch[c - y0 : d - y0, a - x0 : b - x0] * row_light[c:d, np.newaxis]


def _joint_and_bead(image: Image, stage: Stage, scene: Scene, k: int, dy: int) -> None:
    """Ahead of the arc the joint's dark line; behind it the fresh bead, brighter on its crown, dark where it fell."""
    scale, (cx, cy) = stage.px_per_mm, stage.origin
    thick = max(1, round(scale * (0.15 + 0.5 * float(scene.gap_joint_mm[k]))))
    y0 = cy + int(0.1 * scale)
    image[y0 : y0 + thick, cx + int(2.0 * scale) :] *= np.float32(0.25)
    position_mm = float(scene.position_mm[k])
    left = max(cx - int(max(position_mm * scale, 1.0)), 0)
    half = int(1.5 * scale)
    top, bottom = max(cy + dy - half // 2, 0), min(cy + dy + half, image.shape[0])
    crown = 1 - np.linspace(-1, 1, bottom - top, dtype=np.float32)[:, np.newaxis] ** 2
    behind_mm = (cx - np.arange(left, cx)) / scale
    ripple = 0.8 + 0.3 * np.sin((position_mm - behind_mm) * (2 * np.pi / 0.9))
    # Fading out under the arc, where the pool still hides it.
    ripple *= np.clip(behind_mm / 2.0, 0, 1)
    image[top:bottom, left:cx] *= 1 + crown * ripple.astype(np.float32)
    step = ((position_mm - behind_mm) / TRAIL_STEP_MM).astype(int)
    open_share = np.clip(scene.trail_sink_mm[np.clip(step, 0, len(scene.trail_sink_mm) - 1)] / 0.8, 0, 1)
    if open_share.any():
        image[top:bottom, left:cx] *= 1 - (0.95 * open_share).astype(np.float32) * np.minimum(1.6 * crown, 1)


def _pool_into(cv2: Any, image: Image, stage: Stage, scene: Scene, k: int, root: Point, light: Image) -> None:
    """The pool mirrors the arc and glows of its own heat."""
    glow = float(scene.glow[k])
    if glow < 0.01:
        return
    length = max(int(1.6 * float(scene.pool_mm[k]) * stage.px_per_mm), 4)
    high = max(int(0.30 * length), 3)
    patch = cv2.resize(stage.pool, (length, high))
    corner = (root[0] - int(0.86 * length), root[1] - high // 3)
    _add_at(image, patch, corner, np.float32(60 * glow) + light * np.float32(120 * min(glow, 1.0)))


def _hole_into(cv2: Any, image: Image, stage: Stage, scene: Scene, k: int, root: Point) -> None:
    """The pool falls through: a dark opening under and behind the arc."""
    sink, scale = float(scene.sink_mm[k]), stage.px_per_mm
    if sink < 0.05:
        return
    wide, high = (max(int(2 * mm * scale), 4) for mm in (0.8 + 1.3 * sink, 0.3 + 0.55 * sink))
    x0, y0 = root[0] - int(0.75 * wide), root[1] - int(0.35 * high)
    a, b = max(x0, 0), min(x0 + wide, image.shape[1])
    c, d = max(y0, 0), min(y0 + high, image.shape[0])
    if a < b and c < d:
        hole = cv2.resize(stage.hole, (wide, high))[c - y0 : d - y0, a - x0 : b - x0]
        image[c:d, a:b] *= 1 - np.float32(min(sink / 0.7, 0.95)) * hole


def _wire_into(image: Image, stage: Stage, scene: Scene, k: int, root: Point) -> Point:
    """The wire is a dark stem against the arc's light; returns where it ends."""
    scale = stage.px_per_mm
    tip_y = root[1] - int(float(scene.gap_mm[k]) * scale)
    half = max(int(0.6 * scale), 1)
    left, right = max(root[0] - half, 0), root[0] + half
    if tip_y > 0:
        edge = np.linspace(-1, 1, right - left, dtype=np.float32)
        image[:tip_y, left:right] *= 0.16 + 0.22 * edge * edge
    return root[0], max(tip_y, 0)


def _drop_into(cv2: Any, image: Image, stage: Stage, scene: Scene, k: int, tip: Point, light: Image) -> None:
    """The molten end of the wire hides the arc behind it; it glows, and the arc lights it from below."""
    radius, heat = float(scene.drop_mm[k]) * stage.px_per_mm, min(float(scene.glow[k]), 1.2)
    lit = 70.0 * min(float(light.mean()), 1.5)
    if heat < 0.01 and lit < 0.1:
        return
    wide, high = max(int(2 * radius), 2), max(int(2.2 * radius), 2)
    x0, y0 = tip[0] - wide // 2, tip[1] - int(0.9 * high)
    a, b = max(x0, 0), min(x0 + wide, image.shape[1])
    c, d = max(y0, 0), min(y0 + high, image.shape[0])
    if a < b and c < d:
        cover, below = (cv2.resize(part, (wide, high))[c - y0 : d - y0, a - x0 : b - x0] for part in stage.drop)
        box = image[c:d, a:b]
        box += cover * (np.float32(70 * heat) + np.float32(lit + 60 * heat) * below - box)


def _grains_into(cv2: Any, image: Image, stage: Stage, scene: Scene, k: int, root: Point) -> None:
    """Spatter draws a streak where it flies while exposed; hydrogen opens the pool in small bright puffs."""
    scale, count = stage.px_per_mm, int(scene.spatter[k])
    puff = scene.puff[k]
    burst = puff[0] < 0.4 * scene.hydrogen[k] and scene.glow[k] > 0.3
    if not count and not burst:
        return
    layer = np.zeros(image.shape, np.uint8)
    for u in scene.streaks[k, :count]:
        angle = np.pi * (0.06 + 0.88 * u[0])
        start, run = (0.8 + 7.0 * u[1]) * scale, (0.6 + 6.0 * u[2] ** 2) * scale
        c, s = np.cos(angle), -0.75 * np.sin(angle)
        # Thrown up and falling: bent by gravity; what flies fast leaves less light on each pixel.
        path = [
            (root[0] + c * d, root[1] + s * d + 0.012 * d * d / scale)
            for d in (start, start + 0.5 * run, start + run)
        ]
        bright = (110 + 145 * u[3]) / (1 + 0.12 * run / scale)
        thick = max(1, int((0.06 + 0.10 * u[4]) * scale))
        cv2.polylines(layer, [np.array(path, np.int32)], False, bright, thick, cv2.LINE_AA)
    if burst:
        centre = (int(root[0] - (1.2 + 2.5 * puff[1]) * scale), int(root[1] + 0.2 * scale))
        size = (max(int((0.25 + 0.3 * puff[2]) * scale), 1), max(int(0.2 * scale), 1))
        cv2.ellipse(layer, centre, size, 0, 0, 360, 60, -1, cv2.LINE_AA)
    cv2.accumulate(layer, image)
