"""The arc camera: dark monochrome frames of wire, arc, pool and spatter, JPEG, at the preset's size and rate.

Light on every row is the arc power integrated over that row's own exposure (rolling shutter), so short circuits show
as bands and the brightness of a frame follows the energy the arc gave while it was exposed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ARC_FALL_V, ARC_HZ, ARC_OHM, ARC_V_PER_MM, ArcTrace
from drivers.sim.arc_stage import CORE_BOX_MM, CORE_GAPS_MM, Stage, build_stage
from drivers.sim.bead import quasi_static_current
from drivers.sim.programs import Program
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["EXPOSURE_MS", "exposed_power", "render_frames"]

EXPOSURE_S = 0.006
READOUT_S = 0.012
EXPOSURE_MS = 1e3 * (EXPOSURE_S + READOUT_S)
"""How long one frame collects light, first row to last."""
REFERENCE_W = 4500.0

Image = NDArray[np.float32]
Array = NDArray[np.float64]


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
    stage = build_stage(session, seed, preset)
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


def _window(big: Image, shape: tuple[int, ...], dx: int, dy: int) -> Image:
    """The frame-sized piece of a light map whose centre moved by (dx, dy) pixels."""
    rows, cols = shape
    return big[rows - dy : 2 * rows - dy, cols - dx : 2 * cols - dx]


def _draw(cv2: Any, stage: Stage, scene: _Scene, k: int, power: Image) -> Image:
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


def _joint_and_bead(cv2: Any, image: Image, stage: Stage, scene: _Scene, k: int, dy: int) -> None:
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
    cv2: Any, image: Image, stage: Stage, scene: _Scene, k: int, centre: tuple[int, int], power: float
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
        image[c:d, a:b] += patch[c - y0 : d - y0, a - x0 : b - x0]


def _wire_into(cv2: Any, image: Image, stage: Stage, scene: _Scene, k: int, root: tuple[int, int]) -> None:
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


def _streaks_into(cv2: Any, image: Image, stage: Stage, scene: _Scene, k: int, root: tuple[int, int]) -> None:
    scale = stage.px_per_mm
    for u in scene.streaks[k, : scene.spatter[k]]:
        angle = np.pi * (0.08 + 0.84 * u[0])
        start, run = (0.8 + 9.0 * u[1]) * scale, (0.5 + 3.0 * u[2]) * scale
        c, s = np.cos(angle), -np.sin(angle) * 0.7
        p = (int(root[0] + c * start), int(root[1] + s * start))
        q = (int(root[0] + c * (start + run)), int(root[1] + s * (start + run) + 0.02 * run))
        cv2.line(image, p, q, float(90 + 190 * u[3]), max(1, int(0.09 * scale)), cv2.LINE_AA)
