"""What is taken from a seam or added to it, in training and test, before a detector sees it: ablated streams."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import SeamFeatures
from pipelines.features.result import ResultMap

__all__ = ["BLIND"]

Level = NDArray[np.float16]


def _seeded(features: SeamFeatures, what: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{what} {features.seam_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def without_sensor(features: SeamFeatures) -> SeamFeatures:
    """Waveforms and motion that never change: they are there and say nothing."""
    values = {name: np.zeros_like(getattr(features, name)) for name in ("sensor", "waves")}
    known = {f"{name}_known": np.ones_like(getattr(features, f"{name}_known")) for name in values}
    return dataclasses.replace(features, **values, **known, sensed={})


def images_only(features: SeamFeatures) -> SeamFeatures:
    """Photographs, and nothing of the process or the scan."""
    return without_sensor(features).without({"audio", "video", "profile"})


def noise_view(features: SeamFeatures) -> SeamFeatures:
    """One more photograph whose map is white noise of the real one's mean and spread."""
    rng = _seeded(features, "noise")
    top = features.views["top"]

    def noise(level: Level) -> Level:
        values = level.astype(np.float32)
        drawn = rng.standard_normal(values.shape, dtype=np.float32)
        return np.asarray(values.mean() + values.std() * drawn, np.float16)

    made = ResultMap(noise(top.fine), noise(top.coarse), noise(top.profile), top.located)
    return dataclasses.replace(features, views={**features.views, "noise": made})


def random_view(features: SeamFeatures) -> SeamFeatures:
    """One more photograph, of bare surroundings turned and shifted at random: it shows nothing of this weld.

    Made of the rim of the seam's own strip, where there is no bead, so that light and texture are a photograph's.
    """
    rng = _seeded(features, "random view")
    top = features.views["top"]
    turn, flip, shift = bool(rng.integers(2)), bool(rng.integers(2)), float(rng.uniform())

    def elsewhere(level: Level) -> Level:
        rim = level[: max(len(level) // 7, 1)]
        tiled = np.tile(rim, (-(-len(level) // len(rim)), 1, 1))[: len(level)]
        moved = np.roll(tiled, round(shift * level.shape[1]), axis=1)
        moved = moved[::-1] if turn else moved
        return np.ascontiguousarray(moved[:, ::-1] if flip else moved)

    made = ResultMap(elsewhere(top.fine), elsewhere(top.coarse), elsewhere(top.profile), top.located)
    return dataclasses.replace(features, views={**features.views, "elsewhere": made})


BLIND: Mapping[str, Callable[[SeamFeatures], SeamFeatures]] = {
    "sensor:off": without_sensor,
    "streams:image": images_only,
    "stream:noise": noise_view,
    "stream:random_views": random_view,
}
