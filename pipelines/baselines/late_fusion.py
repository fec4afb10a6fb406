"""`late_fusion`: an autoencoder for sound, one for video, their errors weighed and added (after arXiv 2409.02290).

Each autoencoder is convolutional over time on the tokens of its modality; a seam's error is pooled over its tokens,
standardised on held-out goods, and sound and video are added with the published weights .37 and .63.

Differs from the paper: the tokens are this pipeline's (log-mel and lite0 channels of sound after PCA, lite0 channels
of video after PCA) instead of spectrograms and SlowFast features; both autoencoders are one small form; errors are
standardised before they are weighed, for the weights to mean the same whatever the channels' units; a seam that lacks
one modality is judged by the other alone (a threshold of its own is the caller's, who knows the surviving streams).

Glossary: T tokens, D channels of a modality, z its standardised error.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.baselines.seam_method import SeamGoods
from pipelines.gaussian import raw_score
from pipelines.grids import Tell
from pipelines.loop import LoopConfig, train_loop
from pipelines.normaliser import Process

__all__ = ["LateFusion", "LateFusionConfig", "TokenAutoencoder", "fit_late_fusion"]

MODALITIES = ("audio", "video")


@dataclasses.dataclass(frozen=True, slots=True)
class LateFusionConfig:
    """`hidden`, `code`: channels of the autoencoders; `reach` of a convolution in tokens, odd."""

    hidden: int = 48
    code: int = 8
    reach: int = 5
    audio_weight: float = 0.37
    video_weight: float = 0.63
    pool: Literal["mean", "max"] = "mean"
    """How a seam's error comes from its tokens'."""

    @classmethod
    def preset(cls, preset: Literal["compat", "cell"], size: Literal["cpu", "gpu"] = "cpu") -> "LateFusionConfig":
        """Both presets are alike: the weights are the published ones, the inputs cannot be."""
        return cls() if size == "cpu" else cls(hidden=128, code=16)

    @property
    def weights(self) -> dict[str, float]:
        """By modality."""
        return {"audio": self.audio_weight, "video": self.video_weight}


class TokenAutoencoder(nn.Module):
    """(b, T, D) → (b, T, D) through `code` channels, half as often where T allows."""

    def __init__(self, channels: int, config: LateFusionConfig) -> None:
        super().__init__()
        if config.reach % 2 == 0:
            raise ValueError(f"a convolution has a token in its middle, so an odd reach, not {config.reach}")
        pad = config.reach // 2
        self.encoder = nn.Sequential(
            nn.Conv1d(channels, config.hidden, config.reach, padding=pad),
            nn.GELU(),
            nn.Conv1d(config.hidden, config.code, config.reach, stride=2, padding=pad),
        )
        self.decoder = nn.Sequential(
            nn.Conv1d(config.code, config.hidden, config.reach, padding=pad),
            nn.GELU(),
            nn.Conv1d(config.hidden, channels, config.reach, padding=pad),
        )

    def forward(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Squared error per token `(b, T)`, mean over channels, 0 where not `known` `(b, T)`."""
        x = tokens.transpose(1, 2) * known[:, None]
        code = self.encoder(x).repeat_interleave(2, -1)[..., : x.shape[-1]]
        found: Tensor = (self.decoder(code) - x).square().mean(1) * known
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LateFusion:
    """`nets` by modality; `mean`, `spread`: of held-out goods' errors."""

    config: LateFusionConfig
    nets: Mapping[str, TokenAutoencoder]
    mean: Mapping[str, float]
    spread: Mapping[str, float]

    def score(self, process: Process, program: int) -> float:
        """Softplus of the weighted sum of z: the same order, and > 0. One network serves all programs.

        Raises ValueError when neither sound nor video was measured.
        """
        z = self.parts(process)
        if not z:
            raise ValueError(f"the seam has neither of {', '.join(self.nets)}")
        weights = self.config.weights
        total = sum(weights[name] * value for name, value in z.items()) / sum(weights[name] for name in z)
        return raw_score(total)

    def parts(self, process: Process) -> dict[str, float]:
        """z of each modality that the seam has."""
        found = {}
        for name, net in self.nets.items():
            tokens, known = _tokens(process, name)
            if known.any():
                with torch.inference_mode():
                    off = net(torch.from_numpy(tokens)[None], torch.from_numpy(known)[None])[0].numpy()
                found[name] = (_pooled(off[known], self.config.pool) - self.mean[name]) / self.spread[name]
        return found

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        return {
            f"{name}.{key}": value.detach().numpy()
            for name, net in self.nets.items()
            for key, value in net.state_dict().items()
        }

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays."""
        channels = {name: int(net.state_dict()["encoder.0.weight"].shape[1]) for name, net in self.nets.items()}
        return {
            "config": dataclasses.asdict(self.config),
            "channels": channels,
            "mean": dict(self.mean),
            "spread": dict(self.spread),
        }

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> "LateFusion":
        """What `about` and `tensors` gave."""
        config = LateFusionConfig(**about["config"])
        nets = {}
        for name, channels in about["channels"].items():
            nets[name] = TokenAutoencoder(channels, config)
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            nets[name].load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in own.items()})
            nets[name].eval()
        return cls(config, nets, about["mean"], about["spread"])


def fit_late_fusion(
    train: SeamGoods, held_out: SeamGoods, config: LateFusionConfig, loop: LoopConfig, tell: Tell
) -> LateFusion:
    """An autoencoder for each modality that both `train` and `held_out` have; goods only.

    Raises ValueError when there is none.
    """
    nets, mean, spread = {}, {}, {}
    for name in MODALITIES:
        goods, others = _with(train.processes, name), _with(held_out.processes, name)
        if not goods or not others:
            continue  # this cell has no such stream
        stage = dataclasses.replace(loop, stage=f"{loop.stage}_{name}")  # each has a checkpoint of its own
        nets[name] = _trained(goods, others, config, stage, tell)
        with torch.inference_mode():
            errors = [nets[name](*_batch([seam]))[0][torch.from_numpy(seam[1])].numpy() for seam in others]
        pooled = np.array([_pooled(off, config.pool) for off in errors])
        mean[name], spread[name] = float(pooled.mean()), max(float(pooled.std()), 1e-9)
    if not nets:
        raise ValueError("neither sound nor video is in the training and the held-out goods")
    return LateFusion(config, nets, mean, spread)


Seam = tuple[NDArray[np.float32], NDArray[np.bool_]]


def _trained(
    goods: Sequence[Seam], others: Sequence[Seam], config: LateFusionConfig, loop: LoopConfig, tell: Tell
) -> TokenAutoencoder:
    torch.manual_seed(loop.seed)
    net = TokenAutoencoder(goods[0][0].shape[1], config)
    tokens, known = _batch(goods)
    other, other_known = _batch(others)

    def loss(wrapped: nn.Module, rows: NDArray[np.int64]) -> Tensor:
        at = torch.from_numpy(rows)
        found: Tensor = wrapped(tokens[at], known[at]).sum() / known[at].sum()
        return found

    def held_out_loss(wrapped: nn.Module) -> float:
        return float(wrapped(other, other_known).sum() / other_known.sum())

    train_loop(net, len(goods), loss, held_out_loss, loop, tell)
    return net


def _tokens(process: Process, name: str) -> Seam:
    return (process.audio, process.audio_known) if name == "audio" else (process.video, process.video_known)


def _with(processes: Sequence[Process], name: str) -> list[Seam]:
    """Tokens of the seams that have the modality."""
    return [seam for seam in (_tokens(process, name) for process in processes) if seam[1].any()]


def _batch(seams: Sequence[Seam]) -> tuple[Tensor, Tensor]:
    """Padded at the end to the longest: `(b, T, D)` and `(b, T)`."""
    longest = max(len(known) for _, known in seams)
    tokens = np.zeros((len(seams), longest, seams[0][0].shape[1]), np.float32)
    known = np.zeros((len(seams), longest), np.bool_)
    for i, (values, have) in enumerate(seams):
        tokens[i, : len(values)], known[i, : len(have)] = values, have
    return torch.from_numpy(tokens), torch.from_numpy(known)


def _pooled(errors: NDArray[np.float32], pool: str) -> float:
    return float(errors.mean() if pool == "mean" else errors.max())
