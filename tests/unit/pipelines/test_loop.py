"""The training loop: the same again, on after a kill, stopped in time, shared between processes."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.distributed import World, world
from pipelines.loop import CheckpointError, DivergedError, LoopConfig, Rows, train_loop
from tests.support.processes import torchrun
from tests.support.small_training import CONFIG, ROWS, SmallTraining, digest

ROOT = Path(__file__).parents[3]
SCRIPT = "tests.support.small_training"
BATCHES = -(-ROWS // CONFIG.batch)


class _Killed(Exception):
    pass


def killed_at(batch: int, training: SmallTraining, checkpoint: Path, **changes: Any) -> None:
    """Train until the Nth batch begins, then stop dead; leaves what a kill leaves."""

    def loss(net: nn.Module, rows: Rows) -> Tensor:
        if training.batches + 1 == batch:
            raise _Killed
        return SmallTraining.loss(training, net, rows)

    training.loss = loss  # type: ignore[method-assign]
    with pytest.raises(_Killed):
        training.run(checkpoint=checkpoint, **changes)


def test_the_same_seed_gives_the_same_weights_and_another_others() -> None:
    found = []
    for seed in (3, 3, 4):
        training = SmallTraining()
        training.run(seed=seed)
        found.append(digest(training.net))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_training_learns_and_tells_each_epoch() -> None:
    training = SmallTraining(dropout=0.0)
    report = training.run(epochs=30)
    assert report.best_loss < 0.3 * report.first_loss
    assert [done for _, done, _, _ in training.told] == list(range(31))
    assert {(stage, total) for stage, _, total, _ in training.told} == {("network", 30)}
    assert [loss for *_, loss in training.told[1:]] == list(report.held_out_losses)
    assert len(report.train_losses) == report.epochs == 30
    assert report.peak_mb > 10
    assert report.peak_cuda_mb is None


def test_a_killed_process_goes_on_to_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    whole = SmallTraining()
    expected = whole.run()
    command = [sys.executable, "-m", SCRIPT, "--out", str(tmp_path / "report"), "--checkpoint", str(checkpoint)]
    done = subprocess.run([*command, "--kill-at", str(2 * BATCHES + 3)], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [path.name for path in checkpoint.iterdir()] == ["network.safetensors"]
    second = SmallTraining()
    report = second.run(checkpoint=checkpoint)
    assert report.resumed_at == 2 * BATCHES + 2
    assert second.batches == (5 - 2) * BATCHES - 2
    assert digest(second.net) == digest(whole.net)
    assert report.train_losses == expected.train_losses
    assert report.held_out_losses == expected.held_out_losses
    assert not checkpoint.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "cosine", "optimiser": "adam", "clip": None},
        {"schedule": "constant", "patience": 2, "weight_decay": 0.1},
        {"amp": "bf16"},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [2, BATCHES + 1, 4 * BATCHES + 3])
def test_every_configuration_goes_on_from_everywhere(tmp_path: Path, batch: int, changes: dict[str, Any]) -> None:
    whole, first, second = SmallTraining(), SmallTraining(), SmallTraining()
    expected = whole.run(**changes)
    killed_at(batch, first, tmp_path / "c", **changes)
    report = second.run(checkpoint=tmp_path / "c", **changes)
    assert report.resumed_at == batch - 1
    assert digest(second.net) == digest(whole.net)
    assert (report.best_epoch, report.best_loss) == (expected.best_epoch, expected.best_loss)


def test_checkpoints_are_as_rare_as_asked(tmp_path: Path) -> None:
    changes = {"checkpoint": tmp_path / "c", "checkpoint_every_s": 3600.0}
    killed_at(BATCHES, SmallTraining(), **changes)
    assert not (tmp_path / "c").exists()
    killed_at(2 * BATCHES, SmallTraining(), **changes)
    assert SmallTraining().run(**changes).resumed_at == BATCHES


def test_a_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    killed_at(BATCHES, SmallTraining(), tmp_path)
    (tmp_path / "network.part").write_bytes(b"half")
    whole, second = SmallTraining(), SmallTraining()
    whole.run()
    second.run(checkpoint=tmp_path)
    assert digest(second.net) == digest(whole.net)


@pytest.mark.parametrize(
    ("changes", "shift", "reason"),
    [
        ({"lr": 2e-2}, 0.0, "lr was 0.01 and is 0.02"),
        ({"data": "abc"}, 0.0, "data was '' and is 'abc'"),
        ({}, 1.0, "untrained_held_out_loss was"),
    ],
)
def test_another_trainings_checkpoint_is_refused(
    tmp_path: Path, changes: dict[str, Any], shift: float, reason: str
) -> None:
    killed_at(BATCHES, SmallTraining(), tmp_path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        SmallTraining(shift=shift).run(checkpoint=tmp_path, **changes)
    assert "remove it" in str(caught.value)
    assert (tmp_path / "network.safetensors").exists()


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    killed_at(BATCHES, SmallTraining(), tmp_path)
    other = SmallTraining()
    with torch.no_grad():
        other.net[0].weight[0, 0] += 1.0
    with pytest.raises(CheckpointError, match="untrained_network was"):
        other.run(checkpoint=tmp_path)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").write_bytes(b"\x80\x04no pickle is ever read")
    with pytest.raises(CheckpointError, match=r"network\.safetensors: is no checkpoint"):
        SmallTraining().run(checkpoint=tmp_path)


def test_stages_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    killed_at(BATCHES, SmallTraining(), tmp_path, stage="second")
    SmallTraining().run(checkpoint=tmp_path, stage="first")
    assert SmallTraining().run(checkpoint=tmp_path, stage="second").resumed_at == BATCHES - 1


def scripted(losses: list[float], config: LoopConfig) -> tuple[nn.Linear, Any]:
    """Train a weight that moves each epoch, with these held-out losses; the first is the untrained network's."""
    net, said = nn.Linear(1, 1), iter(losses)
    report = train_loop(net, 1, lambda net, _: net.weight.sum(), lambda _: next(said), config, lambda *_: None)
    return net, report


def test_patience_keeps_the_best_network() -> None:
    config = LoopConfig(epochs=9, patience=2)
    net, report = scripted([5.0, 4.0, 3.0, 3.5, 3.0, 1.0], config)
    assert (report.best_epoch, report.epochs, report.best_loss, report.first_loss) == (2, 4, 3.0, 5.0)
    torch.manual_seed(0)
    short, other = scripted([5.0, 4.0, 3.0], LoopConfig(epochs=2, patience=2))
    assert other.best_epoch == 2
    assert not net.training
    assert not short.training


def test_no_patience_keeps_the_last_network() -> None:
    _, report = scripted([1.0, 2.0, 3.0, 4.0], LoopConfig(epochs=3, patience=0))
    assert (report.best_epoch, report.epochs, report.best_loss) == (3, 3, 4.0)


def test_a_network_that_never_gets_better_stays_untrained() -> None:
    torch.manual_seed(0)
    expected = nn.Linear(1, 1).weight.item()
    torch.manual_seed(0)
    net, report = scripted([1.0, 2.0, 3.0], LoopConfig(epochs=9, patience=2))
    assert (report.best_epoch, report.epochs) == (0, 2)
    assert net.weight.item() == expected


def test_a_loss_that_is_not_finite_names_its_epoch_and_batch() -> None:
    training = SmallTraining()
    honest = training.loss

    def loss(net: nn.Module, rows: Rows) -> Tensor:
        return honest(net, rows) * (math.nan if training.batches == BATCHES + 2 else 1.0)

    training.loss = loss  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match=f"the loss is nan in epoch 2, batch 2 of {BATCHES}"):
        training.run()
    with pytest.raises(DivergedError, match="held-out loss is inf"):
        scripted([1.0, math.inf], LoopConfig(epochs=2))


def test_bf16_trains_close_to_full_precision_and_fp16_wants_cuda() -> None:
    full, half = SmallTraining(dropout=0.0), SmallTraining(dropout=0.0)
    expected, found = full.run(), half.run(amp="bf16")
    assert digest(full.net) != digest(half.net)
    assert found.held_out_losses == pytest.approx(expected.held_out_losses, rel=0.05)
    assert all(value.dtype == torch.float32 for value in half.net.state_dict().values())
    with pytest.raises(ValueError, match="needs CUDA"):
        SmallTraining().run(amp="fp16")


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(ValueError, match="0 training seams"):
        train_loop(nn.Linear(1, 1), 0, lambda *_: torch.zeros(()), lambda _: 0.0, LoopConfig(), lambda *_: None)


@pytest.mark.timeout(400)
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    expected = SmallTraining(dropout=0.0).run()
    arguments = ["--out", str(tmp_path / "report"), "--dropout", "0", "--checkpoint", str(tmp_path / "c")]
    done = torchrun(SCRIPT, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    ranks = [json.loads((tmp_path / f"report.{rank}.json").read_text()) for rank in (0, 1)]
    for found in ranks:
        assert found["processes"] == 2
        assert found["train_losses"] == pytest.approx(expected.train_losses, abs=1e-5)
        assert found["held_out_losses"] == pytest.approx(expected.held_out_losses, abs=1e-5)
    assert ranks[0]["digest"] == ranks[1]["digest"]
    assert [found["told"] for found in ranks] == [6, 0]
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_killed_processes_go_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, second = tmp_path / "whole", tmp_path / "second"
    goes_on = ["--out", str(second), "--checkpoint", str(tmp_path / "c")]
    assert torchrun(SCRIPT, "--out", str(whole)).returncode == 0
    assert torchrun(SCRIPT, *goes_on, "--kill-at", str(BATCHES + 3)).returncode != 0
    assert torchrun(SCRIPT, *goes_on).returncode == 0
    first, other = (json.loads(path.with_suffix(".0.json").read_text()) for path in (whole, second))
    assert other["resumed_at"] > BATCHES
    assert other["digest"] == first["digest"]


def test_torchruns_environment_says_who_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert world() == World(0, 1, 0)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="WORLD_SIZE, LOCAL_RANK not set"):
        world()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert world() == World(1, 2, 1)
    assert not world().leads
    with pytest.raises(ValueError, match="one of 2 processes that did not meet"):
        SmallTraining().run()
