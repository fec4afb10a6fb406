"""`edged status` where there is no daemon to ask, or where one may not ask."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edged.cli import app


def test_no_socket_is_a_daemon_that_is_down(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["status", "--endpoint", f"ipc://{tmp_path}/control.sock"])
    assert found.exit_code == 1
    assert "edged is not running" in found.output


def test_a_socket_of_somebody_else_is_not_called_a_daemon_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control.sock"
    path.touch(mode=0o600)
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, whom nothing is refused
    found = CliRunner().invoke(app, ["status", "--endpoint", f"ipc://{path}"])
    assert found.exit_code == 1
    assert "you may not ask edged" in found.output
    assert "not running" not in found.output
