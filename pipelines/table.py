"""The one table of detectors: `detector` in a model's `model.toml` → the class that serves it.

Adding a detector is adding a row and a file. A class has `load(path, device, threads, cache_dir)` and is imported
when asked for, never before, so that only the worker, training and evaluation ever import torch.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pipelines.window import Detector

__all__ = [
    "DETECTORS",
    "GRID_DETECTORS",
    "TRAINERS",
    "WITHOUT_FEATURES",
    "LoadableDetector",
    "detector_class",
    "trainer",
]

GRID_DETECTORS: tuple[str, ...] = ("cfm", "ib_iumad", "mafr", "uni_rcm")
"""Methods over a pair of modalities; `pipelines/grid_detector.py` serves them all."""

DETECTORS: dict[str, str] = {
    "causal_hm": "pipelines.causal_hm:CausalHM",
    "energy_band": "pipelines.energy_band:EnergyBand",
    **dict.fromkeys(GRID_DETECTORS, "pipelines.grid_detector:GridDetector"),
}

WITHOUT_FEATURES: frozenset[str] = frozenset({"energy_band"})
"""Detectors whose models do not depend on the version of the features."""

TRAINERS: dict[str, str] = {
    "causal_hm": "pipelines.build:build_causal_hm",
    **{name: f"pipelines.grid_build:build_{name}" for name in GRID_DETECTORS},
}
"""`--pipeline` of `edged train` → the function that makes the model directory; see its signature there."""


class LoadableDetector(Protocol):
    """What a row points at."""

    def load(self, path: Path, device: str, threads: int, cache_dir: Path) -> Detector:
        """A class method: read the model directory `path`. Raises `pipelines.models.ModelError`."""
        ...


def detector_class(name: str) -> LoadableDetector:
    """The class behind `name`. Raises KeyError naming the known detectors when there is none."""
    if name not in DETECTORS:
        raise KeyError(f"no detector {name!r}; known detectors: {', '.join(sorted(DETECTORS))}")
    module, _, attribute = DETECTORS[name].partition(":")
    found: LoadableDetector = getattr(importlib.import_module(module), attribute)
    return found


def trainer(name: str) -> Callable[..., dict[str, Any]]:
    """What trains `name`. Raises KeyError naming the known ones."""
    if name not in TRAINERS:
        raise KeyError(f"no pipeline {name!r}; known: {', '.join(TRAINERS)}")
    module, _, attribute = TRAINERS[name].partition(":")
    found: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), attribute)
    return found
