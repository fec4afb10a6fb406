"""Causal-HM in the form and sizes of its development record, to be measured beside ours; never in a cell.

Everything is pooled: the waveforms' last Mamba state modulates all tokens alike, the process is one vector, the
result is one vector, and the score is their distance. The result's encoder is trained with gradients into both
sides on goods only, so a constant is a global optimum; the report says how much spread was left.

Parts (arXiv 2512.21650 as far as it is public)                                    parameters at published sizes
    projectors         Linear → LayerNorm → GELU → Linear, video and audio          1.45 M
    modulator          Linear, 2 × [x + Mamba(LayerNorm x)], last state → γ′, β     0.37 M
    process encoder    2 TransformerDecoder layers, video asks audio; mean          6.31 M
    result encoder     two depths: mean and GeM of one, mean of the other; gate     9.62 M
    decoder            Linear → LayerNorm → SiLU → dropout → Linear                 0.53 M
Left out: the text term and its projector (CLIP), learning-rate warm-up and weight averaging, which the record names
but does not do. Differs: the record drops no streams and pads none; here a seam's padding is masked.

Glossary: B batch · T tokens · d width · V views · N tokens of a view · C channels of a view's tokens.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.causal_data import CausalData
from pipelines.causal_net import ProcessBatch
from pipelines.causal_sensor import per_sample
from pipelines.causal_targets import published_loss
from pipelines.features.grid import STEPS_PER_TOKEN
from pipelines.grids import Tell
from pipelines.loop import LoopConfig, train_loop
from pipelines.mamba import Mamba

__all__ = ["PublishedConfig", "PublishedNet", "score_published", "train_published"]


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedConfig:
    """Sizes; the defaults are those of the record (V-JEPA 2 ViT-L, AST, DINOv3 ViT-H/16+, 6 sensor channels).

    `sensor` counts values alone here: the steps' masks are used for scaling and go no further.
    """

    sensor: int = 6
    video: int = 1024
    audio: int = 768
    result: int = 1280
    d: int = 512
    hidden: int = 512
    d_sensor: int = 128
    d_state: int = 16
    heads: int = 4
    dropout: float = 0.1
    mask_ratio: float = 0.2
    noise_std: float = 0.0
    gem_p: float = 3.0
    gram: float = 1.0


class SensorModulator(nn.Module):
    """Steps (B, S, sensor) → γ′, β (B, d), zero at first; `count` (B,): steps that exist."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.inp = nn.Linear(config.sensor, config.d_sensor)
        self.norms = nn.ModuleList(nn.LayerNorm(config.d_sensor) for _ in range(2))
        self.mambas = nn.ModuleList(Mamba(config.d_sensor, config.d_state) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(config.d_sensor), nn.Linear(config.d_sensor, 2 * config.d)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, steps: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inp(steps)
        for norm, mamba in zip(self.norms, self.mambas, strict=True):
            x = x + mamba(norm(x))[0]
        last = x[torch.arange(len(x), device=x.device), count.clamp(min=1) - 1]
        gain, shift = self.head(self.norm(last)).chunk(2, -1)
        return gain, shift


class ProcessEncoder(nn.Module):
    """Video and audio tokens (B, T, d) → Z_p (B, d)."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(config.d, config.heads, 2 * config.d, config.dropout, batch_first=True)
        self.layers = nn.TransformerDecoder(layer, 2)
        self.norm = nn.LayerNorm(config.d)

    def forward(self, video: Tensor, audio: Tensor, video_known: Tensor, audio_known: Tensor) -> Tensor:
        # Attention over nothing is NaN: a seam without a stream attends to its zero tokens instead.
        hidden = [~known & known.any(1, keepdim=True) for known in (video_known, audio_known)]
        x = self.layers(video, audio, tgt_key_padding_mask=hidden[0], memory_key_padding_mask=hidden[1])
        weight = (~hidden[0])[..., None].to(x)
        out: Tensor = self.norm((x * weight).sum(1) / weight.sum(1))
        return out


class ResultEncoder(nn.Module):
    """Tokens of two depths (B, V, N, C) → Z_r (B, d): the maximum over views."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        c = config.result
        self.p = nn.Parameter(torch.tensor(config.gem_p))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in range(3))
        self.gate = nn.Sequential(nn.Linear(3 * c, 3 * c // 4), nn.SiLU(), nn.Linear(3 * c // 4, 3 * c), nn.Sigmoid())
        self.head = nn.Sequential(
            nn.Linear(3 * c, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.d),
        )

    def forward(self, middle: Tensor, last: Tensor, views: Tensor) -> Tensor:
        p = self.p.clamp(min=1.0)
        gem = middle.clamp(min=1e-6).pow(p).mean(2).pow(1.0 / p)
        pools = [middle.mean(2), gem, last.mean(2)]
        x = torch.cat([norm(pool) for norm, pool in zip(self.norms, pools, strict=True)], -1)  # (B, V, 3 C)
        z = self.head(x * self.gate(x)).masked_fill(~views[..., None], -torch.inf).amax(1)
        out: Tensor = z.masked_fill(~views.any(1, keepdim=True), 0.0)
        return out


class PublishedNet(nn.Module):
    """Process and result → Ẑ_r and Z_r, (B, d) each."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config, d = config, config.d
        self.project_video, self.project_audio = (
            nn.Sequential(
                nn.Linear(size, config.hidden), nn.LayerNorm(config.hidden), nn.GELU(), nn.Linear(config.hidden, d)
            )
            for size in (config.video, config.audio)
        )
        self.modulator = SensorModulator(config)
        self.process = ProcessEncoder(config)
        self.result = ResultEncoder(config)
        self.decoder = nn.Sequential(
            nn.Linear(d, d), nn.LayerNorm(d), nn.SiLU(), nn.Dropout(config.dropout), nn.Linear(d, d)
        )

    def forward(self, batch: ProcessBatch, middle: Tensor, last: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        steps = per_sample(batch.steps).chunk(2, -1)[0]
        gain, shift = self.modulator(steps, batch.tokens.sum(1) * STEPS_PER_TOKEN)
        gain, shift = ((x * batch.sensor[:, None])[:, None] for x in (gain, shift))
        video = self.project_video(self._noisy(batch.video)) * (1 + gain) + shift
        audio = self.project_audio(self._noisy(batch.audio)) * (1 + gain) + shift
        predicted = self.decoder(self.process(video, audio, batch.video_known, batch.audio_known))
        return predicted, self.result(middle, last, views)

    def _noisy(self, x: Tensor) -> Tensor:
        """The bottleneck, on the features themselves."""
        if not self.training:
            return x
        keep = torch.rand_like(x) >= self.config.mask_ratio
        return (x + self.config.noise_std * torch.randn_like(x)) * keep / (1.0 - self.config.mask_ratio)


def train_published(
    train: CausalData, held_out: CausalData, rows_per_view: int, config: PublishedConfig, loop: LoopConfig, tell: Tell
) -> tuple[PublishedNet, dict[str, float | int | str]]:
    """Train on goods, stop on held-out goods (the record stops on anomalies).

    A view's result rows stand for the tokens of both depths.
    """
    torch.manual_seed(loop.seed)
    net = PublishedNet(config)

    def loss_of(model: nn.Module, data: CausalData, rows: NDArray[np.int64]) -> Tensor:
        predicted, target = model(*_inputs(data, rows, rows_per_view))
        return published_loss(predicted[:, None], target[:, None], torch.ones(len(rows), 1).bool(), config.gram)

    def held_out_loss(model: nn.Module) -> float:
        parts = [(rows, float(loss_of(model, held_out, rows))) for rows in _batches(len(held_out), loop.batch)]
        return sum(len(rows) * loss for rows, loss in parts) / len(held_out)

    before = _spread(net, held_out, rows_per_view, loop.batch)
    done = train_loop(net, len(train), lambda model, rows: loss_of(model, train, rows), held_out_loss, loop, tell)
    spread = _spread(net, held_out, rows_per_view, loop.batch) / max(before, 1e-12)
    return net, {
        "epochs": done.best_epoch,
        "held_out_loss": done.best_loss,
        "held_out_loss_of_the_mean": done.first_loss,
        "train_s": done.seconds,
        "parameters": sum(p.numel() for p in net.parameters()),
        "target_spread": spread,
        "collapsed": int(spread < 0.1),
    }


def score_published(net: PublishedNet, data: CausalData, rows_per_view: int, batch: int = 32) -> NDArray[np.float64]:
    """(1 − cos) + 10 × mean of the worst half of |Z_r − Ẑ_r|, (n,)."""
    predicted, target = _vectors(net, data, rows_per_view, batch)
    cosine = 1.0 - torch.nn.functional.cosine_similarity(predicted, target)
    worst = (predicted - target).abs().topk(predicted.shape[1] // 2, dim=1).values
    found: NDArray[np.float64] = (cosine + 10.0 * worst.mean(1)).double().numpy()
    return found


def _spread(net: PublishedNet, data: CausalData, rows_per_view: int, batch: int) -> float:
    return float(_vectors(net, data, rows_per_view, batch)[1].std(0).mean())


def _vectors(net: PublishedNet, data: CausalData, rows_per_view: int, batch: int) -> tuple[Tensor, Tensor]:
    net.eval()
    with torch.no_grad():
        pairs = [net(*_inputs(data, rows, rows_per_view)) for rows in _batches(len(data), batch)]
    predicted, target = (torch.cat(side) for side in zip(*pairs, strict=True))
    return predicted, target


def _inputs(
    data: CausalData, rows: NDArray[np.int64], rows_per_view: int
) -> tuple[ProcessBatch, Tensor, Tensor, Tensor]:
    n, size = len(rows), data.rows.shape[2]
    tokens = torch.from_numpy(data.rows[rows]).reshape(n, -1, rows_per_view, size)
    views = torch.from_numpy(data.known[rows]).reshape(n, -1, rows_per_view).any(2)
    return data.process_batch(rows), tokens, tokens, views


def _batches(n: int, size: int) -> list[NDArray[np.int64]]:
    return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
