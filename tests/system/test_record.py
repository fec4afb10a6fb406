"""`edged record` as a technician runs it: a process on a cell of files that ends when it has its seams."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.mcap_codec import RecordingReader
from edged.manifest import read_manifest
from edged.recorded import list_recorded, rescore
from edged.recording import recorded_config, recordings
from edged.types import Label
from pipelines.energy_band import EnergyBand
from tests.support.running import PATIENCE_S, cell_config, write_weld


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


def _command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "edged.cli", "record", "--config", str(config), *more]


def test_it_records_the_wanted_number_of_whole_seams_and_says_what_comes_next(folder: Path) -> None:
    write_weld(folder / "weld.csv", 2.0, (0.1, 1.0, 1.0, 1.0), 60.0)
    config = cell_config(folder, folder / "weld.csv")
    done = subprocess.run(
        _command(config, "--seams", "2", "--out", str(folder / "r")),
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not counted:" in done.stderr, "the first arc is too short to be a seam"
    assert "arc_too_short" in done.stderr
    found = recordings(folder / "r" / "recordings")
    assert len(found) == 3
    assert len(read_manifest(folder / "r" / "recordings")) == 3
    assert f"2 seams recorded in {folder}/r/recordings" in done.stdout
    assert "takes 99 goods for calibration, 165 with those that train: 162 more are needed" in done.stdout
    assert "edged train --recordings" in done.stdout
    assert not (folder / "data").exists()
    verdicts = [RecordingReader(path).metadata("verdict") or {} for path in found]
    assert sorted(verdict["reason"] for verdict in verdicts) == ["arc_too_short", "collecting", "collecting"]
    assert {verdict["label"] for verdict in verdicts} == {"INDETERMINATE"}


def test_what_it_recorded_can_be_cut_and_scored_without_the_config(folder: Path) -> None:
    write_weld(folder / "weld.csv", 2.0, (1.0,), 60.0)
    config = cell_config(folder, folder / "weld.csv")
    done = subprocess.run(_command(config, "--seams", "1"), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    (seam,) = list_recorded(folder / "data" / "recordings")
    assert recorded_config(RecordingReader(seam.path)) is not None
    from edged.local_scorer import LocalScorer

    scorer = LocalScorer({"T1": EnergyBand.load(folder / "model", "cpu", 1, folder)})
    verdict = rescore(seam.path, scorer, "any")
    assert (verdict.label, verdict.seam.seam_id) == (Label.OK, seam.seam_id)


def test_an_unknown_program_is_refused_with_the_known_ones(folder: Path) -> None:
    write_weld(folder / "weld.csv", 1.0, (), 1.0)
    config = cell_config(folder, folder / "weld.csv")
    done = subprocess.run(_command(config, "--program", "T9"), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "no program 'T9'; known: T1" in done.stderr


def test_ctrl_c_keeps_what_is_there(folder: Path) -> None:
    write_weld(folder / "weld.csv", 2.0, (1.0,), 600.0)
    config = cell_config(folder, folder / "weld.csv")
    with subprocess.Popen(_command(config), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        while not recordings(folder / "data" / "recordings"):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        said, _ = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 130
    assert "1 seams recorded in" in said
    assert "164 more are needed" in said
