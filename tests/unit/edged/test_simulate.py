"""Bulk simulation: same seed, same bytes, on any number of processes; truth kept apart; resumable."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from drivers.mcap_codec import ControlEvent, RecordingReader
from drivers.sim.intel import has_video
from drivers.sim.plan import plan_seams
from drivers.sim.render import render_seam
from drivers.sim.scanner import RUN_ON_S, SCAN_HZ, scan_rows
from drivers.sim.seam import IMAGE_PRESETS
from edged.cli import app
from edged.manifest import TRUTH, read_manifest
from edged.recorded import rescore
from edged.recording import recordings
from edged.simulate import session_names_of, simulate_features, simulate_recordings
from tests.support.cell import FakeScorer


@pytest.mark.slow
def test_recordings_do_not_depend_on_the_number_of_processes_and_hide_the_truth(tmp_path: Path) -> None:
    plans = plan_seams(3, 5, "both", sessions=session_names_of(5, 2))
    assert simulate_recordings(plans, tmp_path / "one", 1) == 3
    assert simulate_recordings(plans, tmp_path / "two", 2) == 3
    assert simulate_recordings(plans, tmp_path / "two", 2) == 0  # resumed: all are there

    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name

    manifest = read_manifest(tmp_path / "one")
    assert {line["session"] for line in manifest.values()} == {"s5-00", "s5-01"}
    truth = [json.loads(line) for line in (tmp_path / "one" / TRUTH).read_text().splitlines()]
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
    # The program with the most photographs: the scan comes after all of them and must keep the deadline.
    plans = plan_seams(1, 5, "good", ["pulsed-butt-6"], sessions=session_names_of(5, 1))
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


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, words)])


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("--program", "tig", "short-butt-3"),
        ("--type", "rust", "gas_loss"),
        ("--severity", "6", "1"),
        ("--family", "ugly", "drift"),
        ("--session", "s3-99", "s3-07"),
        ("--profile", "nasa", "intel"),
    ],
)
def test_a_value_that_does_not_exist_is_refused_with_the_known_ones(
    tmp_path: Path, option: str, value: str, known: str
) -> None:
    result = run("--out", tmp_path / "out", "--seams", "2", "--seed", "3", option, value)
    assert result.exit_code == 2
    assert value in result.output
    assert known in result.output
    assert not (tmp_path / "out").exists()


def test_a_profile_without_a_profiler_is_refused_one(tmp_path: Path) -> None:
    result = run("--out", tmp_path / "out", "--seams", "1", "--profile", "intel", "--profiler")
    assert result.exit_code == 2
    assert "intel" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_chosen_sessions_of_a_plan_are_the_same_to_the_byte_as_in_the_whole_of_it(tmp_path: Path) -> None:
    plan = ("--seams", "6", "--seed", "3", "--sessions", "3", "--type", "gas_loss", "--type", "scratch")
    severities = ("--severity", "2", "--severity", "4")
    summary = tmp_path / "summary.json"
    assert run("--out", tmp_path / "all", *plan, *severities).exit_code == 0
    chosen = ("--session", "s3-00", "--session", "s3-02")
    result = run("--out", tmp_path / "some", *plan, *severities, *chosen, "--json", summary)
    assert result.exit_code == 0, result.output
    told = json.loads(summary.read_text())
    assert (told["seams"], told["new"], told["sessions"]) == (4, 4, ["s3-00", "s3-02"])
    some, whole = recordings(tmp_path / "some"), recordings(tmp_path / "all")
    assert (len(some), len(whole)) == (4, 6)
    for path in some:
        assert path.read_bytes() == (tmp_path / "all" / path.name).read_bytes()
    truth = [json.loads(line)["truth"] for line in (tmp_path / "all" / TRUTH).read_text().splitlines()]
    bad = [line for line in truth if line["family"] != "good"]
    assert {line["type"] for line in bad} <= {"gas_loss", "scratch"}
    assert {line["severity"] for line in bad} <= {2, 4}
    # Both runs in one folder leave what one of them alone leaves.
    assert run("--out", tmp_path / "some", *plan, *severities).exit_code == 0
    for name in ("manifest.jsonl", TRUTH):
        assert (tmp_path / "some" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()


@pytest.mark.slow
def test_seams_in_the_shape_of_the_intel_data_get_their_verdict_and_replay_to_the_same_window(tmp_path: Path) -> None:
    plans = plan_seams(12, 5, "good", sessions=session_names_of(5, 2))
    blind, seen = (next(plan for plan in plans if has_video(plan) == there) for there in (False, True))
    assert simulate_recordings([blind, seen], tmp_path, 1, profile="intel") == 2
    for path, plan in zip(recordings(tmp_path), sorted((blind, seen), key=lambda p: p.index), strict=True):
        was = RecordingReader(path).metadata("verdict") or {}
        assert was["reason"] == "collecting"
        scorer = FakeScorer()
        verdict = rescore(path, scorer, "none")
        assert (verdict.reason, verdict.degraded) == ("ok", not has_video(plan)), verdict.detail
        states = {name: found.state for name, found in verdict.integrity.items()}
        assert states == {
            "welder": "ok",
            "mic": "ok",
            "motion": "ok",
            "arccam": "ok" if has_video(plan) else "missing",
        }
        assert {was["whole"]["integrity"][name]["items"] == verdict.integrity[name].items for name in states} == {
            True
        }
        rendered = render_seam(plan, IMAGE_PRESETS["small"])
        (window,) = scorer.windows
        assert abs((window.seam.arc_off_ns - window.seam.arc_on_ns) / 1e9 - rendered.arc_s) < 2 / 9
        for name, jpeg in rendered.views.items():
            assert bytes(window.views[name].jpeg) == jpeg
            assert 19 < (window.views[name].t_ns - window.seam.arc_off_ns) / 1e9 < 51
        pushed = scorer.pushed[window.seam.seam_id]
        assert ("arccam" in {chunk.stream for chunk in pushed}) == has_video(plan)
        assert len([c for c in pushed if c.stream == "welder"]) == pytest.approx(9 * (rendered.arc_s + 0.8), abs=2)


def test_seams_of_two_kinds_are_not_mixed_in_one_folder(tmp_path: Path) -> None:
    plans = plan_seams(1, 5, "good", sessions=session_names_of(5, 1))
    assert simulate_recordings([], tmp_path, 1) == 0
    with pytest.raises(ValueError, match="profile is cell, not intel"):
        simulate_recordings(plans, tmp_path, 1, profile="intel")
    with pytest.raises(ValueError, match="holds is recordings, not features"):
        simulate_features(plans, tmp_path, 1, tmp_path / "cache")
