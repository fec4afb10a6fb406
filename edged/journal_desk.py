"""The journal socket: who missed verdicts asks here for them, with the same rights as a subscriber.

A ROUTER socket beside the publisher. A request is one msgpack map `{op: snapshot|range|ping, …}`; `docs/verdict.md`
specifies it. REQ and DEALER peers are understood (with or without the empty frame). It runs on the daemon's thread
and never blocks; a flood is served a few at a time, and an answer that its peer does not read is dropped.
Fields that a request has beyond those of its op are ignored, so that a newer client can ask an older daemon.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack
import zmq

from edged.buckets import Buckets
from edged.endpoints import Protector, bind, close, keep_alive
from edged.journal import Entry, Journal
from edged.wire import SCHEMA, WireError, unpack

__all__ = ["JournalDesk"]

MAX_REQUEST_BYTES = 4 * 1024
MAX_MESSAGE_BYTES = 64 * 1024
"""Above this ZeroMQ itself drops the connection, before the bytes take memory."""
MAX_ANSWER_BYTES = 1024 * 1024
MAX_ENTRIES = 1000
MAX_TOPICS = 1024
MAX_ID_CHARS = 64
ENTRY_OVERHEAD_BYTES = 24
"""At most what msgpack puts around the three parts of an entry."""

REQUESTS_PER_TURN = 16
BYTES_PER_TURN = 2 * MAX_ANSWER_BYTES
"""The engine waits while answers are read from disk; 2 MiB take it some milliseconds."""
PER_S, BURST = 50, 100
RECEIVE_QUEUE_MESSAGES = 1000
SEND_QUEUE_MESSAGES = 8
"""Answers that wait for a peer which does not read them; 8 MiB at most."""
LINGER_MS = 200
SEQUENCES = 2**63


class Refused(Exception):
    """A request that is not followed: `code` is for the program, the text for a person."""

    def __init__(self, code: str, error: str, **more: Any) -> None:
        super().__init__(error)
        self.answer = {"ok": False, "code": code, "error": error, **more}


class JournalDesk:
    """Binds `endpoint` and answers requests from `serve`. Not thread-safe.

    Args:
        context: the process's ZeroMQ context.
        endpoint: ipc or tcp, see `edged.client.endpoints.journal_endpoint`.
        journal: what is read; entries are handed out byte for byte.
        guard: lets in those who have a key; None: whoever reaches the endpoint.
        software: name and version, as in heartbeats.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        journal: Journal,
        guard: Protector | None = None,
        software: str = "edged",
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._journal, self._software = journal, software
        self._buckets = Buckets(PER_S, BURST, now_ns)
        self._ops: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "snapshot": self._snapshot,
            "range": self._range,
            "ping": lambda request: {"ok": True},
        }
        self._counts: Counter[str] = Counter()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.RCVHWM, RECEIVE_QUEUE_MESSAGES)
        self.socket.setsockopt(zmq.SNDHWM, SEND_QUEUE_MESSAGES)
        self.socket.setsockopt(zmq.LINGER, LINGER_MS)
        # So that an answer that cannot be sent is an error here, which is counted, and not silently gone.
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        keep_alive(self.socket)
        try:
            if guard is not None:
                guard.protect(self.socket, "verdict")
            self.endpoint = bind(self.socket, endpoint)
        except BaseException:
            self.socket.close(linger=0)
            raise

    def serve(self) -> None:
        """Answer what is waiting, at most `REQUESTS_PER_TURN` and `BYTES_PER_TURN`; never blocks."""
        sent_bytes = 0
        for _ in range(REQUESTS_PER_TURN):
            if sent_bytes >= BYTES_PER_TURN or not self.socket.poll(0):
                return
            peer, *frames = self.socket.recv_multipart(zmq.NOBLOCK)
            envelope = [peer, b""] if len(frames) > 1 and frames[0] == b"" else [peer]
            answer = self._answer(peer, frames[len(envelope) - 1 :])
            sent_bytes += len(answer)
            self._send([*envelope, answer])

    def counters(self) -> dict[str, int]:
        """What was refused so far, by code, and answers that nobody took."""
        return dict(self._counts)

    def close(self) -> None:
        """Send the answers that are queued and close."""
        close(self.socket, self.endpoint)

    def _send(self, frames: list[bytes]) -> None:
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            # The peer does not read (EAGAIN) or is gone (EHOSTUNREACH): it asks again when it wants to know.
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self._counts["unread"] += 1

    def _answer(self, peer: bytes, frames: list[bytes]) -> bytes:
        echo: dict[str, Any] = {}
        try:
            if wait_ms := self._buckets.wait_ms(peer):
                raise Refused("rate", f"more than {PER_S} requests a second; ask again later", retry_ms=wait_ms)
            request = _request(frames)
            echo = _echo(request)
            op = request.get("op")
            if not isinstance(op, str) or op not in self._ops:
                raise Refused("unknown_op", f"op {op!r:.100} is none of {', '.join(self._ops)}")
            answer = self._ops[op](request)
        except Refused as refused:
            answer = refused.answer
            self._counts[answer["code"]] += 1
        packed: bytes = msgpack.packb(answer | echo)
        return packed

    def _snapshot(self, request: Mapping[str, Any]) -> dict[str, Any]:
        last = list(self._journal.last_of_topics().items())[:MAX_TOPICS]
        room = MAX_ANSWER_BYTES - sum(len(topic.encode()) + ENTRY_OVERHEAD_BYTES for topic, _ in last)
        entries = (entry for _, sequence in last for entry in self._journal.read(sequence, sequence))
        return {
            "ok": True,
            "schema": SCHEMA,
            "journal_id": self._journal.journal_id,
            "first_sequence": self._journal.first_sequence,
            "last_sequence": self._journal.last_sequence,
            "software": self._software,
            "last": [[topic, sequence] for topic, sequence in last],
            "entries": _as_many_as_fit(entries, room),
        }

    def _range(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._must_be_this_journal(request)
        first, last = (_sequence(request, key) for key in ("from_sequence", "to_sequence"))
        if first > last:
            raise Refused("malformed", f"from_sequence {first} lies beyond to_sequence {last}")
        return {
            "ok": True,
            "journal_id": self._journal.journal_id,
            "last_sequence": self._journal.last_sequence,
            "entries": _as_many_as_fit(self._journal.read(first, last), MAX_ANSWER_BYTES),
        }

    def _must_be_this_journal(self, request: Mapping[str, Any]) -> None:
        named, here = request.get("journal_id"), self._journal.journal_id
        if named is not None and named != here:
            raise Refused("journal", f"journal {named!r:.100} is not the one here, {here}", journal_id=here)


def _request(frames: list[bytes]) -> dict[str, Any]:
    if len(frames) != 1:
        raise Refused("malformed", f"one frame with a msgpack map is needed, got {len(frames)}")
    if len(frames[0]) > MAX_REQUEST_BYTES:
        raise Refused("too_large", f"{len(frames[0])} bytes, the limit is {MAX_REQUEST_BYTES}")
    try:
        return unpack(frames[0])
    except WireError as error:
        raise Refused("malformed", str(error)) from error


def _echo(request: Mapping[str, Any]) -> dict[str, Any]:
    """`id` for the answer, where the request has one."""
    if "id" not in request:
        return {}
    found = request["id"]
    is_number = isinstance(found, int) and not isinstance(found, bool)
    if not is_number and not (isinstance(found, str) and len(found) <= MAX_ID_CHARS):
        raise Refused("malformed", f"id: a whole number or at most {MAX_ID_CHARS} characters, got {found!r:.100}")
    return {"id": found}


def _sequence(request: Mapping[str, Any], key: str) -> int:
    found = request.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 < found < SEQUENCES:
        raise Refused("malformed", f"{key}: a whole number from 1 to 2^63 - 1 is needed, got {found!r:.100}")
    return found


def _as_many_as_fit(entries: Iterable[Entry], room_bytes: int) -> list[list[Any]]:
    """[sequence, topic, payload] of each, the first in any case; what does not fit is not read from disk."""
    found: list[list[Any]] = []
    for entry in entries:
        room_bytes -= len(entry.payload) + len(entry.topic.encode()) + ENTRY_OVERHEAD_BYTES
        if found and (room_bytes < 0 or len(found) == MAX_ENTRIES):
            break
        found.append([entry.sequence, entry.topic, entry.payload])
    return found
