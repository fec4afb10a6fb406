"""`edged learn`: real recordings of the cell's good seams → its thresholds, or what is missing for them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner

from drivers.mcap_codec import RecordingHeader
from edged.cell_thresholds import CellThresholds, load_cell, write_cell
from edged.cli import app
from edged.learning import Scored, learned, score_features, score_live, wanted_goods
from edged.local_scorer import LocalScorer
from edged.manifest import read_manifest
from edged.recorded import RecordedSeam, list_recorded
from edged.recording import SeamRecorder, config_metadata
from pipelines.live import highest_raw
from pipelines.live_fit import fit_live
from pipelines.live_scorer import Live
from pipelines.model_files import write_trained_on
from pipelines.models import write_manifest
from pipelines.normaliser import fit_normaliser
from pipelines.thresholds import Threshold, ThresholdTable
from pipelines.window import Score
from tests.support.cell import Cell, config
from tests.support.law_seams import law_seam
from tests.support.live_seams import live_goods
from tests.support.models import write_band_model

S = 1_000_000_000
SEAMS, SESSIONS = 6, 3
BUDGET = 0.2
"""Needs four goods."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six good seams of three sessions and one without its arc's minimal length, recorded through the real engine."""
    root = tmp_path_factory.mktemp("learn")
    model = write_band_model(root / "model", "fillet", 179.0)
    cfg = config({"fillet": {"model": str(model), "views": [], "required": ["welder"], "optional": []}})
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", True, "cell")
    recorder = SeamRecorder(root / "recordings", lambda: header, config_metadata(cfg))
    scorer = LocalScorer.load({"fillet": str(model)}, root)
    cell = Cell(cfg, scorer=scorer, recorder=recorder)  # type: ignore[arg-type]
    arcs = [(2.0 + 3 * k, 2.5 + 3 * k + 0.01 * k) for k in range(SEAMS)] + [(2.0 + 3 * SEAMS, 2.1 + 3 * SEAMS)]
    cell.weld(arcs, 3 * SEAMS + 5, streams=["welder"])
    for k in range(SEAMS + 1):
        cell.say(1.0 + 3 * k, "expect", program="fillet", seam_ref=str(k), session=f"shift-{k % SESSIONS}")
    cell.run(3 * SEAMS + 5)
    reasons = [verdict.reason for verdict in cell.verdicts]
    assert reasons == ["ok"] * SEAMS + ["arc_too_short"], reasons
    return root


def write_config(root: Path, tmp_path: Path, **program: Any) -> Path:
    raw = {
        "cell": {"data_dir": str(tmp_path / "data")},
        "streams": {
            "welder": {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/null"}},
        },
        "programs": {"fillet": {"mode": "shadow", "model": str(root / "model"), **program}},
    }
    path = tmp_path / "edged.toml"
    path.write_text(tomli_w.dumps(raw))
    return path


def run(root: Path, tmp_path: Path, *more: object, **program: Any) -> tuple[int, str, dict[str, Any]]:
    path = write_config(root, tmp_path, **program)
    out = tmp_path / "out.json"
    words = ["learn", "fillet", "--config", path, "--recordings", root / "recordings", "--json", out, *more]
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    report = json.loads(out.read_text()) if out.exists() else {}
    return found.exit_code, " ".join(found.output.split()), report


def test_goods_become_the_cells_threshold(root: Path, tmp_path: Path) -> None:
    code, output, report = run(root, tmp_path, false_alarm_budget=BUDGET)
    assert code == 0, output
    (row,) = load_cell(tmp_path / "data" / "thresholds")[0]
    assert (row.program, row.streams, row.alpha, row.sessions) == ("fillet", ("welder",), BUDGET, SESSIONS)
    assert len(row.scores) == SEAMS == report["goods"]
    assert row.learned_utc is not None
    assert row.interval is not None
    assert row.interval_by_session is not None
    assert row.interval_by_session[1] >= row.interval[1]
    (said,) = report["sets"]
    assert (said["threshold_id"], said["limit"]) == (row.threshold_id, row.value)
    assert report["left_out"] == {"not whole: arc_too_short": 1}
    assert report["held_out"] is None
    assert "does not say which seams taught it" in output
    assert "edged arm fillet" in output
    assert report["live"] == []
    assert "no live score for this program" in output


def test_too_few_goods_change_nothing_and_say_how_many_more(root: Path, tmp_path: Path) -> None:
    code, output, report = run(root, tmp_path)
    assert code == 1
    assert "needs 93 more goods for a budget of 1.00% (has 6)" in output
    assert report["written"] is None
    assert not (tmp_path / "data").exists()


def test_bad_seams_are_left_out_as_the_operator_says(root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_text("# looked at on Monday\nseam-1 pores\n\nseam-3\n")
    code, output, report = run(root, tmp_path, "--bad", bad, false_alarm_budget=BUDGET)
    assert (code, report["goods"], report["left_out"]["marked bad"]) == (0, 4, 2), output
    bad.write_text("seam-1\nseam-2\nseam-4\nseam-5\n")
    code, output, report = run(root, tmp_path, "--bad", bad, false_alarm_budget=BUDGET)
    assert code == 1
    assert "needs 2 more goods" in output
    assert "needs goods of at least 3 sessions (has 1)" in output


def test_sessions_that_taught_the_model_are_held_out(root: Path, tmp_path: Path) -> None:
    model = write_band_model(tmp_path / "model", "fillet", 179.0)
    write_trained_on(model, [("seam-1", "shift-0")])
    write_manifest(model)
    seams = list_recorded(root / "recordings")
    goods = wanted_goods(seams, "fillet", str(model), frozenset())
    assert [seam.seam_id for seam in goods.seams] == ["seam-2", "seam-3", "seam-5", "seam-6"]
    assert goods.left_out["of sessions that taught the model"] == 3
    assert goods.is_held_out


def test_wrong_arguments_exit_2_with_one_sentence(root: Path, tmp_path: Path) -> None:
    path = write_config(root, tmp_path)
    for words, said in (
        (["learn", "tee", "--config", path], "no program 'tee'"),
        (["learn", "fillet", "--config", path], "no recordings there"),
        (["learn", "fillet", "--config", path, "--bad", tmp_path / "none.txt"], "No such file"),
    ):
        found = CliRunner().invoke(app, [str(word) for word in words])
        assert (found.exit_code, said in " ".join(found.output.split())) == (2, True), found.output


def test_each_set_of_surviving_streams_is_scored_and_learned() -> None:
    """A score of the streams that are there: every optional one is left out in turn."""
    rng = np.random.default_rng(0)
    features = {f"seam-{i:04d}": law_seam(rng, i, session=f"s{i % 4}") for i in range(12)}
    seams = [RecordedSeam(f.seam_id, Path(f"{f.seam_id}.mcap"), "p1", f.session, {}) for f in features.values()]

    def score(found: Any) -> Score:
        if "audio" not in found.kinds and found.seam_id == "seam-0003":
            raise ValueError("no audio")
        kinds = tuple(sorted(found.kinds))
        return Score(1.0 + len(kinds), None, None, None, None, "m", {}, streams=kinds)

    scored, failed = score_features(seams, features, "m", score, ["video", "audio", "profile"])
    assert failed == {}
    assert [found.streams for found in scored] == [
        ("audio", "result", "video", "welder"),
        ("audio", "result", "welder"),
        ("result", "video", "welder"),
        ("result", "welder"),
    ]
    assert [len(found.raw) for found in scored] == [12, 12, 11, 11]
    assert set(scored[3].raw.values()) == {3.0}
    row = learned(scored[0], "p1", 0.1, "c1", "2026")
    assert isinstance(row, Threshold)
    assert (row.calibration_id, row.sessions, row.streams) == ("c1", 4, scored[0].streams)
    lonely = Scored("m", ("welder",), scored[0].raw, dict.fromkeys(scored[0].raw, "s0"))
    assert learned(lonely, "p1", 0.1, "c1", "2026") == "needs goods of at least 3 sessions (has 1)"


def test_the_live_scores_limits_come_from_the_same_goods(tmp_path: Path) -> None:
    """Conformal on each good's highest; one without sound teaches the sets without it only."""
    taught = live_goods(16)
    names = sorted({f.session for f in taught})
    model = fit_live(taught, np.array([names.index(f.session) for f in taught]), fit_normaliser(taught))
    goods = [dataclasses.replace(f, seam_id=f"seam-{i:04d}") for i, f in enumerate(live_goods(24, seed=1))]
    goods = [f for f in goods if f.program == "p1"]
    features = {f.seam_id: f for f in [goods[0].without({"audio"}), *goods[1:]]}
    seams = [RecordedSeam(f.seam_id, Path(f"{f.seam_id}.mcap"), f.program, f.session, {}) for f in goods]
    found = score_live(seams, features, Live(model, "m", ThresholdTable()))
    sets = {one.streams: len(one.raw) for one in found}
    assert sets == {
        ("audio", "video", "welder"): 11,
        ("audio", "welder"): 11,
        ("video", "welder"): 12,
        ("welder",): 12,
    }
    assert found[0].streams == ("audio", "video", "welder")
    row = learned(found[0], "p1", 0.1, "c1", "2026", signal="live")
    assert isinstance(row, Threshold)
    assert (row.signal, row.calibration_id, row.model_id) == ("live", "c1", "m")
    assert row.value == sorted(highest_raw(model, f, [frozenset(row.streams)])[0] for f in goods[1:])[-1]
    assert learned(found[0], "p1", 0.01, "c1", "2026", signal="live") == (
        "needs 88 more goods for a budget of 1.00% (has 11)"
    )
    verdicts = dataclasses.replace(row, signal="score")
    cell = CellThresholds(tmp_path)
    assert list(cell.now()) == []
    assert write_cell(tmp_path, [row]) != write_cell(tmp_path, [verdicts])
    assert cell.now().find("m", "p1", row.streams, "c1", "live") == row
    stranger = [dataclasses.replace(seam, program="p9") for seam in seams]
    assert score_live(stranger, features, Live(model, "m", ThresholdTable())) == []


def test_the_recordings_tell_their_session(root: Path) -> None:
    lines = read_manifest(root / "recordings").values()
    assert {line["session"] for line in lines} == {f"shift-{k}" for k in range(SESSIONS)}
