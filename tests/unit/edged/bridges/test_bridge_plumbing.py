"""What bridges share: their section, the way to the daemon, what they remember, and the verb."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

from edged.bridges.daemon_link import BridgeError, DaemonLink, reachable
from edged.bridges.state_file import position_of, read_state, write_state
from edged.cli import app
from edged.client import Position
from edged.config import ConfigError, parse_config

CELL: dict[str, Any] = {
    "cell": {"name": "cell 3"},
    "streams": {"welder": {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/ttyUSB0"}}},
    "net": {"verdicts": "tcp://127.0.0.1:5570"},
}


def _with(**bridges: Any) -> dict[str, Any]:
    return copy.deepcopy(CELL) | {"bridges": bridges}


def test_a_bridge_changes_no_config_id() -> None:
    plain = parse_config(CELL)
    bridged = parse_config(_with(modbus={"port": 502, "allow": ["192.168.10.0/29"]}))
    assert bridged.bridges is not None
    assert bridged.bridges.modbus is not None
    assert bridged.config_id == plain.config_id
    assert "bridges" not in plain.model_dump()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"allow": ["192.168.10.1/29"]}, "bridges.modbus.allow"),
        ({"allow": []}, "bridges.modbus.allow"),
        ({"prot": 502}, "bridges.modbus.prot: unknown key"),
        ({"queue": 0}, "bridges.modbus.queue"),
        ({"programs": ["T9"]}, "bridges.modbus.programs: no program 'T9'; known: none"),
    ],
)
def test_a_wrong_section_is_named(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as found:
        parse_config(_with(modbus=section))
    assert said in str(found.value)


def test_endpoints_are_the_daemons_own_unless_the_section_says_otherwise() -> None:
    config = parse_config(_with(modbus={}))
    assert config.bridges is not None
    assert config.bridges.modbus is not None
    link = DaemonLink.of(config, config.bridges.modbus)
    assert (link.cell, link.verdicts, link.journal) == ("cell 3", "tcp://127.0.0.1:5570", "tcp://127.0.0.1:5571")
    assert link.control == "ipc:///var/lib/edged/run/control.sock"
    other = parse_config(_with(modbus={}, verdicts="tcp://10.0.0.7:6000", control="tcp://127.0.0.1:5562"))
    assert other.bridges is not None
    assert other.bridges.modbus is not None
    link = DaemonLink.of(other, other.bridges.modbus)
    assert (link.verdicts, link.journal) == ("tcp://10.0.0.7:6000", "tcp://10.0.0.7:6001")
    assert link.control == "tcp://127.0.0.1:5562"


@pytest.mark.parametrize(
    ("bound", "connected"),
    [
        ("tcp://*:5560", "tcp://127.0.0.1:5560"),
        ("tcp://0.0.0.0:5560", "tcp://127.0.0.1:5560"),
        ("tcp://[::]:5560", "tcp://[::1]:5560"),
        ("tcp://192.168.1.7:5560", "tcp://192.168.1.7:5560"),
        ("ipc:///run/x", "ipc:///run/x"),
    ],
)
def test_what_a_daemon_binds_can_be_connected_to(bound: str, connected: str) -> None:
    assert reachable("verdicts", bound) == connected


def test_a_port_of_chance_cannot_be_found() -> None:
    with pytest.raises(BridgeError, match=r"net\.verdicts"):
        reachable("verdicts", "tcp://127.0.0.1:*")


def test_state_comes_back_and_a_half_written_one_never_counts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    assert read_state(path) == {}
    assert position_of({}) is None
    write_state(path, {"journal_id": "J", "sequence": 7})
    path.with_name("state.json.new").write_text('{"journal_id": "J", "seq')
    assert position_of(read_state(path)) == Position("J", 7)
    path.write_text('{"journal_id": "J"')
    with pytest.raises(BridgeError, match="remove it"):
        read_state(path)
    path.write_text("[1]")
    with pytest.raises(BridgeError, match="remove it"):
        read_state(path)


@pytest.mark.parametrize(
    "state", [{"journal_id": "J"}, {"journal_id": 3, "sequence": 1}, {"journal_id": "J", "sequence": -1}]
)
def test_nonsense_is_no_position(state: dict[str, Any]) -> None:
    with pytest.raises(BridgeError, match="no position"):
        position_of(state)


def test_a_state_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BridgeError, match="cannot be written"):
        write_state(tmp_path / "file" / "state.json", {})


def test_the_verb_names_the_section_that_is_missing(tmp_path: Path) -> None:
    config = tmp_path / "edged.toml"
    config.write_text(tomli_w.dumps(CELL))
    done = CliRunner().invoke(app, ["bridge", "modbus", "--config", str(config)])
    assert done.exit_code == 2
    assert "bridges.modbus: missing" in done.stderr


def test_neither_daemon_nor_configuration_loads_a_bridge_library() -> None:
    code = (
        "import sys, json, edged.cli, edged.config; "
        "print(json.dumps([name for name in ('pymodbus', 'asyncua', 'aiomqtt') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
