"""The publisher over real sockets: last values, health, socket files, and the subscriber of the docs."""

import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from edged.endpoints import EndpointError, bind, ipc_path
from edged.journal import Entry, Journal
from edged.publisher import SUBSCRIPTIONS_PER_TURN, Publisher
from edged.wire import HealthMessage, HeartbeatMessage, TimePair, decode
from edged.wire_encode import encode_live
from tests.support.verdicts import a_part, a_point, a_verdict

DOC = Path(__file__).parents[3] / "docs" / "verdict.md"
Subscribe = Callable[..., Any]


@pytest.fixture
def subscribe(context: Any) -> Iterator[Subscribe]:
    made = []

    def make(publisher: Publisher, *topics: bytes) -> Any:
        made.append(socket := context.socket(zmq.SUB))
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(publisher.endpoint)
        for topic in topics:
            socket.subscribe(topic)
            assert publisher.socket.poll(10_000)
            publisher.serve()
        return socket

    yield make
    for socket in made:
        socket.close(linger=0)


def test_late_joiner_gets_the_last_of_each_topic(context: Any, journal: Journal, subscribe: Subscribe) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:*", journal.last_per_program())
    for i, program in enumerate(["A", "A", "B"]):
        publisher.publish(journal.append(a_verdict(f"s{i}", program)))
    publisher.publish(journal.append(a_part()))
    late = subscribe(publisher, b"verdict/", b"part")
    got = {(topic.decode(), msgpack.unpackb(payload)["sequence"]) for topic, payload in _take(late, 3)}
    assert got == {("verdict/A", 2), ("verdict/B", 3), ("part", 4)}
    publisher.close()


def test_the_second_late_joiner_gets_it_too(context: Any, journal: Journal, subscribe: Subscribe) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:*")
    publisher.publish(entry := journal.append(a_verdict("s", "A")))
    assert _take(subscribe(publisher, b"verdict/"), 1) == [[b"verdict/A", entry.payload]]
    assert _take(subscribe(publisher, b"verdict/"), 1) == [[b"verdict/A", entry.payload]]
    publisher.close()


def test_a_flood_of_subscriptions_is_served_in_turns_and_answered_once_a_turn(context: Any, journal: Journal) -> None:
    publisher = Publisher(context, "inproc://flood")  # where what was sent is there at once
    publisher.publish(journal.append(a_verdict("s", "A")))
    with context.socket(zmq.XSUB) as socket:
        socket.connect(publisher.endpoint)
        for i in range(SUBSCRIPTIONS_PER_TURN + 1):
            socket.send(b"\x01verdict/" + b"A" * (i % 2))
        for left in (True, False):
            publisher.serve()
            assert bool(publisher.socket.poll(0)) is left
            assert socket.recv_multipart(zmq.NOBLOCK)[0] == b"verdict/A"
            assert not socket.poll(0)
    publisher.close()


def test_what_is_no_subscription_is_ignored(context: Any, journal: Journal) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:*")
    publisher.publish(journal.append(a_verdict("s", "A")))
    with context.socket(zmq.XSUB) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(publisher.endpoint)
        socket.send_multipart([b"\x07nonsense", b"\x01verdict/"])
        socket.send(b"\x01part")
        assert publisher.socket.poll(10_000)
        publisher.serve()
        publisher.publish(journal.append(a_part()))
        assert socket.recv_multipart()[0] == b"part"
    publisher.close()


def test_who_does_not_read_loses_the_newest_and_delays_nobody(
    context: Any, journal: Journal, subscribe: Subscribe, tmp_path: Path
) -> None:
    """docs/verdict.md, 3.6: the sleeper has a run without a gap, then the gap, then what came when it read again."""
    publisher = Publisher(context, f"ipc://{tmp_path}/v.sock")
    reader, sleeper = subscribe(publisher, b"verdict/"), subscribe(publisher, b"verdict/")
    count = 4000
    for sequence in range(1, count + 1):
        publisher.publish(Entry(journal.journal_id, sequence, "verdict/A", b"%08d" % sequence + bytes(20_000)))
        assert int(reader.recv_multipart()[1][:8]) == sequence
    got = []
    while sleeper.poll(500):
        got.append(int(sleeper.recv_multipart()[1][:8]))
    assert got == list(range(1, len(got) + 1))
    assert 1000 <= len(got) < count
    publisher.publish(Entry(journal.journal_id, count + 1, "verdict/A", b"%08d" % (count + 1)))
    assert int(sleeper.recv_multipart()[1][:8]) == count + 1
    publisher.close()


def test_a_restart_forgets_nothing(context: Any, journal: Journal, subscribe: Subscribe) -> None:
    entry = journal.append(a_verdict("s", "A"))
    publisher = Publisher(context, "tcp://127.0.0.1:*", journal.last_per_program())
    assert _take(subscribe(publisher, b"verdict/"), 1) == [[b"verdict/A", entry.payload]]
    publisher.close()


def test_published_bytes_are_the_journals(context: Any, journal: Journal, subscribe: Subscribe) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:*")
    socket = subscribe(publisher, b"")
    entry = journal.append(a_verdict())
    publisher.publish(entry)
    assert _take(socket, 1) == [[b"verdict/T1", journal.range(1, 1)[0].payload]]
    assert publisher.published == 1
    publisher.close()


def test_health_is_kept_and_heartbeats_are_not(context: Any, subscribe: Subscribe) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:*")
    publisher.heartbeat(HeartbeatMessage(journal_id="j", last_sequence=0, state="ok", utc_ns=1))
    publisher.health(
        HealthMessage(
            journal_id="j", cell="c", state="ok", warnings=[], streams={}, worker={}, config_id="x", utc_ns=1
        )
    )
    socket = subscribe(publisher, b"he")
    ((topic, payload),) = _take(socket, 1)
    assert topic == b"health"
    assert isinstance(decode(topic, payload), HealthMessage)
    publisher.heartbeat(HeartbeatMessage(journal_id="j", last_sequence=5, state="ok", utc_ns=2))
    ((topic, payload),) = _take(socket, 1)
    message = decode(topic, payload)
    assert isinstance(message, HeartbeatMessage)
    assert message.last_sequence == 5
    publisher.close()


def test_ipc_socket_is_private_and_a_stale_file_is_removed(context: Any, tmp_path: Path) -> None:
    path = tmp_path / "run" / "v.sock"
    dead = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    path.parent.mkdir()
    subprocess.run([sys.executable, "-c", dead, path], check=True)
    assert path.is_socket()
    publisher = Publisher(context, f"ipc://{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(EndpointError, match="another process listens"):
        Publisher(context, f"ipc://{path}")
    publisher.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(context: Any, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(EndpointError, match="no socket"):
        Publisher(context, f"ipc://{path}")
    assert path.read_text() == "data"


@pytest.mark.parametrize("endpoint", ["ipc://@abstract", "ipc://relative.sock", "ipc:///" + "x" * 200])
def test_ipc_that_cannot_be_protected_is_refused(endpoint: str) -> None:
    with pytest.raises(EndpointError):
        ipc_path(endpoint)


def test_taken_port_is_named(context: Any) -> None:
    with context.socket(zmq.XPUB) as first, context.socket(zmq.XPUB) as second:
        endpoint = bind(first, "tcp://127.0.0.1:*")
        with pytest.raises(EndpointError, match=re.escape(endpoint)):
            bind(second, endpoint)


def test_the_subscriber_of_the_docs_works(context: Any, journal: Journal) -> None:
    found = re.search(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    publisher = Publisher(context, "tcp://127.0.0.1:*")
    script = found[1].replace("tcp://127.0.0.1:5560", publisher.endpoint)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert publisher.socket.poll(30_000)
        publisher.serve()
        publisher.publish(entry := journal.append(a_verdict("seam-1")))
        publisher.publish(entry)
        publisher.publish(journal.append(a_verdict("seam-2")))
        lines = [child.stdout.readline().split() for _ in range(2)]
        child.kill()
    assert lines == [
        ["verdict/T1", "1", "seam-1", "1", "ok", "0.5"],
        ["verdict/T1", "2", "seam-2", "1", "ok", "0.5"],
    ]
    publisher.close()


def _take(socket: Any, count: int) -> list[list[bytes]]:
    return [socket.recv_multipart() for _ in range(count)]


def test_a_live_score_reaches_who_listens_and_no_late_joiner(
    context: Any, journal: Journal, subscribe: Subscribe
) -> None:
    publisher = Publisher(context, "tcp://127.0.0.1:*", ())
    early = subscribe(publisher, b"live")
    message = encode_live(a_verdict().seam, a_point(), TimePair.now(), is_simulated=True)
    publisher.live(message)
    assert decode(*early.recv_multipart()) == message
    late = subscribe(publisher, b"")
    publisher.heartbeat(HeartbeatMessage(journal_id="j", last_sequence=0, state="ok", utc_ns=1))
    assert late.recv_multipart()[0] == b"heartbeat"
    assert publisher.published == journal.last_sequence == 0
    publisher.close()
