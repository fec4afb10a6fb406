"""Uni-RCM: each modality predicts the other under a learnt reference, beside a residual quantiser; for all programs.

After Uni-RCM (arXiv 2605.29455) and its released code; two nets of `pipelines/uni_rcm_net.py` and a quantiser a
modality (`pipelines/residual_quantiser.py`), chosen by `pipelines/uni_rcm_config.py`. A grid method
(`pipelines/grids.py`): standardised cells in, error maps out. A map is zero where a cell was not measured, and what
was not measured reaches no network.

Glossary::

    x_m (n, H, W, C_m)  cells of modality m · x̂_m what the other modality says of it
    q_m (n, H, W)       the quantiser's error of x_m
    w_m                 weight of the direction that predicts m, 1 for the better one
    S_m                 w_m ‖x̂_m/‖x̂_m‖ − x_m/‖x_m‖‖₂ + β_m q_m / scale

`scale` is the image's own largest q as published (every image then holds a cell of 1, the good ones too), or the 99th
percentile of q on held-out goods of the program, which keeps q's absolute meaning.

With one modality missing the other keeps its quantiser: `error_maps` of a `GridData` with one modality gives
q_m / (that percentile) alone, whatever β, `scale` and w are. It is another figure than S_m and needs thresholds of
its own.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.grids import GridData, Tell
from pipelines.loop import LoopConfig, LoopReport, train_loop
from pipelines.residual_quantiser import QuantiserConfig, ResidualQuantiser, fit_quantiser
from pipelines.torch_device import device_of
from pipelines.uni_rcm_config import UniRcmConfig
from pipelines.uni_rcm_net import Direction, DirectionConfig

__all__ = ["BothWays", "UniRcm", "UniRcmConfig", "direction_loss", "fit_uni_rcm"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
SCORE_SEAMS = 16
"""Seams that are scored at a time."""
SCALE_QUANTILE = 0.99
SCALE_LEAST_CELLS = 1000
"""A program with fewer held-out cells takes the quantile of all programs."""
LEAST_SCALE = 1e-6
LEAST_WEIGHT = 0.05
"""A direction that tells nothing still counts this much: a weight of 0 would be a score that cannot rise."""


class BothWays(nn.Module):
    """The two nets: (first, second, program) → (first as the second tells it, second as the first tells it)."""

    def __init__(self, to_first: DirectionConfig, to_second: DirectionConfig) -> None:
        super().__init__()
        self.to_first, self.to_second = Direction(to_first), Direction(to_second)

    def forward(self, first: Tensor, second: Tensor, program: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (B, H, W, C_m), program (B,)."""
        return self.to_first(second, program), self.to_second(first, program)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UniRcm:
    """A fitted method. `channels`: of each modality of the pair, in order; `r2` and `weight` of the direction that
    predicts it; by modality `quantisers` and `q_goods` (programs,), the percentile of goods, empty without quantiser.
    `report` is the training's, None after `restore`."""

    config: UniRcmConfig
    channels: Mapping[str, int]
    shape: tuple[int, int]
    programs: int
    nets: BothWays
    quantisers: Mapping[str, ResidualQuantiser]
    q_goods: Mapping[str, NDArray[np.float64]]
    r2: Mapping[str, float]
    report: LoopReport | None = None

    @property
    def weight(self) -> dict[str, float]:
        """w of the direction that predicts each modality."""
        if self.config.direction_weights == "equal":
            return dict.fromkeys(self.channels, 1.0)
        told = {name: max(r2, LEAST_WEIGHT) for name, r2 in self.r2.items()}
        return {name: value / max(told.values()) for name, value in told.items()}

    def error_maps(self, data: GridData) -> dict[str, Array]:
        """S by modality `(n, H, W)`; of a single modality its quantiser's term alone.

        Raises ValueError when the grid or a modality is not one that was fitted on.
        """
        self._check(data)
        if len(data.pair) < 2:
            return self._quantised(data, "goods_p99")
        found = {name: self.weight[name] * crossed for name, crossed in self._crossed(data).items()}
        for name, term in (self._quantised(data, self.config.q_scale) if self.quantisers else {}).items():
            found[name] += self.config.beta[name] * term
        return {name: np.where(data.valid, found[name], 0.0).astype(np.float32) for name in data.pair}

    def _check(self, data: GridData) -> None:
        strange = [name for name in data.pair if name not in self.channels]
        if strange or not data.pair:
            raise ValueError(
                f"fitted on {' and '.join(self.channels)}, got cells of {' and '.join(data.pair) or 'none'}"
            )
        if data.valid.shape[1:] != self.shape:
            raise ValueError(f"the reference lies on a grid of {self.shape}, got seams on {data.valid.shape[1:]}")
        if len(data.pair) < 2 and not self.quantisers:
            raise ValueError(
                f"{data.pair[0]} alone cannot be scored without a quantiser: train with quantiser = true"
            )

    def _crossed(self, data: GridData) -> dict[str, Array]:
        """‖norm(x̂) − norm(x)‖₂ ∈ [0, 2] by modality."""
        maps: dict[str, list[Array]] = {name: [] for name in self.channels}
        self.nets.eval()
        with torch.inference_mode():
            for rows in _in_turn(len(data), SCORE_SEAMS):
                seen, _, program = _batch(self.nets, data, rows, tuple(self.channels))
                for name, x, told in zip(self.channels, seen, self.nets(*seen, program), strict=True):
                    off = F.normalize(told, dim=-1) - F.normalize(x, dim=-1)
                    maps[name].append(off.norm(dim=-1).cpu().numpy())
        empty = np.zeros((0, *self.shape), np.float32)
        return {name: np.concatenate([empty, *parts]) for name, parts in maps.items()}

    def _quantised(self, data: GridData, scale: Literal["image_max", "goods_p99"]) -> dict[str, Array]:
        """q / scale by modality, 0 where invalid."""
        found = {}
        for name in data.pair:
            q = _errors(self.quantisers[name], data, name)
            by = q.max((1, 2)) if scale == "image_max" else self.q_goods[name][data.program]
            found[name] = (q / np.maximum(by, LEAST_SCALE)[:, None, None]).astype(np.float32)
        return found

    def to(self, device: str) -> Self:
        """Itself, moved; quantisers are numpy."""
        self.nets.to(device)
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Named arrays for the model file."""
        found: dict[str, NDArray[Any]] = {
            f"nets.{name}": value.cpu().numpy() for name, value in self.nets.state_dict().items()
        }
        for name, quantiser in self.quantisers.items():
            found |= {f"quantiser.{name}.{key}": codes for key, codes in quantiser.tensors().items()}
            found[f"q_goods.{name}"] = self.q_goods[name]
        return found

    def about(self) -> dict[str, Any]:
        """What `restore` needs beside the arrays; TOML-ready."""
        return {
            "config": dataclasses.asdict(self.config),
            "channels": dict(self.channels),
            "shape": list(self.shape),
            "programs": self.programs,
            "r2": dict(self.r2),
        }

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """What `about` and `tensors` gave."""
        config = UniRcmConfig(**about["config"])
        shape = cast(tuple[int, int], tuple(about["shape"]))
        nets = _nets(config, about["channels"], shape, about["programs"])
        # Copies: arrays of a model file may be read-only.
        nets.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in _under("nets", tensors).items()})
        nets.eval()
        kept = [name for name in about["channels"] if f"q_goods.{name}" in tensors]
        return cls(
            config=config,
            channels=dict(about["channels"]),
            shape=shape,
            programs=about["programs"],
            nets=nets,
            quantisers={n: ResidualQuantiser.from_tensors(_under(f"quantiser.{n}", tensors)) for n in kept},
            q_goods={n: np.asarray(tensors[f"q_goods.{n}"]) for n in kept},
            r2=dict(about["r2"]),
        )


def fit_uni_rcm(train: GridData, held_out: GridData, config: UniRcmConfig, loop: LoopConfig, tell: Tell) -> UniRcm:
    """Fit on good seams; `held_out`, goods of other sessions, stop the training, scale q and weigh the directions.

    The same model for the same seams, seed (`loop.seed`) and number of threads. Raises ValueError unless both have
    seams of the same two modalities.
    """
    if len(train.pair) != 2 or train.pair != held_out.pair or not len(train) or not len(held_out):
        raise ValueError(
            f"Uni-RCM is fitted on good seams of two modalities, training and held out; got {len(train)} of "
            f"{train.pair} and {len(held_out)} of {held_out.pair}"
        )
    channels = {name: cells.shape[-1] for name, cells in train.cells.items()}
    shape = cast(tuple[int, int], train.valid.shape[1:])
    quantisers = _fit_quantisers(train, config, loop.seed, tell) if config.quantiser else {}
    torch.manual_seed(loop.seed)
    nets = _nets(config, channels, shape, train.programs)
    report = train_loop(
        nets,
        len(train),
        lambda net, rows: _loss(net, train, rows, config.mse_weight),
        lambda net: _mean_loss(net, held_out, config.mse_weight, loop.batch),
        loop,
        tell,
    )
    return UniRcm(
        config=config,
        channels=channels,
        shape=shape,
        programs=train.programs,
        nets=nets,
        quantisers=quantisers,
        q_goods={name: _quantile_of_goods(_errors(q, held_out, name), held_out) for name, q in quantisers.items()},
        r2=_explained(nets, held_out),
        report=report,
    )


def _nets(config: UniRcmConfig, channels: Mapping[str, int], shape: tuple[int, int], programs: int) -> BothWays:
    first, second = channels.values()

    def direction(source: int, target: int) -> DirectionConfig:
        return DirectionConfig(
            source, target, shape, config.d, config.blocks, config.norm, config.branch, config.reference,
            programs if config.program_embedding else 0,
        )  # fmt: skip

    return BothWays(direction(second, first), direction(first, second))


def _fit_quantisers(train: GridData, config: UniRcmConfig, seed: int, tell: Tell) -> dict[str, ResidualQuantiser]:
    found = {}
    for name, cells in train.cells.items():
        settings = QuantiserConfig(
            config.levels, config.codes[name], config.iterations, config.normalise_first, config.rows_per_code, seed
        )
        found[name] = fit_quantiser(cells[train.valid], settings, _teller(tell, name, config.levels))
    return found


def _teller(tell: Tell, name: str, levels: int) -> Callable[[int, float], None]:
    return lambda level, error: tell(f"quantiser {name}", level, levels, error)


def _errors(quantiser: ResidualQuantiser, data: GridData, name: str) -> Array:
    """q of a modality's valid cells, 0 elsewhere, `(n, H, W)`."""
    found = np.zeros(data.valid.shape, np.float32)
    found[data.valid] = quantiser.error(data.cells[name][data.valid])
    return found


def _quantile_of_goods(q: Array, goods: GridData) -> NDArray[np.float64]:
    """The percentile that scales q, by program `(programs,)`."""
    if not goods.valid.any():
        raise ValueError(f"none of the {len(goods)} held-out goods has a valid cell")
    pooled = float(np.quantile(q[goods.valid], SCALE_QUANTILE))
    found = np.full(goods.programs, pooled)
    for program in range(goods.programs):
        own = q[goods.valid & (goods.program == program)[:, None, None]]
        if len(own) >= SCALE_LEAST_CELLS:
            found[program] = np.quantile(own, SCALE_QUANTILE)
    floored: NDArray[np.float64] = np.maximum(found, LEAST_SCALE)
    return floored


def _in_turn(rows: int, size: int) -> Iterator[Rows]:
    for start in range(0, rows, size):
        yield np.arange(start, min(start + size, rows))


def _batch(net: nn.Module, data: GridData, rows: Rows, pair: tuple[str, ...]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Both modalities' cells (B, H, W, C_m), 0 where invalid; valid (B, H, W); program (B,); where the net is."""
    device = device_of(net)
    valid = data.valid[rows]
    seen = [
        torch.from_numpy(np.where(valid[..., None], data.cells[name][rows], np.float32(0.0))).to(device)
        for name in pair
    ]
    return seen, torch.from_numpy(valid).to(device), torch.from_numpy(data.program[rows]).to(device)


def _loss(net: nn.Module, data: GridData, rows: Rows, mse_weight: float) -> Tensor:
    """Sum over both directions."""
    seen, valid, program = _batch(net, data, rows, data.pair)
    both = [direction_loss(told, x, valid, mse_weight) for x, told in zip(seen, net(*seen, program), strict=True)]
    return both[0] + both[1]


def direction_loss(told: Tensor, x: Tensor, valid: Tensor, mse_weight: float) -> Tensor:
    """(1 − cos) + mse_weight · MSE of cells `(B, H, W, C)`, mean over the valid ones `(B, H, W)`; 0 without any."""
    cell = 1.0 - F.cosine_similarity(told, x, dim=-1) + mse_weight * (told - x).square().mean(-1)
    return torch.where(valid, cell, 0.0).sum() / valid.sum().clamp(min=1)


def _mean_loss(net: nn.Module, data: GridData, mse_weight: float, batch: int) -> float:
    """Mean over seams."""
    total = 0.0
    for rows in _in_turn(len(data), batch):
        total += float(_loss(net, data, rows, mse_weight)) * len(rows)
    return total / len(data)


def _explained(nets: BothWays, goods: GridData) -> dict[str, float]:
    """R² of each direction, named by what it predicts, on cells of unit length (as the score compares them): the
    share of their spread around their mean that the other modality tells; ≤ 1, negative when worse than the mean."""
    off = dict.fromkeys(goods.pair, 0.0)
    spread = dict.fromkeys(goods.pair, 0.0)
    mean = {
        name: F.normalize(torch.from_numpy(goods.cells[name][goods.valid]), dim=-1).mean(0) for name in goods.pair
    }
    nets.eval()
    with torch.inference_mode():
        for rows in _in_turn(len(goods), SCORE_SEAMS):
            seen, valid, program = _batch(nets, goods, rows, goods.pair)
            for name, x, told in zip(goods.pair, seen, nets(*seen, program), strict=True):
                x, told = F.normalize(x[valid], dim=-1), F.normalize(told[valid], dim=-1)
                off[name] += float((told - x).square().sum())
                spread[name] += float((x - mean[name].to(x.device)).square().sum())
    return {name: 1.0 - off[name] / max(spread[name], math.ulp(1.0)) for name in goods.pair}


def _under(prefix: str, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays whose names begin with `prefix.`, without it."""
    return {n.removeprefix(f"{prefix}."): v for n, v in tensors.items() if n.startswith(f"{prefix}.")}
