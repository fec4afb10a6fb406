"""From features of good seams to a model of a grid detector: `edged train --pipeline mafr|uni_rcm|ib_iumad|cfm`.

The split is Causal-HM's: *train* teaches the network, *fit* stops it and standardises its error maps, *calibration*
makes the threshold and does nothing else.
"""

import dataclasses
import functools
import importlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import cfm, mafr, uni_rcm_config
from pipelines.build import Goods, NoBackbone, write_calibrated
from pipelines.features.extractor import SeamFeatures, one_tier
from pipelines.features.lite0 import Backbone
from pipelines.fusion import RULES, fit_fusion
from pipelines.grid_detector import FittedGrid, GridDetector
from pipelines.grids import MODALITIES, GridData, GridMethod, Modality, Tell, requires_of
from pipelines.loop import LoopConfig
from pipelines.models import model_toml
from pipelines.normaliser import Normaliser, fit_normaliser
from pipelines.oneclass import fit_process
from pipelines.per_program import fit_per_program
from pipelines.seam_grid import GRID, fit_grid_scaler, seam_grid
from pipelines.thresholds import DEFAULT_ALPHA, ThresholdTable, goods_needed
from pipelines.training import Split, TrainConfig, data_digest, session_groups, split_by_session
from pipelines.window import Score

__all__ = [
    "FITS",
    "LOOPS",
    "GridOptions",
    "build_grid",
    "default_pair",
    "fit_grid",
    "fit_method",
    "grid_detector",
    "loop_of",
]

PRESETS = ("compat", "cell")
SIZES = ("cpu", "gpu")

FITS: dict[str, tuple[str, str]] = {
    "cfm": ("pipelines.cfm:fit_cfm", "CfmConfig"),
    "ib_iumad": ("pipelines.ib_iumad:fit_ib_iumad", "IbIumadConfig"),
    "mafr": ("pipelines.mafr:fit_mafr", "MafrConfig"),
    "uni_rcm": ("pipelines.uni_rcm:fit_uni_rcm", "UniRcmConfig"),
}
"""Detector → what fits it, and its configuration in the same file."""

LOOPS: dict[str, LoopConfig] = {
    "cfm": LoopConfig(epochs=50, batch=16, lr=1e-3, optimiser="adam", patience=8),
    "ib_iumad": LoopConfig(epochs=40, batch=24, lr=3e-4, weight_decay=1e-4, patience=8),
    "mafr": LoopConfig(epochs=100, batch=8, lr=1e-3, optimiser="adam", patience=8),
    "uni_rcm": LoopConfig(epochs=30, batch=16, lr=3e-4, optimiser="adam", patience=6),
}
"""How each is trained by preset cell at size cpu: the papers' optimisers, shorter, and stopped on held-out goods."""
EACH_PROGRAM: frozenset[str] = frozenset({"cfm", "mafr"})
"""Those that were published with one network per program; so their preset compat has."""


@dataclasses.dataclass(frozen=True, slots=True)
class GridOptions:
    """What is chosen of a grid detector; `pair` None: the default of the streams that there are."""

    pair: tuple[Modality, ...] | None = None
    preset: str = "cell"
    size: str = "cpu"
    fusion: str = "minp"
    shape: tuple[int, int] = GRID
    seed: int = 0
    epochs: int | None = None
    checkpoint: Path | None = None
    half: bool = False
    """Weights in half precision, for models that ship; thresholds are made with them as they are stored."""
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the method's configuration that differ from its preset's."""


def default_pair(features: Sequence[SeamFeatures]) -> tuple[Modality, Modality]:
    """(geo, proc) where most seams were scanned, else (rgb, proc)."""
    scanned = sum(f.geo is not None for f in features)
    return ("geo", "proc") if 2 * scanned > len(features) else ("rgb", "proc")


def loop_of(detector: str, preset: str, size: str) -> LoopConfig:
    """How a preset trains: compat as published, cell at size cpu by `LOOPS`, at size gpu by the method's own.

    IB-IUMAD's paper gives no schedule that its method could follow, so there is one for all its presets.
    """
    if (preset, size) == ("cell", "cpu") or detector == "ib_iumad":
        return LOOPS[detector]
    if detector == "uni_rcm":
        return uni_rcm_config.LOOPS[preset, size]
    return {"cfm": cfm.LOOPS, "mafr": mafr.LOOPS}[detector][preset]


def checked(detector: str, options: GridOptions, features: Sequence[SeamFeatures]) -> GridOptions:
    """The options with their pair filled in. Raises ValueError naming an unknown value and those that there are."""
    pair = options.pair or default_pair(features)
    unknown = [name for name in pair if name not in MODALITIES]
    if unknown:
        raise ValueError(f"modality {unknown[0]!r} is not known; known: {', '.join(MODALITIES)}")
    if len(set(pair)) != 2 or len(pair) != 2:
        raise ValueError(f"pair {','.join(pair)}: give two different modalities of {', '.join(MODALITIES)}")
    for what, value, known in (
        ("preset", options.preset, PRESETS),
        ("size", options.size, SIZES),
        ("fusion", options.fusion, RULES),
    ):
        if value not in known:
            raise ValueError(f"{what} {value!r} is not known to {detector}; known: {', '.join(known)}")
    return dataclasses.replace(options, pair=pair)


def fit_grid(
    detector: str, features: Sequence[SeamFeatures], split: Split, options: GridOptions, tell: Tell | None = None
) -> FittedGrid:
    """Fit on goods, in order of time. Raises ValueError for an unknown option or goods that lack a modality."""
    say = tell or (lambda *_: None)
    options = checked(detector, options, features)
    assert options.pair is not None
    pair = options.pair
    tier = one_tier(features)
    began = time.monotonic()
    programs = tuple(sorted({f.program for f in features}))
    groups = session_groups(features)
    normaliser = fit_normaliser([features[i] for i in split.train], options.seed)
    have = np.array([set(requires_of(pair)) <= f.kinds for f in features])
    rows = {"train": split.train[have[split.train]], "fit": split.fit[have[split.fit]]}
    for part, found in rows.items():
        if not len(found):
            raise ValueError(
                f"no good seam of the part {part!r} has the streams {', '.join(requires_of(pair))}; "
                "choose another --pair, or record goods with them"
            )
    grids = {i: seam_grid(features[i], pair, normaliser, options.shape) for part in rows.values() for i in part}
    scaler = fit_grid_scaler([grids[i] for i in rows["train"]])
    program = np.array([programs.index(f.program) for f in features])
    data = {p: scaler([grids[i] for i in found], program[found], len(programs)) for p, found in rows.items()}
    method = _fit_programs(detector, data["train"], data["fit"], programs, options, data_digest(features), say)
    fusion = fit_fusion(
        method.error_maps(data["fit"]),
        data["fit"].valid,
        data["fit"].program,
        len(programs),
        groups[rows["fit"]],
        options.fusion,
    )
    used = np.concatenate([split.train, split.fit])
    processes = [normaliser.process(features[i]) for i in used]
    process, _ = fit_process(processes, program[used], groups[used], len(programs))
    report = {
        "pair": "+".join(pair),
        "preset": options.preset,
        "size": options.size,
        "fusion": options.fusion,
        "train": len(rows["train"]),
        "fit": len(rows["fit"]),
        "calibration": len(split.calibration),
        "seconds": round(time.monotonic() - began, 1),
    }
    return FittedGrid(
        detector, pair, options.shape, programs, normaliser, scaler, method, fusion, process, report, tier
    )


def fit_method(
    detector: str,
    train: GridData,
    held_out: GridData,
    preset: str,
    size: str,
    loop: LoopConfig,
    tell: Tell,
    **flags: Any,
) -> GridMethod:
    """Fit the method of a row of `FITS`; `flags`: fields of its configuration that differ from the preset's."""
    where, config_name = FITS[detector]
    module, _, function = where.partition(":")
    methods = importlib.import_module(module)
    config = dataclasses.replace(getattr(methods, config_name).preset(preset, size), **flags)
    found: GridMethod = getattr(methods, function)(train, held_out, config, loop, tell)
    return found


def _fit_programs(
    detector: str,
    train: GridData,
    held_out: GridData,
    programs: tuple[str, ...],
    options: GridOptions,
    digest: str,
    tell: Tell,
) -> GridMethod:
    loop = loop_of(detector, options.preset, options.size)
    epochs = loop.epochs if options.epochs is None else options.epochs
    loop = dataclasses.replace(loop, seed=options.seed, checkpoint=options.checkpoint, data=digest, epochs=epochs)
    if options.preset != "compat" or detector not in EACH_PROGRAM:
        return fit_method(detector, train, held_out, options.preset, options.size, loop, tell, **options.flags)

    def fit_one(goods: GridData, others: GridData, program: int) -> GridMethod:
        named = dataclasses.replace(loop, stage=f"network of {programs[program]}")
        return fit_method(detector, goods, others, options.preset, options.size, named, tell, **options.flags)

    return fit_per_program(detector, train, held_out, programs, fit_one)


def build_grid(
    detector: str,
    features: Sequence[SeamFeatures],
    set_points: Sequence[Mapping[str, float]],
    out: Path,
    config: TrainConfig | None = None,
    alpha: float = DEFAULT_ALPHA,
    progress: Tell | None = None,
    options: GridOptions | None = None,
) -> dict[str, Any]:
    """Train on goods in order of time and write the model directory `out`; returns the training report.

    Of `config` the seed, the checkpoint, the threads and the shares of the split count. Raises ValueError for an
    unknown option and when the goods do not suffice for training.
    """
    config = dataclasses.replace(config or TrainConfig(), calibration_goods=goods_needed(alpha))
    torch.set_num_threads(config.threads)
    own = dataclasses.replace(options or GridOptions(), seed=config.seed, checkpoint=config.checkpoint)
    began = time.monotonic()
    split = split_by_session(features, config)
    fitted = fit_grid(detector, features, split, own, progress)
    if own.half:
        fitted = _as_stored_half(fitted)
    return write_calibrated(
        _FreshGrid(fitted, own.half), Goods(features, set_points, split), out, alpha, time.monotonic() - began
    )


def _as_stored_half(fitted: FittedGrid) -> FittedGrid:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fitted.save(folder, half=True)
        return FittedGrid.read(folder, model_toml(folder))


build_cfm = functools.partial(build_grid, "cfm")
build_ib_iumad = functools.partial(build_grid, "ib_iumad")
build_mafr = functools.partial(build_grid, "mafr")
build_uni_rcm = functools.partial(build_grid, "uni_rcm")


@dataclasses.dataclass(frozen=True, slots=True)
class _FreshGrid:
    """Every stream of the pair is required, so a program has one threshold."""

    fitted: FittedGrid
    half: bool
    optional: tuple[str, ...] = ()

    @property
    def pipeline(self) -> str:
        return self.fitted.detector

    @property
    def programs(self) -> tuple[str, ...]:
        return self.fitted.programs

    @property
    def requires(self) -> tuple[str, ...]:
        return requires_of(self.fitted.pair)

    @property
    def report(self) -> Mapping[str, Any]:
        return self.fitted.report

    @property
    def about(self) -> Mapping[str, Any]:
        return {"pair": list(self.fitted.pair), "requires": list(self.requires)}

    @property
    def normaliser(self) -> Normaliser:
        return self.fitted.normaliser

    def kinds(self, features: SeamFeatures) -> frozenset[str]:
        return frozenset(self.requires)

    def comparable(self, features: SeamFeatures) -> bool:
        return True

    def save(self, path: Path) -> str:
        return self.fitted.save(path, half=self.half)

    def scorer(self, model_id: str) -> Callable[[SeamFeatures], Score]:
        return grid_detector(model_id, self.fitted, ThresholdTable(), NoBackbone()).score


def grid_detector(model_id: str, fitted: FittedGrid, thresholds: ThresholdTable, backbone: Backbone) -> GridDetector:
    """The detector of a model that was just fitted."""
    return GridDetector(model_id, fitted, thresholds, backbone, requires_of(fitted.pair))
