"""Features of made-up welds that obey a known law from process to result, for tests of training and scoring."""

import dataclasses

import numpy as np

from pipelines.features.extractor import SeamFeatures
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import AUDIO_FEATURES
from pipelines.features.result import LEVELS, ResultMap
from pipelines.features.scene import SCENE_FEATURES
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.features.waves import WAVE_FEATURES

RNG = np.random.default_rng(99)
VIDEO_FROM_HEAT = RNG.standard_normal(FEATURES)
SHAPES = {**LEVELS, "profile": (112, 112, 3)}
PLACES = {part: RNG.standard_normal(shape).astype(np.float32) for part, shape in SHAPES.items()}
FROM_HEAT = {part: RNG.standard_normal((shape[0], 1, shape[2])).astype(np.float32) for part, shape in SHAPES.items()}
TOKENS = 8


def law_seam(
    rng: np.random.Generator, i: int, program: str = "p1", session: str = "s0", heat: float | None = None,
    shown_heat: float | None = None, process_shift: float = 0.0, spot: float = 0.0,
) -> SeamFeatures:  # fmt: skip
    """A seam whose bead follows its heat (normal around 0); each fault moves one half only."""
    heat = rng.standard_normal() if heat is None else heat
    shown = heat if shown_heat is None else shown_heat
    offset = {"p1": 0.0, "p2": 2.0}[program]
    sensor = rng.standard_normal((10 * TOKENS, len(SENSOR_FEATURES))) + offset
    sensor[:, 0] += heat
    sensor[:, 1] += process_shift
    video = 0.3 * rng.standard_normal((TOKENS, FEATURES)) + 0.2 * heat * VIDEO_FROM_HEAT + offset
    audio = 0.3 * rng.standard_normal((TOKENS, AUDIO_FEATURES))
    view = {}
    for part, shape in SHAPES.items():
        noise = rng.standard_normal(shape, dtype=np.float32)
        view[part] = PLACES[part] + 0.1 * offset + 0.2 * noise + np.float32(0.05 * shown) * FROM_HEAT[part]
    view["fine"][9, 30] += spot * np.sign(PLACES["fine"][3, 5])
    top = ResultMap(**{part: cells.astype(np.float16) for part, cells in view.items()}, located=False)
    ones = np.ones(TOKENS, np.bool_)
    waves = rng.standard_normal((TOKENS, len(WAVE_FEATURES))).astype(np.float32)
    waves[:, :16] += process_shift
    scene = rng.standard_normal((TOKENS, len(SCENE_FEATURES))).astype(np.float16)
    return SeamFeatures(
        f"seam-{i:04d}", program, session, sensor.astype(np.float32), np.ones(sensor.shape, np.bool_),
        video.astype(np.float16), ones, audio.astype(np.float16), ones, {"top": top}, 6.0,
        waves=waves, waves_known=np.ones(waves.shape, np.bool_), scene=scene,
    )  # fmt: skip


def goods(n: int, sessions: int = 12, seed: int = 0) -> list[SeamFeatures]:
    """Good seams of two programs in time-ordered sessions."""
    rng = np.random.default_rng(seed)
    return [law_seam(rng, i, ("p1", "p2")[i % 2], f"s{i * sessions // n:02d}") for i in range(n)]


def without(features: SeamFeatures, kind: str) -> SeamFeatures:
    """The same seam with a stream missing."""
    if kind == "result":
        return dataclasses.replace(features, views={})
    return features.without({"welder" if kind == "sensor" else kind})
