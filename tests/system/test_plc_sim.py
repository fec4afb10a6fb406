"""The conformance kit as an integrator runs it: against a real daemon, and against the example clients."""

import datetime
import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from edged.keys import KeyStore, Right, write_private
from edged.plcsim.app import make_keys
from edged.plcsim.clauses import CLIENT, DAEMON
from edged.plcsim.places import free_endpoint
from tests.support.running import cell_config, running_daemon, write_weld
from tests.support.soft_plcs import LANGUAGES, soft_plcs

PLC_SIM = [sys.executable, "-m", "edged.cli", "plc-sim"]
CARELESS = [sys.executable, "-m", "tests.support.careless_client"]
PATIENCE_S = 110


def a_key(folder: Path, name: str, *rights: Right) -> Path:
    bundle = KeyStore(folder / "data" / "keys").add(name, rights, datetime.datetime.now(datetime.UTC))
    write_private(folder / f"{name}.toml", bundle.model_dump())
    return folder / f"{name}.toml"


def results(path: Path) -> Mapping[str, tuple[str, str]]:
    report = json.loads(path.read_text())
    return {row["clause"]: (row["result"], row["detail"]) for row in report["clauses"]}


@pytest.mark.slow
def test_a_real_daemon_with_keys(tmp_path: Path) -> None:
    write_weld(tmp_path / "weld.csv", 1.0, (1.0,), 600.0)
    config = cell_config(tmp_path, tmp_path / "weld.csv", arc_deadline_s=1.0)
    raw = tomllib.loads(config.read_text())
    raw["net"]["security"] = "curve"
    config.write_text(tomli_w.dumps(raw))
    plc, viewer = a_key(tmp_path, "plc", "verdict", "control"), a_key(tmp_path, "viewer", "verdict")
    command = [*PLC_SIM, "daemon", f"--verdicts=ipc://{tmp_path}/verdicts.sock", f"--keys={plc}", "--program=T1"]
    command += [
        f"--control=ipc://{tmp_path}/control.sock",
        f"--verdict-keys={viewer}",
        f"--json={tmp_path}/found.json",
    ]
    with running_daemon(config):
        wait_for_a_verdict(tmp_path, plc)
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    found = results(tmp_path / "found.json")
    assert found.keys() == DAEMON.keys()
    assert {clause: row for clause, row in found.items() if row[0] != "pass"} == {}
    assert done.returncode == 0, done.stderr


def wait_for_a_verdict(folder: Path, keys: Path) -> None:
    command = [sys.executable, "-m", "edged.cli", "watch", f"--endpoint=ipc://{folder}/verdicts.sock", "--count=1"]
    command += [f"--keys={keys}", "--start=first", "--timeout=60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_clients(tmp_path: Path) -> None:
    """All at once, each with a daemon of its own: they mostly wait."""
    keys = tmp_path / "keys"
    make_keys(keys)
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for language, command in soft_plcs(tmp_path).items():
            running[language] = started(
                tmp_path, language, command, "--verdicts", "--keys", str(keys / "client.toml"), keys=keys
            )
        running["careless"] = started(tmp_path, "careless", CARELESS, only=("C1", "C3", "C7", "C8", "C11"))
        codes = {name: process.wait(PATIENCE_S) for name, process in running.items()}
    finally:
        for process in running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    for language in LANGUAGES:
        found = results(tmp_path / f"{language}.json")
        assert found.keys() == CLIENT.keys()
        assert {clause: row for clause, row in found.items() if row[0] != "pass"} == {}, language
        assert codes[language] == 0
    careless = results(tmp_path / "careless.json")
    assert careless["C1"][1].endswith("was accepted with label 0, not 2")
    assert careless["C7"][1].endswith("accepted twice")
    assert {clause: result for clause, (result, _) in careless.items()} == {
        **dict.fromkeys(("C1", "C3", "C7", "C8", "C9"), "fail"),
        "C11": "skip",
    }
    assert codes["careless"] == 1


def started(
    folder: Path,
    name: str,
    command: Sequence[str],
    *options: str,
    keys: Path | None = None,
    only: Sequence[str] = (),
) -> "subprocess.Popen[str]":
    """plc-sim with a client; the endpoint follows the first of `options`."""
    verdicts = free_endpoint()
    line = [*PLC_SIM, "client", f"--listen={verdicts}", f"--json={folder}/{name}.json"]
    line += [f"--keys={keys}"] if keys else []
    line += [f"--only={clause}" for clause in only]
    line += ["--", *command, *options[:1], verdicts, *options[1:]]
    with (folder / f"{name}.log").open("wb") as log:
        made: subprocess.Popen[Any] = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
    return made


def test_without_a_client_nothing_passes(tmp_path: Path) -> None:
    command = [*PLC_SIM, "client", f"--listen={free_endpoint()}", f"--json={tmp_path}/found.json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert {result for result, _ in results(tmp_path / "found.json").values()} == {"fail"}


def test_without_a_daemon_nothing_passes(tmp_path: Path) -> None:
    command = [*PLC_SIM, "daemon", f"--verdicts={free_endpoint()}", f"--json={tmp_path}/found.json"]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert {result for result, _ in results(tmp_path / "found.json").values()} == {"fail"}


def test_keys_that_are_not_there_are_named(tmp_path: Path) -> None:
    command = [*PLC_SIM, "daemon", "--verdicts", free_endpoint(), "--keys", str(tmp_path / "none.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert "none.toml" in done.stderr
