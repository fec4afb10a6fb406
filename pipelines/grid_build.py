"""From features of good seams to a model of a grid detector: `edged train --pipeline mafr|uni_rcm|ib_iumad|cfm`.

The split is Causal-HM's: *train* teaches the network, *fit* stops it and standardises its error maps, *calibration*
makes the threshold and does nothing else.
"""

import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.features.extractor import SeamFeatures, one_tier
from pipelines.fusion import fit_fusion
from pipelines.grid_detector import FittedGrid, GridDetector, requires_of
from pipelines.grids import MODALITIES, GridData, GridMethod, Modality, Tell
from pipelines.loop import LoopConfig
from pipelines.normaliser import fit_normaliser
from pipelines.oneclass import fit_process
from pipelines.seam_grid import GRID, fit_grid_scaler, seam_grid
from pipelines.training import Split, session_groups

__all__ = ["FITS", "LOOPS", "GridOptions", "default_pair", "fit_grid", "fit_method"]

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
"""How each is trained at size cpu: the papers' optimisers, shorter, and stopped on held-out goods."""


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
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the method's configuration that differ from its preset's."""


def default_pair(features: Sequence[SeamFeatures]) -> tuple[Modality, Modality]:
    """(geo, proc) where most seams were scanned, else (rgb, proc)."""
    scanned = sum(f.geo is not None for f in features)
    return ("geo", "proc") if 2 * scanned > len(features) else ("rgb", "proc")


def fit_grid(
    detector: str, features: Sequence[SeamFeatures], split: Split, options: GridOptions, tell: Tell | None = None
) -> FittedGrid:
    """Fit on goods, in order of time. Raises ValueError for an unknown modality or goods that lack one."""
    say = tell or (lambda *_: None)
    pair = options.pair or default_pair(features)
    unknown = [name for name in pair if name not in MODALITIES]
    if unknown:
        raise ValueError(f"modality {unknown[0]!r} is not known; known: {', '.join(MODALITIES)}")
    tier = one_tier(features)
    began = time.monotonic()
    programs = tuple(sorted({f.program for f in features}))
    groups = session_groups(features)
    normaliser = fit_normaliser([features[i] for i in split.train], options.seed)
    have = np.array([set(requires_of(pair)) <= f.kinds for f in features])
    rows = {"train": split.train[have[split.train]], "fit": split.fit[have[split.fit]]}
    for part, found in rows.items():
        if not len(found):
            raise ValueError(f"no good seam of the part {part!r} has the streams {', '.join(requires_of(pair))}")
    grids = {i: seam_grid(features[i], pair, normaliser, options.shape) for part in rows.values() for i in part}
    scaler = fit_grid_scaler([grids[i] for i in rows["train"]])
    program = np.array([programs.index(f.program) for f in features])
    data = {p: scaler([grids[i] for i in found], program[found], len(programs)) for p, found in rows.items()}
    loop = dataclasses.replace(LOOPS[detector], seed=options.seed, checkpoint=options.checkpoint)
    if options.epochs is not None:
        loop = dataclasses.replace(loop, epochs=options.epochs)
    method = fit_method(
        detector, data["train"], data["fit"], options.preset, options.size, loop, say, **options.flags
    )
    held_out = data["fit"]
    fusion = fit_fusion(
        method.error_maps(held_out),
        held_out.valid,
        held_out.program,
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


def grid_detector(model_id: str, fitted: FittedGrid, thresholds: Any, backbone: Any) -> GridDetector:
    """The detector of a model that was just fitted."""
    return GridDetector(model_id, fitted, thresholds, backbone, requires_of(fitted.pair))


Build = Callable[..., dict[str, Any]]
