"""`sensor_mahalanobis`: how far a seam's sensor statistics lie from its program's good ones.

The statistics are what a spreadsheet of welding logs would hold: of every sensor figure's mean and spread per 100 ms
token, the mean, spread, least and greatest over the seam. No picture, no sound, no time.

Glossary: T tokens, F = 2 · sensor figures, D = 4 F.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.baselines.seam_method import SeamGoods
from pipelines.gaussian import Gaussian, Standard, fit_gaussian, fit_standard, from_tensors, to_tensors
from pipelines.grids import Tell
from pipelines.loop import LoopConfig
from pipelines.normaliser import Process, token_statistics

__all__ = ["SensorMahalanobis", "SensorMahalanobisConfig", "fit_sensor_mahalanobis", "seam_statistics"]

STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}


@dataclasses.dataclass(frozen=True, slots=True)
class SensorMahalanobisConfig:
    """`statistics` over the seam, of mean, std, min, max."""

    statistics: tuple[str, ...] = tuple(STATISTICS)

    @classmethod
    def preset(
        cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu"
    ) -> "SensorMahalanobisConfig":
        """There is one form only."""
        return cls()


def seam_statistics(process: Process, statistics: tuple[str, ...]) -> NDArray[np.float64]:
    """`(D,)`. Raises ValueError for a seam without tokens."""
    if not process.tokens:
        raise ValueError("a seam of less than one 100 ms token has no statistics")
    tokens = token_statistics(process).astype(np.float64)
    return np.concatenate([STATISTICS[name](tokens, axis=0) for name in statistics])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SensorMahalanobis:
    """A Gaussian per program; `standard`: what distances held-out goods have."""

    config: SensorMahalanobisConfig
    gaussian: Gaussian
    standard: Standard

    def score(self, process: Process, program: int) -> float:
        """Mahalanobis distance relative to that of the program's typical good seam."""
        distance = self.gaussian.distance(seam_statistics(process, self.config.statistics), program)
        return float(max(distance, 1e-9) / np.exp(self.standard.location[program]))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        return dict(to_tensors("sensor", self.gaussian, self.standard))

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays."""
        return {"statistics": list(self.config.statistics)}

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "SensorMahalanobis":
        """What `about` and `tensors` gave."""
        config = SensorMahalanobisConfig(tuple(about["statistics"]))
        return cls(config, *from_tensors("sensor", tensors))


def fit_sensor_mahalanobis(
    train: SeamGoods, held_out: SeamGoods, config: SensorMahalanobisConfig, loop: LoopConfig, tell: Tell
) -> SensorMahalanobis:
    """The Gaussians from `train`, typical distances from `held_out`. `loop` is not used."""
    gaussian = fit_gaussian(_table(train, config), train.program, train.programs)
    distance = np.array(
        [gaussian.distance(x, int(p)) for x, p in zip(_table(held_out, config), held_out.program, strict=True)]
    )
    tell("statistics", 1, 1, float(distance.mean()))
    return SensorMahalanobis(config, gaussian, fit_standard(distance, held_out.program, train.programs))


def _table(goods: SeamGoods, config: SensorMahalanobisConfig) -> NDArray[np.float64]:
    return np.stack([seam_statistics(process, config.statistics) for process in goods.processes])
