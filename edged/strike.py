"""When a stream saw the arc being struck: its own onset against the current's gives the sync residual.

The strike shows in current, sound and light at once. Sound: the split of the samples around arc-on that best explains
them as two Gaussians of different variance (maximum likelihood); unlike a threshold on the energy it needs no level
and is sharp to a few samples, and the hiss of the gas before the arc is simply the quieter half. Light: brightness
of the frames near the strike, decoded at an eighth of their size. A first lit frame of partial brightness tells by
its share when in its exposure the arc was struck; otherwise it was struck between the end of the last dark exposure
and the first bright one, and their midpoint is right to half a frame.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec

__all__ = ["SEARCH_NS", "audio_residual_ms", "strike_residual_ms", "video_residual_ms"]

SEARCH_NS = {"audio": 250_000_000, "video": 300_000_000}
"""How far from the current's arc-on each kind of stream is searched, ns."""

MIN_VARIANCE_RATIO = 4.0
MIN_SIDE_S = 0.02
MIN_BRIGHTNESS_STEP = 8.0
"""Gray levels of 255; less is no arc but the room's lights."""
LIT, FULLY_LIT = 0.1, 0.9
"""Share of the arc's brightness above which a frame has seen some of it, and all of it."""


def strike_residual_ms(spec: StreamSpec, chunks: Sequence[Chunk], arc_on_ns: int) -> float | None:
    """This stream's strike minus the current's, ms; None where none is seen or the kind shows none."""
    if not chunks:
        return None
    if spec.kind == "audio":
        return audio_residual_ms(chunks, arc_on_ns)
    return video_residual_ms(chunks, arc_on_ns, spec.exposure_ms) if spec.kind == "video" else None


def audio_residual_ms(chunks: Sequence[Chunk], arc_on_ns: int) -> float | None:
    """Onset of the loud part around `arc_on_ns`, ms after it; None where loudness does not rise fourfold in power."""
    samples = np.concatenate([chunk.data[:, 0] for chunk in chunks]).astype(np.float64)
    times = np.concatenate([chunk.times_ns() for chunk in chunks])
    inside = np.abs(times - arc_on_ns) <= SEARCH_NS["audio"]
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


def video_residual_ms(chunks: Sequence[Chunk], arc_on_ns: int, exposure_ms: float = 0.0) -> float | None:
    """The strike as the camera saw it, ms after `arc_on_ns`; None without a clear step from dark to bright."""
    import cv2  # heavy, and only wanted where there is a camera

    near = [chunk for chunk in chunks if abs(chunk.t_ns - arc_on_ns) <= SEARCH_NS["video"]]
    decoded = [(chunk.t_ns, cv2.imdecode(chunk.data, cv2.IMREAD_REDUCED_GRAYSCALE_8)) for chunk in near]
    frames = [((t_ns - arc_on_ns) / 1e6, float(image.mean())) for t_ns, image in decoded if image is not None]
    if len(frames) < 2:
        return None
    levels = np.array([level for _, level in frames])
    dark, bright = float(levels.min()), float(np.median(levels[len(levels) // 2 :]))
    if bright - dark < MIN_BRIGHTNESS_STEP:
        return None
    share = (levels - dark) / (bright - dark)
    first = int(np.argmax(share > (LIT if exposure_ms else 0.5)))
    if first == 0:
        return None
    at_ms, before_ms = frames[first][0], frames[first - 1][0] + exposure_ms
    if exposure_ms and share[first] < FULLY_LIT:
        return float(at_ms + exposure_ms * (1 - share[first]))
    return (min(before_ms, at_ms) + at_ms) / 2
