"""A program's way as its people go it: learn, shadow, arm; what a kill -9 does not undo and another model does."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.cell_thresholds import thresholds_folder, write_cell
from edged.control import ask
from edged.types import Label
from edged.watch import received
from edged.wire import VerdictMessage
from pipelines.energy_band import EnergyBand
from pipelines.models import write_manifest
from pipelines.thresholds import calibrate
from tests.support.running import PATIENCE_S, cell_config, running_daemon, wait_for_status, write_weld


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


def _cli(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "edged.cli", *words, "--config", str(folder / "edged.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def _verdict(folder: Path, after: int = 0) -> VerdictMessage:
    for _, message in received(f"ipc://{folder}/verdicts.sock", PATIENCE_S):
        if isinstance(message, VerdictMessage) and message.sequence > after:
            return message
    raise AssertionError((folder / "daemon.log").read_text())


def _learn(folder: Path, model: Path) -> str:
    """What `edged learn` writes, from goods that it would have scored so; returns the threshold's id."""
    model_id = EnergyBand.load(model, "cpu", 1, folder).model_id
    row = calibrate(model_id, "T1", ("welder",), [0.02 * (i + 1) for i in range(99)], sessions=4)
    write_cell(thresholds_folder(folder / "data"), [row])
    return row.threshold_id


def test_shadow_armed_killed_armed_and_another_model_is_shadow(folder: Path) -> None:
    write_weld(folder / "weld.csv", 8.0, (1.0,), 2.0)
    config = cell_config(folder, folder / "weld.csv", mode="shadow")
    threshold_id = _learn(folder, folder / "model")
    with running_daemon(config):
        wait_for_status(config)
        verdict = _verdict(folder)
        assert (verdict.label, verdict.mode, verdict.shadow_label) == (Label.INDETERMINATE, "shadow", Label.OK)
        assert (verdict.threshold_id, verdict.false_alarm_budget) == (threshold_id, 0.01)
        done = _cli(folder, "arm", "T1", "--by", "ann", "--json", str(folder / "arm.json"))
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "arm.json").read_text())["armed"][0]["goods"] == 99
        refused = _cli(folder, "arm", "T9")
        assert (refused.returncode, "'T9' is not configured" in refused.stderr) == (1, True)
    with running_daemon(config):  # the one before was killed with SIGKILL
        verdict = _verdict(folder, verdict.sequence)
        assert (verdict.label, verdict.mode, verdict.shadow_label) == (Label.OK, "armed", None)
        shown = _cli(folder, "programs", "--json", str(folder / "programs.json"))
        assert "armed" in shown.stdout
        line = json.loads((folder / "programs.json").read_text())["programs"]["T1"]
        assert (line["mode"], line["by"], line["goods"], line["sessions"]) == ("armed", "ann", 99, 4)
    text = (folder / "model" / "model.toml").read_text()
    (folder / "model" / "model.toml").write_text(text.replace("std = 1.0", "std = 1.5"))
    write_manifest(folder / "model")
    with running_daemon(config) as daemon:
        verdict = _verdict(folder, verdict.sequence)
        assert (verdict.label, verdict.mode) == (Label.INDETERMINATE, "shadow")
        assert "it was armed for model" in verdict.detail
        health = wait_for_status(config)["health"]
        assert any("program T1 is in shadow: it was armed for model" in warning for warning in health["warnings"])
        answer = ask(f"ipc://{folder}/control.sock", {"op": "arm", "program": "T1", "by": "ann"})
        assert answer["ok"] is False
        assert "there is no threshold for energy_band" in answer["error"]
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0


def test_verbs_say_plainly_that_the_daemon_is_down(folder: Path) -> None:
    write_weld(folder / "weld.csv", 1.0, (), 0.0)
    cell_config(folder, folder / "weld.csv")
    for words in (("arm", "T1"), ("disarm", "T1"), ("programs",)):
        done = _cli(folder, *words)
        assert (done.returncode, "edged is not running" in done.stderr) == (1, True)
