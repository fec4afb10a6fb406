"""The journal socket over real sockets and a real journal: what it answers, what it refuses, and its limits."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.base import ManualClock
from edged.acknowledgements import MAX_CLIENTS, Acknowledgements
from edged.journal import Entry, Journal
from edged.journal_desk import LIMITS, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, JournalDesk
from edged.router import REQUESTS_PER_TURN
from edged.wire import MAX_PAYLOAD_BYTES
from tests.support.guarded import guarded_cell
from tests.support.journals import Peer, fill
from tests.support.verdicts import a_part, a_verdict

Join = Callable[..., Peer]
SECOND = 1_000_000_000
CODES = {"malformed", "too_large", "unknown_op", "rate", "journal", "out_of_range", "forbidden", "unavailable"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(0)


@pytest.fixture
def desk(context: Any, journal: Journal, tmp_path: Path, clock: ManualClock) -> Iterator[JournalDesk]:
    desk = JournalDesk(context, f"ipc://{tmp_path}/j.sock", journal, software="edged 9", now_ns=clock.now_ns)
    yield desk
    desk.close()


@pytest.fixture
def join(context: Any) -> Iterator[Join]:
    """Makes peers, and closes them."""
    with contextlib.ExitStack() as undo:

        def make(desk: JournalDesk, *args: Any, **more: Any) -> Peer:
            peer = Peer(context, desk, *args, **more)
            undo.callback(peer.socket.close)
            return peer

        yield make


@pytest.fixture
def peer(join: Join, desk: JournalDesk) -> Peer:
    return join(desk)


def shown(entry: Entry) -> list[Any]:
    return [entry.sequence, entry.topic, entry.payload]


def test_a_snapshot_has_the_last_of_every_topic_newest_first(peer: Peer, journal: Journal) -> None:
    entries = [journal.append(a_verdict(f"s{i}", program)) for i, program in enumerate("ABA")]
    entries.append(journal.append(a_part()))
    assert peer.ask({"op": "snapshot"}) == {
        "ok": True,
        "schema": 1,
        "journal_id": journal.journal_id,
        "first_sequence": 1,
        "last_sequence": 4,
        "software": "edged 9",
        "last": [["part", 4], ["verdict/A", 3], ["verdict/B", 2]],
        "entries": [shown(entries[i]) for i in (3, 2, 1)],
    }


def test_a_snapshot_of_an_empty_journal(peer: Peer) -> None:
    answer = peer.ask({"op": "snapshot", "client": "plc", "whatever": 1})
    found = {key: answer[key] for key in ("first_sequence", "last_sequence", "last", "entries", "acknowledged")}
    assert found == {"first_sequence": 0, "last_sequence": 0, "last": [], "entries": [], "acknowledged": 0}


def test_a_range_has_the_journals_own_bytes(peer: Peer, journal: Journal) -> None:
    entries = [journal.append(a_verdict(f"s{i}")) for i in range(5)]
    answer = peer.ask({"op": "range", "from_sequence": 2, "to_sequence": 4, "journal_id": journal.journal_id})
    assert answer == {
        "ok": True,
        "journal_id": journal.journal_id,
        "last_sequence": 5,
        "entries": [shown(entry) for entry in entries[1:4]],
    }
    assert peer.ask({"op": "range", "from_sequence": 6, "to_sequence": 2**63 - 1})["entries"] == []


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_peers_of_both_kinds_and_what_they_number(join: Join, desk: JournalDesk, kind: int) -> None:
    peer = join(desk, kind)
    assert peer.ask({"op": "ping"}) == {"ok": True}
    assert peer.ask({"op": "ping", "id": 2**64 - 1}) == {"ok": True, "id": 2**64 - 1}
    assert peer.ask({"op": "nonsense", "id": "x" * 64})["id"] == "x" * 64


def test_a_long_range_comes_in_pieces_of_a_thousand(peer: Peer, journal: Journal) -> None:
    fill(journal, [b"x"] * 1001)
    answer = peer.ask({"op": "range", "from_sequence": 1, "to_sequence": 5000})
    assert [sequence for sequence, _, _ in answer["entries"]] == list(range(1, 1001))
    assert [e[0] for e in peer.ask({"op": "range", "from_sequence": 1001, "to_sequence": 5000})["entries"]] == [1001]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10)
@given(sizes=st.lists(st.integers(1, MAX_PAYLOAD_BYTES), min_size=6, max_size=12))
def test_a_heavy_range_comes_in_pieces_of_a_mebibyte(
    context: Any, join: Join, tmp_path: Path, sizes: list[int]
) -> None:
    for old in tmp_path.glob("heavy*"):
        old.unlink()
    journal = Journal(tmp_path / "heavy.db", reserve_bytes=4096)
    desk = JournalDesk(context, f"ipc://{tmp_path}/h.sock", journal)
    peer = join(desk)
    fill(journal, [bytes(size) for size in sizes])
    found: list[list[Any]] = []
    for _ in range(len(sizes)):
        if len(found) == len(sizes):
            break
        peer.send({"op": "range", "from_sequence": len(found) + 1, "to_sequence": len(sizes)})
        assert desk.socket.poll(10_000)
        desk.serve()
        body = peer.socket.recv()
        assert len(body) <= MAX_ANSWER_BYTES + 1024
        found += msgpack.unpackb(body)["entries"]
    assert [(sequence, len(payload)) for sequence, _, payload in found] == list(enumerate(sizes, 1))
    desk.close()
    journal.close()


def test_the_largest_entry_comes_through_alone_and_in_a_snapshot(peer: Peer, journal: Journal) -> None:
    fill(journal, [bytes(MAX_PAYLOAD_BYTES)] * 5)
    assert len(peer.ask({"op": "range", "from_sequence": 5, "to_sequence": 5})["entries"][0][2]) == MAX_PAYLOAD_BYTES
    assert len(peer.ask({"op": "range", "from_sequence": 1, "to_sequence": 5})["entries"]) == 3
    assert len(peer.ask({"op": "snapshot"})["entries"][0][2]) == MAX_PAYLOAD_BYTES


def test_an_entry_beyond_the_limit_of_answers_does_not_end_all_ranges(peer: Peer, journal: Journal) -> None:
    fill(journal, [bytes(MAX_ANSWER_BYTES + 1), b"next"])
    answer = peer.ask({"op": "range", "from_sequence": 1, "to_sequence": 2})
    assert [len(payload) for _, _, payload in answer["entries"]] == [MAX_ANSWER_BYTES + 1]


def test_another_journal_is_told_which_is_here(peer: Peer, journal: Journal) -> None:
    journal.append(a_verdict())
    for request in (
        {"op": "range", "from_sequence": 1, "to_sequence": 1},
        {"op": "ack", "client": "c", "sequence": 1},
    ):
        answer = peer.ask(request | {"journal_id": "another", "id": 7})
        assert (answer["ok"], answer["code"], answer["id"]) == (False, "journal", 7)
        assert answer["journal_id"] == journal.journal_id


A_RANGE = {"op": "range", "from_sequence": 1, "to_sequence": 2}
AN_ACK = {"op": "ack", "client": "c", "journal_id": "j", "sequence": 1}


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (b"", "malformed", "not msgpack"),
        (b"\x91" * 3000, "malformed", "not msgpack"),
        (7, "malformed", "a map"),
        ({5: "ping"}, "malformed", "not msgpack"),
        (bytes(MAX_REQUEST_BYTES + 1), "too_large", "the limit is 4096"),
        ({}, "unknown_op", "None is none of snapshot, range, ack, ping"),
        ({"op": ["range"]}, "unknown_op", "none of"),
        ({"op": "expect", "program": "T1"}, "unknown_op", "'expect' is none of"),
        ({"op": "ping", "id": 1.5}, "malformed", "id: "),
        ({"op": "ping", "id": True}, "malformed", "id: "),
        ({"op": "ping", "id": "x" * 65}, "malformed", "id: "),
        (A_RANGE | {"from_sequence": 0}, "malformed", "from_sequence: "),
        (A_RANGE | {"from_sequence": True}, "malformed", "from_sequence: "),
        (A_RANGE | {"to_sequence": 2**63}, "malformed", "to_sequence: "),
        (A_RANGE | {"to_sequence": "2"}, "malformed", "to_sequence: "),
        (A_RANGE | {"from_sequence": 3}, "malformed", "beyond to_sequence 2"),
        (A_RANGE | {"journal_id": 5}, "journal", "not the one here"),
        ({"op": "snapshot", "client": ""}, "malformed", "client: "),
        ({"op": "snapshot", "client": ["c"]}, "malformed", "client: "),
        (AN_ACK | {"client": "x" * 65}, "malformed", "client: "),
        (AN_ACK | {"sequence": -1}, "malformed", "sequence: "),
        (AN_ACK | {"journal_id": None}, "malformed", "journal_id: "),
    ],
)
def test_what_is_wrong_is_said_and_counted(
    peer: Peer, desk: JournalDesk, request_: Any, code: str, said: str
) -> None:
    answer = peer.ask(request_)
    assert (answer["ok"], answer["code"]) == (False, code)
    assert said in answer["error"]
    assert desk.counters() == {code: 1}
    assert peer.ask({"op": "ping"}) == {"ok": True}


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
ANYTHING = st.recursive(PLAIN, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3))
NAMES = ("id", "client", "journal_id", "from_sequence", "to_sequence", "sequence")
OP = st.sampled_from(("snapshot", "range", "ack", "ping"))
REQUESTS = st.fixed_dictionaries({"op": OP}, optional={name: ANYTHING | st.integers(0, 9) for name in NAMES})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(request_=st.binary(max_size=200) | ANYTHING | REQUESTS)
def test_whatever_is_asked_gets_an_answer(peer: Peer, journal: Journal, clock: ManualClock, request_: Any) -> None:
    if not journal.last_sequence:
        journal.append(a_verdict())
    clock.sleep_until_ns(clock.now_ns() + 10 * SECOND)
    answer = peer.ask(request_)
    assert answer["ok"] is True or answer["code"] in CODES
    assert journal.last_sequence == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames=st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_no_frames_crash_it(peer: Peer, desk: JournalDesk, clock: ManualClock, frames: list[bytes]) -> None:
    clock.sleep_until_ns(clock.now_ns() + 10 * SECOND)
    peer.socket.send_multipart(frames)
    assert desk.socket.poll(10_000)
    desk.serve()
    assert msgpack.unpackb(peer.socket.recv_multipart()[-1])["ok"] is False


def test_a_peer_that_asks_too_often_must_wait_and_others_need_not(
    join: Join, desk: JournalDesk, peer: Peer, clock: ManualClock
) -> None:
    assert all(peer.ask({"op": "ping"})["ok"] for _ in range(LIMITS.burst))
    answer = peer.ask({"op": "ping"})
    assert (answer["ok"], answer["code"], answer["retry_ms"]) == (False, "rate", 20)
    assert join(desk).ask({"op": "ping"}) == {"ok": True}
    clock.sleep_until_ns(answer["retry_ms"] * 1_000_000)
    assert peer.ask({"op": "ping"}) == {"ok": True}
    assert desk.counters() == {"rate": 1}


def test_a_turn_ends_after_so_many_requests_or_bytes(desk: JournalDesk, peer: Peer, journal: Journal) -> None:
    fill(journal, [bytes(MAX_PAYLOAD_BYTES)] * 4)
    heavy = {"op": "range", "from_sequence": 1, "to_sequence": 4}
    for request, at_most in (({"op": "ping"}, REQUESTS_PER_TURN), (heavy, 3)):
        for _ in range(20):
            peer.send(request)
        answers = 0
        while answers < 20:
            assert desk.socket.poll(10_000)
            desk.serve()
            turn = 0
            while peer.socket.poll(100):
                assert peer.receive()["ok"]
                turn += 1
            assert turn <= at_most
            answers += turn


def test_answers_that_nobody_reads_are_dropped_and_the_desk_goes_on(
    context: Any, desk: JournalDesk, journal: Journal, clock: ManualClock, peer: Peer
) -> None:
    fill(journal, [bytes(MAX_PAYLOAD_BYTES)] * 4)
    with context.socket(zmq.DEALER) as sleeper:
        sleeper.setsockopt(zmq.LINGER, 0)
        sleeper.setsockopt(zmq.RCVHWM, 1)
        sleeper.connect(desk.endpoint)
        for _ in range(60):
            clock.sleep_until_ns(clock.now_ns() + SECOND)
            sleeper.send(msgpack.packb({"op": "range", "from_sequence": 1, "to_sequence": 4}))
            assert desk.socket.poll(10_000)
            desk.serve()
        assert desk.counters()["unread"] > 0
        assert peer.ask({"op": "ping"}) == {"ok": True}


def test_a_peer_that_has_gone_disturbs_nobody(context: Any, desk: JournalDesk, peer: Peer) -> None:
    with context.socket(zmq.DEALER) as gone:
        gone.connect(desk.endpoint)
        gone.send(msgpack.packb({"op": "ping"}))
        assert desk.socket.poll(10_000)
    desk.serve()
    assert peer.ask({"op": "ping"}) == {"ok": True}


def test_acknowledgements_outlive_a_restart_and_never_go_back(
    context: Any, join: Join, journal: Journal, desk: JournalDesk, peer: Peer, tmp_path: Path
) -> None:
    for i in range(5):
        journal.append(a_verdict(f"s{i}"))
    ack = {"op": "ack", "client": "plc", "journal_id": journal.journal_id}
    assert peer.ask(ack | {"sequence": 4, "id": 1}) == {"ok": True, "sequence": 4, "id": 1}
    assert peer.ask(ack | {"sequence": 2}) == {"ok": True, "sequence": 4}
    assert peer.ask(ack | {"sequence": 6})["code"] == "out_of_range"
    assert peer.ask({"op": "snapshot", "client": "plc"})["acknowledged"] == 4
    assert peer.ask({"op": "snapshot", "client": "other"})["acknowledged"] == 0
    desk.close()
    journal.close()
    again = Journal(tmp_path / "journal.db", reserve_bytes=65536)
    second = JournalDesk(context, f"ipc://{tmp_path}/j2.sock", again)
    assert join(second).ask({"op": "snapshot", "client": "plc"})["acknowledged"] == 4
    second.close()
    again.close()


def test_an_acknowledgement_that_cannot_be_written_is_not_confirmed(
    peer: Peer, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(a_verdict())
    ack = {"op": "ack", "client": "plc", "journal_id": journal.journal_id, "sequence": 1, "id": 3}
    monkeypatch.setattr(journal, "has_reserve", False)  # as on a full disk
    answer = peer.ask(ack)
    assert (answer["ok"], answer["code"], answer["id"]) == (False, "unavailable", 3)
    assert "sequence" not in answer
    assert peer.ask({"op": "snapshot", "client": "plc"})["acknowledged"] == 0
    monkeypatch.setattr(journal, "has_reserve", True)
    assert peer.ask(ack) == {"ok": True, "sequence": 1, "id": 3}


def test_only_so_many_names_may_acknowledge(
    context: Any, join: Join, journal: Journal, clock: ManualClock, tmp_path: Path
) -> None:
    journal.append(a_verdict())
    notes = Acknowledgements(journal, ("press-plc",))
    desk = JournalDesk(context, f"ipc://{tmp_path}/a.sock", journal, acknowledgements=notes, now_ns=clock.now_ns)
    peer = join(desk)
    ack = {"op": "ack", "journal_id": journal.journal_id, "sequence": 1}
    for i in range(MAX_CLIENTS - 1):
        assert peer.ask(ack | {"client": f"c{i}"})["ok"]
    answer = peer.ask(ack | {"client": "one-more"})
    assert (answer["code"], "net.acknowledge" in answer["error"]) == ("forbidden", True)
    assert peer.ask(ack | {"client": "press-plc"})["ok"]
    assert peer.ask(ack | {"client": "c0"})["ok"]
    desk.close()


def test_with_keys_a_client_goes_by_the_name_of_its_key(tmp_path: Path) -> None:
    with guarded_cell(tmp_path) as cell:
        cell.journal.append(a_verdict())
        plc = cell.client(zmq.REQ, cell.desk.endpoint, cell.key("press-plc", "verdict"))

        def ask(op: str, client: str) -> dict[str, Any]:
            plc.send(
                msgpack.packb({"op": op, "client": client, "journal_id": cell.journal.journal_id, "sequence": 1})
            )
            assert cell.until(lambda: plc.poll(0))
            answer: dict[str, Any] = msgpack.unpackb(plc.recv())
            return answer

        assert ask("ack", "press-plc") == {"ok": True, "sequence": 1}
        answer = ask("ack", "x")
        assert (answer["code"], "'press-plc'" in answer["error"]) == ("forbidden", True)
        assert ask("snapshot", "x")["code"] == "forbidden"


def test_what_waits_for_whom_is_told(journal: Journal) -> None:
    notes = Acknowledgements(journal, ("press-plc", "mes"), within_s=60)
    assert {c: (a.sequence, a.waiting, a.oldest_utc_ns) for c, a in notes.health().items()} == {
        "press-plc": (0, 0, None),
        "mes": (0, 0, None),
    }
    for i in range(3):
        journal.append(a_verdict(f"s{i}"))
    assert notes.stage("press-plc", 1) == 1
    assert notes.write() is None
    found = notes.health()
    assert {client: (a.sequence, a.waiting) for client, a in found.items()} == {"press-plc": (1, 2), "mes": (0, 3)}
    oldest = found["press-plc"].oldest_utc_ns
    assert oldest is not None
    assert oldest > (found["mes"].oldest_utc_ns or 0) > 0
    assert notes.warnings(oldest + 30 * SECOND) == []
    late = notes.warnings(oldest + 75 * SECOND)
    assert late[0].startswith("press-plc has not acknowledged verdict 2 for 75 s, 2 wait")
    notes.stage("press-plc", 3)
    notes.write()
    assert not any("press-plc" in warning for warning in notes.warnings(oldest + 75 * SECOND))
