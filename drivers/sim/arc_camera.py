"""The arc camera: dark monochrome frames of wire, arc, pool and spatter, JPEG, at the preset's size and rate.

Light on every row is the arc power integrated over that row's own exposure (rolling shutter), so short circuits show
as bands, the brightness of a frame follows the energy the arc gave while it was exposed, and what repeats faster
than the frames shows at an aliased rate. `arc_stage.py` holds what stands still, `arc_scene.py` what moves, and
`arc_draw.py` draws; here light becomes counts: gain, bloom, noise, saturation, JPEG.
"""

import numpy as np
from numpy.typing import NDArray

from drivers.sim.arc import ARC_HZ, ArcTrace
from drivers.sim.arc_draw import bloom, draw_frame
from drivers.sim.arc_scene import Scene
from drivers.sim.arc_stage import build_stage
from drivers.sim.jpeg import filled
from drivers.sim.programs import Program
from drivers.sim.seam import ImagePreset
from drivers.sim.sessions import Session
from drivers.sim.variation import Latents

__all__ = ["EXPOSURE_MS", "GAIN_RANGE", "exposed_power", "frame_starts_s", "next_gain", "render_frames"]

BUFFER_BYTES = 16_384
EXPOSURE_S = 0.006
READOUT_S = 0.012
EXPOSURE_MS = 1e3 * (EXPOSURE_S + READOUT_S)
"""How long one frame collects light, first row to last; so late is it there, and stamped with when it opened."""
REFERENCE_W = 4500.0
WHITE = 255.0
GAIN_RANGE = (0.85, 1.15)
"""Auto-exposure works within these limits only: an arc camera that reached further would show nothing but noise."""
GAIN_TARGET = 60.0
GAIN_DARKEST = 20.0
GAIN_SPEED = 0.03

Array = NDArray[np.float64]


def frame_starts_s(count: int, fps: float, lead_s: float) -> Array:
    """When the first row of each frame opens, seconds after arc-on, shape (count,).

    A camera gives a frame away when its last row is read: frame k is there at k / `fps`, `EXPOSURE_MS` later.
    """
    return np.asarray(np.arange(count) / fps - lead_s - EXPOSURE_MS * 1e-3)


def exposed_power(trace: ArcTrace, starts_s: Array, rows: int) -> Array:
    """Mean power, W, of the burning arc that each row of each frame sees; shape (frames, rows).

    `starts_s` counts from arc-on. A short circuit gives no light: no arc burns, whatever heats its bridge.
    """
    power = np.append(trace.power_w * (trace.shorted == 0), 0.0)
    energy = np.concatenate([[0.0], np.cumsum(power)])
    begin = starts_s[:, np.newaxis] + np.linspace(0, READOUT_S, rows)

    def until(t_s: Array) -> Array:
        steps = np.clip(t_s * ARC_HZ, 0, len(power) - 1)
        whole = steps.astype(np.intp)
        return np.asarray(energy[whole] + (steps - whole) * power[whole])

    return (until(begin + EXPOSURE_S) - until(begin)) / (ARC_HZ * EXPOSURE_S)


def next_gain(gain: float, mean: float) -> float:
    """Auto-exposure: the gain of the next frame after one of that mean count; slow, and within `GAIN_RANGE`."""
    return float(np.clip(gain * (GAIN_TARGET / max(mean, GAIN_DARKEST)) ** GAIN_SPEED, *GAIN_RANGE))


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
    """One JPEG each 1/`arc_fps`, the first read out `lead_s` before arc-on."""
    import cv2

    rows, cols = preset.arc_px
    count = int((lead_s + state.arc_s + tail_s) * preset.arc_fps)
    starts = frame_starts_s(count, preset.arc_fps, lead_s)
    light = (exposed_power(trace, starts, rows) / REFERENCE_W).astype(np.float32)
    stage = build_stage(program, session, seed, preset)
    scene = Scene(program, state, trace, seed, starts, EXPOSURE_S + READOUT_S)
    options = [cv2.IMWRITE_JPEG_QUALITY, preset.jpeg_quality]
    gain, frames = 1.0, []
    for k in range(count):
        image = draw_frame(stage, scene, k, light[k])
        counts = gain * session.arc_gain
        bloom(image, WHITE / counts, stage.px_per_mm)
        top, left = (k * 37) % rows, (k * 53) % 97
        noise = stage.noise[top : top + rows, left : left + cols]
        # Gain, noise, saturation and quantisation in one pass.
        seen = cv2.addWeighted(image, counts, noise, 1.0, 0.0, dtype=cv2.CV_8U)
        gain = next_gain(gain, cv2.mean(seen)[0])
        frames.append(filled(cv2.imencode(".jpg", seen, options)[1].tobytes(), BUFFER_BYTES))
    return tuple(frames)
