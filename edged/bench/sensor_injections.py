"""What breaks a sensor of a rendered seam, one row a fault; the weld stays as it is."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from drivers.sim.seam import RenderedSeam
from edged.bench.detection.corruptions import corrupted

__all__ = ["INJECTIONS", "Injection"]

CURRENT, VOLTAGE = 0, 1
QUALITY = 90


@dataclasses.dataclass(frozen=True, slots=True)
class Injection:
    """One row: the stream that is broken, the finding that names it, the levels and their unit."""

    apply: Callable[[RenderedSeam, float], RenderedSeam]
    levels: tuple[float, ...]
    unit: str
    stream: str
    code: str


def _welder(
    seam: RenderedSeam, channel: int, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> RenderedSeam:
    """The seam with one channel of the welder, in physical units, changed."""
    scale, welder = seam.welder_scale[channel], seam.welder.copy()
    changed = np.rint(change(welder[:, channel].astype(np.float64) * scale) / scale)
    welder[:, channel] = np.clip(changed, -32768, 32767).astype(np.int16)
    return dataclasses.replace(seam, welder=welder)


def _stuck(seam: RenderedSeam, level: float, *, channel: int) -> RenderedSeam:
    """From a third of the arc on the channel holds its value for that share of the arc."""
    first = round((seam.lead_s + seam.arc_s / 3) * seam.welder_hz)
    count = round(level * seam.arc_s * seam.welder_hz)

    def hold(values: NDArray[np.float64]) -> NDArray[np.float64]:
        values[first : first + count] = values[first]
        return values

    return _welder(seam, channel, hold)


def _offset(seam: RenderedSeam, level: float, *, channel: int) -> RenderedSeam:
    return _welder(seam, channel, lambda values: values + level)


def _pickup(seam: RenderedSeam, level: float, *, channel: int) -> RenderedSeam:
    t_s = np.arange(len(seam.welder)) / seam.welder_hz
    return _welder(seam, channel, lambda values: values + level * np.sin(2 * np.pi * 50 * t_s + 0.7))


def _loud(seam: RenderedSeam, level: float) -> RenderedSeam:
    """The preamplifier's gain is that many times too high."""
    audio = np.clip(seam.audio.astype(np.float64) * level, -32768, 32767).astype(np.int16)
    return dataclasses.replace(seam, audio=audio)


def _away(seam: RenderedSeam, level: float) -> RenderedSeam:
    """The arc is heard by so many dB less; the hall and the amplifier, as before the arc, are not."""
    first, last = (round(t_s * seam.audio_hz) for t_s in (seam.lead_s, seam.lead_s + seam.arc_s))
    hall = seam.audio[max(first - round(0.4 * seam.audio_hz), 0) : first - round(0.05 * seam.audio_hz)]
    audio = seam.audio.astype(np.float64)
    audio[first:last] *= 10 ** (-level / 20)
    audio[first:last] += hall[np.arange(last - first) % len(hall)]
    return dataclasses.replace(seam, audio=np.clip(np.rint(audio), -32768, 32767).astype(np.int16))


def _frozen(seam: RenderedSeam, level: float) -> RenderedSeam:
    """From the middle of the arc on that share of the arc shows one frame."""
    middle = round((seam.lead_s + seam.arc_s * (1 - level)) * seam.arc_fps)
    frames = seam.frames[:middle] + (seam.frames[middle],) * (len(seam.frames) - middle)
    return dataclasses.replace(seam, frames=frames)


def _camera_moved(seam: RenderedSeam, level: float) -> RenderedSeam:
    """Every frame lies that many per cent of its width further right."""
    return dataclasses.replace(seam, frames=tuple(_shifted(frame, level) for frame in seam.frames))


def _view_moved(seam: RenderedSeam, level: float) -> RenderedSeam:
    return dataclasses.replace(seam, views={name: _shifted(jpeg, level) for name, jpeg in seam.views.items()})


def _shifted(jpeg: bytes, percent: float) -> bytes:
    import cv2

    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError(f"{len(jpeg)} bytes beginning {jpeg[:4].hex()} are no image")
    columns = np.clip(np.arange(image.shape[1]) - round(percent / 100 * image.shape[1]), 0, None)
    return bytes(cv2.imencode(".jpg", image[:, columns], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())


def _corrupted(seam: RenderedSeam, level: float, *, name: str) -> RenderedSeam:
    return corrupted(seam, name, level)


INJECTIONS: Mapping[str, Injection] = {
    "current stuck": Injection(
        partial(_stuck, channel=CURRENT), (0.1, 0.5), "share of the arc", "welder", "current_stuck"
    ),
    "voltage stuck": Injection(
        partial(_stuck, channel=VOLTAGE), (0.1, 0.5), "share of the arc", "welder", "voltage_stuck"
    ),
    "current offset": Injection(partial(_offset, channel=CURRENT), (2.0, 5.0, 12.0), "A", "welder", "current_offset"),
    "voltage offset": Injection(partial(_offset, channel=VOLTAGE), (0.5, 2.0, 5.0), "V", "welder", "voltage_offset"),
    "mains pickup on the voltage": Injection(
        partial(_pickup, channel=VOLTAGE), (0.2, 1.0, 3.0), "V", "welder", "voltage_pickup"
    ),
    "noise on current and voltage": Injection(
        partial(_corrupted, name="sensor_noise"),
        (0.1, 0.2, 0.3),
        "spreads of the waveform",
        "welder",
        "current_noise",
    ),
    "held samples": Injection(
        partial(_corrupted, name="sensor_dropout"), (0.2, 0.5), "share", "welder", "current_held"
    ),
    "muted microphone": Injection(
        partial(_corrupted, name="muted_microphone"), (0.3, 1.0), "share of time", "mic", "silent"
    ),
    "microphone in another booth": Injection(_away, (10.0, 40.0), "dB less of the arc", "mic", "deaf"),
    "microphone too loud": Injection(_loud, (10.0, 40.0), "times", "mic", "clipped"),
    "dark arc camera": Injection(
        partial(_corrupted, name="dark_camera"), (0.3, 1.0), "share of time", "arccam", "dark"
    ),
    "frozen arc camera": Injection(_frozen, (0.6, 0.9), "share of the arc", "arccam", "frozen"),
    "arc camera moved": Injection(_camera_moved, (1.0, 2.0, 4.0), "% of width", "arccam", "moved"),
    "result camera moved": Injection(_view_moved, (1.0, 2.0, 3.0), "% of width", "resultcam", "moved"),
}
"""In the order of the table. What a corruption of `edged bench corruption` breaks is broken here the same way."""
