"""`edged replay` and `edged recover` as a user runs them: exit codes, report, and the same scores again."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import zmq
from typer.testing import CliRunner

from drivers.mcap_codec import RecordingHeader
from edged.cli import app
from edged.client.endpoints import journal_endpoint
from edged.control import ask
from edged.local_scorer import LocalScorer
from edged.recording import SeamRecorder, config_metadata, recordings
from edged.replay import report_line
from edged.replay_outlet import must_be_apart
from edged.wire import decode
from pipelines.models import write_manifest
from tests.support.cell import Cell, config
from tests.support.verdicts import a_score, a_verdict

S = 1_000_000_000


def make_model(folder: Path, mean_a: float) -> Path:
    """The smallest real model: mean current of good welds."""
    folder.mkdir()
    text = f'detector = "energy_band"\n[programs.fillet.mean_current_a]\nmean = {mean_a}\nstd = 1.0\n'
    (folder / "model.toml").write_text(text)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seam, recorded live with a real model."""
    root = tmp_path_factory.mktemp("replay")
    model = make_model(root / "model", 179.0)
    make_model(root / "other", 150.0)
    cfg = config({"fillet": {"model": str(model), "views": []}})
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", True, "cell")
    recorder = SeamRecorder(root / "recordings", lambda: header, config_metadata(cfg))
    scorer = LocalScorer.load({"fillet": str(model)}, root)
    cell = Cell(cfg, scorer=scorer, recorder=recorder)  # type: ignore[arg-type]
    cell.weld([(2.0, 3.0)], 5.0)
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.run(6.0)
    assert cell.verdict.score is not None
    assert cell.verdict.score.raw > 0
    return root


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_scores_along_the_seam_are_compared_where_both_sides_have_them() -> None:
    def line(recorded: list[dict[str, float]] | None, model_id: str = "m1") -> dict[str, Any]:
        whole = {"score": {} if recorded is None else {"along": recorded}}
        return report_line(a_verdict(), {"score": 0.5, "model_id": model_id, "whole": whole})

    same = [{"mm": 0.5, "score": 0.2}, {"mm": 1.5, "score": 0.4}]
    assert line(same)["along"] == [[0.5, 0.2], [1.5, 0.4]]
    assert line(same)["along_diff"] == 0.0
    assert line([same[0], {"mm": 1.5, "score": 0.1}])["along_diff"] == pytest.approx(0.3)
    assert line(same[:1])["along_diff"] == 1.0
    assert line(None)["along_diff"] is None  # a recording from before there were places
    assert line(same, "another")["along_diff"] is None


def test_the_same_model_gives_the_same_score(folder: Path, tmp_path: Path) -> None:
    code, output = run("replay", folder / "recordings", "--json", tmp_path / "r.json")
    assert code == 0, output
    report = json.loads((tmp_path / "r.json").read_text())
    (seam,) = report["seams"]
    assert (seam["seam_id"], seam["program"], seam["label"]) == ("seam-1", "fillet", seam["recorded"]["label"])
    assert seam["score"] == seam["recorded"]["score"] is not None
    assert (seam["diff"], report["max_diff"], report["failed"]) == (0.0, 0.0, [])


def test_a_seam_out_of_sync_is_judged_after_its_strike_has_set_the_offset(folder: Path, tmp_path: Path) -> None:
    model = folder / "model"
    cfg = config({"fillet": {"model": str(model), "views": [], "max_sync_residual_ms": 20.0}})
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", True, "cell")
    recorder = SeamRecorder(tmp_path / "late", lambda: header, config_metadata(cfg))
    cell = Cell(cfg, scorer=LocalScorer.load({"fillet": str(model)}, tmp_path), recorder=recorder)  # type: ignore[arg-type]
    for name in cell.specs:
        arcs = [(2.04, 3.04)] if name == "mic" else [(2.0, 3.0)]
        cell.weld(arcs, 5.0, streams=[name])
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.run(6.0)
    assert cell.verdict.reason == "sync"
    code, output = run("replay", tmp_path / "late", "--json", tmp_path / "plain.json")
    assert code == 0, output
    assert json.loads((tmp_path / "plain.json").read_text())["seams"][0]["reason"] == "sync"
    code, output = run("replay", tmp_path / "late", "--realign", "--json", tmp_path / "r.json")
    assert code == 0, output
    assert json.loads((tmp_path / "r.json").read_text())["seams"][0]["reason"] == "ok"


def test_another_model_is_compared_by_label_only(folder: Path, tmp_path: Path) -> None:
    code, output = run("replay", folder / "recordings", "--model", folder / "other", "--json", tmp_path / "r.json")
    assert code == 0, output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["seams"][0]["label"] == "NOK"
    assert report["seams"][0]["recorded"]["label"] == "OK"
    assert (report["seams"][0]["diff"], report["max_diff"]) == (None, None)


def test_speed_may_be_a_factor_or_steps(folder: Path) -> None:
    assert run("replay", folder / "recordings", "--speed", "1000")[0] == 0
    result = CliRunner().invoke(app, ["replay", str(folder / "recordings"), "--speed", "step"], input="\n" * 9)
    assert result.exit_code == 0
    assert "3 s; Enter goes on" in result.output


def test_wrong_arguments_end_with_2_and_broken_recordings_with_1(folder: Path, tmp_path: Path) -> None:
    for wrong in (["--speed", "0"], ["--speed", "fast"], ["--config", "/nowhere.toml"]):
        assert run("replay", folder / "recordings", *wrong)[0] == 2
    code, output = run("replay", tmp_path / "none.mcap")
    assert (code, "there is no such recording" in output) == (2, True)
    code, output = run("replay", tmp_path)
    assert (code, "holds no *.mcap file" in output) == (2, True)
    (recording,) = recordings(folder / "recordings")
    (tmp_path / "cut.mcap").write_bytes(recording.read_bytes()[:-2000])
    code, output = run("replay", tmp_path / "cut.mcap", recording, "--json", tmp_path / "r.json")
    assert code == 1
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["seams"]) == 1
    assert "edged recover" in report["failed"][0]["error"]


def test_recover_saves_what_is_complete(folder: Path, tmp_path: Path) -> None:
    (recording,) = recordings(folder / "recordings")
    (tmp_path / "cut.mcap").write_bytes(recording.read_bytes()[:-2000])
    code, output = run("recover", tmp_path / "cut.mcap")
    assert code == 0, output
    assert run("replay", tmp_path / "cut.recovered.mcap")[0] == 0
    (tmp_path / "empty.open").touch()
    code, output = run("recover", tmp_path / "empty.open")
    assert (code, "nothing to recover" in output) == (1, True)


def test_another_limit_is_no_other_score() -> None:
    """Limits are learned anew; what a detector says of a recording does not change by that."""
    verdict = a_verdict(score=a_score(raw=1.5, score=0.5, threshold=3.0), model_id="m1")
    recorded = {"score": 0.75, "raw": 1.5, "model_id": "m1"}
    assert report_line(verdict, recorded)["diff"] == 0.0
    assert report_line(verdict, {**recorded, "raw": 1.2, "score": 0.6})["diff"] == pytest.approx(0.25)
    assert report_line(verdict, {**recorded, "raw": 1.6, "score": 0.533333})["diff"] == pytest.approx(
        0.0625, rel=1e-4
    )
    assert report_line(verdict, {**recorded, "score": 0.5})["diff"] == 0.0


def test_a_replay_is_published_apart_and_marked_as_simulated(folder: Path, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/r.sock"
    (recording,) = recordings(folder / "recordings")
    got: list[tuple[bytes, Any]] = []
    answers: list[dict[str, Any]] = []

    def subscribe() -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.setsockopt(zmq.RCVTIMEO, 60_000)
            socket.subscribe(b"")
            socket.connect(endpoint)
            while not any(topic.startswith(b"verdict/") for topic, _ in got) or got[-1][0] != b"heartbeat":
                topic, payload = socket.recv_multipart()
                got.append((topic, decode(topic, payload)))
            answers.append(ask(journal_endpoint(endpoint), {"op": "snapshot"}))

    plc = threading.Thread(target=subscribe)
    plc.start()
    code, output = run("replay", recording, recording, "--publish", endpoint, "--hold", "3")
    plc.join()
    assert code == 1
    assert "already has a verdict" in output
    (verdict,) = [message for topic, message in got if topic.startswith(b"verdict/")]
    beats = [message for topic, message in got if topic == b"heartbeat"]
    assert verdict.is_simulated
    assert all(beat.is_simulated for beat in beats)
    assert beats[-1].last_sequence == verdict.sequence == answers[0]["last_sequence"] == 1
    assert {verdict.journal_id, answers[0]["journal_id"], *(beat.journal_id for beat in beats)} == {
        verdict.journal_id
    }
    assert not list(tmp_path.glob("r.sock*"))


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("tcp://127.0.0.1:5560", "is for live verdicts"),
        ("tcp://localhost:5561", "is for live verdicts"),
        ("tcp://127.0.0.1:5559", "is for live verdicts"),
        ("tcp://127.0.0.1:7400", "is for live verdicts"),
        ("tcp://127.0.0.1:7401", "is for live verdicts"),
        ("tcp://127.0.0.1:7399", "is for live verdicts"),
        ("ipc:///run/j.sock", "is for live verdicts"),
        ("tcp://192.168.1.5:6000", "loopback or ipc only"),
        ("tcp://*:6000", "loopback or ipc only"),
        ("udp://x", "is needed"),
    ],
)
def test_a_replay_never_stands_where_verdicts_of_welds_do(endpoint: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        must_be_apart(
            endpoint, ["tcp://0.0.0.0:7400", "tcp://0.0.0.0:7401", "ipc:///run/j.sock", "tcp://127.0.0.1:*"]
        )


def test_the_endpoints_of_the_recordings_config_are_refused(folder: Path) -> None:
    (recording,) = recordings(folder / "recordings")
    code, output = run("replay", recording, "--publish", "tcp://127.0.0.1:5560")
    assert code == 2
    assert "is for live verdicts" in output
