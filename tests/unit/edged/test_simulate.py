"""Bulk simulation: same seed, same bytes, on any number of processes; truth kept apart; resumable."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from drivers.mcap_codec import ControlEvent, RecordingReader
from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.scanner import RUN_ON_S, SCAN_HZ, scan_rows
from drivers.sim.seam import IMAGE_PRESETS
from edged.cli import app
from edged.manifest import read_manifest
from edged.recorded import rescore
from edged.recording import recordings
from edged.simulate import TRUTH_NAME, session_names_of, simulate_recordings
from tests.support.cell import FakeScorer


@pytest.mark.slow
def test_recordings_do_not_depend_on_the_number_of_processes_and_hide_the_truth(tmp_path: Path) -> None:
    plans = plan_seams(3, 5, "both", sessions=session_names_of(5, 2))
    assert simulate_recordings(plans, tmp_path / "one", 1) == 3
    assert simulate_recordings(plans, tmp_path / "two", 2) == 3
    assert simulate_recordings(plans, tmp_path / "two", 2) == 0  # resumed: all are there

    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name

    manifest = read_manifest(tmp_path / "one")
    assert {line["session"] for line in manifest.values()} == {"s5-00", "s5-01"}
    truth = [json.loads(line) for line in (tmp_path / "one" / TRUTH_NAME).read_text().splitlines()]
    assert {line["seam_id"] for line in truth} == set(manifest)
    assert {line["truth"]["family"] for line in truth} == {"both"}
    for line in truth:
        path = tmp_path / "one" / f"{line['seam_id']}.mcap"
        reader = RecordingReader(path)
        readable = json.dumps([event.message for event in reader.events() if isinstance(event, ControlEvent)])
        readable += json.dumps([reader.metadata(name) for name in ("seam", "verdict", "config")])
        readable += json.dumps(manifest[line["seam_id"]])
        assert line["truth"]["type"] not in readable
        assert str(line["truth"]["seed"]) not in readable


@pytest.mark.slow
def test_with_a_profiler_each_recording_holds_its_scan_and_replays_to_the_same_height_map(tmp_path: Path) -> None:
    plans = plan_seams(1, 5, "good", sessions=session_names_of(5, 1))
    assert simulate_recordings(plans, tmp_path, 1, profiler=True) == 1
    (path,) = recordings(tmp_path)
    was = RecordingReader(path).metadata("verdict") or {}
    assert was["reason"] == "no_model" or was["reason"] == "collecting"
    scorer = FakeScorer()
    verdict = rescore(path, scorer, "none")
    assert (verdict.reason, verdict.integrity["profiler"].state) == ("ok", "ok")
    bead = scan_rows(render_seam(plans[0], IMAGE_PRESETS["small"]))
    found = scorer.windows[0].height_map_mm
    assert found is not None
    begin = round(RUN_ON_S * SCAN_HZ)
    np.testing.assert_array_equal(found[begin : begin + len(bead)], bead)


def test_a_program_that_does_not_exist_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", "--out", str(tmp_path), "--seams", "1", "--program", "tig"])
    assert result.exit_code == 2
    assert "tig" in result.output
    assert "short-butt-3" in result.output
