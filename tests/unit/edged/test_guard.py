"""The guard over real CURVE sockets: who is let in, who is not, and that the log says who it was."""

import os
import socket as sockets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from structlog.testing import capture_logs

from edged.guard import Guard
from edged.keys import Bundle, KeysError, KeyStore
from tests.support.guarded import NOW, GuardedCell, guarded_cell
from tests.support.verdicts import a_verdict

QUIET_S = 0.3
PING = msgpack.packb({"op": "ping"})


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[GuardedCell]:
    with guarded_cell(tmp_path) as cell:
        yield cell


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def test_a_listed_key_receives(cell: GuardedCell) -> None:
    plc = cell.subscriber(cell.key("press-plc", "verdict"))
    entry = cell.journal.append(a_verdict("s", "A"))
    cell.publisher.publish(entry)
    assert cell.until(lambda: plc.poll(0))
    assert plc.recv_multipart() == [b"verdict/A", entry.payload]
    assert cell.guard.counters() == {}


def test_a_control_key_is_answered_and_has_its_name_on_the_message(cell: GuardedCell) -> None:
    robot = cell.client(zmq.REQ, cell.control.endpoint, cell.key("robot", "control"))
    robot.send(PING)
    assert cell.until(lambda: cell.control.socket.poll(0) or robot.poll(0))
    assert cell.until(lambda: robot.poll(0))
    assert msgpack.unpackb(robot.recv()) == {"ok": True}


def test_messages_carry_the_name_of_the_key(cell: GuardedCell) -> None:
    plc = cell.client(zmq.DEALER, cell.desk.endpoint, cell.key("press-plc", "verdict"))
    plc.send(PING)
    while not cell.desk.socket.poll(10):
        cell.guard.serve()
    frames = cell.desk.socket.recv_multipart(copy=False)
    assert frames[-1].get("User-Id") == "press-plc"


def _refused(cell: GuardedCell, client: Any, reason: str, logged: list[Any]) -> dict[str, Any]:
    """The line of the log, once a client was refused; meanwhile verdicts go out, and it gets none."""
    if client.type == zmq.REQ:
        client.send(PING)
    assert cell.until(lambda: cell.refused(reason)), cell.guard.counters()
    cell.publisher.publish(cell.journal.append(a_verdict("s", "A")))
    assert not cell.until(lambda: client.poll(0), QUIET_S)
    assert cell.asked == []
    return next(line for line in logged if line["event"] == "client refused" and line["reason"] == reason)


def _stranger(cell: GuardedCell) -> Bundle:
    public, secret = (half.decode() for half in zmq.curve_keypair())
    server = cell.store.server().public
    return Bundle(name="x", rights=("verdict",), public=public, secret=secret, server_public=server)


def test_no_keys(cell: GuardedCell, logged: list[Any]) -> None:
    line = _refused(cell, cell.subscriber(), "no_keys", logged)
    assert line["address"] == "127.0.0.1"
    assert line["domain"] == "verdict"


def test_another_servers_key(cell: GuardedCell, logged: list[Any]) -> None:
    other = zmq.curve_keypair()[0].decode()
    client = cell.subscriber(cell.key("press-plc", "verdict"), server_public=other)
    assert _refused(cell, client, "wrong_server_key", logged)["address"] == "127.0.0.1"


def test_an_unknown_key(cell: GuardedCell, logged: list[Any]) -> None:
    keys = _stranger(cell)
    line = _refused(cell, cell.subscriber(keys), "unknown_key", logged)
    assert (line["key"], line["address"], "name" in line) == (keys.public, "127.0.0.1", False)


def test_a_revoked_key(cell: GuardedCell, logged: list[Any]) -> None:
    keys = cell.key("old-plc", "verdict")
    cell.store.revoke("old-plc", NOW)
    line = _refused(cell, cell.subscriber(keys), "revoked", logged)
    assert (line["name"], line["address"]) == ("old-plc", "127.0.0.1")
    assert "2026-01-02 03:04" in line["detail"]


def test_a_verdict_key_on_the_control_socket(cell: GuardedCell, logged: list[Any]) -> None:
    client = cell.client(zmq.REQ, cell.control.endpoint, cell.key("press-plc", "verdict"))
    line = _refused(cell, client, "lacks_right", logged)
    assert (line["name"], line["domain"]) == ("press-plc", "control")


def test_a_control_key_reads_no_verdicts(cell: GuardedCell, logged: list[Any]) -> None:
    line = _refused(cell, cell.subscriber(cell.key("robot", "control")), "lacks_right", logged)
    assert (line["name"], line["domain"]) == ("robot", "verdict")


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.0\r\n\r\n", os.urandom(200), b"\xff" + bytes(9) + b"\x7f" + bytes(99)]
)
def test_whoever_speaks_no_zmtp(cell: GuardedCell, logged: list[Any], said: bytes) -> None:
    with sockets.create_connection(("127.0.0.1", _port(cell.publisher.endpoint)), 5.0) as plain:
        cell.until(lambda: False, 0.05)  # one that is over within a turn may have no address
        plain.sendall(said)
        assert cell.until(lambda: cell.guard.counters()), said
    (line,) = [line for line in logged if line["event"] == "client refused"]
    assert line["reason"] in ("no_zmtp", "no_keys")
    assert line["address"] == "127.0.0.1"


def test_a_flood_while_the_daemon_is_busy(cell: GuardedCell) -> None:
    """More events than a queue of ZeroMQ holds: its thread must not wait for ours, nor ours for it."""
    for _ in range(1100):
        with sockets.create_connection(("127.0.0.1", _port(cell.publisher.endpoint)), 5.0) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
    cell.publisher.renew()
    plc = cell.subscriber(cell.key("press-plc", "verdict"))
    cell.publisher.publish(cell.journal.append(a_verdict("s", "A")))
    assert cell.until(lambda: plc.poll(0))


def test_whoever_ends_the_handshake(cell: GuardedCell, logged: list[Any]) -> None:
    with sockets.create_connection(("127.0.0.1", _port(cell.publisher.endpoint)), 5.0):
        cell.until(lambda: False, 0.05)
    assert cell.until(lambda: cell.refused("no_keys"))
    assert logged[-1]["address"] == "127.0.0.1"


def test_those_who_come_and_go_are_not_refused(cell: GuardedCell) -> None:
    keys = cell.key("press-plc", "verdict")
    for turn in range(5):
        both = [cell.subscriber(keys), cell.subscriber(keys)]
        cell.publisher.publish(cell.journal.append(a_verdict(f"s{turn}", "A")))
        assert cell.until(lambda both=both: all(plc.poll(0) for plc in both))
        for plc in both:
            plc.close()
    cell.until(lambda: False, QUIET_S)
    assert cell.guard.counters() == {}


def test_a_new_key_counts_at_once(cell: GuardedCell) -> None:
    plc = cell.subscriber(keys := _stranger(cell))
    assert cell.until(lambda: cell.refused("unknown_key"))
    assert not plc.poll(0)
    # Listed by hand, as a box that is set up from another one's list.
    cell.store._write_clients([_listed(keys)])
    entry = cell.journal.append(a_verdict("s", "A"))
    cell.publisher.publish(entry)
    assert cell.until(lambda: plc.poll(0))
    assert plc.recv_multipart()[1] == entry.payload


def _listed(keys: Bundle) -> Any:
    from edged.keys import ClientKey

    return ClientKey(name="new-plc", public=keys.public, rights=keys.rights, created_utc=NOW)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc:///tmp/edged-{pid}-NAME.sock"])
def test_revoking_cuts_off_and_the_others_come_back(tmp_path: Path, endpoint: str, logged: list[Any]) -> None:
    with guarded_cell(tmp_path, endpoint.format(pid=os.getpid())) as cell:
        good = cell.subscriber(cell.key("press-plc", "verdict"))
        bad = cell.subscriber(cell.key("old-plc", "verdict"))
        robot = cell.client(zmq.REQ, cell.control.endpoint, cell.key("robot", "control"))
        first = cell.journal.append(a_verdict("s1", "A"))
        cell.publisher.publish(first)
        assert cell.until(lambda: good.poll(0) and bad.poll(0))
        # A subscriber makes the last value come again for all with its subscription.
        cell.until(lambda: False, QUIET_S)
        for plc in (good, bad):
            while plc.poll(0):
                assert plc.recv_multipart()[1] == first.payload
        ends = [desk.endpoint for desk in (cell.publisher, cell.desk, cell.control)]
        control_socket = cell.control.socket

        cell.store.revoke("old-plc", NOW)
        assert cell.until(lambda: cell.refused("revoked")), "it tries to come back"
        second = cell.journal.append(a_verdict("s2", "A"))
        cell.publisher.publish(second)
        assert cell.until(lambda: good.poll(0))
        seen = [good.recv_multipart()[1]]
        while cell.until(lambda: good.poll(0), QUIET_S):
            seen.append(good.recv_multipart()[1])
        assert seen[-1] == second.payload  # the last value may come again, sequence tells
        assert not bad.poll(0)

        # Nobody lost the right to control: that socket was left alone.
        assert cell.control.socket is control_socket
        robot.send(PING)
        assert cell.until(lambda: robot.poll(0))
        assert ends == [desk.endpoint for desk in (cell.publisher, cell.desk, cell.control)]
        late = cell.client(zmq.REQ, cell.desk.endpoint, cell.key("late", "verdict"))
        late.send(PING)
        assert cell.until(lambda: late.poll(0))
        assert any(line.get("name") == "old-plc" for line in logged)


def test_a_new_server_key_counts_for_all(cell: GuardedCell) -> None:
    keys = cell.key("press-plc", "verdict")
    plc = cell.subscriber(keys)
    cell.publisher.publish(cell.journal.append(a_verdict("s1", "A")))
    assert cell.until(lambda: plc.poll(0))
    plc.recv_multipart()
    cell.store.server_path.unlink()
    new = cell.store.make_server()
    assert cell.until(lambda: cell.refused("wrong_server_key"))
    assert not plc.poll(0)
    again = cell.subscriber(keys.model_copy(update={"server_public": new.public}))
    assert cell.until(lambda: again.poll(0))


@pytest.mark.parametrize("spoil", ["gone", "nonsense", "open"])
def test_a_spoilt_list_changes_nothing_and_is_told(cell: GuardedCell, spoil: str) -> None:
    keys = cell.key("press-plc", "verdict")
    cell.until(lambda: False, 0.5)
    path, before = cell.store.clients_path, cell.store.clients_path.read_text()
    spoils = {
        "gone": path.unlink,
        "nonsense": lambda: path.write_text("[[client]]\nname = 3\n"),
        "open": lambda: (path.write_text(before), path.chmod(0o666)),
    }
    spoils[spoil]()
    assert cell.until(cell.guard.warnings)
    assert str(path) in cell.guard.warnings()[0]
    plc = cell.subscriber(keys)
    cell.publisher.publish(cell.journal.append(a_verdict("s", "A")))
    assert cell.until(lambda: plc.poll(0))
    path.unlink(missing_ok=True)
    path.write_text(before)
    path.chmod(0o600)
    assert cell.until(lambda: not cell.guard.warnings())


def test_an_oversized_message_ends_that_connection_only(cell: GuardedCell) -> None:
    keys = cell.key("robot", "control")
    good, bad = (cell.client(zmq.DEALER, cell.control.endpoint, keys) for _ in range(2))
    bad.send(bytes(2 * 1024 * 1024))
    assert not cell.until(lambda: cell.asked or bad.poll(0), QUIET_S)
    good.send(PING)
    assert cell.until(lambda: good.poll(0))
    assert msgpack.unpackb(good.recv()) == {"ok": True}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    (store := KeyStore(tmp_path / "keys")).make_server()
    store.server_path.chmod(mode)
    with zmq.Context() as context, pytest.raises(KeysError, match=f"{mode:04o}.*chmod 0600"):
        Guard(context, store.folder)


def test_without_a_server_key_it_says_what_to_do(tmp_path: Path) -> None:
    with zmq.Context() as context, pytest.raises(KeysError, match="edged keys new"):
        Guard(context, tmp_path / "keys")
