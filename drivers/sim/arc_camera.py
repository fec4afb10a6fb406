"""The arc camera: dark monochrome frames of wire, arc, pool and spatter, JPEG, at the preset's size and rate.

Light on every row is the arc power integrated over that row's own exposure (rolling shutter), so short circuits show
as bands and the brightness of a frame follows the energy the arc gave while it was exposed.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ARC_FALL_V, ARC_HZ, ARC_OHM, ARC_V_PER_MM, ArcTrace
from drivers.sim.bead import quasi_static_current
from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["exposed_power", "render_frames"]

FIELD_MM = 24.0
"""Width of the view."""
EXPOSURE_S = 0.006
READOUT_S = 0.012
NOISE_COUNTS = 2.0
REFERENCE_W = 4500.0
CORE_GAPS_MM = (0.7, 1.2, 1.8, 2.5, 3.2, 4.0, 5.0, 6.0)
CORE_BOX_MM = (5.0, 9.0, 2.0)
"""Half width, height above and depth below the arc root of the drawn arc column."""

Image = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Stage:
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


def exposed_power(trace: ArcTrace, starts_s: Array, rows: int) -> Array:
    """Mean arc power, W, that each row of each frame sees; shape (frames, rows). `starts_s` counts from arc-on."""
    energy = np.concatenate(
        [[0.0], np.cumsum(trace.power_w[: len(trace.power_w) // 20 * 20].reshape(-1, 20).mean(1))]
    )
    rate = ARC_HZ / 20
    begin = starts_s[:, np.newaxis] + np.linspace(0, READOUT_S, rows)
    grid = np.arange(len(energy)) / rate
    return np.asarray(
        (np.interp(begin + EXPOSURE_S, grid, energy) - np.interp(begin, grid, energy)) / rate / EXPOSURE_S
    )


def render_frames(
    program: Program,
    session: Session,
    state: Latents,
    trace: ArcTrace,
    seed: int,
    lead_s: float,
    tail_s: float,
    preset: ImagePreset,
) -> tuple[bytes, ...]:
    """One JPEG each 1/`arc_fps`, the first `lead_s` before arc-on."""
    import cv2

    rows, _ = preset.arc_px
    count = int((lead_s + state.arc_s + tail_s) * preset.arc_fps)
    starts = np.arange(count) / preset.arc_fps - lead_s
    power = exposed_power(trace, starts, rows) / REFERENCE_W * session.arc_gain
    stage = _build_stage(session, program, seed, preset)
    scene = _Scene(program, state, trace, seed, starts)
    options = [cv2.IMWRITE_JPEG_QUALITY, preset.jpeg_quality]
    gain, frames = 1.0, []
    for k in range(count):
        image = _draw(cv2, stage, scene, k, power[k].astype(np.float32)) * np.float32(gain)
        # Auto-exposure follows slowly and within a narrow range.
        mean = float(image.mean())
        gain = float(np.clip(gain * (60.0 / max(mean, 12.0)) ** 0.03, 0.85, 1.15))
        image += stage.noise[(k * 37) % rows : (k * 37) % rows + rows, (k * 53) % 97 : (k * 53) % 97 + image.shape[1]]
        image *= stage.glass
        frames.append(cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), options)[1].tobytes())
    return tuple(frames)


def _column_v(trace: ArcTrace, window: slice) -> float:
    """Voltage over the arc's length while it burns within the window: what its length follows."""
    current = trace.current_a[window]
    burning = (trace.shorted[window] == 0) & (current > 20)
    if not burning.any():
        return 0.0
    return float((trace.power_w[window] / np.maximum(current, 1) - ARC_FALL_V - ARC_OHM * current)[burning].mean())


class _Scene:
    """Per-frame state: where tip, pool and spatter are while the frame is exposed."""

    def __init__(self, program: Program, state: Latents, trace: ArcTrace, seed: int, starts_s: Array) -> None:
        self.rng = generator(seed, "camera", "scene")
        at = np.clip((starts_s * LATENT_HZ).astype(int), 0, len(state.position_mm) - 1)
        window = [slice(max(int(s * ARC_HZ), 0), max(int((s + EXPOSURE_S) * ARC_HZ), 1)) for s in starts_s]
        column = np.array([_column_v(trace, w) for w in window])
        self.gap_mm = np.clip(column / ARC_V_PER_MM, 0.5, 6.5)
        self.position_mm = state.position_mm[at]
        self.lateral_mm = state.lateral_mm[at] + 0.4 * state.sidewall_mm[at]
        self.gap_joint_mm = state.gap_mm[at]
        self.sink_mm = state.sink_mm[at]
        self.shield = state.shielding()[at]
        current = quasi_static_current(state)
        heat = np.sqrt(current * state.source_v / np.maximum(state.travel_mm_s, 0.6 * program.travel_mm_s))[at]
        grown = np.clip(starts_s / 0.6, 0.0, 1.0) ** 0.5
        self.glow = np.where(starts_s < 0, 0.0, np.exp(-np.clip(starts_s - state.arc_s, 0, None) / 0.18)) * grown
        self.pool_mm = (2.2 + 0.17 * heat) * np.maximum(grown, 0.05)
        period = float(starts_s[1] - starts_s[0])
        ruptures = np.searchsorted(trace.ruptures_s, starts_s + period) - np.searchsorted(trace.ruptures_s, starts_s)
        mess = 0.35 + 2.2 * (1 - self.shield) + 1.5 * state.hydrogen[at]
        burning = (starts_s >= 0) & (starts_s < state.arc_s)
        base = {"short_circuit": 0.4, "globular": 2.0, "spray": 0.35}[program.transfer]
        rate = (0.9 * ruptures + base) * mess * burning
        # Uniforms drawn for every frame alike, so that a good twin keeps its own streaks.
        self.spatter = np.minimum((rate + self.rng.uniform(0, 1, len(starts_s))).astype(int), 14)
        self.streaks = self.rng.uniform(size=(len(starts_s), 14, 4))
        self.flicker = self.rng.standard_normal((len(starts_s), 2))


def _build_stage(session: Session, program: Program, seed: int, preset: ImagePreset) -> _Stage:
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
    return _Stage(
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


def _window(big: Image, shape: tuple[int, ...], dx: int, dy: int) -> Image:
    """The frame-sized piece of a light map whose centre moved by (dx, dy) pixels."""
    rows, cols = shape
    return big[rows - dy : 2 * rows - dy, cols - dx : 2 * cols - dx]


def _draw(cv2: Any, stage: _Stage, scene: _Scene, k: int, power: Image) -> Image:
    """Linear light of one frame, counts before noise; shape (rows, cols)."""
    rows, cols = stage.nozzle.shape
    scale, (cx, cy) = stage.px_per_mm, stage.origin
    dx = int(0.25 * scale * float(scene.flicker[k, 0]) * 0.5)
    dy = int(scale * (0.35 * float(scene.lateral_mm[k]) + 0.5 * float(scene.sink_mm[k])))
    light = power[:, np.newaxis]
    shift = int(float(scene.position_mm[k]) * scale) % (3 * cols)
    image = _window(stage.falloff, (rows, cols), dx, dy) * stage.plate[:, shift : shift + cols]
    _joint_and_bead(cv2, image, stage, scene, k, dy)
    image *= light + np.float32(0.06)
    _pool_into(cv2, image, stage, scene, k, (cx + dx, cy + dy), float(power.mean()))
    drift = (k * 3) % rows
    smoke = stage.fume[drift : drift + rows, (k * 5) % cols : (k * 5) % cols + cols]
    image += light * (
        _window(stage.halo, (rows, cols), dx, dy) * (1 + np.float32(0.9 - 0.3 * scene.shield[k]) * smoke)
    )
    _wire_into(cv2, image, stage, scene, k, (cx + dx, cy + dy))
    core = stage.cores[int(np.abs(np.array(CORE_GAPS_MM) - scene.gap_mm[k]).argmin())]
    _add_at(image, core, (cx + dx - core.shape[1] // 2, cy + dy - int(CORE_BOX_MM[1] * scale)), power)
    _streaks_into(cv2, image, stage, scene, k, (cx + dx, cy + dy))
    image *= stage.nozzle
    return image


def _add_at(image: Image, patch: Image, corner: tuple[int, int], row_light: Image) -> None:
    """Add a patch with its upper left corner at (x, y), each row lit as the shutter saw it; clipped to the frame."""
    x0, y0 = corner
    a, b = max(x0, 0), min(x0 + patch.shape[1], image.shape[1])
    c, d = max(y0, 0), min(y0 + patch.shape[0], image.shape[0])
    if a < b and c < d:
        image[c:d, a:b] += patch[c - y0 : d - y0, a - x0 : b - x0] * row_light[c:d, np.newaxis]


def _joint_and_bead(cv2: Any, image: Image, stage: _Stage, scene: _Scene, k: int, dy: int) -> None:
    """Ahead of the arc the joint's dark line; behind it the fresh bead, brighter on its crown."""
    scale, (cx, cy) = stage.px_per_mm, stage.origin
    thick = max(1, round(scale * (0.15 + 0.5 * float(scene.gap_joint_mm[k]))))
    y0 = cy + int(0.1 * scale)
    image[y0 : y0 + thick, cx + int(2.0 * scale) :] *= np.float32(0.25)
    travelled = int(max(float(scene.position_mm[k]) * scale, 1.0))
    left = max(cx - travelled, 0)
    half = int(1.5 * scale)
    top, bottom = max(cy + dy - half // 2, 0), min(cy + dy + half, image.shape[0])
    crown = 1 - np.linspace(-1, 1, bottom - top, dtype=np.float32)[:, np.newaxis] ** 2
    columns = np.arange(left, cx)
    ripple = 0.8 + 0.3 * np.sin((columns + float(scene.position_mm[k]) * scale) * (6.283 / (0.9 * scale)))
    # Fading out under the arc, where the pool still hides it.
    ripple *= np.clip((cx - columns) / (2.0 * scale), 0, 1)
    image[top:bottom, left:cx] *= 1 + crown * ripple.astype(np.float32)


def _pool_into(
    cv2: Any, image: Image, stage: _Stage, scene: _Scene, k: int, centre: tuple[int, int], power: float
) -> None:
    glow = float(scene.glow[k])
    if glow < 0.01:
        return
    length = max(int(1.6 * float(scene.pool_mm[k]) * stage.px_per_mm), 4)
    high = max(int(0.30 * length), 3)
    patch = cv2.resize(stage.pool, (length, high)) * np.float32(glow * (60.0 + 120.0 * power))
    x0, y0 = centre[0] - int(0.86 * length), centre[1] - high // 3
    rows, cols = image.shape
    a, b = max(x0, 0), min(x0 + length, cols)
    c, d = max(y0, 0), min(y0 + high, rows)
    if a < b and c < d:
        image[c:d, a:b] = image[c:d, a:b] * np.float32(0.7) + patch[c - y0 : d - y0, a - x0 : b - x0]


def _wire_into(cv2: Any, image: Image, stage: _Stage, scene: _Scene, k: int, root: tuple[int, int]) -> None:
    """The wire is a dark stem against the arc; its molten end glows."""
    scale = stage.px_per_mm
    tip_y = root[1] - int(float(scene.gap_mm[k]) * scale)
    half = max(int(0.6 * scale), 1)
    left, right = root[0] - half, root[0] + half
    if tip_y > 0:
        across = np.linspace(-1, 1, right - left, dtype=np.float32)
        image[:tip_y, left:right] *= 0.16 + 0.22 * across * across
    if float(scene.glow[k]) > 0.01:
        drop = (max(int(0.5 * scale), 1), max(int(0.55 * scale), 1))
        cv2.ellipse(image, (root[0], max(tip_y, 0)), drop, 0, 0, 360, 120.0, -1, cv2.LINE_AA)


def _streaks_into(cv2: Any, image: Image, stage: _Stage, scene: _Scene, k: int, root: tuple[int, int]) -> None:
    scale = stage.px_per_mm
    for u in scene.streaks[k, : scene.spatter[k]]:
        angle = np.pi * (0.08 + 0.84 * u[0])
        start, run = (0.8 + 9.0 * u[1]) * scale, (0.5 + 3.0 * u[2]) * scale
        c, s = np.cos(angle), -np.sin(angle) * 0.7
        p = (int(root[0] + c * start), int(root[1] + s * start))
        q = (int(root[0] + c * (start + run)), int(root[1] + s * (start + run) + 0.02 * run))
        cv2.line(image, p, q, float(90 + 190 * u[3]), max(1, int(0.09 * scale)), cv2.LINE_AA)
