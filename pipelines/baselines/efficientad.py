"""`efficientad`: a student that can follow its teacher on good welds only (after EfficientAD, arXiv 2303.14535).

The teacher is lite0, frozen: a cell's deeper channels are what it says. The student sees the cell's first `lower`
channels, a lower level of the same picture, through convolutions and predicts them; an autoencoder that must pass a
narrow code predicts them too, and the student's second half predicts the autoencoder. Both squared errors are scaled
by quantiles of held-out goods and added.

Differs from the paper, much of which speaks of images: no patch description network distilled from a larger one, no
penalty on foreign pictures, no augmentation for the autoencoder, student and autoencoder see lite0's lower level and
not pixels, so none of its speed is measured here. The maps are scaled by 0.1 / (q_b − q_a) as published but not
shifted by q_a: a constant that changes no order, and keeps them ≥ 0.

Glossary: T, S, A (b, K, H, W) teacher, student, autoencoder, S′ the student's other half; q_a, q_b quantiles.
"""

import dataclasses
import itertools
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.baselines.cell_net import CellNet, CellShape, NetMethod, masked_mean
from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig

__all__ = ["EfficientAd", "EfficientAdConfig", "fit_efficientad"]


@dataclasses.dataclass(frozen=True, slots=True)
class EfficientAdConfig:
    """`lower`: channels that student and autoencoder see; `code`: the autoencoder's narrow channels."""

    lower: int = 40
    hidden: int = 64
    code: int = 16
    hard: float = 0.9
    """The student learns from the squared errors above this quantile of the batch; 0: from all."""
    q_a: float = 0.9
    q_b: float = 0.995

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "EfficientAdConfig":
        """`compat`: the published share of hard features, which is few where a map has few cells."""
        hidden, code = {"cpu": (64, 16), "gpu": (256, 64)}[size]
        return cls(hidden=hidden, code=code, hard=0.999 if preset == "compat" else 0.9)


def _convolutions(sizes: tuple[int, ...]) -> nn.Sequential:
    """3×3 convolutions with GELU between."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class EfficientAdNet(CellNet):
    """Student and autoencoder; the teacher's answers come with the cells."""

    scale: Tensor

    def __init__(self, config: EfficientAdConfig, shape: CellShape) -> None:
        super().__init__()
        height, width, channels = shape
        if not 0 < config.lower < channels:
            raise ValueError(f"a student that sees {config.lower} of {channels} channels has no teacher: set lower")
        self.config = config
        taught, hidden = channels - config.lower, config.hidden
        self.student = _convolutions((config.lower, hidden, hidden, 2 * taught))
        self.narrow = nn.Sequential(
            nn.Conv2d(config.lower, hidden, 4, stride=2, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d((max(1, height // 4), max(1, width // 4))),
            nn.Conv2d(hidden, config.code, 1),
        )
        self.widen = nn.Upsample((height, width), mode="bilinear", align_corners=False)
        self.decoder = _convolutions((config.code, hidden, taught))
        self.register_buffer("scale", torch.ones(2))

    def differences(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(T − S)², (T − A)² and (A − S′)², each `(b, K, H, W)`."""
        planes = cells.permute(0, 3, 1, 2)
        low, teacher = planes[:, : self.config.lower], planes[:, self.config.lower :]
        student, mimic = self.student(low).chunk(2, dim=1)
        auto = self.decoder(self.widen(self.narrow(low)))
        return (teacher - student).square(), (teacher - auto).square(), (auto.detach() - mimic).square()

    def forward(self, cells: Tensor, valid: Tensor) -> Tensor:
        """Hard part of (T − S)², and the means of the two others; when not training the mean of all."""
        followed, rebuilt, mimicked = self.differences(cells)
        loss = masked_mean(rebuilt.mean(1), valid) + masked_mean(mimicked.mean(1), valid)
        if not self.training or self.config.hard <= 0.0:
            return loss + masked_mean(followed.mean(1), valid)
        values = followed.permute(0, 2, 3, 1)[valid].flatten()
        most = max(1, round((1.0 - self.config.hard) * len(values)))
        return loss + values.topk(min(most, len(values))).values.mean()

    def calibrate(self, cells: Tensor, valid: Tensor) -> None:
        """0.1 / (q_b − q_a) of both maps."""
        for i, found in enumerate(self._maps(cells)):
            # numpy's, for torch's quantile refuses more than 2²⁴ values.
            low, high = np.quantile(found[valid].numpy(), (self.config.q_a, self.config.q_b))
            self.scale[i] = 0.1 / max(high - low, 1e-9)

    def error(self, cells: Tensor, valid: Tensor) -> Tensor:
        """Mean of the two scaled maps."""
        local, whole = self._maps(cells)
        return 0.5 * (self.scale[0] * local + self.scale[1] * whole)

    def _maps(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        followed, _, mimicked = self.differences(cells)
        return followed.mean(1), mimicked.mean(1)


class EfficientAd(NetMethod[EfficientAdConfig]):
    """Fitted; see `pipelines.grids.GridMethod`."""

    net_type, config_type = EfficientAdNet, EfficientAdConfig


def fit_efficientad(
    train: GridData, held_out: GridData, config: EfficientAdConfig, loop: LoopConfig, tell: Tell
) -> EfficientAd:
    """Train on goods of one modality."""
    return EfficientAd.fit(train, held_out, config, loop, tell)
