"""Seams of a known law for tests of grid methods: b follows from a in good ones, and in bad ones not at one patch."""

import numpy as np

from pipelines.grids import GridData

H, W = 6, 9


def quiet(stage: str, done: int, total: int, loss: float) -> None:
    """A `Tell` that says nothing."""


def seams(n: int, seed: int, bad: bool = False, programs: int = 2, channels: tuple[int, int] = (8, 12)) -> GridData:
    """a = tanh(uA), b = sin(uB) of a hidden u (3 numbers a cell) plus noise; programs differ by an offset of u.

    Bad: in a patch of 3 × 3 cells b is that of another seam, so that neither a nor b is odd by itself.
    """
    law = np.random.default_rng(99)
    to_a, to_b = (law.normal(size=(3, c)) for c in channels)
    shift = law.normal(0, 0.3, (programs, 3))
    rng = np.random.default_rng(seed)
    program = np.arange(n) % programs
    u = rng.normal(size=(n, 1, 1, 3)) * 0.3 + rng.normal(size=(n, H, W, 3)) * 0.6 + shift[program][:, None, None]
    a, b = np.tanh(u @ to_a), np.sin(u @ to_b)
    if bad:
        b[:, 1:4, 2:5] = np.roll(b, programs, 0)[:, 1:4, 2:5]
    cells = {"geo": a, "proc": b}
    noisy = {k: (v + 0.05 * rng.normal(size=v.shape)).astype(np.float32) for k, v in cells.items()}
    valid = np.ones((n, H, W), bool)
    valid[:, -1] = False  # the plate beside the weld, which no scanner row reached
    return GridData(noisy, valid, program.astype(np.int64), programs)
