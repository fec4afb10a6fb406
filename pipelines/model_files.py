"""What every trained detector writes: named arrays in safetensors, `model.toml`, the manifest; and reads again.

Never a pickle: a file of another format is refused by name. The model's id is a digest of its weights, which
thresholds refer to and do not change.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import FEATURES_VERSION, SeamFeatures
from pipelines.features.table import Tier, choose, tier_of
from pipelines.models import ModelError, write_manifest
from pipelines.thresholds import ThresholdTable

__all__ = [
    "WEIGHTS",
    "TrainedOn",
    "about_features",
    "check_features",
    "check_tier",
    "part",
    "prefixed",
    "read_tensors",
    "read_thresholds",
    "read_trained_on",
    "save_thresholds",
    "weights_id",
    "write_model",
    "write_trained_on",
]

WEIGHTS = "model.safetensors"
TRAINED_ON = "trained_on.json"
NAMES = {"lite0": "efficientnet-lite0"}
"""Backbones whose published name is longer than their row's."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")

Tensors = Mapping[str, NDArray[Any]]


def weights_id(detector: str, path: Path) -> str:
    """The model's id."""
    return f"{detector}-{hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()[:12]}"


def prefixed(name: str, tensors: Tensors) -> dict[str, NDArray[Any]]:
    """The arrays of one part, for the one file of all."""
    return {f"{name}.{key}": value for key, value in tensors.items()}


def part(name: str, tensors: Tensors) -> dict[str, NDArray[Any]]:
    """What `prefixed` put into the file."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def write_model(
    path: Path, tensors: Tensors, about: Mapping[str, Any], tier: Tier = "default", *, half: bool = False
) -> str:
    """Write weights (float32), `model.toml` and the manifest; `about` has at least `detector`. Returns the id.

    `tier`: of the features that it was trained on. `half`: float16 where an array survives it, for models that must
    be small.
    """
    import tomli_w
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(value, _kept(value, half)) for name, value in tensors.items()}
    save_file(arrays, path / WEIGHTS)
    (path / WEIGHTS).chmod(0o644)  # safetensors makes it private; the worker may be another user
    whole = {**about_features(tier), **about}
    (path / "model.toml").write_text(tomli_w.dumps(whole), encoding="utf-8")
    write_manifest(path)
    return weights_id(str(about["detector"]), path)


def _kept(value: NDArray[Any], half: bool) -> Any:
    if value.dtype.kind in "iub":
        return value.dtype
    return np.float16 if half and _survives_half(value) else np.float32


def _survives_half(value: NDArray[Any]) -> bool:
    """Whether no value overflows or is off by more than a thousandth of the array's largest."""
    with np.errstate(over="ignore"):
        off = np.abs(value.astype(np.float16).astype(np.float64) - value)
    return bool(value.size == 0 or off.max() <= 1e-3 * np.abs(value).max())


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a model directory, float16 widened. Raises ModelError, also for weights in an unsafe format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    unsafe = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if unsafe:
        raise ModelError(
            f"{path}: {', '.join(unsafe)} can run code when read and is never loaded; a model has {WEIGHTS}, "
            "train it with edged train"
        )
    try:
        found = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}/{WEIGHTS}: cannot be read: {error}") from error
    return {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in found.items()}


def save_thresholds(table: ThresholdTable, path: Path) -> None:
    """Write a model's `thresholds.json` and its manifest anew."""
    table.save(path / "thresholds.json")
    write_manifest(path)


def read_thresholds(path: Path) -> ThresholdTable:
    """A model's thresholds, none where there is no file. Raises ModelError."""
    try:
        return ThresholdTable.load(path / "thresholds.json")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}/thresholds.json: cannot be read: {error!r}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class TrainedOn:
    """The seams that taught a model, which therefore must not calibrate it; and the sessions that they are of."""

    seams: frozenset[str]
    sessions: frozenset[str]


def write_trained_on(path: Path, seams: Iterable[tuple[str, str]]) -> None:
    """Write into a model directory which (seam, session) taught it; the manifest is to be written after."""
    found = list(seams)
    said = {"seams": [seam for seam, _ in found], "sessions": sorted({session for _, session in found})}
    (path / TRAINED_ON).write_text(json.dumps(said) + "\n", encoding="utf-8")


def read_trained_on(path: Path) -> TrainedOn | None:
    """What taught a model; None where it does not say, as older ones and untrained ones. Raises ModelError."""
    try:
        said = json.loads((path / TRAINED_ON).read_text(encoding="utf-8"))
        return TrainedOn(frozenset(said["seams"]), frozenset(said["sessions"]))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}/{TRAINED_ON}: cannot be read: {error!r}") from error


def about_features(tier: Tier) -> dict[str, str]:
    """What `model.toml` says of the features; `check_features` reads it."""
    backbone = choose("image", tier).name
    return {"features_version": FEATURES_VERSION, "tier": tier, "backbone": NAMES.get(backbone, backbone)}


def check_features(path: Path, about: Mapping[str, Any]) -> Tier:
    """The tier of the features that the model was trained on, `default` where nothing is said.

    Raises ModelError where they are of another version, or of a tier that seams cannot have.
    """
    if about.get("features_version") != FEATURES_VERSION:
        raise ModelError(
            f"{path}/model.toml: features_version is {about.get('features_version')!r}, this edged makes "
            f"{FEATURES_VERSION!r}; train the model again"
        )
    try:
        return tier_of(str(about.get("tier", "default")))
    except ValueError as error:
        raise ModelError(f"{path}/model.toml: {error}, and train the model again") from error


def check_tier(model_id: str, tier: Tier, features: SeamFeatures) -> None:
    """Raise ValueError where a seam's features are of another tier than the model's."""
    if features.tier != tier:
        raise ValueError(
            f"seam {features.seam_id}: features of tier {features.tier}, model {model_id} is of tier {tier}; "
            f"extract them with --tier {tier}, or train a model with --tier {features.tier}"
        )
