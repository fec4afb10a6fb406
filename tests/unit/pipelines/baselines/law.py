"""Grids and processes of a known law b = f(a) + noise; bads break it in a patch of the seam."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.grids import GridData
from pipelines.normaliser import Process

SHAPE = (5, 9)
LATENT, LOW, HIGH = 2, 4, 8


def quiet(stage: str, done: int, total: int, loss: float) -> None:
    """Nobody listens."""


def grids(n: int, seed: int, bad: bool = False, pair: bool = False) -> GridData:
    """Cells of a smooth latent field: 4 channels a, 8 channels b = f(a), side by side or as the pair (rgb, geo).

    Bads have another cell's b in a 3 × 3 patch: neither a nor b alone is out of the ordinary. A corner is not valid.
    """
    rng = np.random.default_rng(seed)
    law = np.random.default_rng(7)
    to_low, to_high = law.standard_normal((LATENT, LOW)), law.standard_normal((LATENT, HIGH))
    corners = rng.standard_normal((n, 2, 2, LATENT)) * 1.3
    y, x = np.meshgrid(np.linspace(0, 1, SHAPE[0]), np.linspace(0, 1, SHAPE[1]), indexing="ij")
    weight = np.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], -1).reshape(*SHAPE, 2, 2)
    z = np.einsum("hwij,nijk->nhwk", weight, corners)
    other = z.copy()
    if bad:
        other[:, 1:4, 3:6] = -z[:, 1:4, 3:6] + np.sign(-z[:, 1:4, 3:6]) * 0.8
    a = np.tanh(z @ to_low) + 0.05 * rng.standard_normal((n, *SHAPE, LOW))
    b = np.tanh(other @ to_high) + 0.05 * rng.standard_normal((n, *SHAPE, HIGH))
    a, b = (a / a.std()).astype(np.float32), (b / b.std()).astype(np.float32)
    valid = np.ones((n, *SHAPE), np.bool_)
    valid[:, 0, 0] = False
    cells = {"rgb": a, "geo": b} if pair else {"rgb": np.concatenate([a, b], -1)}
    return GridData(cells, valid, np.arange(n) % 2, 2)


def area(good: NDArray[np.float32], bad: NDArray[np.float32]) -> float:
    """AUROC of the seams' largest cells."""
    scores = np.concatenate([good.max((1, 2)), bad.max((1, 2))])
    return float(roc_auc_score(np.r_[np.zeros(len(good)), np.ones(len(bad))], scores))


def processes(n: int, seed: int, bad: frozenset[str] = frozenset(), tokens: int = 30) -> list[Process]:
    """Seams whose sensors, sound and video follow slow signals; kinds in `bad` do not, from the middle on."""
    rng, law = np.random.default_rng(seed), np.random.default_rng(11)
    sizes = {"sensor": len(SENSOR_FEATURES), "audio": 88, "video": 32}
    mix = {kind: law.standard_normal((3, size)) for kind, size in sizes.items()}
    found = []
    for i in range(n):
        length = tokens + i % 5
        t = np.arange(length * 10) / 100
        signal = np.stack([np.sin(2 * t + p) for p in rng.uniform(0, 6, 3)], 1)
        values = {kind: signal @ m + 0.2 * rng.standard_normal((len(t), m.shape[1])) for kind, m in mix.items()}
        for kind in bad:
            values[kind][len(t) // 2 :] += 1.5 * np.random.default_rng(3).standard_normal(sizes[kind])
        known = np.ones(length, np.bool_)
        found.append(
            Process(
                steps=np.concatenate([values["sensor"], np.ones_like(values["sensor"])], 1).astype(np.float32),
                video=values["video"][::10].astype(np.float32),
                video_known=known,
                audio=values["audio"][::10].astype(np.float32),
                audio_known=known,
            )
        )
    return found
