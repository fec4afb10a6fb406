"""Law-abiding seams (`tests/support/law_seams.py`) that know where their results lie, photographed and scanned."""

import dataclasses

import numpy as np

from pipelines.features.extractor import SeamFeatures
from pipelines.features.geometry import HEIGHT_SHAPE, KNOWN_SHAPE, GeoMap
from pipelines.features.result import LEVELS
from pipelines.window import SeamFrame
from tests.support.law_seams import FROM_HEAT, goods

__all__ = ["FRAME", "laid_goods"]

FRAME = SeamFrame(30.0, 3.0, {"top": (-5.0, 35.0, -20.0, 20.0)}, (-5.0, 0.5, 15.0))


def laid_goods(
    n: int, sessions: int = 12, seed: int = 0, programs: tuple[str, str] = ("p1", "p2")
) -> list[SeamFeatures]:
    """Good seams of two programs, in order of time."""
    rng = np.random.default_rng(seed + 1000)
    return [_laid(features, rng, programs) for features in goods(n, sessions, seed)]


def _laid(features: SeamFeatures, rng: np.random.Generator, programs: tuple[str, str]) -> SeamFeatures:
    top = features.views["top"]
    heat = float(((top.fine.astype(np.float32)).mean(1) * FROM_HEAT["fine"][:, 0]).mean())
    maps = {part: (heat + 0.2 * rng.standard_normal(shape)).astype(np.float16) for part, shape in LEVELS.items()}
    heights = (heat + 0.2 * rng.standard_normal(HEIGHT_SHAPE)).astype(np.float16)
    return dataclasses.replace(
        features,
        program=programs[("p1", "p2").index(features.program)],
        views={"top": dataclasses.replace(top, located=True)},
        geo=GeoMap(maps["fine"], maps["coarse"], heights, np.ones(KNOWN_SHAPE, np.bool_)),
        frame=FRAME,
    )
