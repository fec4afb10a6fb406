"""Training of any form of Causal-HM's network, without the rest of the product: what the bench compares.

`train_net` gives a network and what happened; `pipelines/causal_residual.py` makes scores of it. The product's own
training is `pipelines/training.py`.
"""

import dataclasses
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.causal_config import NetConfig
from pipelines.causal_data import CausalData
from pipelines.causal_net import CausalNet
from pipelines.causal_reverse import ReverseNet
from pipelines.causal_targets import WeightedTarget, published_loss, squared_loss, variance_term
from pipelines.gaussian import cross_fitted
from pipelines.grids import Tell
from pipelines.loop import LoopConfig, train_loop
from pipelines.modality_dropout import drop_modalities
from pipelines.skip import Skip, fit_skip

__all__ = ["CausalTraining", "Trained", "net_config", "predict", "train_net"]

COLLAPSED = 0.1
"""A target whose spread fell below this share of its first one says nothing any more."""
Rows = NDArray[np.int64]
Net = CausalNet | ReverseNet


@dataclasses.dataclass(frozen=True, slots=True)
class CausalTraining:
    """Beside NetConfig and LoopConfig.

    loss: squared as in the product, or published (cosine and SmoothL1, `gram` × Gram). linear: the closed-form way
    of `pipelines/skip.py` stands beside the network, which then learns the remainder; frozen_pca with every view.
    """

    loss: Literal["squared", "published"] = "squared"
    gram: float = 0.0
    modality_dropout: float = 0.15
    modality_dropout_sensor: float = 0.0
    linear: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The network and what stands beside it; told (n, Q, K): the linear way's answer for held-out goods."""

    net: Net
    linear: Skip | None
    told: NDArray[np.float32] | None
    report: dict[str, float | int | str]


def net_config(data: CausalData, **choices: object) -> NetConfig:
    """The configuration whose sizes fit `data`; `choices` are NetConfig's other fields, and `queries`."""
    first = data.processes[0]
    sizes: dict[str, object] = {
        "sensor": first.steps.shape[1],
        "video": first.video.shape[1],
        "audio": first.audio.shape[1],
        "targets": data.rows.shape[2],
        "queries": data.rows.shape[1],
        "programs": data.programs,
    }
    return NetConfig(**(sizes | choices))  # type: ignore[arg-type]


def train_net(
    train: CausalData,
    held_out: CausalData,
    config: NetConfig,
    training: CausalTraining,
    loop: LoopConfig,
    tell: Tell,
) -> Trained:
    """Train on goods, stop on held-out goods. Deterministic for `loop.seed` and a number of threads.

    Raises ValueError for a linear way beside a target that is no row of the result.
    """
    if training.linear and (config.target != "frozen_pca" or config.views != "each"):
        raise ValueError(f"linear: needs target frozen_pca and views each, not {config.target} and {config.views}")
    torch.manual_seed(loop.seed)
    net = ReverseNet(config) if config.direction == "reverse" else CausalNet(config)
    linear, told = _linear(train, held_out, config.direction) if training.linear else (None, None)
    parts = {"train": train, "held_out": held_out}
    goals = {name: _goal(data, config, told, len(train), name) for name, data in parts.items()}
    if isinstance(net.target, WeightedTarget):
        net.target.fit(goals["held_out"], held_out.asked(config.direction)[1])
    if training.loss == "published":  # the cosine of a zero has no gradient worth following
        nn.init.normal_(net.decoder.out.weight, std=0.02)
    before = _spread(net, held_out, goals["held_out"])

    def loss(wrapped: nn.Module, rows: Rows) -> Tensor:
        net.target.after_step()
        return _loss(net, wrapped, train, goals["train"], rows, training)

    def held_out_loss(_: nn.Module) -> float:
        losses = [
            float(_loss(net, net, held_out, goals["held_out"], rows, training)) * len(rows)
            for rows in _batches(len(held_out), loop.batch)
        ]
        return sum(losses) / len(held_out)

    done = train_loop(net, len(train), loss, held_out_loss, loop, tell)
    after = _spread(net, held_out, goals["held_out"])
    report: dict[str, float | int | str] = {
        "epochs": done.best_epoch,
        "held_out_loss": done.best_loss,
        "held_out_loss_of_the_mean": done.first_loss,
        "train_s": done.seconds,
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "target_spread": after / max(before, 1e-12),
        "collapsed": int(after < COLLAPSED * before),
    }
    return Trained(net, linear, None if told is None else told[len(train) :], report)


def predict(net: Net, data: CausalData, batch: int = 32) -> NDArray[np.float32]:
    """What the network predicts of every seam (n, Q, K)."""
    net.eval()
    with torch.inference_mode():
        return np.concatenate([_answer(net, net, data, rows, None).numpy() for rows in _batches(len(data), batch)])


def _answer(net: Net, wrapped: nn.Module, data: CausalData, rows: Rows, training: CausalTraining | None) -> Tensor:
    if isinstance(net, ReverseNet):
        answer: Tensor = wrapped(data.rows_batch(rows))
        return answer
    batch = data.process_batch(rows)
    if net.training and training is not None:
        batch = drop_modalities(batch, training.modality_dropout, training.modality_dropout_sensor)
    answer = wrapped(batch)
    return answer


def _loss(
    net: Net, wrapped: nn.Module, data: CausalData, goal: NDArray[np.float32], rows: Rows, training: CausalTraining
) -> Tensor:
    shown = torch.from_numpy(goal[rows])
    known = torch.from_numpy(data.asked(net.config.direction)[1][rows])
    predicted = _answer(net, wrapped, data, rows, training)
    target, there = net.target(shown, known)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return squared_loss(a, b, there) if training.loss == "squared" else published_loss(a, b, there, training.gram)

    found = distance(predicted, target)
    learning = net.target.learning(shown)
    if learning is not None:
        own, _ = net.target.pool(learning, known)
        found = found + distance(predicted.detach(), own) + variance_term(own, there)
    return found


def _goal(
    data: CausalData, config: NetConfig, told: NDArray[np.float32] | None, train: int, part: str
) -> NDArray[np.float32]:
    """The rows that the network is shown, less what the linear way tells."""
    rows = data.asked(config.direction)[0]
    if told is None:
        return rows
    return rows - (told[:train] if part == "train" else told[train:])


def _linear(train: CausalData, held_out: CausalData, direction: str) -> tuple[Skip, NDArray[np.float32]]:
    """The linear way, fitted on both parts, and what it tells of their seams out of fold by session (n, Q, K)."""
    parts = (train, held_out)
    given = np.concatenate([d.summaries(direction) for d in parts])
    asked = np.concatenate([d.asked(direction)[0] for d in parts]).astype(np.float64)
    program, session = (np.concatenate([getattr(d, name) for d in parts]) for name in ("program", "session"))

    def fitted_on(rows: Rows) -> Skip:
        return fit_skip(given[rows], asked[rows], program[rows], session[rows], train.programs)

    told = cross_fitted(session, fitted_on, lambda skip, i: skip.predict(given[i], int(program[i])))
    return fitted_on(np.arange(len(given))), told.astype(np.float32)


def _spread(net: Net, data: CausalData, goal: NDArray[np.float32]) -> float:
    """Mean standard deviation over goods of a target's numbers, each place by itself."""
    net.eval()
    with torch.no_grad():
        target, known = net.target(torch.from_numpy(goal), torch.from_numpy(data.asked(net.config.direction)[1]))
    weight = known[..., None]
    count = weight.sum(0).clamp(min=1)
    mean = (target * weight).sum(0) / count
    return float((((target - mean) * weight).square().sum(0) / count).sqrt().mean())


def _batches(n: int, size: int) -> list[Rows]:
    return [np.arange(i, min(i + size, n)) for i in range(0, n, size)]
