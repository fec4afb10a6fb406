"""The daemon as it is installed: a process with files for devices, real sockets, a real worker, real signals."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import tomli_w

from edged.client.endpoints import journal_endpoint
from edged.control import ask
from edged.types import Label
from edged.watch import received
from edged.wire import HealthMessage, HeartbeatMessage, Message, PartMessage, VerdictMessage, decode
from edged.wire_schema import message_schema
from tests.support.running import PATIENCE_S, cell_config, running_daemon, wait_for_status, write_weld


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


def _collect(folder: Path, wanted: type[Message], count: int = 1) -> list[Any]:
    found: list[Message] = []
    for _, message in received(f"ipc://{folder}/verdicts.sock", PATIENCE_S):
        if isinstance(message, wanted) and message not in found:
            found.append(message)
        if len(found) == count:
            return found
    raise AssertionError((folder / "daemon.log").read_text())


def _cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edged.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_weld_becomes_a_verdict_and_nothing_is_left_behind(folder: Path) -> None:
    write_weld(folder / "weld.csv", 6.0, (1.5,), 2.0)
    config = cell_config(folder, folder / "weld.csv")
    config.write_text(config.read_text().replace("[net]\n", '[net]\nacknowledge = ["press-plc"]\n'))
    with running_daemon(config) as daemon:
        status = wait_for_status(config)
        assert status["torch_loaded"] is False
        (verdict,) = _collect(folder, VerdictMessage)
        assert (verdict.label, verdict.reason, verdict.sequence) == (Label.OK, "ok", 1)
        assert verdict.score == pytest.approx(0.0, abs=0.05)
        assert verdict.arc_s == pytest.approx(1.5, abs=0.1)
        assert verdict.mean_current_a == pytest.approx(150.0, abs=1.0)
        assert verdict.integrity["welder"].state == "ok"
        assert verdict.is_simulated
        assert Path(verdict.recording).exists()
        assert verdict.stage_ms["worker_finish"] > 0
        desk = journal_endpoint(f"ipc://{folder}/verdicts.sock")
        answer = ask(desk, {"op": "range", "from_sequence": 1, "to_sequence": 9})
        assert [(sequence, topic) for sequence, topic, _ in answer["entries"]] == [(1, "verdict/T1")]
        assert decode("verdict/T1", answer["entries"][0][2]) == verdict
        assert ask(f"ipc://{folder}/control.sock", {"op": "ping"}) == {"ok": True}
        (beat,) = _collect(folder, HeartbeatMessage)
        assert (beat.journal_id, beat.last_sequence) == (verdict.journal_id, 1)
        assert (beat.cell, beat.armed, beat.is_simulated) == ("test", ["T1"], True)
        assert (beat.software, beat.config_id) == (f"edged {status['version']}", verdict.config_id)
        _the_journal_socket_and_health(folder, desk, verdict)
        children = psutil.Process(daemon.pid).children(recursive=True)
        assert children
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0
        assert not any(child.is_running() for child in children)
    assert not (folder / "control.sock").exists()
    assert list((folder / "data" / "run").glob("*")) == []
    assert not list((folder / "data" / "recordings").glob("*.open"))


def test_a_bad_weld_is_not_ok(folder: Path) -> None:
    write_weld(folder / "weld.csv", 4.0, (1.0,), 2.0, current_a=180.0)
    with running_daemon(cell_config(folder, folder / "weld.csv")):
        (verdict,) = _collect(folder, VerdictMessage)
    assert (verdict.label, verdict.reason) == (Label.NOK, "score_above_threshold")


def test_parts_and_expected_seams(folder: Path) -> None:
    write_weld(folder / "weld.csv", 8.0, (1.0,), 2.0)
    config = cell_config(folder, folder / "weld.csv")
    with running_daemon(config):
        wait_for_status(config)
        control = f"ipc://{folder}/control.sock"
        assert ask(control, {"op": "part", "part_id": "p1", "seams": ["a"]}) == {"ok": True}
        answer = ask(control, {"op": "expect", "program": "T1", "part_id": "p1", "seam_ref": "a"})
        assert answer["ok"]
        (verdict,) = _collect(folder, VerdictMessage)
        assert (verdict.seam_id, verdict.part_id, verdict.seam_ref) == (answer["seam_id"], "p1", "a")
        (part,) = _collect(folder, PartMessage)
        assert (part.label, part.part_id, part.sequence) == (Label.OK, "p1", 2)


def test_kill_9_in_an_arc_is_reported_after_the_restart(folder: Path) -> None:
    write_weld(folder / "weld.csv", 3.0, (60.0,), 1.0)
    config = cell_config(folder, folder / "weld.csv")
    with running_daemon(config) as daemon:
        while not list((folder / "data" / "recordings").glob("*.open")):
            assert daemon.poll() is None
        daemon.kill()
        daemon.wait()
    (left,) = (folder / "data" / "recordings").glob("*.open")
    write_weld(folder / "weld.csv", 60.0, (), 1.0)
    with running_daemon(config):
        (verdict,) = _collect(folder, VerdictMessage)
    assert (verdict.label, verdict.reason, verdict.seam_id) == (Label.INDETERMINATE, "interrupted", left.stem)
    assert verdict.sequence == 1
    with running_daemon(config):
        (beat,) = _collect(folder, HeartbeatMessage)
        assert beat.last_sequence == 1


def test_stopping_in_an_arc_is_reported_at_once(folder: Path) -> None:
    write_weld(folder / "weld.csv", 3.0, (60.0,), 1.0)
    config = cell_config(folder, folder / "weld.csv")
    with running_daemon(config) as daemon:
        while not list((folder / "data" / "recordings").glob("*.open")):
            assert daemon.poll() is None
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(PATIENCE_S) == 130
    with running_daemon(config):
        (verdict,) = _collect(folder, VerdictMessage)
    assert (verdict.label, verdict.reason) == (Label.INDETERMINATE, "interrupted")


def test_a_missing_device_does_not_stop_the_daemon(folder: Path) -> None:
    write_weld(folder / "weld.csv", 6.0, (1.0,), 2.0)
    config = cell_config(folder, folder / "weld.csv", required=["welder", "motion"])
    raw = tomllib.loads(config.read_text())
    options = {"port": str(folder / "no-such-tty")}
    raw["streams"]["robot"] = {"driver": "motion.csv_serial", "kind": "motion", "options": options}
    config.write_text(tomli_w.dumps(raw))
    with running_daemon(config):
        (verdict,) = _collect(folder, VerdictMessage)
        (health,) = _collect(folder, HealthMessage)
    assert (verdict.label, verdict.reason) == (Label.INDETERMINATE, "stream_missing")
    assert health.streams["robot"].state == "down"
    assert health.state == "degraded"


def test_systemd_hears_of_readiness_and_progress(folder: Path) -> None:
    write_weld(folder / "weld.csv", 60.0, (), 0.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": str(folder / "notify")}
        with running_daemon(cell_config(folder, folder / "weld.csv"), environment) as daemon:
            assert manager.recv(4096) == b"READY=1"
            assert manager.recv(4096).startswith(b"WATCHDOG=1\nSTATUS=")
            daemon.send_signal(signal.SIGSTOP)
            manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while manager.recv(4096):
                    pass
            daemon.send_signal(signal.SIGCONT)
            manager.settimeout(PATIENCE_S)
            assert manager.recv(4096).startswith(b"WATCHDOG=1")
            daemon.send_signal(signal.SIGTERM)
            while manager.recv(4096) != b"STOPPING=1":
                pass


def test_a_second_daemon_on_the_same_data_is_refused(folder: Path) -> None:
    write_weld(folder / "weld.csv", 60.0, (), 0.0)
    config = cell_config(folder, folder / "weld.csv")
    with running_daemon(config):
        wait_for_status(config)
        second = _cli("run", "--config", str(config))
        assert second.returncode == 1
        assert "another process writes this journal" in second.stderr
        assert wait_for_status(config)["ok"]


def test_every_problem_of_a_config_at_once(folder: Path) -> None:
    config = folder / "bad.toml"
    config.write_text(
        'colour = "red"\n[streams.a]\ndriver = "nonsense"\nkind = "welder"\n[net]\nverdicts = "udp://*:1"\n'
    )
    for verb in ("run", "check"):
        done = _cli(verb, "--config", str(config))
        assert done.returncode == 2
        for problem in ("colour: unknown key", "streams.a.driver: no driver 'nonsense'", "is no endpoint"):
            assert problem in done.stderr


def test_check_sees_models(folder: Path) -> None:
    write_weld(folder / "weld.csv", 1.0, (), 0.0)
    config = cell_config(folder, folder / "weld.csv")
    done = _cli("check", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert "ok, config_id" in done.stdout
    (folder / "model" / "model.toml").write_text('detector = "x"')
    done = _cli("check", "--config", str(config))
    assert done.returncode == 2
    assert "programs.T1.model" in done.stderr


def _the_journal_socket_and_health(folder: Path, desk: str, verdict: Any) -> None:
    (before,) = _collect(folder, HealthMessage)
    assert before.acknowledgements["press-plc"].waiting == 1
    assert before.net == {}
    assert ask(desk, {"op": "expect", "program": "T1"})["code"] == "unknown_op"
    ack = {"op": "ack", "client": "press-plc", "journal_id": verdict.journal_id, "sequence": 1}
    assert ask(desk, ack) == {"ok": True, "sequence": 1}
    found = _collect(folder, HealthMessage, 3)[-1]
    assert found.acknowledgements["press-plc"].waiting == 0
    assert found.net == {"journal_unknown_op": 1}


def test_status_says_plainly_that_the_daemon_is_down(folder: Path) -> None:
    write_weld(folder / "weld.csv", 1.0, (), 0.0)
    done = _cli("status", "--config", str(cell_config(folder, folder / "weld.csv")), "--json", str(folder / "s.json"))
    assert done.returncode == 1
    assert "edged is not running" in done.stderr
    assert json.loads((folder / "s.json").read_text())["running"] is False


def test_watch_and_status_of_a_running_daemon(folder: Path) -> None:
    write_weld(folder / "weld.csv", 5.0, (1.0,), 2.0)
    config = cell_config(folder, folder / "weld.csv")
    with running_daemon(config):
        endpoint, out = f"ipc://{folder}/verdicts.sock", folder / "w.json"
        done = _cli("watch", "--endpoint", endpoint, "--json", str(out), "--count", "1", "--timeout", str(PATIENCE_S))
        assert done.returncode == 0, done.stderr
        messages = json.loads(out.read_text())
        assert messages[-1]["topic"] == "verdict/T1"
        assert messages[-1]["label"] == 1
        schema = jsonschema.Draft202012Validator(message_schema())
        assert {message["kind"] for message in messages} == {"verdict", "health", "heartbeat"}
        for message in messages:
            schema.validate(message)
        done = _cli("watch", "--endpoint", endpoint, "--count", "9", "--timeout", "1")
        assert done.returncode == 1
        done = _cli("status", "--config", str(config))
        assert done.returncode == 0
        assert "welder" in done.stdout


def test_the_whole_command_line_imports_no_heavy_library() -> None:
    """`edged run` is the command line too: what it imports stays in the daemon's memory for years."""
    heavy = ("torch", "cv2", "sounddevice", "soundfile", "numba", "sklearn", "scipy", "onnx", "onnxruntime")
    script = f"import sys, edged.cli; sys.exit(' '.join(name for name in {heavy} if name in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, f"imported: {done.stderr}"


def test_a_journal_that_cannot_be_written_is_a_fault_and_ends_the_process(folder: Path) -> None:
    """A limit on the size of files takes the disk away from a running daemon, reserve and all."""
    write_weld(folder / "weld.csv", 8.0, (1.0,), 60.0)
    config = cell_config(folder, folder / "weld.csv")
    with running_daemon(config) as daemon:
        wait_for_status(config)
        psutil.Process(daemon.pid).rlimit(psutil.RLIMIT_FSIZE, (4096, 4096))
        states = [message.state for message in _until_gone(folder, daemon)]
        assert daemon.wait(PATIENCE_S) == 1
    assert states[-1] == "fault"


def _until_gone(folder: Path, daemon: subprocess.Popen[bytes]) -> Iterator[HealthMessage]:
    for _, message in received(f"ipc://{folder}/verdicts.sock", PATIENCE_S):
        if isinstance(message, HealthMessage):
            yield message
            if message.state == "fault":
                return
        assert daemon.poll() is None
