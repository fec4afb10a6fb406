"""The folder of keys and `edged keys`: modes, owners, and what is refused."""

import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edged.cli import app
from edged.client.keys import Keys
from edged.keys import KeysError, KeyStore
from tests.support.guarded import NOW

Run = Callable[..., Any]


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "data" / "keys")


@pytest.fixture
def run(store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return lambda *arguments: CliRunner().invoke(app, ["keys", *arguments, "--keys", str(store.folder)])


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_makes_what_is_missing_and_a_file_for_the_client(run: Run, store: KeyStore) -> None:
    before = os.umask(0)
    try:
        done = run("new", "press-plc", "--right", "verdict")
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.output
    bundle = Path("press-plc.toml")
    assert [_mode(path) for path in (bundle, store.server_path, store.clients_path)] == [0o600] * 3
    assert _mode(store.folder) == 0o700
    keys = Keys.read(bundle)
    assert (keys.name, keys.rights, keys.server_public) == ("press-plc", ("verdict",), store.server().public)
    (listed,) = store.clients()
    assert (listed.public, listed.is_valid) == (keys.public, True)
    assert keys.secret not in store.clients_path.read_text()
    assert keys.secret not in done.output
    assert store.problems() == []


def test_list_and_revoke(run: Run, store: KeyStore, tmp_path: Path) -> None:
    for name in ("press-plc", "robot"):
        assert run("new", name, "--right", "verdict", "--right", "control").exit_code == 0
    server = store.server()
    assert run("revoke", "robot").exit_code == 0
    done = run("list", "--json", str(tmp_path / "list.json"))
    assert "revoked" in done.output
    rows = json.loads((tmp_path / "list.json").read_text())["clients"]
    assert [(row["name"], row["rights"], row["revoked_utc"] is None) for row in rows] == [
        ("press-plc", ["verdict", "control"], True),
        ("robot", ["verdict", "control"], False),
    ]
    assert store.server() == server
    Path("robot.toml").unlink()
    assert run("new", "robot", "--right", "verdict").exit_code == 0
    assert [item.is_valid for item in store.clients()] == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("new", "press-plc"), 2, "--right verdict"),
        (("new", "press-plc", "--right", "admin"), 2, "'admin' is no right"),
        (("new", "press-plc", "--right", "verdict"), 2, "press-plc.toml: is there already"),
        (("new", "press-plc", "--right", "verdict", "--out", "second.toml"), 1, "revoke it first"),
        (("new", "a b", "--right", "verdict"), 1, "use letters"),
        (("new", "../x", "--right", "verdict", "--out", "x.toml"), 1, "use letters"),
        (("new", "other", "--right", "verdict", "--out", "no/such/folder.toml"), 1, "was revoked again"),
        (("revoke", "nobody"), 1, "there is press-plc"),
    ],
)
def test_what_is_refused_is_said(run: Run, store: KeyStore, arguments: tuple[str, ...], code: int, says: str) -> None:
    assert run("new", "press-plc", "--right", "verdict").exit_code == 0
    done = run(*arguments)
    assert (done.exit_code, says in done.output) == (code, True), done.output
    assert [item.name for item in store.clients() if item.is_valid] == ["press-plc"]


def test_the_server_key_is_made_once(run: Run, store: KeyStore) -> None:
    first = run("server")
    assert first.exit_code == 0
    assert run("server").output == first.output
    assert store.server().public in first.output
    assert store.server().secret not in first.output


def _without_secret(store: KeyStore) -> None:
    store.server_path.write_text(f'public = "{store.server().public}"\n')


SPOILS: dict[str, tuple[Callable[[KeyStore], Any], str]] = {
    "no server key": (lambda store: store.server_path.unlink(), "edged keys new"),
    "a secret for all": (lambda store: store.server_path.chmod(0o644), "mode 0644, others may read it; chmod 0600"),
    "a list for all": (lambda store: store.clients_path.chmod(0o622), "mode 0622, others may change it; chmod 0600"),
    "a folder for all": (lambda store: store.folder.chmod(0o755), "mode 0755, others may look in; chmod 0700"),
    "no TOML": (lambda store: store.clients_path.write_text("[[client"), "not valid TOML"),
    "no keys": (_without_secret, "secret: Field required"),
    "a folder": (lambda store: (store.clients_path.unlink(), store.clients_path.mkdir(0o700)), "Is a directory"),
    "too much": (lambda store: store.clients_path.write_text("#" * 2_000_000), "are no list of keys"),
    "twice": (
        lambda store: store.clients_path.write_text(store.clients_path.read_text() * 2),
        "is listed twice",
    ),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_keys_that_cannot_be_trusted(store: KeyStore, spoil: str) -> None:
    store.add("press-plc", ["verdict"], NOW)
    change, says = SPOILS[spoil]
    change(store)
    (problem,) = store.problems()
    assert says in problem
    assert str(store.folder) in problem


def test_no_folder(store: KeyStore) -> None:
    assert all("edged keys new" in problem for problem in store.problems())
    assert len(store.problems()) == 2


def test_a_problem_shows_no_secret(store: KeyStore) -> None:
    secret = store.make_server().secret
    store.server_path.write_text(f'public = "x"\nsecret = "{secret}"\nmore = "{secret}"\n')
    assert secret not in "".join(store.problems())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(store: KeyStore) -> None:
    store.make_server()
    os.chown(store.folder, 12345, 12345)
    store.add("press-plc", ["verdict"], NOW)
    assert store.clients_path.stat().st_uid == 12345
    assert tomllib.loads(store.clients_path.read_text())["client"][0]["name"] == "press-plc"


def test_a_list_is_never_half_written(store: KeyStore) -> None:
    store.add("press-plc", ["verdict"], NOW)
    before = store.clients_path.read_bytes()
    with store.clients_path.open("rb") as reading:
        store.add("robot", ["control"], NOW)
        assert reading.read() == before
    assert [path.name for path in sorted(store.folder.iterdir())] == ["clients.toml", "server.toml"]


def test_a_key_that_is_no_key_is_refused(store: KeyStore) -> None:
    store.add("press-plc", ["verdict"], NOW)
    store.clients_path.write_text(store.clients_path.read_text().replace('public = "', 'public = "~'))
    with pytest.raises(KeysError, match=r"client\.0\.public"):
        store.clients()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_somebody_who_may_not_look_in_is_told_so() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = KeyStore(Path(folder) / "keys")
        store.make_server()
        os.seteuid(65534)
        try:
            problems = store.problems()
        finally:
            os.seteuid(0)
    assert len(problems) == 2
    assert all("Permission denied" in problem for problem in problems)
