"""What every trained detector writes: named arrays in safetensors, `model.toml`, the manifest; and reads again.

Never a pickle: a file of another format is refused by name. The model's id is a digest of its weights, which
thresholds refer to and do not change.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.extractor import FEATURES_VERSION, SeamFeatures
from pipelines.features.table import Tier, choose, tier_of
from pipelines.models import ModelError, write_manifest

__all__ = [
    "WEIGHTS",
    "about_features",
    "check_features",
    "check_tier",
    "part",
    "prefixed",
    "read_tensors",
    "weights_id",
    "write_model",
]

WEIGHTS = "model.safetensors"
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


def write_model(path: Path, tensors: Tensors, about: Mapping[str, Any], tier: Tier = "default") -> str:
    """Write weights (float32), `model.toml` and the manifest; `about` has at least `detector`. Returns the id.

    `tier`: of the features that it was trained on.
    """
    import tomli_w
    from safetensors.numpy import save_file

    path.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(value, _kept(value)) for name, value in tensors.items()}
    save_file(arrays, path / WEIGHTS)
    (path / WEIGHTS).chmod(0o644)  # safetensors makes it private; the worker may be another user
    whole = {**about_features(tier), **about}
    (path / "model.toml").write_text(tomli_w.dumps(whole), encoding="utf-8")
    write_manifest(path)
    return weights_id(str(about["detector"]), path)


def _kept(value: NDArray[Any]) -> Any:
    return value.dtype if value.dtype.kind in "iub" else np.float32


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a model directory. Raises ModelError, also where weights lie there in an unsafe format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    unsafe = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
    if unsafe:
        raise ModelError(
            f"{path}: {', '.join(unsafe)} can run code when read and is never loaded; a model has {WEIGHTS}, "
            "train it with edged train"
        )
    try:
        return dict(load_file(path / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}/{WEIGHTS}: cannot be read: {error}") from error


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
