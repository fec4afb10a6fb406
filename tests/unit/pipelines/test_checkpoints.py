"""What is accepted as weights, and the conversion of a published pickle."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from edged.cli import app
from pipelines.features.checkpoints import CheckpointError, convert, digest, weights_file


class _Runs:
    """What a hostile pickle may hold."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_published_pickle_becomes_safetensors(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    published = {
        "base_model": {"module.a.weight": weight, "module.a.tied": weight, "module.b": weight.T},
        "optimizer": {"state": {}, "lr": 0.1},
        "metrics": {"acc": np.float64(91.2)},
        "epoch": 300,
    }
    torch.save(published, tmp_path / "pretrain.pth")
    target = tmp_path / "point_mae.safetensors"
    assert convert(tmp_path / "pretrain.pth", target, _sha256(tmp_path / "pretrain.pth").upper()) == 3
    stored = load_file(target)
    assert stored.keys() == {"a.weight", "a.tied", "b"}
    assert torch.equal(stored["b"], weight.T)
    assert weights_file(target) == target
    assert digest([target]) == _sha256(target)


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    bad, trace = tmp_path / "bad.pth", tmp_path / "it ran"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "more": _Runs(trace)}, bad)
    with pytest.raises(CheckpointError, match="more than tensors"):
        convert(bad, tmp_path / "good.safetensors", _sha256(bad))
    bad.write_bytes(pickle.dumps(_Runs(trace), protocol=2))
    with pytest.raises(CheckpointError, match="more than tensors"):
        convert(bad, tmp_path / "good.safetensors", _sha256(bad))
    assert not trace.exists()
    assert not (tmp_path / "good.safetensors").exists()


def test_another_digest_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"not even a pickle")
    with pytest.raises(CheckpointError, match="do not use this file"):
        convert(path, tmp_path / "a.safetensors", "0" * 64)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"model": {"a": 1}}])
def test_without_tensors_there_is_nothing_to_convert(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no tensors by name"):
        convert(tmp_path / "a.pth", tmp_path / "a.safetensors", _sha256(tmp_path / "a.pth"))


def test_the_command(tmp_path: Path) -> None:
    source, target = tmp_path / "a.pth", tmp_path / "a.safetensors"
    torch.save({"w": torch.ones(2)}, source)
    asked = ["convert-checkpoint", str(source), str(target), "--sha256"]
    refused = CliRunner().invoke(app, [*asked, "0" * 64])
    assert refused.exit_code == 2
    assert "do not use this file" in refused.output
    assert CliRunner().invoke(app, [*asked, _sha256(source)]).exit_code == 0
    assert torch.equal(load_file(target)["w"], torch.ones(2))
    again = CliRunner().invoke(app, [*asked, _sha256(source)])
    assert again.exit_code == 2
    assert "exists already" in again.output


def test_only_safetensors_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"point_mae\.pth is a pickle.*convert-checkpoint.*point_mae\.safetensors"
    ):
        weights_file(tmp_path / "point_mae.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        weights_file(tmp_path / "point_mae.safetensors")
    (tmp_path / "w.npz").touch()
    with pytest.raises(CheckpointError, match="safetensors files only"):
        weights_file(tmp_path / "w.npz")
