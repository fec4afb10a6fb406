"""Which sockets want keys, and what is said where they have none."""

from pathlib import Path
from typing import Any

import pytest

from edged.config import Config
from edged.keys import KeyStore
from edged.net_rules import is_off_loopback, key_problems, open_warnings, wants_keys
from tests.support.cell import config

SOCKETS = ("verdicts", "journal", "control")
OPEN = "tcp://0.0.0.0:5560"


def _config(folder: Path, **net: Any) -> Config:
    return config(cell={"data_dir": str(folder)}, net=net)


@pytest.mark.parametrize(
    ("endpoint", "is_off"),
    [
        ("tcp://127.0.0.1:5560", False),
        ("tcp://127.9.9.9:*", False),
        ("tcp://[::1]:5560", False),
        ("tcp://localhost:5560", False),
        ("ipc:///run/x", False),
        ("tcp://*:5560", True),
        ("tcp://0.0.0.0:5560", True),
        ("tcp://[::]:5560", True),
        ("tcp://192.168.0.4:5560", True),
        ("tcp://eth0:5560", True),
        ("tcp://localhost.example:5560", True),
        ("tcp://127.example:5560", True),
    ],
)
def test_what_other_machines_reach(endpoint: str, is_off: bool) -> None:
    assert is_off_loopback(endpoint) is is_off


@pytest.mark.parametrize(
    ("net", "wanting"),
    [
        ({}, set()),
        ({"verdicts": OPEN}, {"verdicts", "journal"}),
        ({"control": "tcp://*:5570"}, {"control"}),
        ({"verdicts": OPEN, "journal": "ipc:///run/j"}, {"verdicts"}),
        ({"verdicts": OPEN, "off_loopback_without_keys": ["verdicts"]}, {"journal"}),
        ({"security": "curve"}, set(SOCKETS)),
    ],
)
def test_who_wants_keys(tmp_path: Path, net: dict[str, Any], wanting: set[str]) -> None:
    found = _config(tmp_path, **net)
    assert {name for name in SOCKETS if wants_keys(found, name)} == wanting
    assert bool(key_problems(found)) is bool(wanting)
    KeyStore(tmp_path / "keys").make_server()
    assert key_problems(found) == []


def test_a_problem_names_the_file_the_sockets_and_both_ways_out(tmp_path: Path) -> None:
    found = _config(tmp_path, verdicts=OPEN)
    says = "\n".join(key_problems(found))
    for part in (str(tmp_path / "keys"), "edged keys new", "net.verdicts (tcp://0.0.0.0:5560)", "net.journal"):
        assert part in says
    assert "net.off_loopback_without_keys" in says
    assert "off_loopback" not in "".join(key_problems(_config(tmp_path, security="curve")))


def test_what_is_open_is_warned_of(tmp_path: Path) -> None:
    found = _config(tmp_path, verdicts=OPEN, off_loopback_without_keys=["verdicts", "control"])
    (warning,) = open_warnings(found)
    assert warning.startswith("net.verdicts tcp://0.0.0.0:5560 is open without keys")
    assert open_warnings(_config(tmp_path)) == []


def test_curve_everywhere_but_not_here_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot go without keys"):
        _config(tmp_path, security="curve", off_loopback_without_keys=["control"])


def test_an_older_configuration_keeps_its_id(tmp_path: Path) -> None:
    plain, said = _config(tmp_path), _config(tmp_path, security="auto", off_loopback_without_keys=[])
    assert plain.config_id == said.config_id
    assert set(plain.net.model_dump()) == {"verdicts", "control"}
    assert _config(tmp_path, security="curve").config_id != plain.config_id


def test_the_folder_of_keys_may_be_elsewhere(tmp_path: Path) -> None:
    KeyStore(tmp_path / "k").make_server()
    assert key_problems(_config(tmp_path, verdicts=OPEN, keys=str(tmp_path / "k"))) == []
