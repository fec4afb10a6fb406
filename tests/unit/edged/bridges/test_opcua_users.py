"""`edged opcua-user`: what it writes, the bridge reads."""

from pathlib import Path

from typer.testing import CliRunner

from edged.bridges.opcua_trust import Trust
from edged.bridges.passwords import hash_password, is_password
from edged.cli import app


def _run(folder: Path, *arguments: str, password: str = "long enough") -> tuple[int, str]:
    done = CliRunner().invoke(
        app, ["opcua-user", *arguments, "--folder", str(folder)], input=f"{password}\n{password}\n"
    )
    return done.exit_code, done.output


def test_users_come_and_go_without_a_restart(tmp_path: Path) -> None:
    trust = Trust(tmp_path, anonymous=False, without_security=True)
    assert trust.get_user(None, "pl c", "long enough") is None
    assert _run(tmp_path, "pl c", "--right", "verdict", "--right", "control")[0] == 0
    assert (tmp_path / "users.toml").stat().st_mode & 0o777 == 0o600
    assert "long enough" not in (tmp_path / "users.toml").read_text()
    user = trust.get_user(None, "pl c", "long enough")
    assert user is not None
    assert user.rights == ("verdict", "control")  # type: ignore[attr-defined]
    assert _run(tmp_path, "reader")[0] == 0
    assert trust.get_user(None, "pl c", "long enough") is not None
    assert _run(tmp_path, "pl c", "--remove")[0] == 0
    assert trust.get_user(None, "pl c", "long enough") is None
    assert trust.refused["wrong_user_or_password"] == 2


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    assert _run(tmp_path, "x", "--right", "arm") == (2, "--right arm: known are verdict, control\n")
    code, said = _run(tmp_path, "x", password="short")
    assert code == 2
    assert "at least 8" in said
    assert _run(tmp_path, "x", "--remove")[0] == 1


def test_passwords() -> None:
    stored = hash_password("right")
    assert stored != hash_password("right")
    assert is_password("right", stored)
    assert not is_password("wrong", stored)
    assert not is_password("", None)
