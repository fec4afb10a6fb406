"""Weights that a user put on the disk: what is accepted, by which digest they are known, how a pickle is converted.

A checkpoint is a safetensors file (or a folder of them with `config.json`, as transformers writes it). Pickles
(`.pth`, `.pt`, `.bin`, `.ckpt`) are never read by a loader, because reading one may run code: `convert` reads one
whose digest the user has given, with torch's restricted reader, and writes what is in it as safetensors (`edged
convert-checkpoint`).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["CheckpointError", "convert", "digest", "folder_weights", "weights_file"]

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
NESTS = ("base_model", "state_dict", "model")
"""Under which of these the published training scripts keep the weights, beside the optimiser's state."""


class CheckpointError(ValueError):
    """A checkpoint that is not there, is not what its name says, or is of a kind that is not read."""


def weights_file(path: Path) -> Path:
    """`path` if it is a safetensors file. Raises CheckpointError with the reason and the fix."""
    if path.suffix in PICKLES:
        raise CheckpointError(_pickle_refused([path], path.with_suffix(".safetensors")))
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; docs/backbones.md says what to put there")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: weights are read from .safetensors files only")
    return path


def folder_weights(folder: Path) -> list[Path]:
    """The safetensors files of a folder that transformers wrote. Raises CheckpointError with the reason and the
    fix."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; docs/backbones.md says what to put there")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json in it; copy the checkpoint's whole folder")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickles = sorted(p for p in folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise CheckpointError(_pickle_refused(pickles, folder / "model.safetensors"))
        raise CheckpointError(f"{folder}: no .safetensors file in it; copy the checkpoint's whole folder")
    return found


def digest(files: list[Path]) -> str:
    """sha256 over the files' bytes in the order given: what a feature's provenance names."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def convert(source: Path, target: Path, sha256: str) -> int:
    """Write the tensors of the pickle `source` to the safetensors file `target`; how many there were.

    `sha256` is the digest the user expects of `source`, from whoever published it. The reader is torch's restricted
    one: tensors, containers and numpy's scalars, no other object. `module.` before a name (left by data-parallel
    training) is dropped. Raises CheckpointError when the digest is another, or when there are no tensors, or
    objects, in it.
    """
    from safetensors.torch import save_file

    if not source.is_file():
        raise CheckpointError(f"{source}: no such file")
    if target.exists():
        raise CheckpointError(f"{target}: exists already; remove it or name another file")
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: name the new file .safetensors")
    found = digest([source])
    if found != sha256.lower():
        raise CheckpointError(f"{source}: its sha256 is {found}, you expect {sha256}; do not use this file")
    state = {name.removeprefix("module."): tensor for name, tensor in _tensors(source).items()}
    save_file(state, target)
    return len(state)


def _tensors(source: Path) -> "dict[str, torch.Tensor]":
    import pickle

    import numpy as np
    import torch
    from numpy.dtypes import Float32DType, Float64DType, Int64DType

    # Scores beside the weights are often numpy scalars, of either name numpy gave their constructor.
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals([*allowed, np.dtype, Float32DType, Float64DType, Int64DType]):
        try:
            loaded = torch.load(source, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(f"{source}: holds more than tensors, so it is not read: {error}") from error
    for nest in NESTS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(nest), Mapping):
            loaded = loaded[nest]
            break
    # Tied weights share memory, which safetensors refuses: each name gets its own copy.
    found = (
        {} if not isinstance(loaded, Mapping) else {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    )
    if not found:
        raise CheckpointError(f"{source}: no tensors by name in it, nor under {', '.join(NESTS)}")
    return {str(name): tensor.detach().clone().contiguous() for name, tensor in found.items()}


def _pickle_refused(pickles: list[Path], target: Path) -> str:
    names = ", ".join(p.name for p in pickles)
    return (
        f"{pickles[0].parent}: {names} is a pickle, and reading one may run code: it is not read. Convert it once: "
        f"edged convert-checkpoint {pickles[0]} {target} --sha256 DIGEST, with the digest its publisher gives"
    )
