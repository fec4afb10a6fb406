"""IB-IUMAD as a grid method: one model for all programs, which learns a new one from the new one's goods alone.

Written from the paper's description (Zhou et al., IB-IUMAD, arXiv 2603.02629); the released code is another model.
A seam's cells are pooled to tokens, reconstructed as a good seam of some program would look, and compared:
the distance of reconstruction and cells, brought back to the grid, is the error map. The program's label serves in
training only; scoring does not need it.

Deviations: the frozen cells of edged stand for the paper's EfficientNet features, and a learned linear of them for
the raw images of its Mamba decoders. `preset` "compat" reconstructs the pair's first modality only, as the paper's
loss does; "cell" reconstructs both, so that a fault which one modality alone shows is seen in either.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipelines.forgetting_guard import ForgettingGuard, Guard, outputs_recorded
from pipelines.grids import Array, GridData, Tell
from pipelines.ib_net import Fusion, IbNet, IbOut, NetConfig, feed_forward_ends
from pipelines.loop import LoopConfig, LoopReport, train_loop
from pipelines.torch_device import device_of, torch_device

__all__ = ["IbIumad", "IbIumadConfig", "add_programs", "fit_ib_iumad", "parameter_counts"]

Preset = Literal["compat", "cell"]
Size = Literal["cpu", "gpu"]
SCORING_BATCH = 64


@dataclasses.dataclass(frozen=True, slots=True)
class IbIumadConfig:
    """The defaults are preset "cell" at size "cpu".

    `targets`: which modalities are reconstructed. `mamba`, `ibfm`: the paper's two modules; without both it is a
    naive fusion like IUF's. `head_ce`: also teach the head of P(Y|·) the program, for a head that no loss teaches may
    say the same of everything, and then L_IB is 0 and says nothing. `both_sides`: gradients of L_IB flow into F_fu
    too. `cross_residual`: F_fu = F¹ + CrossAtt(F¹, F²). `condition_detached`: Mamba decoders learn from the label
    only. `jitter`: noise of a training token in units of its norm / C. `svd_tail`: weight of the base stage's
    loss on small singular values (10 in IUF's code, but on detached features, so without effect: 0).
    `max_tokens`: cells are pooled by the least whole factor that gives no more tokens.
    """

    max_tokens: int = 64
    d: int = 96
    feed_forward: int = 256
    heads: int = 4
    levels: int = 4
    expand: int = 1
    d_state: int = 8
    bottleneck: int = 48
    dropout: float = 0.1
    jitter: float = 20.0
    mamba: bool = True
    ibfm: bool = True
    fusion: Fusion = "cross"
    targets: Literal["first", "both"] = "both"
    cross_residual: bool = True
    condition_detached: bool = True
    head_ce: bool = True
    both_sides: bool = False
    svd_tail: float = 0.0
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """λ₁…λ₄ of L_R, L_D, reconstruction and L_IB."""
    forgetting_guard: Guard = "svd_project+ema_pull"

    @classmethod
    def preset(cls, preset: Preset = "cell", size: Size = "cpu", **changes: Any) -> "IbIumadConfig":
        """A preset at a size, with single fields changed."""
        return cls(**{**PRESETS[preset], **SIZES[size], **changes})


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "compat": {"targets": "first", "cross_residual": False, "head_ce": False},
    "cell": {},
}
SIZES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "gpu": {
        "max_tokens": 400, "d": 256, "feed_forward": 1024, "heads": 8, "expand": 2, "d_state": 16, "bottleneck": 128,
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Cells pooled: maps[m] (n, h, w, C_m), seen (n, L) bool, label (n,)."""

    maps: dict[str, Tensor]
    seen: Tensor
    label: Tensor

    def take(self, rows: NDArray[np.int64] | slice) -> "Tokens":
        """Some seams."""
        at = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        return Tokens({name: m[at] for name, m in self.maps.items()}, self.seen[at], self.label[at])

    def to(self, device: torch.device) -> "Tokens":
        """The same where a network is."""
        return Tokens({n: m.to(device) for n, m in self.maps.items()}, self.seen.to(device), self.label.to(device))

    def __len__(self) -> int:
        return len(self.label)


def pool_factor(grid: tuple[int, int], max_tokens: int) -> int:
    """The least factor that pools a grid to no more tokens than `max_tokens`."""
    factor = 1
    while -(-grid[0] // factor) * -(-grid[1] // factor) > max_tokens:
        factor += 1
    return factor


def pool(data: GridData, max_tokens: int) -> Tokens:
    """Means over the valid cells of each token. Raises ValueError where the result is not 2 × 2 or more."""
    h, w = data.valid.shape[1:]
    factor = pool_factor((h, w), max_tokens)
    if min(-(-h // factor), -(-w // factor)) < 2:
        raise ValueError(f"a grid of {h} × {w} cells pooled to {max_tokens} tokens is not 2 × 2: allow more tokens")
    valid = torch.from_numpy(np.ascontiguousarray(data.valid))[:, None].float()  # (n, 1, H, W)
    share = F.avg_pool2d(valid, factor, ceil_mode=True)
    maps = {}
    for name, cells in data.cells.items():
        image = torch.from_numpy(np.ascontiguousarray(cells)).movedim(-1, 1)  # (n, C, H, W)
        image = torch.where(valid > 0, image, 0.0)  # what is not valid may be NaN
        mean = F.avg_pool2d(image, factor, ceil_mode=True) / share.clamp_min(1e-6)
        maps[name] = mean.movedim(1, -1).contiguous()
    return Tokens(maps, share.flatten(1) > 0, torch.from_numpy(np.ascontiguousarray(data.program)))


class IbIumad:
    """A fitted model; `GridMethod`. `report` says how the last training went, None after `restore`."""

    def __init__(
        self, config: IbIumadConfig, net: IbNet, outputs: Mapping[str, Tensor], report: LoopReport | None = None
    ):
        self.config, self.net, self.report = config, net, report
        self.outputs = dict(outputs)
        """Yᵀ Y of the guarded layers' outputs over every program's training goods so far."""
        net.eval()

    @property
    def programs(self) -> int:
        """Programs learnt so far."""
        return self.net.config.programs

    @torch.no_grad()
    def error_maps(self, data: GridData) -> dict[str, Array]:
        """‖F^g − F‖ per token, bilinear on the grid, (n, H, W) by reconstructed modality; 0 where not valid.

        Raises ValueError for another pair or another grid than the model's.
        """
        _check(self.net.config, data, self.config.max_tokens)
        found: dict[str, list[Array]] = {name: [] for name in self.net.config.targets}
        for start in range(0, len(data), SCORING_BATCH):
            some = data.take(np.arange(start, min(start + SCORING_BATCH, len(data))))
            tokens = pool(some, self.config.max_tokens).to(device_of(self.net))
            out = self.net(tokens.maps, tokens.seen)
            factor = pool_factor((data.valid.shape[1], data.valid.shape[2]), self.config.max_tokens)
            for name, guess in out.maps.items():
                far = (guess - tokens.maps[name]).norm(dim=-1)[:, None]  # (b, 1, h, w)
                far = torch.where(tokens.seen.view_as(far), far, 0.0)
                wide = F.interpolate(far, scale_factor=float(factor), mode="bilinear", align_corners=False)
                wide = wide[:, 0, : some.valid.shape[1], : some.valid.shape[2]]
                found[name].append(wide.cpu().numpy() * some.valid)
        empty = np.zeros((0, *data.valid.shape[1:]), np.float32)
        return {name: np.concatenate([empty, *maps]).astype(np.float32) for name, maps in found.items()}

    def to(self, device: str) -> Self:
        """Itself, moved."""
        self.net.to(device)
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Weights as "net.*", the guard's Yᵀ Y as "outputs.*"."""
        parts = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        parts |= {f"outputs.{name}": value for name, value in self.outputs.items()}
        return {name: value.detach().cpu().numpy().copy() for name, value in parts.items()}

    def about(self) -> dict[str, Any]:
        """Config, the pair's channels in order, token grid, programs and parameter counts."""
        c = self.net.config
        config = dataclasses.asdict(self.config)
        return {
            "config": config | {"weights": list(self.config.weights)},
            "pair": list(c.channels),
            "channels": list(c.channels.values()),
            "grid": list(c.grid),
            "programs": c.programs,
            "parameters": parameter_counts(self.net),
        }

    @classmethod
    def restore(cls, about: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """What `about` and `tensors` gave; raises RuntimeError where weights do not fit the structure."""
        config = IbIumadConfig(**{**about["config"], "weights": tuple(about["config"]["weights"])})
        channels = dict(zip(about["pair"], about["channels"], strict=True))
        net = IbNet(_net_config(config, channels, tuple(about["grid"]), about["programs"]))
        parts: dict[str, dict[str, Tensor]] = {"net": {}, "outputs": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = torch.from_numpy(np.array(value))
        net.load_state_dict(parts["net"], strict=True)
        return cls(config, net, parts["outputs"])


def parameter_counts(net: IbNet) -> dict[str, int]:
    """Trainable parameters by part, and in total."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    return counts | {"total": sum(counts.values())}


def fit_ib_iumad(train: GridData, held_out: GridData, config: IbIumadConfig, loop: LoopConfig, tell: Tell) -> IbIumad:
    """Fit on goods of `train.programs` programs; early stopping on `held_out` goods.

    Raises ValueError for a pair that is not two modalities or goods that are none.
    """
    if not len(train) or not len(held_out):
        raise ValueError(f"IB-IUMAD needs goods to train and others held out, got {len(train)} and {len(held_out)}")
    torch.manual_seed(loop.seed)
    tokens = pool(train, config.max_tokens)
    grid = next(iter(tokens.maps.values())).shape[1:3]
    channels = {name: cells.shape[-1] for name, cells in train.cells.items()}
    net = IbNet(_net_config(config, channels, (int(grid[0]), int(grid[1])), train.programs))
    report = _train(net, tokens, pool(held_out, config.max_tokens), config, loop, tell, None)
    return IbIumad(config, net, _outputs(net, tokens), report)


def add_programs(
    model: IbIumad,
    train_new: GridData,
    held_new: GridData,
    config: IbIumadConfig,
    loop: LoopConfig,
    tell: Tell,
    replay: GridData | None = None,
) -> IbIumad:
    """A model that knows further programs too, trained on their goods only; `model` stays as it is.

    Args:
        train_new: goods whose `program` counts on from `model.programs`; `programs` is the new total.
        held_new: held-out goods of the new programs.
        config: `model.config`, save for `forgetting_guard`.
        replay: kept goods of old programs that train along: the baseline that does keep old data.

    Raises ValueError where a good is not of a new program, or the config is another network's.
    """
    same = dataclasses.replace(config, forgetting_guard=model.config.forgetting_guard)
    if same != model.config:
        differ = [f.name for f in dataclasses.fields(same) if getattr(same, f.name) != getattr(model.config, f.name)]
        raise ValueError(f"an increment keeps the model's config, but {', '.join(differ)} differ")
    _check(model.net.config, train_new, config.max_tokens)
    if not model.programs <= train_new.program.min() <= train_new.program.max() < train_new.programs:
        raise ValueError(
            f"new programs count from {model.programs} to {train_new.programs - 1}, got goods of program "
            f"{train_new.program.min()} to {train_new.program.max()}"
        )
    torch.manual_seed(loop.seed)
    net = copy.deepcopy(model.net).to(torch_device(loop.device))
    guard = ForgettingGuard(config.forgetting_guard, net, feed_forward_ends(net), model.outputs)
    net.grow(train_new.programs)
    new = pool(train_new, config.max_tokens)
    tokens = new if replay is None else _joined(new, pool(replay, config.max_tokens))
    report = _train(net, tokens, pool(held_new, config.max_tokens), config, loop, tell, guard)
    added = _outputs(net, new)
    return IbIumad(config, net, {name: model.outputs[name] + gram for name, gram in added.items()}, report)


def _train(
    net: IbNet,
    tokens: Tokens,
    held: Tokens,
    config: IbIumadConfig,
    loop: LoopConfig,
    tell: Tell,
    guard: ForgettingGuard | None,
) -> LoopReport:
    base = guard is None

    def loss(_net: Any, rows: NDArray[np.int64]) -> Tensor:
        if guard is not None:
            guard.before_step()
        some = tokens.take(rows).to(device_of(net))
        return _loss(net(some.maps, some.seen), some, config, base)

    def held_out(_net: Any) -> float:
        if guard is not None:
            guard.settle()
        total = 0.0
        for start in range(0, len(held), SCORING_BATCH):
            some = held.take(slice(start, start + SCORING_BATCH)).to(device_of(net))
            total += float(_reconstruction(net(some.maps, some.seen), some)) * len(some)
        return total / len(held)

    return train_loop(net, len(tokens), loss, held_out, loop, tell)


def _loss(out: IbOut, tokens: Tokens, config: IbIumadConfig, base: bool) -> Tensor:
    """λ₁ L_R + λ₂ L_D + λ₃ reconstruction + λ₄ L_IB, and what flags add."""
    total = config.weights[2] * _reconstruction(out, tokens)
    for weight, logits in zip(config.weights[:2], out.told, strict=False):
        total = total + weight * F.cross_entropy(logits, tokens.label)
    if out.fused is not None and out.squeezed is not None:
        total = total + config.weights[3] * bottleneck_loss(out.fused, out.squeezed, config.both_sides)
        if config.head_ce:
            total = total + F.cross_entropy(out.fused, tokens.label)
    if config.svd_tail and base:
        total = total + config.svd_tail * torch.stack([_svd_tail(level) for level in out.levels]).mean()
    return total


def _reconstruction(out: IbOut, tokens: Tokens) -> Tensor:
    """Mean over modalities of the squared difference, over valid tokens and channels."""
    terms = [(guess - tokens.maps[name])[tokens.seen.view(guess.shape[:3])] for name, guess in out.maps.items()]
    return torch.stack([term.square().mean() if len(term) else term.sum() for term in terms]).mean()


def bottleneck_loss(fused: Tensor, squeezed: Tensor, both_sides: bool) -> Tensor:
    """KL[P(Y|F_fu) ‖ P(Y|F^g_fu)] of logits (B, P); F_fu is what the bottleneck chases, so it takes no gradient."""
    rich = fused if both_sides else fused.detach()
    return F.kl_div(F.log_softmax(squeezed, -1), F.log_softmax(rich, -1), reduction="batchmean", log_target=True)


def _svd_tail(level: Tensor) -> Tensor:
    """Sum of a level's (B, L, d) normalised singular values below 0.1 / d."""
    values = torch.linalg.svdvals(level.flatten(0, 1))
    share = values / values.sum().clamp_min(1e-12)
    found: Tensor = share[share < 0.1 / level.shape[-1]].sum()
    return found


@torch.no_grad()
def _outputs(net: IbNet, tokens: Tokens) -> dict[str, Tensor]:
    net.eval()
    with outputs_recorded(feed_forward_ends(net)) as found:
        for start in range(0, len(tokens), SCORING_BATCH):
            some = tokens.take(slice(start, start + SCORING_BATCH)).to(device_of(net))
            net(some.maps, some.seen)
    return found


def _net_config(
    config: IbIumadConfig, channels: Mapping[str, int], grid: tuple[int, int], programs: int
) -> NetConfig:
    if len(channels) != 2:
        raise ValueError(f"IB-IUMAD works on a pair of modalities, got {', '.join(channels) or 'none'}")
    shared = {f.name for f in dataclasses.fields(NetConfig)} & {f.name for f in dataclasses.fields(IbIumadConfig)}
    fields = {name: getattr(config, name) for name in shared - {"targets"}}
    targets = tuple(channels) if config.targets == "both" else tuple(channels)[:1]
    return NetConfig(channels=channels, targets=targets, grid=grid, programs=programs, **fields)


def _check(net: NetConfig, data: GridData, max_tokens: int) -> None:
    """Raises ValueError for another pair or grid than the network's."""
    channels = {name: cells.shape[-1] for name, cells in data.cells.items()}
    if list(channels.items()) != list(net.channels.items()):
        raise ValueError(f"the model knows {dict(net.channels)} channels, got {channels}")
    h, w = data.valid.shape[1:]
    factor = pool_factor((h, w), max_tokens)
    if (grid := (-(-h // factor), -(-w // factor))) != net.grid:
        raise ValueError(f"the model knows {net.grid} tokens, a grid of {h} × {w} cells gives {grid}")


def _joined(first: Tokens, second: Tokens) -> Tokens:
    maps = {name: torch.cat([cells, second.maps[name]]) for name, cells in first.maps.items()}
    return Tokens(maps, torch.cat([first.seen, second.seen]), torch.cat([first.label, second.label]))
