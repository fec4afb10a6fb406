"""What `edged check` finds between a cell and the models of its programs, from `model.toml` and the manifest alone.

A model that lacks a stream never says OK: its seams are INDETERMINATE. Better to be told before the first weld. No
model is loaded here, and torch with it.
"""

from pathlib import Path
from typing import Any

from edged.config import Config, ProgramConfig
from edged.types import RESULT_KINDS
from pipelines.models import ModelError, model_directory, model_toml, verify_manifest
from pipelines.table import DETECTORS, WITHOUT_FEATURES

__all__ = ["model_problems"]


def model_problems(config: Config) -> list[str]:
    """Models that are damaged, unknown, of other features, or that need what their cell or program does not have."""
    problems = []
    for name, program in config.programs.items():
        if program.model is None:
            continue
        directory = model_directory(program.model)
        try:
            verify_manifest(directory)
            about = model_toml(directory)
        except ModelError as error:
            problems.append(f"programs.{name}.model: {error}")
            continue
        found = _detector_problems(directory, about) + [
            problem for kind in about.get("requires", []) if (problem := _lacks(kind, about, program, config))
        ]
        found += _frame_problems(about, program, config)
        problems += [f"programs.{name}.model: {problem}" for problem in found]
    return problems


def _detector_problems(directory: Path, about: dict[str, Any]) -> list[str]:
    """The worker would not load it."""
    detector = about.get("detector")
    if detector not in DETECTORS:
        return [f"no detector {detector!r}; known: {', '.join(sorted(DETECTORS))}"]
    if detector in WITHOUT_FEATURES:
        return []
    from pipelines.model_files import check_features

    try:
        check_features(directory, about)
    except ModelError as error:
        return [str(error)]
    return []


def _lacks(kind: str, about: dict[str, Any], program: ProgramConfig, config: Config) -> str | None:
    """Why a kind of stream that the model requires may not be there when a seam is scored, and what to do."""
    needs = f"{program.model} ({_described(about)}) requires {kind!r}"
    configured = any(stream.kind == kind for stream in config.streams.values())
    if kind == "profile" and not configured:
        return (
            f"{needs}, but no stream of this kind is configured: add the laser profiler and a view with scan_s, "
            "or use a model of the pair (rgb,proc)"
        )
    if kind in RESULT_KINDS:
        views = _views(program, config, scans=kind == "profile")
        what = "scan" if kind == "profile" else "photograph"
        if not views:
            return f"{needs}, but the program lists no view that is a {what}; add one to its views"
        if kind in program.optional:
            return f"{needs}, but for the program it is optional; remove it from optional, so that none goes unscored"
        return None
    if not configured:
        return f"{needs}, but no stream of this kind is configured; add it, or train without it"
    if kind not in program.required:
        return f"{needs}, but the program does not; add {kind!r} to its required streams"
    return None


def _frame_problems(about: dict[str, Any], program: ProgramConfig, config: Config) -> list[str]:
    """Models of a pair lay everything onto the seam, and so need to be told where results lie."""
    pair = about.get("pair", [])
    if not pair:
        return []
    needs = f"{program.model} ({_described(about)})"
    frame = program.frame
    if frame is None:
        return [
            f"{needs} needs to know where photographs and scans lie on the seam; add the program's frame "
            "(docs/detectors.md)"
        ]
    problems = []
    if "geo" in pair and frame.scan is None:
        problems.append(f"{needs} needs to know where the scan lies; add scan to the program's frame")
    photographs = _views(program, config, scans=False)
    view = "top" if "top" in photographs else min(photographs, default=None)
    if "rgb" in pair and view is not None and view not in frame.views:
        problems.append(f"{needs} needs to know where the view {view!r} lies; add it to views of the program's frame")
    return problems


def _views(program: ProgramConfig, config: Config, *, scans: bool) -> list[str]:
    return [view for view in program.views if view in config.views and config.views[view].is_scan == scans]


def _described(about: dict[str, Any]) -> str:
    pair = about.get("pair")
    return f"{about.get('detector')} of ({','.join(pair)})" if pair else str(about.get("detector"))
