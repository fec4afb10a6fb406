"""The control socket over real sockets: both kinds of peers, and everything that a peer can get wrong."""

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edged.control import MAX_REQUEST_BYTES, Control, ask
from edged.messages import ControlError, parse_message
from edged.router import REQUESTS_PER_TURN
from edged.wire import WireError, pack, unpack

Ask = Callable[[bytes], dict[str, Any]]


def _expect(raw: dict[str, Any]) -> Mapping[str, Any]:
    parse_message(raw)
    if raw["program"] == "full":
        raise ControlError("two seams are already expected")
    return {"ok": True, "seam_id": f"id of {raw['program']}"}


@pytest.fixture
def control(context: Any, tmp_path: Path) -> Iterator[Control]:
    control = Control(context, f"ipc://{tmp_path}/c.sock", {"expect": _expect, "ping": lambda _: {"ok": True}})
    yield control
    control.close()


@pytest.fixture
def peer(context: Any, control: Control) -> Iterator[Any]:
    with context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.RCVTIMEO, 10_000)
        socket.connect(control.endpoint)
        yield socket


def _exchange(control: Control, peer: Any, frames: list[bytes]) -> tuple[list[bytes], dict[str, Any]]:
    peer.send_multipart(frames)
    assert control.socket.poll(10_000)
    control.serve()
    *envelope, body = peer.recv_multipart()
    return envelope, unpack(body)


def test_peers_with_and_without_the_empty_frame(control: Control, peer: Any) -> None:
    body = pack({"op": "expect", "program": "T1", "seam_ref": "7"})
    answer = {"ok": True, "seam_id": "id of T1"}
    assert _exchange(control, peer, [b"", body]) == ([b""], answer)
    assert _exchange(control, peer, [body]) == ([], answer)


def test_what_cannot_be_done_is_said(control: Control, peer: Any) -> None:
    _, answer = _exchange(control, peer, [pack({"op": "expect", "program": "full"})])
    assert answer == {"ok": False, "error": "two seams are already expected"}


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ([b""], "not msgpack"),
        ([b"", b""], "not msgpack"),
        ([b"\xc1"], "not msgpack"),
        ([b"a", b"b"], "one frame"),
        ([b"", b"", b""], "one frame"),
        ([msgpack.packb(7)], "a map"),
        ([msgpack.packb({})], "op None is none of expect, ping"),
        ([msgpack.packb({"op": ["x"]})], "none of"),
        ([msgpack.packb({"op": "reboot"})], "'reboot' is none of"),
        ([msgpack.packb({"op": "status"})], "none of expect, ping"),
        ([msgpack.packb({"op": "expect"})], "program: Field required"),
        ([msgpack.packb({"op": "expect", "program": [5]})], "program: Input should be a valid string"),
        ([msgpack.packb({"op": "expect", "program": "x", "prat_id": "1"})], "prat_id: unknown field"),
        ([msgpack.packb({"op": "expect", "program": "x" * 201})], "at most 128"),
        ([b"\x00" * (MAX_REQUEST_BYTES + 1)], "the limit is"),
        ([b"\x91" * 3000], "not msgpack"),
    ],
)
def test_nonsense_gets_an_answer(control: Control, peer: Any, frames: list[bytes], problem: str) -> None:
    _, answer = _exchange(control, peer, frames)
    assert answer["ok"] is False
    assert problem in answer["error"]
    assert _exchange(control, peer, [pack({"op": "ping"})])[1] == {"ok": True}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(frames=st.lists(st.binary(max_size=50), min_size=1, max_size=4))
def test_no_frames_crash_it(control: Control, peer: Any, frames: list[bytes]) -> None:
    assert _exchange(control, peer, frames)[1]["ok"] is False


def test_a_flood_is_served_in_turns(control: Control, peer: Any) -> None:
    for _ in range(REQUESTS_PER_TURN + 3):
        peer.send(pack({"op": "ping"}))
    answers = 0
    while answers < REQUESTS_PER_TURN + 3:
        assert control.socket.poll(10_000)
        control.serve()
        turn = 0
        while peer.poll(200):
            assert unpack(peer.recv()) == {"ok": True}
            turn += 1
        assert turn <= REQUESTS_PER_TURN
        answers += turn


def test_a_peer_that_has_gone_disturbs_nobody(context: Any, control: Control, peer: Any) -> None:
    with context.socket(zmq.DEALER) as gone:
        gone.connect(control.endpoint)
        gone.send(pack({"op": "ping"}))
        assert control.socket.poll(10_000)
    control.serve()
    assert _exchange(control, peer, [pack({"op": "ping"})])[1] == {"ok": True}


def test_ask(control: Control, tmp_path: Path) -> None:
    answers: list[Any] = []
    client = threading.Thread(target=lambda: answers.append(ask(control.endpoint, {"op": "ping"}, 20)))
    client.start()
    assert control.socket.poll(20_000)
    control.serve()
    client.join()
    assert answers == [{"ok": True}]
    with pytest.raises(TimeoutError, match="no answer within"):
        ask(f"ipc://{tmp_path}/nobody.sock", {"op": "ping"}, 0.05)
    with pytest.raises(WireError):
        unpack(b"")
