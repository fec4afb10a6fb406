"""What spoils a seam's data between the sensors and edged: one row a corruption, applied to what was rendered.

The weld and its truth stay as they are, and so does every stream that a corruption does not name. Draws depend on the
seam's seed and the corruption's name alone: the levels of a corruption share them, and a defect those of its good
twin, as both share the cell's own sensor noise.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.randomness import generator
from drivers.sim.seam import RenderedSeam

__all__ = ["CORRUPTIONS", "CORRUPTIONS_VERSION", "Corruption", "check_corruption", "corrupted", "welder_spread"]

CORRUPTIONS_VERSION = "1"
"""Part of what a folder of corrupted seams says of itself; a change of what a corruption does makes it another."""
WAVEFORMS = 2
"""Of the welder's channels the first ones are current and voltage."""
SPREAD_GOODS = 4
"""Good seams of a program, each of its own session, over which `welder_spread` is taken."""
HOLE_MM = (3.0, 2.0)
"""A patch without return, along and across the seam: a shiny spot of the bead or plate."""
MARKER_MARGIN_MM = 1.5
"""The camera never hangs quite the same: markers lie this much off their nominal place at most."""
QUALITY = 95
"""Of photographs that are written anew: above the camera's own, so that the second writing adds little."""
BUFFER_BYTES = 65_536

Apply = Callable[[RenderedSeam, float, np.random.Generator], RenderedSeam]
Samples = NDArray[np.int16]


@dataclasses.dataclass(frozen=True, slots=True)
class Corruption:
    """One row: what it does, the levels that are measured and their unit. Level 0 is the seam as it was."""

    apply: Apply
    levels: tuple[float, ...]
    unit: str


def corrupted(rendered: RenderedSeam, name: str, level: float) -> RenderedSeam:
    """The seam with that corruption. Raises ValueError for an unknown one or a level below 0."""
    check_corruption(name, level)
    if level == 0:
        return rendered
    rng = generator(rendered.plan.seed, "corruption", name)
    return CORRUPTIONS[name].apply(rendered, level, rng)


def check_corruption(name: str, level: float) -> None:
    """Raise ValueError, naming those there are, for a corruption or a level that cannot be."""
    if name not in CORRUPTIONS:
        raise ValueError(f"there is no corruption {name!r}; known: {', '.join(CORRUPTIONS)}")
    row = CORRUPTIONS[name]
    highest = 1.0 if row.unit.startswith("share") else np.inf
    if not 0 <= level <= highest:
        raise ValueError(f"{name} of {level:g}; the level must lie in 0–{highest:g} ({row.unit})")


@functools.cache
def welder_spread(program: str) -> tuple[float, float]:
    """Standard deviation of a program's current (A) and voltage (V), all samples between arc-on and arc-off pooled.

    Over `SPREAD_GOODS` good seams of sessions of their own, drawn like the training's: the recordings of the
    training goods are not kept.
    """
    from drivers.sim.arc import WELDER_SCALE, sample_welder, simulate_arc
    from drivers.sim.programs import program_named
    from drivers.sim.sessions import session_named
    from drivers.sim.variation import draw_latents

    asked = program_named(program)
    waves = []
    for seed in range(SPREAD_GOODS):
        session = session_named(f"spread-{seed:02d}")
        state = draw_latents(asked, session, seed)
        trace = simulate_arc(asked, session, state, seed)
        # Without lead and tail: between seams there is nothing to spread.
        waves.append(sample_welder(asked, session, state, trace, seed, 0.0, 0.0)[:, :WAVEFORMS])
    current, voltage = (np.concatenate(waves) * WELDER_SCALE[:WAVEFORMS]).std(0).tolist()
    return current, voltage


def _sensor_noise(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """White noise on current and voltage while the arc burns; in the pauses it would only make the cut of the seam
    another one."""
    counts = np.array(welder_spread(seam.plan.program)) / seam.welder_scale[:WAVEFORMS]
    burns = slice(round(seam.lead_s * seam.welder_hz), round((seam.lead_s + seam.arc_s) * seam.welder_hz))
    welder = seam.welder.copy()
    clean = welder[burns, :WAVEFORMS]
    noisy = clean + level * counts * rng.standard_normal(clean.shape)
    welder[burns, :WAVEFORMS] = np.clip(np.rint(noisy), -32768, 32767)
    return dataclasses.replace(seam, welder=welder)


def _sensor_dropout(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """That share of the welder's samples, at random, repeats the one before it."""
    held = rng.random(len(seam.welder)) < level
    held[0] = False
    source = np.maximum.accumulate(np.where(held, 0, np.arange(len(held))))
    return dataclasses.replace(seam, welder=seam.welder[source])


def _time_shift(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """Sound and arc camera each come that much too early or too late against the welder.

    What leaves at one end comes in at the other, where neither end is the weld: lead and tail are longer.
    """
    early, late = (rng.choice([-1, 1]) * level / 1e3 for _ in range(2))
    frames = round(late * seam.arc_fps)
    order = np.roll(np.arange(len(seam.frames)), frames).tolist()
    audio = np.roll(seam.audio, round(early * seam.audio_hz), axis=0)
    return dataclasses.replace(seam, audio=audio, frames=tuple(seam.frames[k] for k in order))


def _photo_blur(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """Every photograph out of focus by a Gaussian of that many pixels."""
    import cv2

    views = {name: _redrawn(jpeg, lambda image: cv2.GaussianBlur(image, (0, 0), level)) for name, jpeg in
             seam.views.items()}  # fmt: skip
    return dataclasses.replace(seam, views=views)


def _scan_holes(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """Patches of `HOLE_MM` without return, at random places, until that share of the scan's points is gone."""
    from drivers.sim.profile import PROFILE_HALF_WIDTH_MM

    rows, points = seam.profile.shape
    along = max(1, round(HOLE_MM[0] / seam.profile_mm_per_row))
    across = max(1, round(HOLE_MM[1] / (2 * PROFILE_HALF_WIDTH_MM / (points - 1))))
    gone = np.zeros((rows, points), np.bool_)
    while gone.mean() < level:
        # A patch may begin before the scan's edge, so that its rim is as likely hit as its middle.
        row, point = int(rng.integers(1 - along, rows)), int(rng.integers(1 - across, points))
        gone[max(row, 0) : row + along, max(point, 0) : point + across] = True
    profile = np.where(gone, np.float32(np.nan), seam.profile).astype(np.float32)
    return dataclasses.replace(seam, profile=profile)


def _misregistration(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """The part lies that many pixels off in the photographs' markers, and as many points off in the scan's frame.

    Both ways along and across, by signs that are drawn for each picture.
    """
    px = round(level)
    views = {}
    for name, jpeg in seam.views.items():
        signs = rng.choice([-1, 1], 2)
        views[name] = _redrawn(
            jpeg, functools.partial(_moved, view=name, dx=int(signs[0]) * px, dy=int(signs[1]) * px)
        )
    signs = rng.choice([-1, 1], 2)
    profile = seam.profile
    for axis in range(2):
        place = np.arange(profile.shape[axis]) - int(signs[axis]) * px
        profile = np.take(profile, np.clip(place, 0, profile.shape[axis] - 1), axis)
    return dataclasses.replace(seam, views=views, profile=np.ascontiguousarray(profile))


def _moved(image: NDArray[np.uint8], view: str, dx: int, dy: int) -> NDArray[np.uint8]:
    """The picture shifted between the columns of its markers, which stay: the strip is cut out after them."""
    from drivers.sim.views import VIEWS

    rows, columns = np.arange(image.shape[0]) - dy, np.arange(image.shape[1]) - dx
    moved = image[np.clip(rows, 0, len(rows) - 1)][:, np.clip(columns, 0, len(columns) - 1)]
    station = VIEWS[view]
    tag = station.marker_mm / 2 + station.rim_mm + MARKER_MARGIN_MM * station.jitter
    x_mm = (np.arange(len(columns)) / len(columns) - 0.5) * station.field_mm
    between = np.abs(x_mm) < station.marker_at_mm[0] - tag
    out = image.copy()
    out[:, between] = moved[:, between]
    return out


def _muted_microphone(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """For that share of the time nothing but the last bit's noise: plain zeros would be noticed as a silent gap."""
    muted = _stretch(len(seam.audio), level, rng)
    audio = seam.audio.copy()
    audio[muted] = rng.integers(-1, 2, audio[muted].shape)
    return dataclasses.replace(seam, audio=audio)


def _dark_camera(seam: RenderedSeam, level: float, rng: np.random.Generator) -> RenderedSeam:
    """For that share of the time the arc camera's pictures are black."""
    from drivers.sim.transports import black_jpeg

    dark, black = _stretch(len(seam.frames), level, rng), black_jpeg(seam.frames[0])
    frames = [*seam.frames]
    frames[dark] = [black] * len(frames[dark])
    return dataclasses.replace(seam, frames=tuple(frames))


def _stretch(count: int, share: float, rng: np.random.Generator) -> slice:
    """One stretch of that share, anywhere."""
    length = round(share * count)
    first = int(rng.integers(count - length + 1))
    return slice(first, first + length)


def _redrawn(jpeg: bytes, change: Callable[[NDArray[np.uint8]], Any]) -> bytes:
    """The photograph after `change`, again as long as whole buffers."""
    import cv2

    from drivers.sim.jpeg import filled

    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{len(jpeg)} bytes beginning {jpeg[:4].hex()} are no image")
    drawn = change(np.asarray(image, np.uint8))
    return filled(bytes(cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()), BUFFER_BYTES)


CORRUPTIONS: Mapping[str, Corruption] = {
    "sensor_noise": Corruption(_sensor_noise, (0.1, 0.2, 0.3), "training spreads"),
    "sensor_dropout": Corruption(_sensor_dropout, (0.2, 0.5), "share held"),
    "time_shift": Corruption(_time_shift, (100.0, 400.0), "ms"),
    "photo_blur": Corruption(_photo_blur, (1.0, 2.0), "px"),
    "scan_holes": Corruption(_scan_holes, (0.1, 0.3), "share of points"),
    "misregistration": Corruption(_misregistration, (2.0, 4.0), "px"),
    "muted_microphone": Corruption(_muted_microphone, (0.3, 1.0), "share of time"),
    "dark_camera": Corruption(_dark_camera, (0.3, 1.0), "share of time"),
}
"""In the order of the page. The protocol asks for sensor noise of 0.3; the others are exploratory."""
