"""What crosses between a capture child and the daemon, and that it never blocks the child."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Chunk
from edged.capture import Notifier
from edged.capture_wire import CHUNK, ENDED, FAILED, IDLE, MAX_PACKET, OPENED, Notice, pack, unpack

U64, I64, U32 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1)


@given(st.builds(Notice, U64, I64, I64, U64, I64, U32, U32))
def test_notices_survive_the_wire(notice: Notice) -> None:
    assert unpack(pack(CHUNK, notice)) == (CHUNK, notice)


@pytest.mark.parametrize("kind", [OPENED, IDLE, FAILED, ENDED])
def test_texts_survive_the_wire(kind: bytes) -> None:
    assert unpack(pack(kind, "kein Gerät")) == (kind, "kein Gerät")
    assert len(pack(kind, "x" * 100_000)) < MAX_PACKET


@given(st.binary(max_size=80))
def test_anything_else_is_refused_by_name(packet: bytes) -> None:
    if packet[:1] in (OPENED, IDLE, FAILED, ENDED) or (packet[:1] == CHUNK and len(packet) == len(pack(CHUNK, ZERO))):
        assert unpack(packet)[0] == packet[:1]
    else:
        with pytest.raises(ValueError, match=r"unknown packet|chunk notice"):
            unpack(packet)


ZERO = Notice(0, 0, 0, 0, 0, 0, 0)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_parent_that_does_not_keep_up_costs_chunks_that_are_counted(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    notifier = Notifier(theirs)
    ours.setblocking(False)

    def send(count: int, seq: int) -> None:
        for i in range(seq, seq + count):
            notifier.chunk(Chunk("welder", i, 10 * i, 0, 0, np.zeros((10, 1), np.int16)), 0)

    def receive() -> list[Notice]:
        found: list[Notice] = []
        while True:
            try:
                body = unpack(ours.recv(MAX_PACKET))[1]
            except BlockingIOError:
                return found
            assert isinstance(body, Notice)
            found.append(body)

    send(10_000, 0)
    first = receive()
    assert 10 < len(first) < 10_000
    send(5, 10_000)
    after = receive()
    assert len(after) == 5
    assert after[0].lost_before == 10 * (10_000 - len(first))
    assert [notice.lost_before for notice in after[1:]] == [0] * 4
    ours.close()
    with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
        send(1, 10_005)
