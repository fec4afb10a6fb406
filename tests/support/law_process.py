"""Standardised processes and result rows of made-up welds: the rows follow the process by a known law, or do not."""

import numpy as np

from pipelines.causal_data import CausalData
from pipelines.normaliser import Process

SENSOR, VIDEO, AUDIO, ROWS, SIZE = 16, 4, 5, 6, 8
LAW = np.random.default_rng(7).standard_normal((2, SIZE))


def law_data(n: int, seed: int, broken: bool = False, spread: float = 0.3, views: int = 1) -> CausalData:
    """n seams of two programs in six sessions; `broken`: process and rows are each good, but of different seams."""
    rng = np.random.default_rng(seed)
    heat = rng.standard_normal((n, 2))
    shown = -heat if broken else heat
    processes = []
    for cause in heat:
        tokens = int(rng.integers(2, 5))
        known = np.ones(tokens, np.bool_)
        values = 0.3 * rng.standard_normal((10 * tokens, SENSOR))
        values[:, :2] += cause
        steps = np.concatenate([values, np.ones_like(values)], 1).astype(np.float32)
        video, audio = (0.3 * rng.standard_normal((tokens, k)).astype(np.float32) for k in (VIDEO, AUDIO))
        processes.append(Process(steps, video + cause[0].astype(np.float32), known, audio, known))
    rows = shown[:, None] @ LAW[None] + spread * rng.standard_normal((n, views * ROWS, SIZE))
    return CausalData(
        processes=processes,
        rows=rows.astype(np.float32),
        known=np.ones((n, views * ROWS), np.bool_),
        program=np.arange(n) % 2,
        session=np.arange(n) * 6 // n,
        programs=2,
    )
