"""Training of Causal-HM on the features of good seams: pure functions from features to a model.

Goods are split by session into *train* (normaliser, network), *fit* (early stopping, residuals, standardisation)
and *calibration* (thresholds, nothing else). The skip path and the one-class parts learn from train and fit, out of
fold wherever their own errors matter. No defect is ever seen, and the network stops on the loss of held-out goods.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.causal_net import CausalNet, NetConfig, ProcessBatch
from pipelines.causal_targets import squared_loss
from pipelines.features.extractor import SeamFeatures, one_tier
from pipelines.features.geometry import GeoMap
from pipelines.features.grid import STEPS_PER_TOKEN
from pipelines.features.result import RESULT_ROWS, ResultMap
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.features.table import Tier
from pipelines.gaussian import Standard, fit_standard
from pipelines.loop import LoopConfig, train_loop
from pipelines.modality_dropout import drop_modalities
from pipelines.normaliser import CLIP, Normaliser, Process, fit_normaliser
from pipelines.oneclass import ProcessOneClass, fit_process
from pipelines.patches import PatchOneClass, fit_patches
from pipelines.result_parts import (
    FittedPart,
    JointMismatch,
    ResultPart,
    fit_joint,
    fit_part,
    fit_told,
    mismatch_signals,
)
from pipelines.skip import summary
from pipelines.thresholds import MAX_CALIBRATION_SHARE
from pipelines.torch_device import device_of, peak_memory

__all__ = ["Fitted", "Split", "TrainConfig", "collate", "fit", "on_device", "split_by_session"]

Progress = Callable[[str, int, int, float], None]
"""Called with stage, done, total and the current loss."""

MIN_SESSIONS = 6
MIN_SEAMS = 24


@dataclasses.dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train; the defaults take a few minutes on one core for 300 training seams."""

    seed: int = 0
    epochs: int = 12
    batch: int = 32
    lr: float = 5e-4
    weight_decay: float = 3e-2
    patience: int = 3
    modality_dropout: float = 0.15
    modality_dropout_sensor: float = 0.0
    calibration_share: float = 0.4
    calibration_goods: int = 99
    threads: int = 1
    d: int = 128
    d_sensor: int = 32
    network: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of `NetConfig` that differ from the product's: for the bench."""
    checkpoint: Path | None = None
    """Directory where a training that was killed finds where to go on."""
    device: str = "cpu"
    amp: Literal["off", "bf16", "fp16"] = "off"
    """As in `LoopConfig`; like the seed and the checkpoint, of every detector's training."""


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts."""

    train: NDArray[np.int64]
    fit: NDArray[np.int64]
    calibration: NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """Everything a Causal-HM model is made of, thresholds aside."""

    programs: tuple[str, ...]
    views: tuple[str, ...]
    normaliser: Normaliser
    net: CausalNet
    target_mean: NDArray[np.float32]  # (programs, Q, 48)
    parts: Mapping[str, ResultPart]  # by kind of result
    joint: JointMismatch | None
    process: ProcessOneClass
    patches: PatchOneClass
    standards: Mapping[str, Standard]  # of s_P, s_R and s_RP: the largest of their signals
    report: dict[str, float | int | str]
    tier: Tier = "default"

    def kinds(self, features: SeamFeatures) -> frozenset[str]:
        """Kinds of stream that the seam has and the model looks at."""
        return features.kinds if self.normaliser.scan is not None else features.kinds - {"profile"}


def split_by_session(features: Sequence[SeamFeatures], config: TrainConfig) -> Split:
    """Time-ordered by session: the last ones calibrate, a third of the others fit, the rest trains.

    `features` are in order of time. With fewer than `MIN_SESSIONS` sessions, consecutive stretches of seams stand
    in for sessions. Raises ValueError below `MIN_SEAMS` seams.
    """
    if len(features) < MIN_SEAMS:
        raise ValueError(f"{len(features)} good seams cannot be split for training; record at least {MIN_SEAMS}")
    groups = session_groups(features)
    order = list(dict.fromkeys(groups.tolist()))
    programs = np.array([f.program for f in features])
    wanted = {
        p: max(config.calibration_goods, config.calibration_share * (programs == p).sum()) for p in set(programs)
    }
    # A program with too few goods for any threshold must not eat those that train.
    wanted = {p: min(n, MAX_CALIBRATION_SHARE * (programs == p).sum()) for p, n in wanted.items()}
    calibration: list[int] = []
    while len(order) > 5 and any((programs[np.isin(groups, calibration)] == p).sum() < n for p, n in wanted.items()):
        calibration.append(order.pop())
    fit_groups = order[1::3]  # two at least: standardising compares sessions
    train_groups = [g for g in order if g not in fit_groups]
    return Split(*(np.flatnonzero(np.isin(groups, part)) for part in (train_groups, fit_groups, calibration)))


def session_groups(features: Sequence[SeamFeatures]) -> NDArray[np.int64]:
    """A number per seam that is the same within a session; stretches of seams where sessions are too few."""
    names = [f.session for f in features]
    known = list(dict.fromkeys(names))
    if len(known) >= MIN_SESSIONS:
        return np.array([known.index(name) for name in names], np.int64)
    return np.arange(len(names), dtype=np.int64) * 2 * MIN_SESSIONS // len(names)


def data_digest(features: Sequence[SeamFeatures]) -> str:
    """Digest over what was trained on."""
    digest = hashlib.sha256()
    for f in features:
        digest.update(f"{f.seam_id} {f.program} {f.session}".encode())
        digest.update(np.ascontiguousarray(f.sensor).tobytes())
    return digest.hexdigest()[:16]


def collate(processes: Sequence[Process], program: Sequence[int]) -> ProcessBatch:
    """Pad to the longest; padding is masked."""
    longest = max(p.tokens for p in processes)

    def pad(x: NDArray[np.generic], length: int) -> NDArray[np.generic]:
        return np.concatenate([x, np.zeros((length - len(x), *x.shape[1:]), x.dtype)])

    def stack(name: str, length: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([pad(getattr(p, name), length) for p in processes]))

    return ProcessBatch(
        steps=stack("steps", longest * STEPS_PER_TOKEN).clamp(-CLIP, CLIP),
        video=stack("video", longest).clamp(-CLIP, CLIP),
        video_known=stack("video_known", longest),
        audio=stack("audio", longest).clamp(-CLIP, CLIP),
        audio_known=stack("audio_known", longest),
        tokens=torch.tensor([[t < p.tokens for t in range(longest)] for p in processes]),
        program=torch.tensor(list(program)),
        sensor=torch.tensor([bool(p.steps[:, p.steps.shape[1] // 2 :].any()) for p in processes]),
    )


def on_device(batch: ProcessBatch, device: torch.device) -> ProcessBatch:
    """The same batch where a network is."""
    return ProcessBatch(*(part.to(device) for part in batch))


def fit(
    features: Sequence[SeamFeatures], split: Split, config: TrainConfig, progress: Progress | None = None
) -> Fitted:
    """Train on goods. `features` in order of time. Deterministic for a seed and number of threads.

    Raises ValueError where they are of two tiers.
    """
    torch.set_num_threads(config.threads)
    tell = progress or (lambda *_: None)
    tier = one_tier(features)
    programs = tuple(sorted({f.program for f in features}))
    views = tuple(sorted({name for f in features for name in f.views}))
    program = np.array([programs.index(f.program) for f in features])
    groups = session_groups(features)
    tell("normaliser", 0, 1, 0.0)
    normaliser = fit_normaliser([features[i] for i in split.train], config.seed)
    tell("normaliser", 1, 1, 0.0)
    used = np.concatenate([split.train, split.fit])
    processes = {int(i): normaliser.process(features[i]) for i in used}
    rows = [result_rows(normaliser, features[i], views) for i in used]
    tokens, known = (np.stack(x) for x in zip(*rows, strict=True))
    at = {int(i): row for row, i in enumerate(used)}
    rows_train, rows_fit = np.arange(len(split.train)), np.arange(len(split.train), len(used))
    target_mean = _program_means(tokens[rows_train], program[split.train], len(programs))
    targets = (tokens - target_mean[program[used]]) * known[..., None]
    n = len(programs)
    tell("skip", 0, 1, 0.0)
    summaries = np.stack([summary(processes[int(i)]) for i in used])
    photo = len(views) * RESULT_ROWS
    places = {"photo": (0, photo)} | ({"scan": (photo, tokens.shape[1])} if tokens.shape[1] > photo else {})
    skips, told, blind = {}, np.zeros_like(targets), {}
    for kind, (first, last) in places.items():
        own = targets[:, first:last]
        skips[kind], told[:, first:last], blind[kind] = fit_told(summaries, own, program[used], groups[used], n)
    told *= known[..., None]
    tell("skip", 1, 1, 0.0)

    data = _Data(processes, targets - told, known, program, at)
    net, report = _train(data, split, normaliser, n, data_digest(features), config, tell)
    predicted = told.copy()
    # What it learned from is told by the straight path alone, out of fold: it would know those goods too well.
    predicted[rows_fit] += _predict(net, data, split.fit, config.batch)
    tell("one-class", 0, 1, 0.0)
    found: dict[str, FittedPart] = {}
    for kind, place in places.items():
        found[kind] = fit_part(
            place, skips[kind], blind[kind], tokens, known, targets, predicted, program[used], groups[used], n
        )
        report[f"{kind}_explained_in_first_direction"] = float(found[kind].explained[0, 0])
        report[f"{kind}_skip_correlations"] = " ".join(f"{rho:.2f}" for rho in skips[kind].correlation.ravel())
    left = targets[rows_fit] - predicted[rows_fit]
    report |= {
        "explained_variance": float(1 - (left[known[rows_fit]] ** 2).sum() / (targets[rows_fit] ** 2).sum()),
        "data_digest": data_digest(features),
        "train": len(split.train),
        "fit": len(split.fit),
        "calibration": len(split.calibration),
    }
    maps = [result_maps(features[i], normaliser.located) for i in used]
    process, s_p = fit_process([processes[int(i)] for i in used], program[used], groups[used], n)
    patches, cells = fit_patches(maps, program[used], groups[used], n)
    joint = fit_joint([part.evidence for part in found.values()], program[used], n)
    s_r = [z for part in found.values() for z in part.s_r.values()]
    signals = {
        "s_P": list(s_p.values()),
        "s_R": [*s_r, *cells.values()],
        "s_RP": mismatch_signals(list(found.values()), joint, program[used]),
    }
    fitted = Fitted(
        programs=programs,
        views=views,
        normaliser=normaliser,
        net=net,
        target_mean=target_mean,
        parts={kind: part.part for kind, part in found.items()},
        joint=joint,
        process=process,
        patches=patches,
        standards={name: _part_standard(z, program[used], n) for name, z in signals.items()},
        report=report,
        tier=tier,
    )
    tell("one-class", 1, 1, 0.0)
    return fitted


def _part_standard(signals: Sequence[NDArray[np.float64]], program: NDArray[np.int64], programs: int) -> Standard:
    """Of the largest of a part's signals over goods: the parts differ in their number and in their tails."""
    largest = np.fmax.reduce(signals)
    there = ~np.isnan(largest)
    return fit_standard(np.exp(largest[there]), program[there], programs, tail=True)


def result_rows(
    normaliser: Normaliser, features: SeamFeatures, views: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rows of all photographs, then of the scan, `(Q, 48)`, and which there are `(Q,)`."""
    photo, scan = normaliser.views(features, views), normaliser.scanned(features)
    return np.concatenate([photo[0], scan[0]]), np.concatenate([photo[1], scan[1]])


def result_maps(features: SeamFeatures, located: bool) -> dict[str, ResultMap | GeoMap]:
    """Every map of the result that can be compared with training's: photographs by view, and "scan"."""
    found: dict[str, ResultMap | GeoMap] = {n: v for n, v in features.views.items() if v.located == located}
    return found if features.geo is None else found | {"scan": features.geo}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Data:
    processes: dict[int, Process]
    targets: NDArray[np.float32]  # (rows, Q, 48), what the skip path leaves
    known: NDArray[np.bool_]  # (rows, Q)
    program: NDArray[np.int64]
    at: dict[int, int]

    def batch(self, rows: NDArray[np.int64], device: torch.device) -> tuple[ProcessBatch, torch.Tensor, torch.Tensor]:
        own = [self.at[int(i)] for i in rows]
        batch = collate([self.processes[int(i)] for i in rows], self.program[rows].tolist())
        target, known = torch.from_numpy(self.targets[own]), torch.from_numpy(self.known[own])
        return on_device(batch, device), target.to(device), known.to(device)


def _program_means(tokens: NDArray[np.float32], program: NDArray[np.int64], programs: int) -> NDArray[np.float32]:
    pooled = tokens.mean(0)
    return np.stack([tokens[program == p].mean(0) if (program == p).any() else pooled for p in range(programs)])


def _train(
    data: _Data,
    split: Split,
    normaliser: Normaliser,
    programs: int,
    digest: str,
    config: TrainConfig,
    tell: Progress,
) -> tuple[CausalNet, dict[str, float | int | str]]:
    torch.manual_seed(config.seed)
    first = data.processes[int(split.train[0])]
    net = CausalNet(
        NetConfig(
            sensor=2 * len(SENSOR_FEATURES),
            video=first.video.shape[1],
            audio=first.audio.shape[1],
            targets=data.targets.shape[2],
            queries=data.targets.shape[1],
            programs=programs,
            d=config.d,
            d_sensor=config.d_sensor,
            **config.network,
        )
    )

    def loss(_: torch.nn.Module, rows: NDArray[np.int64]) -> torch.Tensor:
        batch, target, known = data.batch(split.train[rows], device_of(net))
        shown = drop_modalities(batch, config.modality_dropout, config.modality_dropout_sensor)
        return squared_loss(net(shown), target, known)

    loop = LoopConfig(
        epochs=config.epochs,
        batch=config.batch,
        lr=config.lr,
        weight_decay=config.weight_decay,
        schedule="one_cycle",
        patience=config.patience,
        seed=config.seed,
        checkpoint=config.checkpoint,
        data=digest,
        amp=config.amp,
        device=config.device,
    )
    done = train_loop(
        net,
        len(split.train),
        loss,
        lambda _: _held_out_loss(net, data, split.fit, config.batch),
        loop,
        lambda stage, at, total, now: tell(stage, at, total, now),
    )
    return net, {
        "epochs": done.best_epoch,
        "held_out_loss": done.best_loss,
        "held_out_loss_of_the_mean": done.first_loss,
        "device": config.device,
        "amp": config.amp,
        **{name: round(mb) for name, mb in peak_memory(device_of(net)).items()},
    }


def _predict(net: CausalNet, data: _Data, rows: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    net.eval()
    found = []
    with torch.inference_mode():
        for i in range(0, len(rows), size):
            batch, _, known = data.batch(rows[i : i + size], device_of(net))
            found.append((net(batch) * known[..., None]).cpu().numpy())
    return np.concatenate(found)


def _held_out_loss(net: CausalNet, data: _Data, rows: NDArray[np.int64], size: int) -> float:
    own = [data.at[int(i)] for i in rows]
    predicted = torch.from_numpy(_predict(net, data, rows, size))
    return float(squared_loss(predicted, torch.from_numpy(data.targets[own]), torch.from_numpy(data.known[own])))
