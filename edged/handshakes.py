"""Handshakes that fail before a client shows its key: no keys at all, another server's key, no ZeroMQ.

ZAP sees none of these; the socket's monitor does, but names no peer: it gives the file descriptor of a connection
when it is accepted and when it ends. So that a connection is not over before its peer was asked, new ones are held:
they inherit from the listening socket that ZeroMQ is not told of bytes before there are many (SO_RCVLOWAT), until
`failed` has seen them.
A context has one I/O thread, so events of one socket come in the order in which they happened, and a failure is
followed by the end of the very connection that failed.
"""

import contextlib
import ipaddress
import itertools
import os
import socket
import struct
from collections.abc import Iterator

import zmq

from edged.refusals import Refusal

__all__ = ["Handshakes"]

EVENTS = (
    zmq.EVENT_LISTENING
    | zmq.EVENT_ACCEPTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
EVENTS_PER_TURN = 128
"""Each takes some 20 µs; a flood of connections cannot take the daemon's time."""

HELD_BYTES = 32 * 1024
"""More than anybody says before he is answered."""
READ_ALL = 1

REASONS: dict[int, tuple[str, str]] = {
    zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC: ("wrong_server_key", "it has another server's key"),
    zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH: ("no_keys", "it has no keys"),
}
OTHER_PROTOCOL = ("no_zmtp", "it does not speak ZeroMQ's protocol")
BROKEN_OFF = ("no_keys", "it broke the handshake off: it has no keys, or is too slow")
UNKNOWN = "unknown"
NUMBERS = itertools.count()


class Handshakes:
    """Watches one socket that is to be bound; `socket` is to be polled, `failed` reads it."""

    def __init__(self, watched: "zmq.Socket[bytes]", domain: str) -> None:
        self._watched, self._domain = watched, domain
        place = f"inproc://handshakes.{next(NUMBERS)}"
        watched.monitor(place, EVENTS)
        self.socket: zmq.Socket[bytes] = watched.context.socket(zmq.PAIR)
        # Without a limit: at one, ZeroMQ's own thread would wait for us, holding a lock that `close` needs.
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(place)
        self._open: dict[int, str] = {}
        """Connections: descriptor → peer."""
        self._suspect: set[int] = set()
        """Those that began since the last handshake that ended well, or in ZAP: none of these was theirs."""
        self._failed: tuple[str, str] | None = None

    def failed(self) -> Iterator[Refusal]:
        """Those that failed since the last call."""
        for _ in range(EVENTS_PER_TURN):
            if not self.socket.poll(0):
                return
            event, value = struct.unpack("=Hi", self.socket.recv_multipart(zmq.NOBLOCK)[0])
            if event == zmq.EVENT_LISTENING:
                _hold(value, HELD_BYTES)
            elif event == zmq.EVENT_ACCEPTED:
                self._open[value] = _peer_of(value)
                self._suspect.add(value)
                _hold(value, READ_ALL)
            elif event in (zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH):
                self._suspect.clear()
            elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                self._failed = REASONS.get(value, OTHER_PROTOCOL)
            elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._failed = BROKEN_OFF
            elif (refusal := self._end(value)) is not None:
                yield refusal

    def close(self) -> None:
        """Watch no more; before the watched socket is closed."""
        self._watched.monitor(None, 0)
        self.socket.close(linger=0)

    def _end(self, descriptor: int) -> Refusal | None:
        address, failed = self._open.pop(descriptor, UNKNOWN), self._failed
        is_suspect = descriptor in self._suspect
        self._failed = None
        self._suspect.discard(descriptor)
        if failed in (None, BROKEN_OFF) and not is_suspect:
            return None  # it was in, or ZAP has refused it and it waited until the time was over
        # ZeroMQ says nothing of bytes that are of none of its protocol's versions.
        failed = failed or OTHER_PROTOCOL
        reason, detail = failed
        return Refusal(reason, self._domain, address, detail)


def _peer_of(descriptor: int) -> str:
    """Address of the other end of a connection that ZeroMQ owns, and may have closed by now."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            if copy.family == socket.AF_UNIX:
                pid, uid, gid = struct.unpack("=iII", copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                return f"localhost:{uid}:{gid}:{pid}"  # as ZeroMQ writes it for ZAP
            return _plain(str(copy.getpeername()[0]))
    except OSError:
        return UNKNOWN


def _hold(descriptor: int, until_bytes: int) -> None:
    """ZeroMQ is told of a connection's bytes when there are so many. Connections inherit it from a listening socket.

    That the descriptor is another one's by now does no harm: 1 is what every connection has.
    """
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, until_bytes)


def _plain(address: str) -> str:
    """An IPv4 address that came over an IPv6 socket, as IPv4."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
