"""Features of made-up welds with everything that a seam's grid is laid from: frame, photograph, height map."""

import dataclasses

import numpy as np

from pipelines.features.extractor import SeamFeatures
from pipelines.features.geometry import HEIGHT_SHAPE, KNOWN_SHAPE, GeoMap
from pipelines.features.result import LEVELS
from pipelines.window import SeamFrame
from tests.support.law_seams import goods

LENGTH_MM = 50.0
FRAME = SeamFrame(LENGTH_MM, 4.0, {"top": (-5.0, 55.0, -10.0, 10.0)}, (0.0, 0.5, 12.0))


def geo_map(rng: np.random.Generator) -> GeoMap:
    """Noise in the shapes of a scan."""
    levels = (rng.standard_normal(shape, dtype=np.float32).astype(np.float16) for shape in LEVELS.values())
    heights = rng.standard_normal(HEIGHT_SHAPE, dtype=np.float32).astype(np.float16)
    return GeoMap(*levels, heights, np.ones(KNOWN_SHAPE, np.bool_))


def framed(features: SeamFeatures, rng: np.random.Generator) -> SeamFeatures:
    """The same seam between markers, with a scan and a frame."""
    views = {name: dataclasses.replace(view, located=True) for name, view in features.views.items()}
    return dataclasses.replace(features, views=views, geo=geo_map(rng), frame=FRAME)


def grid_goods(n: int, seed: int = 0) -> list[SeamFeatures]:
    """Good seams of two programs in time-ordered sessions."""
    rng = np.random.default_rng(seed)
    return [framed(seam, rng) for seam in goods(n, seed=seed)]
