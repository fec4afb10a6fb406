"""What is sent where: strategies of Hypothesis for each protocol, near enough to it to get past the door."""

import collections
import contextlib
import dataclasses
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import zmq
from hypothesis import strategies as st

from tests.fuzz.world import World

__all__ = ["ATTACKS", "BROKER", "Attack", "Attacker"]

BROKER = "MQTT, what a broker says"
OPEN_AT_ONCE = 12
"""Connections that are left open without a word, as a scanner does."""

SOCKET_LIVES = 40
WAIT_S = 0.02
LINGER_MS = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Attack:
    """`strategy` makes what `deliver` sends."""

    strategy: st.SearchStrategy[Any]
    deliver: "Callable[[Attacker, Any], None]"


class Attacker:
    """The other side of it all; a context manager."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: dict[str, tuple[zmq.Socket[bytes], int]] = {}
        self._open: collections.deque[socket.socket] = collections.deque()

    def __enter__(self) -> "Attacker":
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._open:
            peer.close()
        self._context.destroy(linger=0)

    def frames(self, where: str, kind: int, frames: Sequence[bytes], with_keys: bool = False) -> None:
        """A message over ZeroMQ; whatever comes back is read and forgotten."""
        sock, uses = self._sockets.get(where, (None, 0))
        if sock is None or uses >= SOCKET_LIVES:
            if sock is not None:
                sock.close(linger=LINGER_MS)
            sock, uses = self._context.socket(kind), 0
            sock.setsockopt(zmq.SNDTIMEO, 1000)
            if with_keys:
                assert self.world.keys is not None
                self.world.keys.protect(sock)
            sock.connect(self.world.endpoints[where])
        self._sockets[where] = (sock, uses + 1)
        with contextlib.suppress(zmq.Again):
            sock.send_multipart(list(frames))
        with contextlib.suppress(zmq.Again):
            for _ in range(20):
                sock.recv_multipart(zmq.NOBLOCK)

    def raw(self, port: str, chunks: Sequence[bytes], stays: bool) -> None:
        """Bytes over TCP; the connection is closed, or left open until others have come after it."""
        with contextlib.suppress(OSError):
            peer = socket.create_connection(("127.0.0.1", self.world.ports[port]), 2.0)
            self._open.append(peer)
            peer.settimeout(WAIT_S)
            for chunk in chunks:
                peer.sendall(chunk)
                with contextlib.suppress(TimeoutError):
                    peer.recv(65536)
            if not stays:
                self._open.pop().close()
        while len(self._open) > OPEN_AT_ONCE:
            self._open.popleft().close()


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=40)
    | st.binary(max_size=40)
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
)
OPS = (
    "snapshot",
    "range",
    "ack",
    "ping",
    "part",
    "expect",
    "view",
    "end_part",
    "status",
    "programs",
    "arm",
    "disarm",
)
FIELDS = (
    "from_sequence", "to_sequence", "journal_id", "client", "sequence", "id", "program", "part_id", "seam_ref",
    "torch", "seams", "pass_index", "session", "set_points", "view", "seam_id", "by", "why",
)  # fmt: skip
plausible = st.sampled_from(["T1", "1", 1, 2, 100, 0, -1, 2**62, ["1", "2"], {"a": 1.0}])
requests = st.builds(
    lambda op, fields: msgpack.packb({"op": op, **fields}),
    st.sampled_from(OPS),
    st.dictionaries(st.sampled_from(FIELDS), plausible | values, max_size=5),
)


@st.composite
def spoilt(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were whole, with a few of them changed, or their end missing."""
    found = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if found:
            found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.booleans()) else found)


large = st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.sampled_from([5000, 70_000]))
bodies = (
    requests | spoilt(requests) | values.map(msgpack.packb) | st.binary(max_size=200) | large
    | st.integers(2, 2000).map(lambda depth: b"\x91" * depth)
)  # fmt: skip
messages = st.lists(bodies, min_size=1, max_size=1) | st.lists(bodies | st.just(b""), min_size=1, max_size=4)
subscriptions = st.lists(
    st.builds(lambda first, rest: first + rest, st.sampled_from([b"\0", b"\1", b"\2", b""]), st.binary(max_size=300))
    | st.sampled_from([b"\1", b"\1verdict/", b"\0verdict/", b"\1health"])
    | large,
    min_size=1,
    max_size=2,
)

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" * 32
NULL_GREETING = GREETING.replace(b"CURVE", b"NULL\0")
commands = st.builds(
    lambda flags, body: (
        bytes([flags | (2 if len(body) > 255 else 0)])
        + (struct.pack(">Q", len(body)) if len(body) > 255 else bytes([len(body)]))
        + body
    ),
    st.sampled_from([0, 1, 4, 5]),
    st.builds(
        lambda name, rest: bytes([len(name)]) + name + rest,
        st.sampled_from([b"HELLO", b"INITIATE", b"READY", b"MESSAGE", b"PING", b"SUBSCRIBE", b"ERROR", b"?"]),
        st.binary(max_size=400),
    ),
)
lengths = st.sampled_from([0, 1, 2**15, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
zmtp = st.lists(
    st.sampled_from([GREETING, NULL_GREETING, GREETING[:11], GREETING[:40]])
    | commands
    | spoilt(commands)
    | lengths.map(lambda size: b"\x06" + struct.pack(">Q", size))
    | st.binary(max_size=200),
    min_size=1,
    max_size=5,
)
modbus = st.lists(
    st.builds(
        lambda transaction, function, body, wrong: (
            struct.pack(">HHHBB", transaction, 0, len(body) + 2 + wrong, 1, function) + body
        ),
        st.integers(0, 65535),
        st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 17, 20, 21, 22, 23, 24, 43]) | st.integers(0, 255),
        st.binary(max_size=250),
        st.sampled_from([0, 0, 0, 1, 200]),
    )
    | st.binary(max_size=300),
    min_size=1,
    max_size=4,
)
opcua = st.lists(
    st.builds(
        lambda kind, chunk, body, wrong: kind + chunk + struct.pack("<I", len(body) + 8 + wrong) + body,
        st.sampled_from([b"HEL", b"OPN", b"MSG", b"CLO", b"ACK", b"ERR", b"RHE", b"XXX"]),
        st.sampled_from([b"F", b"C", b"A", b"\0"]),
        st.binary(max_size=300),
        st.sampled_from([0, 0, 0, 1, 2**31]),
    )
    | st.just(b"HELF\x20\x00\x00\x00" + b"\x00" * 4 + b"\x00\x20\x00\x00" * 2 + b"\x00" * 8 + b"\xff\xff\xff\xff")
    | st.binary(max_size=300),
    min_size=1,
    max_size=4,
)
mqtt = st.lists(
    st.builds(
        lambda first, body: bytes([first, min(len(body), 127)]) + body,
        st.sampled_from([0x20, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0]),
        st.binary(max_size=127) | st.binary(max_size=60).map(lambda rest: b"\x00\x18spBv1.0/cells/NCMD/edged" + rest),
    )
    | st.binary(max_size=300),
    min_size=1,
    max_size=6,
)
with_stay = lambda strategy: st.tuples(strategy, st.booleans())  # noqa: E731


def _raw(port: str) -> Callable[[Attacker, Any], None]:
    return lambda attacker, item: attacker.raw(port, item[0], item[1])


def _frames(where: str, kind: int, with_keys: bool = False) -> Callable[[Attacker, Any], None]:
    return lambda attacker, frames: attacker.frames(where, kind, frames, with_keys)


def _broker(attacker: Attacker, packets: list[bytes]) -> None:
    attacker.world.broker.say = packets


ATTACKS: dict[str, Attack] = {
    "verdicts (XPUB), frames": Attack(subscriptions, _frames("daemon verdicts", zmq.XSUB)),
    "verdicts (XPUB), bytes": Attack(with_stay(zmtp), _raw("daemon verdicts")),
    "journal (ROUTER), frames": Attack(messages, _frames("daemon journal", zmq.DEALER)),
    "journal (ROUTER), bytes": Attack(with_stay(zmtp), _raw("daemon journal")),
    "control (ROUTER), frames": Attack(messages, _frames("daemon control", zmq.DEALER)),
    "control (ROUTER), bytes": Attack(with_stay(zmtp), _raw("daemon control")),
    "CURVE handshake, verdicts": Attack(with_stay(zmtp), _raw("daemon with keys verdicts")),
    "CURVE handshake, journal": Attack(with_stay(zmtp), _raw("daemon with keys journal")),
    "CURVE handshake, control": Attack(with_stay(zmtp), _raw("daemon with keys control")),
    "journal with a key, frames": Attack(messages, _frames("daemon with keys journal", zmq.DEALER, True)),
    "Modbus, bytes": Attack(with_stay(modbus), _raw("modbus")),
    "OPC UA, bytes": Attack(with_stay(opcua), _raw("opcua")),
    BROKER: Attack(mqtt, _broker),
}
