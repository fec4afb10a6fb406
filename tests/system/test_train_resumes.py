"""`edged train` killed and started again, and shared between processes by torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edged.manifest import FEATURES_DATA, MANIFEST
from pipelines.causal_hm import weights_id
from pipelines.features.extractor import save_features
from tests.support.law_seams import goods
from tests.support.processes import torchrun

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good seams as `edged simulate --features` leaves them."""
    found = tmp_path_factory.mktemp("goods")
    lines = []
    for i, seam in enumerate(goods(150)):
        seam_id = f"S{i:04d}"
        save_features(seam, found / FEATURES_DATA.format(seam_id))
        lines.append({"seam_id": seam_id, "program": seam.program, "session": seam.session, "utc": f"{i:04d}"})
    (found / MANIFEST).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return found


def arguments(folder: Path, out: Path) -> list[str]:
    return ["edged.cli", "train", "--recordings", str(folder), "--out", str(out), "--jobs", "1"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def train(folder: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", *arguments(folder, out)]
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_training_goes_on_to_the_same_model(folder: Path, tmp_path: Path) -> None:
    assert train(folder, tmp_path / "whole").wait(PATIENCE_S) == 0
    out = tmp_path / "model"
    checkpoint = tmp_path / "model.training" / "network.safetensors"
    first = train(folder, out)
    end = time.monotonic() + PATIENCE_S
    while not checkpoint.exists():
        assert first.poll() is None, "ended without a checkpoint"
        assert time.monotonic() < end
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (out / "model.toml").exists()
    assert checkpoint.exists()
    assert train(folder, out).wait(PATIENCE_S) == 0
    assert weights_id(out) == weights_id(tmp_path / "whole")
    assert not checkpoint.parent.exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_torchrun_shares_a_training_and_leaves_one_model(folder: Path, tmp_path: Path) -> None:
    done = torchrun(*arguments(folder, tmp_path / "model"), environment=environment())
    assert done.returncode == 0, done.stderr.decode()
    said = b" ".join(done.stderr.split())  # lines are as wide as the terminal
    assert said.count(b"its report:") == 1
    assert (tmp_path / "model" / "manifest.sha256").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
