"""The real daemon with keys: it starts with them or says why not, and follows `edged keys` while it runs."""

import json
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import zmq
from click.testing import Result
from typer.testing import CliRunner

from edged.cli import app
from edged.client.keys import Keys
from edged.control import ask
from tests.support.running import PATIENCE_S, cell_config, running_daemon, write_weld


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


def _cli(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def _config(folder: Path, **net: Any) -> Path:
    write_weld(folder / "weld.csv", 60.0, (), 0.0)
    config = cell_config(folder, folder / "weld.csv")
    raw = tomllib.loads(config.read_text())
    raw["net"] |= net
    config.write_text(tomli_w.dumps(raw))
    return config


def _new(config: Path, name: str, *rights: str) -> Path:
    out = config.parent / f"{name}.toml"
    flags = [part for right in rights for part in ("--right", right)]
    done = _cli("keys", "new", name, *flags, "--config", config, "--out", out)
    assert done.exit_code == 0, done.stderr
    return out


def _status(config: Path, keys: Path | None = None) -> dict[str, Any]:
    """The first answer of a daemon that starts."""
    found, end = None if keys is None else Keys.read(keys), time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(f"ipc://{config.parent}/control.sock", {"op": "status"}, 1.0, found)
        except TimeoutError:
            assert time.monotonic() < end, (config.parent / "daemon.log").read_text()


def test_off_loopback_without_keys_it_does_not_start(folder: Path) -> None:
    config = _config(folder, verdicts="tcp://0.0.0.0:*")
    with running_daemon(config) as daemon:
        assert daemon.wait(PATIENCE_S) == 2
    done = _cli("check", "--config", config)
    assert done.exit_code == 2
    for said in (done.stderr, (folder / "daemon.log").read_text()):
        for part in ("server.toml", "edged keys new", "net.verdicts (tcp://0.0.0.0:*)", "off_loopback_without_keys"):
            assert part in said
    _new(config, "press-plc", "verdict")
    assert _cli("check", "--config", config).exit_code == 0
    (folder / "data" / "keys" / "server.toml").chmod(0o644)
    done = _cli("check", "--config", config)
    assert (done.exit_code, "chmod 0600" in done.stderr) == (2, True)


def test_with_the_configurations_word_it_starts_and_warns(folder: Path) -> None:
    config = _config(folder, verdicts="tcp://0.0.0.0:*", off_loopback_without_keys=["verdicts", "journal"])
    done = _cli("check", "--config", config)
    assert (done.exit_code, "net.verdicts tcp://0.0.0.0:* is open without keys" in done.stdout) == (0, True)
    with running_daemon(config):
        warnings = _status(config)["health"]["warnings"]
    for name in ("net.verdicts", "net.journal"):
        assert any(name in warning and "open without keys" in warning for warning in warnings)
    assert "without keys" in (folder / "daemon.log").read_text()


def test_a_running_daemon_follows_edged_keys(folder: Path) -> None:
    config = _config(folder, security="curve", verdicts="tcp://127.0.0.1:*")
    robot, plc = _new(config, "robot", "control"), _new(config, "press-plc", "verdict")
    with running_daemon(config), zmq.Context() as context:
        verdicts = _status(config, robot)["verdicts"]
        done = _cli("status", "--config", config, "--keys", robot, "--json", folder / "s.json")
        assert done.exit_code == 0, done.stderr
        assert json.loads((folder / "s.json").read_text())["ok"]
        assert _cli("programs", "--config", config, "--keys", robot).exit_code == 0
        control = f"ipc://{folder}/control.sock"
        with pytest.raises(TimeoutError, match="--keys FILE"):
            ask(control, {"op": "ping"}, 1.0)
        with pytest.raises(TimeoutError, match="it may refuse the key press-plc"):
            ask(control, {"op": "ping"}, 1.0, Keys.read(plc))

        def heartbeats(keys: Path) -> "zmq.Socket[bytes]":
            socket = context.socket(zmq.SUB)
            Keys.read(keys).protect(socket)
            socket.subscribe(b"heartbeat")
            socket.connect(verdicts)
            return socket

        with heartbeats(plc) as first, heartbeats(_new(config, "late-plc", "verdict")) as late:
            assert first.poll(10_000)
            assert late.poll(10_000)
            assert _cli("keys", "revoke", "press-plc", "--config", config).exit_code == 0
            counters: dict[str, int] = {}
            end = time.monotonic() + PATIENCE_S
            while "refused_revoked" not in counters and time.monotonic() < end:
                counters = _status(config, robot)["health"]["net"]
            # Connections are cut: what had come by then is read, and nothing more comes.
            while first.poll(0):
                first.recv_multipart()
            while late.poll(0):
                late.recv_multipart()
            assert late.poll(10_000)
            assert not first.poll(1500)
        assert counters["refused_lacks_right"] >= 1
        assert counters["refused_no_keys"] >= 1
    log = (folder / "daemon.log").read_text()
    refused = [line for line in map(json.loads, log.splitlines()) if line["event"] == "client refused"]
    assert {("press-plc", "lacks_right"), ("press-plc", "revoked")} <= {
        (line.get("name"), line["reason"]) for line in refused
    }
    assert all("address" in line for line in refused)
