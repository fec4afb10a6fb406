"""Named random streams of the virtual cell: one independent generator per seed and cause.

Every cause (gap, travel, photograph's light, …) draws from its own generator, so adding a fault or an observation
never shifts the draws of another one. That is what makes a good twin a twin.
"""

import zlib

import numpy as np

__all__ = ["generator"]


def generator(seed: int, *name: str) -> np.random.Generator:
    """The generator of one named cause of one seed; the same on every machine and in every process."""
    key = tuple(zlib.crc32(part.encode()) for part in name)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
