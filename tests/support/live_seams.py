"""Features of made-up welds of 4.5 s with a head, a body and a crater that is filled, for tests of the live score."""

import dataclasses

import numpy as np

from pipelines.features.extractor import SeamFeatures
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import AUDIO_FEATURES
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.features.waves import WAVE_FEATURES
from tests.support.law_seams import law_seam

__all__ = ["TOKENS", "live_goods", "live_seam"]

TOKENS = 45
FILL = 3
MEAN, PEAK, VOLTAGE, SPEED = (
    SENSOR_FEATURES.index(name) for name in ("current_mean", "current_max", "voltage_mean", "tcp_speed")
)


def live_seam(
    rng: np.random.Generator, i: int, program: str = "p1", session: str = "s0", onset: int | None = None,
    volts: float = 0.0, heat: float | None = None, filled: int = FILL,
) -> SeamFeatures:  # fmt: skip
    """A seam whose voltage, and the waveform's, steps by `volts` spreads at token `onset`; `heat` moves its bead.

    `filled`: of the last tokens, in how many the robot stands while the current falls.
    """
    heat = float(rng.standard_normal()) if heat is None else heat
    base = law_seam(rng, i, program, session, heat=heat)
    sensor = rng.standard_normal((TOKENS, 10, len(SENSOR_FEATURES)))
    sensor[:, :, 0] += heat
    sensor[:, :, PEAK] = 200.0 + rng.standard_normal((TOKENS, 10))
    sensor[:, :, SPEED] = 6.0 + 0.02 * rng.standard_normal((TOKENS, 10))
    waves = rng.standard_normal((TOKENS, len(WAVE_FEATURES)))
    if onset is not None:
        sensor[onset:, :, VOLTAGE] += volts
        waves[onset:, :4] += volts
    if filled:
        sensor[-filled:, :, SPEED] = 0.0
        sensor[-filled:, :, MEAN] -= 4.0 * np.arange(1, filled + 1)[:, None]
    ones = np.ones(TOKENS, np.bool_)
    return dataclasses.replace(
        base,
        sensor=sensor.reshape(10 * TOKENS, -1).astype(np.float32),
        sensor_known=np.ones((10 * TOKENS, len(SENSOR_FEATURES)), np.bool_),
        waves=waves.astype(np.float32),
        waves_known=np.ones(waves.shape, np.bool_),
        video=(0.3 * rng.standard_normal((TOKENS, FEATURES))).astype(np.float16),
        video_known=ones,
        audio=rng.standard_normal((TOKENS, AUDIO_FEATURES)).astype(np.float16),
        audio_known=ones,
        scene=rng.standard_normal((TOKENS, base.scene.shape[1])).astype(np.float16),
    )


def live_goods(n: int, seed: int = 0, sessions: int = 8) -> list[SeamFeatures]:
    """Good seams of two programs in time-ordered sessions."""
    rng = np.random.default_rng(seed)
    return [live_seam(rng, i, ("p1", "p2")[i % 2], f"s{i * sessions // n:02d}") for i in range(n)]
