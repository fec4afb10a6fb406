"""Keys on the client's side, acknowledgements, the control socket as calls, and bytes that mean nothing."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edged.client import Client, Control, Entry, Keys, KeysError, Position, Refused, StateChange
from edged.client.decode import read_entry, read_map
from edged.control import Control as ControlSocket
from edged.keys import KeyStore, write_private
from edged.messages import ControlError
from edged.wire import pack
from tests.support.guarded import NOW
from tests.support.source import Source, free_endpoint

PATIENCE_S = 20
BUSY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""How long bytes take to be made says nothing of the client."""


def keys_file(folder: Path, store: KeyStore, name: str) -> Path:
    """A new client's keys, as `edged keys new` writes them."""
    write_private(path := folder / f"{name}.toml", store.add(name, ["verdict"], NOW).model_dump())
    return path


def sequences(client: Client, until: int) -> list[int]:
    """What is handed out up to an entry; nothing may be lost."""
    found: list[int] = []
    while not found or found[-1] != until:
        event = client.receive(PATIENCE_S)
        assert isinstance(event, Entry | StateChange), (event, found)
        found += [event.sequence] if isinstance(event, Entry) else []
    return found


def test_a_revoked_key_cuts_its_client_and_leaves_the_others_without_a_gap(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    files = [keys_file(tmp_path, store, name) for name in ("plc", "thief")]
    with Source(tmp_path / "journal.db", free_endpoint(), keys=store.folder) as source:
        source.add(1)
        allowed, thief = (Client(source.verdicts, start="first", keys=Keys.read(path)) for path in files)
        with allowed, thief:
            assert sequences(allowed, 1) == sequences(thief, 1) == [1]
            store.revoke("thief", NOW)
            while thief.state != "stale":
                assert not isinstance(thief.receive(0.1), Entry)
                allowed.receive(0)
            source.add(3)
            assert sequences(allowed, 4) == [2, 3, 4]
            assert thief.receive(0.5) is None
            assert thief.position == Position(source.db.journal_id, 1)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ('public = "short"\nsecret = "x"\nserver_public = "y"\n', 0o600, "40 characters"),
        ("public = 1\nsecret = 2\nserver_public = 3\n", 0o600, "40 characters"),
        ("", 0o600, "'public' is missing"),
        ("not toml", 0o600, "cannot be read"),
        ("", 0o640, "chmod 600"),
    ],
)
def test_keys_that_cannot_be_used_say_why(tmp_path: Path, content: str, mode: int, said: str) -> None:
    path = tmp_path / "plc.toml"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(KeysError, match=said) as raised:
        Keys.read(path)
    assert str(path) in str(raised.value)


def test_a_secret_is_not_in_what_is_printed() -> None:
    public, secret = (half.decode() for half in zmq.curve_keypair())
    assert secret not in repr(Keys(public, secret, public))


@pytest.mark.parametrize("content", ["", "[]", '{"journal_id": "J"}', '{"journal_id": "J", "sequence": -1}', "\xff"])
def test_a_damaged_position_says_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "position").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="remove"):
        Position.load(tmp_path / "position")


def test_acknowledgements_reach_the_journal(tmp_path: Path) -> None:
    with Source(tmp_path / "journal.db", free_endpoint(), acknowledge=("plc",)) as source:
        source.add(3)
        with Client(source.verdicts, start="first", acknowledge_as="plc") as client:
            found: list[Entry] = []
            while len(found) < 3:
                event = client.receive(PATIENCE_S)
                found += [event] if isinstance(event, Entry) else []
            client.acknowledge(found[1])
            client.acknowledge(found[0])  # never goes back
            end_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < end_s:
                client.receive(0.05)
                if source.ask(lambda: source.acknowledgements.health()["plc"].sequence) == 2:
                    break
            assert source.ask(lambda: source.acknowledgements.health()["plc"].waiting) == 1
        with Client(source.verdicts) as client, pytest.raises(ValueError, match="acknowledge_as"):
            client.acknowledge(found[0])


@pytest.fixture
def control(tmp_path: Path) -> Iterator[tuple[Control, list[dict[str, Any]]]]:
    """A client of a real control socket, and what it was asked."""
    asked: list[dict[str, Any]] = []

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        if request.get("program") == "wrong":
            raise ControlError("program: 'wrong' is none of T1")
        return {"ok": True, "seam_id": "01J"}

    stop = threading.Event()
    context: zmq.Context[Any] = zmq.Context()
    ops = ("expect", "part", "end_part", "view", "ping")
    socket = ControlSocket(context, f"ipc://{tmp_path}/control.sock", dict.fromkeys(ops, handle))

    def serve() -> None:
        while not stop.is_set():
            socket.socket.poll(10)
            socket.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    with Control(socket.endpoint, timeout_s=PATIENCE_S) as client:
        yield client, asked
    stop.set()
    thread.join()
    socket.close()
    context.term()


def test_control(control: tuple[Control, list[dict[str, Any]]]) -> None:
    client, asked = control
    assert client.expect("T1", part_id="P", set_points={"current_a": 150.0}) == "01J"
    client.part("P", ["1", "2"])
    client.view("front", seam_ref="1")
    client.end_part("P")
    assert client.ping()["ok"]
    assert asked == [
        {"op": "expect", "program": "T1", "part_id": "P", "set_points": {"current_a": 150.0}},
        {"op": "part", "part_id": "P", "seams": ["1", "2"]},
        {"op": "view", "view": "front", "seam_ref": "1"},
        {"op": "end_part", "part_id": "P"},
        {"op": "ping"},
    ]
    with pytest.raises(Refused, match="none of T1"):
        client.expect("wrong")
    with pytest.raises(Refused, match="arm"):
        client.ask("arm", program="T1", by="me")


def test_control_without_a_daemon_times_out_and_goes_on(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/control.sock"
    with Control(endpoint, timeout_s=0.1) as client:
        for _ in range(2):
            with pytest.raises(TimeoutError, match="is edged running"):
                client.ping()


@BUSY_MACHINE
@given(topic=st.binary(max_size=20) | st.sampled_from([b"part", b"verdict/T1"]), payload=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(topic: bytes, payload: bytes) -> None:
    read_map(payload)
    entry = read_entry(topic, payload)
    assert entry is None or not entry.is_ok


values = (
    st.sampled_from([None, True, False, [1], {"label": 1}, b"1", 2**64 - 1, -1, 0, 1, 2, 3])
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=5)
)
fields = st.sampled_from(["schema", "kind", "journal_id", "sequence", "label", "program", "seam_id"])


@BUSY_MACHINE
@example({"schema": True}, set())
@example({"schema": 1.0}, set())
@example({"label": True}, set())
@given(changes=st.dictionaries(fields, values, max_size=3), gone=st.sets(fields, max_size=2))
def test_only_the_right_fields_make_an_ok(changes: dict[str, Any], gone: set[str]) -> None:
    good = {
        "schema": 1,
        "kind": "verdict",
        "journal_id": "J",
        "sequence": 1,
        "label": 1,
        "program": "T1",
        "seam_id": "S",
    }
    message = {name: value for name, value in (good | changes).items() if name not in gone}
    entry = read_entry(b"verdict/T1", pack(message))
    if entry is not None and entry.is_ok:
        needed = {name: good[name] for name in ("schema", "kind", "label", "program")}
        assert {name: message.get(name) for name in needed} == needed
        assert all(type(message[name]) is type(good[name]) for name in needed)
        assert type(entry.sequence) is int
        assert 0 < entry.sequence < 2**63
