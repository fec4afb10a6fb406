"""`edged calibrate lag` on real recordings of the virtual cell with its laser: a file that a cell works with."""

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration.files import read_calibration
from drivers.sim.bead import pool_length_mm
from drivers.sim.plan import plan_seams
from drivers.sim.programs import PROGRAMS
from drivers.sim.render import _profile, _result_of, render_process
from drivers.sim.seam import IMAGE_PRESETS
from edged.cli import app
from edged.null_scorer import NullScorer
from edged.recording import SeamRecorder, config_metadata
from edged.simulated_seam import Bulk, _config, _header, _start_ns, _through_engine

PROGRAM = "pulsed-lap-4"
SEAMS, SESSIONS = 12, ("lag-a", "lag-b", "lag-c")
"""No fewer seams are taken."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Through the real engine and recorder, without photographs: they take the time and tell no lag."""
    folder = tmp_path_factory.mktemp("lag")
    bulk = Bulk(profiler=True)
    for plan in plan_seams(SEAMS, 4, "good", (PROGRAM,), sessions=SESSIONS):
        process = render_process(plan, IMAGE_PRESETS["small"])
        config = _config(plan, bulk)
        recorder = SeamRecorder(folder, lambda: _header(config, _start_ns(plan)), config_metadata(config))  # noqa: B023
        seam = dataclasses.replace(process, profile=_profile(_result_of(plan)))
        verdict, said = _through_engine(seam, bulk, config, NullScorer(), recorder)
        assert verdict is not None, said
        recorder.close()
    return folder


def lag(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["calibrate", "lag", *map(str, words)])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, " ".join(found.output.split())


def test_the_lag_of_the_metal_is_found_and_written(recordings: Path, tmp_path: Path) -> None:
    """The virtual metal freezes half a pool behind the arc in width, and at the arc in area: it lies between."""
    report = tmp_path / "lag.json"
    code, output = lag(PROGRAM, "--recording", recordings, "--directory", tmp_path, "--json", report)
    assert code == 0, output
    found = read_calibration(tmp_path / f"lag-{PROGRAM}.toml")
    pool_mm = pool_length_mm(PROGRAMS[PROGRAM])
    assert 0.0 <= found.values["lag_mm"] <= 0.5 * pool_mm + 0.5
    low, high = found.values["interval_mm"]
    assert low <= found.values["lag_mm"] <= high
    assert found.values["seams"] == SEAMS
    told = json.loads(report.read_text())
    assert told["own_mm"]["width"] == pytest.approx(0.5 * pool_mm, abs=1.0)


def test_what_is_missing_is_named(recordings: Path, tmp_path: Path) -> None:
    code, output = lag("tee", "--recording", recordings, "--directory", tmp_path)
    assert (code, "holds no seam of program 'tee'" in output) == (2, True)
    few = sorted(recordings.glob("*.mcap"))[:3]
    code, output = lag(PROGRAM, *(word for path in few for word in ("--recording", path)), "--directory", tmp_path)
    assert code == 2
    assert list(tmp_path.glob("lag-*")) == []
