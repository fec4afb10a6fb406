"""When a stream saw the arc being struck: its own onset against the current's gives the sync residual.

The strike shows in current, sound and light at once. Sound: the split of the samples around arc-on that best explains
them as two Gaussians of different variance (maximum likelihood); unlike a threshold on the energy it needs no level
and is sharp to a few samples, and the hiss of the gas before the arc is simply the quieter half. Light: brightness
of the frames near the strike, decoded at an eighth of their size. A first lit frame of partial brightness tells by
its share when in its exposure the arc was struck; otherwise it was struck between the end of the last dark exposure
and the first bright one, and their midpoint is right to half a frame.

Light is held against the end of the first short circuit, since a wire that only touches does not shine.

Where the arc goes out again at once and is struck anew, only what lies before its end is looked at, so that the
second strike is not taken for the first; an arc too short for that shows no strike, and the stream keeps its latency
trend.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec

__all__ = ["SEARCH_NS", "audio_residual_ms", "ignition_ns", "strike_residual_ms", "video_residual_ms"]

SEARCH_NS = {"audio": 250_000_000, "video": 300_000_000, "welder": 100_000_000}
"""How far from the current's arc-on each kind of stream is searched, ns."""

NEVER_NS = 2**62
TOUCH_NS, STEADY_NS = 30_000_000, 500_000
"""What burns for half a ms on end within thirty is an arc that shines; shorter is the touch bouncing."""
MIN_ARC_NS = 50_000_000
"""A failed start that is over sooner shows neither two frames nor enough sound."""
MIN_VARIANCE_RATIO = 4.0
MIN_SIDE_S = 0.02
MIN_BRIGHTNESS_STEP = 8.0
"""Gray levels of 255; less is no arc but the room's lights."""
LIT, FULLY_LIT = 0.04, 0.75
"""Share of the arc's brightness above which a frame has seen some of it; of the dimmest later frame's: all of it."""


def strike_residual_ms(
    spec: StreamSpec, chunks: Sequence[Chunk], arc_on_ns: int, arc_off_ns: int = NEVER_NS
) -> float | None:
    """This stream's strike minus the current's, ms; None where none is seen or the kind shows none."""
    if not chunks or arc_off_ns - arc_on_ns < MIN_ARC_NS:
        return None
    if spec.kind == "audio":
        return audio_residual_ms(chunks, arc_on_ns, arc_off_ns)
    if spec.kind == "video":
        return video_residual_ms(chunks, arc_on_ns, spec.exposure_ms, spec.readout_ms, arc_off_ns)
    return None


def audio_residual_ms(chunks: Sequence[Chunk], arc_on_ns: int, arc_off_ns: int = NEVER_NS) -> float | None:
    """Onset of the loud part around `arc_on_ns`, ms after it; None where loudness does not rise fourfold in power."""
    samples = np.concatenate([chunk.data[:, 0] for chunk in chunks]).astype(np.float64)
    times = np.concatenate([chunk.times_ns() for chunk in chunks])
    inside = (np.abs(times - arc_on_ns) <= SEARCH_NS["audio"]) & (times < arc_off_ns)
    samples, times = samples[inside], times[inside]
    at = _variance_split(samples, round(MIN_SIDE_S * 1e9 / chunks[0].dt_ns))
    return None if at is None else (int(times[at]) - arc_on_ns) / 1e6


def _variance_split(samples: NDArray[np.float64], side: int) -> int | None:
    """Index of the first sample of the louder half; at least `side` samples stay on either side."""
    n = len(samples)
    if n < 4 * side or side < 2:
        return None
    power = np.cumsum(np.square(samples - samples.mean()))
    k = np.arange(side, n - side)
    floor = 1e-9 * power[-1] / n + 1e-300
    before = np.maximum(power[k - 1] / k, floor)
    after = np.maximum((power[-1] - power[k - 1]) / (n - k), floor)
    best = int(np.argmin(k * np.log(before) + (n - k) * np.log(after)))
    if after[best] < MIN_VARIANCE_RATIO * before[best]:
        return None
    return int(k[best])


def video_residual_ms(
    chunks: Sequence[Chunk],
    arc_on_ns: int,
    exposure_ms: float = 0.0,
    readout_ms: float = 0.0,
    arc_off_ns: int = NEVER_NS,
) -> float | None:
    """The strike as the camera saw it, ms after `arc_on_ns`; None without a clear step from dark to bright."""
    # A frame that was still open when the arc went out is darker than the arc was.
    last_ns = min(arc_on_ns + SEARCH_NS["video"], arc_off_ns - round(exposure_ms * 1e6))
    near = [chunk for chunk in chunks if arc_on_ns - SEARCH_NS["video"] <= chunk.t_ns <= last_ns]
    frames = [((chunk.t_ns - arc_on_ns) / 1e6, rows) for chunk in near if (rows := _row_levels(chunk)) is not None]
    burning = [k for k, (t_ms, _) in enumerate(frames) if t_ms >= 0]
    if len(frames) < 2 or not burning:
        return None
    levels, where = _arc_levels([rows for _, rows in frames], burning)
    open_ms = exposure_ms - readout_ms  # of one row
    begins_ms = [t_ms + where * readout_ms for t_ms, _ in frames]
    dark, bright = float(levels.min()), float(np.median(levels[burning]))
    if bright - dark < MIN_BRIGHTNESS_STEP:
        return None
    share = (levels - dark) / (bright - dark)
    first = int(np.argmax(share > (LIT if open_ms else 0.5)))
    if first == 0:
        return None
    at_ms, before_ms = begins_ms[first], begins_ms[first - 1] + open_ms
    if open_ms and share[first] < FULLY_LIT * min(1.0, *share[first + 1 :]):
        return float(at_ms + open_ms * (1 - share[first]))
    return (min(before_ms, at_ms) + at_ms) / 2


def ignition_ns(spec: StreamSpec, chunks: Sequence[Chunk], arc_on_ns: int) -> int:
    """When the arc first burned for STEADY_NS on end: after the short circuits it begins with; else `arc_on_ns`.

    `chunks` are those of the current's stream about arc-on. At the first touch current flows through the wire's tip
    for some ms, and but for flashes nothing shines; the voltage, low while they touch, tells.
    """
    if "voltage" not in spec.channels or not chunks:
        return arc_on_ns
    volts = np.concatenate([spec.physical(chunk.data)[:, spec.channel("voltage")] for chunk in chunks])
    times = np.concatenate([chunk.times_ns() for chunk in chunks])
    arc = volts[(times >= arc_on_ns + TOUCH_NS) & (times < arc_on_ns + SEARCH_NS["welder"])]
    begin, end = np.searchsorted(times, (arc_on_ns, arc_on_ns + TOUCH_NS))
    steady = max(round(STEADY_NS / chunks[0].dt_ns), 1)
    if not len(arc) or end + steady > len(times):
        return arc_on_ns
    burns = np.concatenate([[0], np.cumsum(volts >= 0.5 * float(np.median(arc)))])
    on_end = burns[begin + steady : end + steady] - burns[begin:end] == steady
    return int(times[begin + int(np.argmax(on_end))]) if on_end.any() else arc_on_ns


def _row_levels(chunk: Chunk) -> NDArray[np.float64] | None:
    """Mean brightness of every eighth of a row; None where the image cannot be read."""
    import cv2  # heavy, and only wanted where there is a camera

    image = cv2.imdecode(chunk.data, cv2.IMREAD_REDUCED_GRAYSCALE_8)
    return None if image is None else np.asarray(image.mean(axis=1), np.float64)


def _arc_levels(frames: list[NDArray[np.float64]], burning: list[int]) -> tuple[NDArray[np.float64], float]:
    """Brightness of each frame where the arc lights it up, and how far down the image that is, 0–1.

    With a rolling shutter only the arc's own rows tell when it was lit: the rest is read out earlier or later.
    """
    rows = np.stack(frames)
    lit = np.clip(np.median(rows[burning], axis=0) - rows[int(np.argmin(rows.mean(axis=1)))], 0.0, None)
    weight = np.square(lit)
    if weight.sum() <= 0:
        return rows.mean(axis=1), 0.5
    weight /= weight.sum()
    return rows @ weight, float(weight @ (np.arange(len(weight)) + 0.5) / len(weight))
