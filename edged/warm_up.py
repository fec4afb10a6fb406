"""A made-up seam through a freshly loaded model, so that a cell's first real one waits for nothing.

Libraries are imported, kernels compiled and buffers laid out at their first use, which takes a second or more: far
too long for a live score. Runs in the worker before it says that it is ready; nothing of the seam is kept.
"""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from pipelines.window import Detector, ResultView, Seam, SeamScorer, SeamWindow, UnknownProgramError

__all__ = ["warm_up"]

ARC_S = 1.3
"""Longer than Mamba's block of a second and the sound's picture of 0.7 s."""
BLOCK_S = 0.05
WELDER = StreamSpec("welder", "welder", 10_000.0, (2,), "float32", ("current", "voltage"), ("A", "V"))
SOUND = StreamSpec("sound", "audio", 48_000.0, (1,), "int16")
CAMERA = StreamSpec("camera", "video", 20.0, (240, 384), "uint8")
STREAMS = (WELDER, SOUND, CAMERA)
PHOTO_PX = (320, 960, 3)

log = structlog.get_logger(__name__)


def warm_up(detector: Detector, programs: Sequence[str]) -> None:
    """Push 1.3 s of steady noise of a seam, and a photograph of it, through the detector.

    `programs`: those that it is configured for; the seam is of the first that it knows.
    """
    begin = time.monotonic()
    rng = np.random.default_rng(0)
    try:
        seam, scorer = _begin(detector, programs)
        for number in range(round(ARC_S / BLOCK_S)):
            for spec in STREAMS:
                scorer.push(_chunk(spec, number, rng))
                scorer.live()
        done = dataclasses.replace(seam, arcs=((0, round(ARC_S * 1e9)),))
        view = ResultView("top", "result", round(2 * ARC_S * 1e9), _jpeg(rng, PHOTO_PX))
        scorer.prepare(SeamWindow(done, STREAMS, {"top": view}, {}))
    except ValueError as error:
        # Such a seam need not suit every detector; the next one waits for what has not been warmed.
        log.info("model not warmed up", model_id=detector.model_id, error=str(error))
        return
    log.info("model warmed up", model_id=detector.model_id, seconds=round(time.monotonic() - begin, 3))


def _begin(detector: Detector, programs: Sequence[str]) -> tuple[Seam, SeamScorer]:
    """Raises ValueError as `Detector.begin` does, with what it says of the last program."""
    *others, last = programs
    for program in others:
        try:
            return _begin(detector, [program])
        except UnknownProgramError:
            continue  # its seams will be told so
    seam = Seam("warm-up", "none", "none", last, 0, travel_speed_mm_s=5.0)
    return seam, detector.begin(seam, STREAMS)


def _chunk(spec: StreamSpec, number: int, rng: np.random.Generator) -> Chunk:
    n = round(spec.rate_hz * BLOCK_S)
    clock = ClockParams(0, 0, 1e9 / spec.rate_hz)
    if spec.kind == "video":
        return Chunk(spec.name, number, number, 0, 0, _jpeg(rng, (*spec.shape, 3)), clock)
    noise = rng.standard_normal((n, *spec.shape))
    data = noise * 1000 if spec.kind == "audio" else np.array([150.0, 20.0]) + noise
    return Chunk(spec.name, number, number * n, 0, 0, data.astype(spec.dtype), clock)


def _jpeg(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    import cv2  # in the worker only: the daemon imports this file's neighbours and must stay light

    return np.asarray(cv2.imencode(".jpg", rng.integers(0, 255, shape, dtype=np.uint8))[1], np.uint8).ravel()
