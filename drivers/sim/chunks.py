"""A rendered seam as the chunks that the real drivers would give, without devices: what bulk simulation feeds in.

Same chunk sizes, JPEG bytes and arrival jitter as the real transports, and the PLC's messages between them; all in
arrival order, for an engine on a manual clock.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.sim.arc import WELDER_HZ, WELDER_SCALE
from drivers.sim.arc_camera import EXPOSURE_MS, READOUT_S
from drivers.sim.profile import PROFILE_POINTS
from drivers.sim.render import MOTION_HZ
from drivers.sim.scanner import (
    RUN_ON_S,
    SCAN_HZ,
    SCAN_S,
    SCAN_SETTLE_S,
    SCAN_VIEW,
    plate_rows,
    scan_rows,
)
from drivers.sim.seam import ImagePreset, RenderedSeam, announced
from drivers.sim.sound import AUDIO_HZ
from drivers.sim.timeline import GRID_NS, idle_like
from drivers.sim.transports import AUDIO_BLOCK, RESULT_FPS, WELDER_BLOCK, black_jpeg, quiet_of

__all__ = [
    "GRID_NS",
    "MOTION_OPTIONS",
    "READOUT_MS",
    "VIEW_S",
    "WELDER_OPTIONS",
    "image_chunks",
    "part_messages",
    "sampled_chunks",
    "seam_chunks",
    "seam_end_ns",
    "stream_specs",
    "view_messages",
    "with_idle",
]


MOTION_BLOCK = 1
MOTION_CHANNELS = ("tcp_speed", "tcp_position", "gas_flow")
MOTION_UNITS = ("mm/s", "mm", "L/min")

WELDER_OPTIONS: Mapping[str, Any] = {"scale": list(WELDER_SCALE)}
"""Beside the port, for `welder.serial` on the cell's pty."""
MOTION_OPTIONS: Mapping[str, Any] = {
    "kind": "motion",
    "rate_hz": MOTION_HZ,
    "channels": list(MOTION_CHANNELS),
    "units": list(MOTION_UNITS),
    "counter_column": True,
}
"""Beside the port, for `motion.csv_serial` on the cell's second pty."""

EXPECT_BEFORE_S = 0.3
VIEW_AFTER_ARC_S = 0.9
"""From arc-off, beyond the merge gap, to the first `view`."""
VIEW_S = 0.9
"""How long the result camera shows each view; `view` is sent a third into it."""
END_S = 0.2

USUAL_JITTER_S = {
    "welder": 0.0003,
    "mic": 0.0005,
    "arccam": 0.0006,
    "resultcam": 0.0006,
    "motion": 0.0005,
    "profiler": 0.0005,
}
RARE_JITTER_S = 0.005
LATENCY_MS = {"arccam": EXPOSURE_MS}
"""`streams.X.latency_ms` of the virtual cell: a frame comes once exposed and read out, stamped with its start."""
RARE_SHARE = 0.01
READOUT_MS = 1e3 * READOUT_S
"""Of EXPOSURE_MS, the rolling read-out of the arc camera."""


def stream_specs(preset: ImagePreset, *, profiler: bool = False) -> tuple[StreamSpec, ...]:
    """What the virtual cell's real drivers say of their streams: welder, mic, arccam, resultcam, motion, profiler."""
    scale = 1 / 32768.0
    welder = ("current", "voltage", "wire_feed_speed")
    laser = StreamSpec("profiler", "profile", SCAN_HZ, (PROFILE_POINTS,), "float32")
    return (
        StreamSpec(
            "welder", "welder", WELDER_HZ, (3,), "int16", welder, ("A", "V", "m/min"), WELDER_SCALE, (0.0,) * 3
        ),
        StreamSpec("mic", "audio", AUDIO_HZ, (1,), "int16", ("microphone_1",), ("full_scale",), (scale,)),
        StreamSpec(
            "arccam",
            "video",
            preset.arc_fps,
            (0, 0),
            "uint8",
            tick="arrival",
            exposure_ms=EXPOSURE_MS,
            readout_ms=READOUT_MS,
        ),
        StreamSpec("resultcam", "result", RESULT_FPS, (0, 0), "uint8", tick="arrival"),
        StreamSpec("motion", "motion", MOTION_HZ, (3,), "float32", MOTION_CHANNELS, MOTION_UNITS),
        *((laser,) if profiler else ()),
    )


def seam_chunks(
    rendered: RenderedSeam, start_ns: int, rng: np.random.Generator, *, stamped: bool = True, profiler: bool = False
) -> Iterator[tuple[int, Chunk | dict[str, Any]]]:
    """Chunks and control messages of one seam by arrival time, ns.

    Args:
        rendered: the seam; every stream of it begins at `start_ns`.
        start_ns: a multiple of `GRID_NS`; the next seam may start at `seam_end_ns`.
        rng: arrival jitter.
        stamped: with the clock that a settled ClockModel finds; else as drivers give them.
        profiler: with a scan of the bead after the views.

    All streams go on with idle signal until `seam_end_ns`. A chunk's `counter` and `seq` follow from its time, so
    they grow from seam to seam; time between seams is a jump of both. Raises ValueError for a start off the grid.
    """
    if start_ns % GRID_NS:
        raise ValueError(f"start_ns is {start_ns}; it must be a multiple of {GRID_NS} ns")
    events: list[tuple[int, Chunk | dict[str, Any]]] = list(_messages(rendered, start_ns, profiler))
    sampled = (
        ("welder", rendered.welder, rendered.welder_hz, WELDER_BLOCK),
        ("mic", rendered.audio, rendered.audio_hz, AUDIO_BLOCK),
        ("motion", rendered.motion, rendered.motion_hz, MOTION_BLOCK),
    )
    length_s = (seam_end_ns(rendered, start_ns, profiler=profiler) - start_ns) / 1e9
    for name, items, rate_hz, block in sampled:
        padded = with_idle(items, length_s, rate_hz, rendered, rng)
        events += sampled_chunks(name, padded, rate_hz, block, start_ns, rng, stamped=stamped)
    frames = rendered.frames + rendered.frames[:1] * (round(length_s * rendered.arc_fps) - len(rendered.frames))
    events += image_chunks("arccam", frames, rendered.arc_fps, start_ns, rng, stamped=stamped)
    images = _result_images(rendered, round(length_s * RESULT_FPS))
    events += image_chunks("resultcam", images, RESULT_FPS, start_ns, rng, stamped=stamped)
    if profiler:
        rows = _scanned(rendered, round(length_s * SCAN_HZ), rng)
        events += sampled_chunks("profiler", rows, SCAN_HZ, 1, start_ns, rng, stamped=stamped)
    # Stable: at equal times a message comes before the image that it asks for.
    return iter(sorted(events, key=lambda event: event[0]))


def seam_end_ns(rendered: RenderedSeam, start_ns: int, *, profiler: bool = False) -> int:
    """When the seam's last view or scan is over and its streams end: a multiple of `GRID_NS`."""
    end_s = _scan_begins_s(rendered) + profiler * (SCAN_SETTLE_S + SCAN_S) + END_S
    return start_ns + math.ceil(end_s * 1e9 / GRID_NS) * GRID_NS


def part_messages(rendered: RenderedSeam, start_ns: int, leaves_s: float) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the PLC says of the part: before the seam, and when the robot leaves it, `leaves_s` after the start."""
    part_id, seam_ref = f"part-{rendered.plan.index:05d}", _seam_ref(rendered)
    begin_ns = start_ns + round((rendered.lead_s - min(EXPECT_BEFORE_S, rendered.lead_s)) * 1e9)
    yield begin_ns, {"op": "part", "part_id": part_id, "seams": [seam_ref]}
    yield begin_ns, {"op": "expect", "part_id": part_id, "seam_ref": seam_ref, **announced(rendered)}
    # Once the last seam has its verdict the part is over anyway.
    yield start_ns + round(leaves_s * 1e9), {"op": "end_part", "part_id": part_id}


def view_messages(rendered: RenderedSeam, first_ns: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The PLC's triggers of the seam's views, the first at `first_ns`, then every `VIEW_S`."""
    for number, view in enumerate(rendered.views):
        yield first_ns + round(number * VIEW_S * 1e9), {"op": "view", "seam_ref": _seam_ref(rendered), "view": view}


def _messages(rendered: RenderedSeam, start_ns: int, profiler: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    shown_s = _views_begin_s(rendered)
    yield from part_messages(rendered, start_ns, shown_s)
    yield from view_messages(rendered, start_ns + round((shown_s + VIEW_S / 3) * 1e9))
    if profiler:
        at_ns = start_ns + round(_scan_begins_s(rendered) * 1e9)
        yield at_ns, {"op": "view", "seam_ref": _seam_ref(rendered), "view": SCAN_VIEW}


def _seam_ref(rendered: RenderedSeam) -> str:
    return f"seam-{rendered.plan.index:05d}"


def _views_begin_s(rendered: RenderedSeam) -> float:
    return rendered.lead_s + rendered.arc_s + VIEW_AFTER_ARC_S


def _scan_begins_s(rendered: RenderedSeam) -> float:
    return _views_begin_s(rendered) + len(rendered.views) * VIEW_S


def _scanned(rendered: RenderedSeam, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The profiler's `n` rows: bare plate, and the bead while the robot moves along it."""
    rows, bead = plate_rows(n, rng), scan_rows(rendered)
    from_ns = round(_scan_begins_s(rendered) * 1e9) + round(SCAN_SETTLE_S * 1e9)
    at = -(-from_ns // round(1e9 / SCAN_HZ)) + round(RUN_ON_S * SCAN_HZ)
    rows[at : at + len(bead)] = bead
    return rows


def _result_images(rendered: RenderedSeam, n: int) -> list[bytes]:
    """The result camera's `n` images at its own rate: dark until the views come, one after the other."""
    if not rendered.views:
        return []
    dark = black_jpeg(next(iter(rendered.views.values())))
    images = [dark] * math.ceil(_views_begin_s(rendered) * RESULT_FPS)
    for jpeg in rendered.views.values():
        images += [jpeg] * round(VIEW_S * RESULT_FPS)
    return images + [dark] * (n - len(images))


def with_idle(
    items: NDArray[Any], length_s: float, rate_hz: float, rendered: RenderedSeam, rng: np.random.Generator
) -> NDArray[Any]:
    """A stream of the seam, gone on with to `length_s` by what its sensor shows at rest."""
    idle = idle_like(quiet_of(items, rate_hz, rendered), max(0, round(length_s * rate_hz) - len(items)), rng)
    return np.concatenate([items, idle])


def sampled_chunks(
    name: str,
    items: NDArray[Any],
    rate_hz: float,
    block: int,
    start_ns: int,
    rng: np.random.Generator,
    *,
    stamped: bool = True,
) -> list[tuple[int, Chunk | dict[str, Any]]]:
    """A stream's chunks of `block` items by arrival; each comes when its last item has been taken."""
    first = round(start_ns * rate_hz / 1e9)
    starts = np.arange(0, len(items), block)
    ends = np.minimum(starts + block, len(items))
    due_ns = np.rint((first + ends) * (1e9 / rate_hz)).astype(np.int64)
    clock = ClockParams(0, 0, 1e9 / rate_hz) if stamped else None
    return [
        (at, Chunk(name, (first + start) // block, first + start, at, 0, items[start:end], clock))
        for at, start, end in zip(_arrivals(name, due_ns, rng).tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]


def image_chunks(
    name: str, images: Any, rate_hz: float, start_ns: int, rng: np.random.Generator, *, stamped: bool = True
) -> list[tuple[int, Chunk | dict[str, Any]]]:
    """A camera's images by arrival, the first on its own grid of times next to `start_ns`."""
    first = round(start_ns * rate_hz / 1e9)
    due_ns = np.rint((first + np.arange(len(images))) * (1e9 / rate_hz)).astype(np.int64)
    out: list[tuple[int, Chunk | dict[str, Any]]] = []
    for number, (at, jpeg) in enumerate(zip(_arrivals(name, due_ns, rng).tolist(), images, strict=True)):
        chunk = Chunk(name, first + number, first + number, at, 0, np.frombuffer(jpeg, np.uint8))
        # A camera has no counter: its images lie where they arrived, less what the configuration knows of the way.
        clock = ClockParams(chunk.counter, at - round(LATENCY_MS.get(name, 0.0) * 1e6), 1e9 / rate_hz)
        out.append((at, dataclasses.replace(chunk, clock=clock) if stamped else chunk))
    return out


def _arrivals(name: str, due_ns: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Never early, mostly a little late, now and then more; in order."""
    late_s = rng.exponential(USUAL_JITTER_S[name], len(due_ns))
    late_s += (rng.random(len(due_ns)) < RARE_SHARE) * rng.exponential(RARE_JITTER_S, len(due_ns))
    arrivals: NDArray[np.int64] = np.maximum.accumulate(due_ns + np.rint(late_s * 1e9).astype(np.int64))
    return arrivals
