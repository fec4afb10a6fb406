"""Model directories: checked, then loaded by the detector they name. The worker, `replay` and `eval` come in here.

A model is a directory with `model.toml` (at least `detector = "..."`), whatever the detector keeps, and
`manifest.sha256`, which names every other file with its digest in the format of `sha256sum`.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from pipelines.table import detector_class
from pipelines.window import Detector

__all__ = [
    "DEMO_MODEL",
    "DEMO_MODELS",
    "ModelError",
    "load_detector",
    "model_digest",
    "model_directory",
    "model_toml",
    "verify_manifest",
    "write_manifest",
]

DEMO_MODEL = Path(__file__).parent / "demo_model"
"""The model that ships with edged; `model = "demo"` in a config."""
DEMO_MODELS = Path(__file__).parent / "demo_models"
"""Other detectors' models that ship, one a directory; `model = "demo:NAME"`."""

MANIFEST = "manifest.sha256"


class ModelError(Exception):
    """A model directory cannot be used; names it, what is wrong and what to do."""


def model_directory(model: Path | str) -> Path:
    """Where a model lies: "demo" and "demo:NAME" ship with edged, anything else is a path."""
    first, colon, name = str(model).partition(":")
    if first != "demo":
        return Path(model)
    return DEMO_MODELS / name if colon else DEMO_MODEL


def load_detector(
    path: Path | str, device: str = "cpu", threads: int = 1, cache_dir: Path = Path("/var/cache/edged")
) -> Detector:
    """Check the model directory against its manifest and load it with the detector that it names.

    Args:
        path: the directory, or the name of a model that ships with edged: see `model_directory`.
        device: "cpu" or "cuda".
        threads: CPU threads that the detector may use.
        cache_dir: where a detector keeps what it derives from its weights, e.g. exported graphs.
    Raises ModelError.
    """
    directory = model_directory(path)
    verify_manifest(directory)
    name = model_toml(directory).get("detector")
    if not isinstance(name, str):
        raise ModelError(f"{directory}/model.toml: detector = {name!r} is no name of a detector")
    try:
        found = detector_class(name)
    except KeyError as error:
        raise ModelError(f"{directory}/model.toml: {error.args[0]}") from error
    return found.load(directory, device, threads, cache_dir)


def model_toml(directory: Path) -> dict[str, Any]:
    """The decoded `model.toml`. Raises ModelError."""
    try:
        return tomllib.loads((directory / "model.toml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{directory}/model.toml: cannot be read: {error}") from error


def model_digest(directory: Path) -> str:
    """First 12 hex digits over the manifest, and so over every file of the model. Raises ModelError."""
    try:
        return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise ModelError(f"{directory}/{MANIFEST}: cannot be read: {error.strerror}; is this a model?") from error


def write_manifest(directory: Path) -> None:
    """Write the digest of every file below `directory`; the last step of making a model."""
    lines = [f"{_sha256(directory / name)}  {name}\n" for name in _files(directory)]
    (directory / MANIFEST).write_text("".join(lines), encoding="utf-8")


def verify_manifest(directory: Path) -> None:
    """Raise ModelError naming every file that is missing, changed or not in the manifest."""
    try:
        lines = (directory / MANIFEST).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ModelError(f"{directory}/{MANIFEST}: cannot be read: {error.strerror}; is this a model?") from error
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = _files(directory)
    problems = [f"{name} is missing" for name in sorted(set(listed) - set(present))]
    problems += [f"{name} is not in the manifest" for name in sorted(set(present) - set(listed))]
    problems += [
        f"{name} has changed" for name in present if name in listed and _sha256(directory / name) != listed[name]
    ]
    if problems:
        raise ModelError(f"{directory}: {', '.join(problems)}; copy the model again from where it was trained")


def _files(directory: Path) -> list[str]:
    found = (path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    return sorted(name for name in found if name != MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
