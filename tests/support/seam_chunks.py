"""A seam's chunks made from numbers, for tests of features and detectors."""

import cv2
import numpy as np

from drivers.base import Chunk, ClockParams, StreamSpec
from pipelines.window import ResultView, Seam, SeamWindow

ON_NS = 5_000_000_000

WELDER = StreamSpec(
    "welder", "welder", 10_000.0, (3,), "int16", ("current", "voltage", "wire_feed_speed"), ("A", "V", "m/min"),
    (0.02, 0.002, 0.001),
)  # fmt: skip
MOTION = StreamSpec("motion", "motion", 9.0, (3,), "float32", ("tcp_speed", "tcp_position", "gas_flow"))
MICROPHONE = StreamSpec("microphone", "audio", 48_000.0, (1,), "int16")
CAMERA = StreamSpec("camera", "video", 30.0, (24, 32), "uint8")
STREAMS = (WELDER, MOTION, MICROPHONE, CAMERA)


def jpeg(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imencode(".jpg", image)[1]).ravel()


def seam_chunks(
    rng: np.random.Generator, arc_s: float = 1.5, current_a: float = 150.0, lead_s: float = 0.3, tail_s: float = 0.3
) -> dict[str, list[Chunk]]:
    """One chunk per sampled stream, one per frame; welder, motion, microphone and camera."""
    total_s, first_ns = lead_s + arc_s + tail_s, ON_NS - round(lead_s * 1e9)

    def burning(rate_hz: float) -> np.ndarray:
        t = np.arange(round(total_s * rate_hz)) / rate_hz
        return (t >= lead_s) & (t < lead_s + arc_s)

    def one(spec: StreamSpec, data: np.ndarray, ppm: float = 0.0) -> list[Chunk]:
        clock = ClockParams(1000, first_ns + 37, spec.dt_ns * (1 + ppm * 1e-6))
        return [Chunk(spec.name, 0, 1000, 0, 0, data, clock)]

    on = burning(WELDER.rate_hz)
    current = on * (current_a + 10 * rng.standard_normal(on.size)) / 0.02
    voltage = on * np.where(rng.random(on.size) < 0.1, 4.0, 19.0) / 0.002
    feed = np.full(on.size, 4000.0)
    sound_on = burning(MICROPHONE.rate_hz)
    sound = (100 + 3000 * sound_on) * rng.standard_normal(sound_on.size)
    motion = rng.standard_normal((round(total_s * 9), 3)) + np.array([6.0, 0.0, 14.0])
    frames = []
    for i in range(round(total_s * 30)):
        image = rng.integers(0, 60, (24, 32, 3), dtype=np.uint8)
        clock = ClockParams(0, first_ns, CAMERA.dt_ns)
        frames.append(Chunk("camera", i, i, 0, 0, jpeg(image), clock))
    return {
        "welder": one(WELDER, np.stack([current, voltage, feed], 1).astype(np.int16), ppm=30.0),
        "motion": one(MOTION, motion.astype(np.float32)),
        "microphone": one(MICROPHONE, sound.clip(-32768, 32767).astype(np.int16)[:, None], ppm=80.0),
        "camera": frames,
    }


def seam(arc_s: float | None = None, program: str = "p1", session: str = "s1", seam_id: str = "seam") -> Seam:
    arcs = () if arc_s is None else ((ON_NS, ON_NS + round(arc_s * 1e9)),)
    return Seam(seam_id, "cell", "1", program, ON_NS, arcs, travel_speed_mm_s=6.0, session=session)


def window(rng: np.random.Generator, arc_s: float, **kwargs: str) -> SeamWindow:
    photo = rng.integers(0, 255, (40, 120, 3), dtype=np.uint8)
    view = ResultView("top", "result", ON_NS + 10**10, jpeg(photo))
    return SeamWindow(seam(arc_s, **kwargs), STREAMS, {"top": view}, {})
