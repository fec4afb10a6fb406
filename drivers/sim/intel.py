"""The profile `intel`: a rendered seam in the shape of the public Intel welding data, instead of the cell's own.

The welder and the gas are a log of 9 averages a second, sound has 16 kHz, the photographs come long after the arc,
and some seams have no video. It stands where `chunks` stands for the cell's own shape: between the rendered seam and
the engine, on a manual clock. What is resampled is what the cell's sensors gave, so their errors stay in.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from drivers.sim.arc_camera import EXPOSURE_MS
from drivers.sim.chunks import (
    MOTION_CHANNELS,
    MOTION_UNITS,
    VIEW_S,
    image_chunks,
    part_messages,
    sampled_chunks,
    view_messages,
    with_idle,
)
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset, RenderedSeam, SeamPlan
from drivers.sim.transports import RESULT_FPS

__all__ = [
    "LOG_HZ",
    "NO_VIDEO_SHARE",
    "PHOTOS_AFTER_S",
    "SOUND_HZ",
    "START_GRID_NS",
    "has_video",
    "intel_chunks",
    "intel_specs",
    "log_rows",
    "photos_after_s",
    "sound_at_16_khz",
]

LOG_HZ = 9.0
SOUND_HZ = 16_000.0
SOUND_BLOCK = 320
NO_VIDEO_SHARE = 0.2
"""Of the seams, good or not: whether the camera ran has nothing to do with the weld."""
PHOTOS_AFTER_S = (20.0, 45.0)
"""The first photograph comes so long after arc-off."""
TRIGGER_BEFORE_S = 0.3
START_GRID_NS = 1_000_000_000
"""Seams begin on whole seconds, on which rows of the log begin too."""
STREAMS_AFTER_ARC_S = 2.5
"""The log must go on until the arc is seen to have ended; then everything is off until the photographs."""
GAS = MOTION_CHANNELS.index("gas_flow")


def intel_specs(preset: ImagePreset) -> tuple[StreamSpec, ...]:
    """Welder and motion (the gas alone) as logs of `LOG_HZ` averages, mic at `SOUND_HZ`, arccam, resultcam."""
    welder = ("current", "voltage", "wire_feed_speed")
    gas, unit = MOTION_CHANNELS[GAS], MOTION_UNITS[GAS]
    scale = 1 / 32768.0
    return (
        StreamSpec("welder", "welder", LOG_HZ, (3,), "float32", welder, ("A", "V", "m/min")),
        StreamSpec("mic", "audio", SOUND_HZ, (1,), "int16", ("microphone_1",), ("full_scale",), (scale,)),
        StreamSpec("arccam", "video", preset.arc_fps, (0, 0), "uint8", tick="arrival", exposure_ms=EXPOSURE_MS),
        StreamSpec("resultcam", "result", RESULT_FPS, (0, 0), "uint8", tick="arrival"),
        StreamSpec("motion", "motion", LOG_HZ, (1,), "float32", (gas,), (unit,)),
    )


def log_rows(items: NDArray[Any], rate_hz: float) -> NDArray[np.float64]:
    """Means `(m, channels)` of `(n, channels)` over each 1 / `LOG_HZ` s: all items of a row count, once each.

    Item i belongs to row floor(i · LOG_HZ / rate_hz); a last row that is not complete is left out.
    """
    rows = math.floor(len(items) * LOG_HZ / rate_hz)
    edges = np.ceil(np.arange(rows + 1) * (rate_hz / LOG_HZ) - 1e-9).astype(np.int64)
    sums = np.add.reduceat(items[: edges[-1]].astype(np.float64), edges[:-1], axis=0)
    means: NDArray[np.float64] = sums / np.diff(edges)[:, np.newaxis]
    return means


def sound_at_16_khz(sound: NDArray[np.int16], rate_hz: float) -> NDArray[np.int16]:
    """`(n, 1)` at `rate_hz` → `(m, 1)` at `SOUND_HZ`, without what lies above 8 kHz."""
    from scipy.signal import resample_poly

    common = math.gcd(round(SOUND_HZ), round(rate_hz))
    resampled = resample_poly(sound.astype(np.float64), round(SOUND_HZ) // common, round(rate_hz) // common, axis=0)
    whole: NDArray[np.int16] = np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
    return whole


def has_video(plan: SeamPlan) -> bool:
    """Whether the seam's arc camera ran; drawn from its seed, so a good twin has it too or lacks it too."""
    return bool(generator(plan.seed, "intel", "video").random() >= NO_VIDEO_SHARE)


def photos_after_s(plan: SeamPlan) -> float:
    """When the seam's first photograph is asked for, s after arc-off."""
    return float(generator(plan.seed, "intel", "photos").uniform(*PHOTOS_AFTER_S))


def intel_chunks(
    rendered: RenderedSeam, start_ns: int, rng: np.random.Generator
) -> Iterator[tuple[int, Chunk | dict[str, Any]]]:
    """Stamped chunks and control messages of one seam by arrival time, ns, as `chunks.seam_chunks` gives them.

    Raises ValueError for a `start_ns` that is no multiple of `START_GRID_NS`.
    """
    if start_ns % START_GRID_NS:
        raise ValueError(f"start_ns is {start_ns}; it must be a multiple of {START_GRID_NS} ns")
    arc_off_s = rendered.lead_s + rendered.arc_s
    length_s = arc_off_s + STREAMS_AFTER_ARC_S
    scale = np.asarray(rendered.welder_scale)
    welder = log_rows(with_idle(rendered.welder, length_s, rendered.welder_hz, rendered, rng), rendered.welder_hz)
    motion = log_rows(with_idle(rendered.motion, length_s, rendered.motion_hz, rendered, rng), rendered.motion_hz)
    sound = sound_at_16_khz(with_idle(rendered.audio, length_s, rendered.audio_hz, rendered, rng), rendered.audio_hz)
    events: list[tuple[int, Chunk | dict[str, Any]]] = list(part_messages(rendered, start_ns, length_s))
    events += sampled_chunks("welder", (welder * scale).astype(np.float32), LOG_HZ, 1, start_ns, rng)
    events += sampled_chunks("motion", motion[:, [GAS]].astype(np.float32), LOG_HZ, 1, start_ns, rng)
    events += sampled_chunks("mic", sound, SOUND_HZ, SOUND_BLOCK, start_ns, rng)
    if has_video(rendered.plan):
        missing = round(length_s * rendered.arc_fps) - len(rendered.frames)
        frames = rendered.frames + rendered.frames[:1] * missing
        events += image_chunks("arccam", frames, rendered.arc_fps, start_ns, rng)
    events += _photos(rendered, start_ns + round((arc_off_s + photos_after_s(rendered.plan)) * 1e9), rng)
    # Stable: at equal times a message comes before the image that it asks for.
    return iter(sorted(events, key=lambda event: event[0]))


def _photos(
    rendered: RenderedSeam, first_ns: int, rng: np.random.Generator
) -> list[tuple[int, Chunk | dict[str, Any]]]:
    """The PLC asks for each photograph, and it comes; the camera gives nothing else."""
    events: list[tuple[int, Chunk | dict[str, Any]]] = list(view_messages(rendered, first_ns))
    for number, jpeg in enumerate(rendered.views.values()):
        taken_ns = first_ns + round((number * VIEW_S + TRIGGER_BEFORE_S) * 1e9)
        events += image_chunks("resultcam", (jpeg,), RESULT_FPS, taken_ns, rng)
    return events
