"""Where a killed training goes on from: one safetensors file, whole or not at all, never a pickle.

Beside the data path: written and read by `pipelines/loop.py` alone. Tensors are named `PART/NAME` (`net/…`,
`best/…`, `optimiser/PARAMETER/…`); all else is JSON in the file's header: `made_for`, which must be the same in the
training that goes on, and `state`, where it stood.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from drivers.mcap_file import fsync_folder

__all__ = ["CheckpointError", "flat_optimiser", "load_checkpoint", "restore_optimiser", "save_checkpoint"]

VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be gone on from; names the file, what is wrong and what to do."""


def save_checkpoint(
    path: Path, made_for: Mapping[str, Any], state: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Replace the checkpoint; one that was there stays until the new one is on the disk."""
    from safetensors.torch import save

    header = {"version": VERSION, "made_for": made_for, "state": state}
    # Copies: tied weights share their memory, which safetensors does not write.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    with scratch.open("wb") as file:
        file.write(save(copies, {"training": json.dumps(header, allow_nan=False)}))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    fsync_folder(path.parent)


def load_checkpoint(path: Path, made_for: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """State and tensors; None where there is no checkpoint. Raises CheckpointError for another training's."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: is no checkpoint ({error!r}); remove it to train anew") from error
    if about["version"] != VERSION:
        raise CheckpointError(f"{path}: checkpoint of version {about['version']}, this is {VERSION}; remove it")
    now: dict[str, Any] = json.loads(json.dumps(made_for))  # tuples become lists, as in the file
    other = {name: value for name, value in about["made_for"].items() if not _same(value, now.get(name))}
    if other or now.keys() != about["made_for"].keys():
        said = ", ".join(f"{name} was {value!r} and is {now.get(name)!r}" for name, value in other.items())
        raise CheckpointError(
            f"{path}: checkpoint of another training ({said or 'of other fields'}); "
            "remove it to train anew, or give another checkpoint directory"
        )
    return about["state"], tensors


def _same(a: object, b: object) -> bool:
    """Losses may differ in their last bits where another number of threads prepared the data."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5)
    return a == b


def flat_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Its tensors as `PARAMETER/NAME`, and its parameter groups, JSON-ready."""
    found = optimiser.state_dict()
    tensors = {f"{i}/{name}": value for i, own in found["state"].items() for name, value in own.items()}
    return tensors, found["param_groups"]


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Put back what `flat_optimiser` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        i, _, name = key.partition("/")
        state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": groups})
