"""The journal socket: who missed verdicts asks here for them, with the same rights as a subscriber.

It stands beside the publisher. A request is one msgpack map `{op: snapshot|range|ack|ping, …}`; `docs/verdict.md`
specifies it. Fields that a request has beyond those of its op are ignored, so that a newer client can
ask an older daemon.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack
import zmq

from edged.acknowledgements import Acknowledgements, TooManyClients
from edged.endpoints import Protector
from edged.journal import Entry, Journal
from edged.router import PER_S, REQUESTS_PER_TURN, Desk, Limits, Request, Router
from edged.wire import SCHEMA, WireError, unpack

__all__ = ["JournalDesk"]

MAX_REQUEST_BYTES = 4 * 1024
MAX_ANSWER_BYTES = 1024 * 1024
MAX_ENTRIES = 1000
MAX_TOPICS = 1024
MAX_ID_CHARS = 64
ENTRY_OVERHEAD_BYTES = 24
"""At most what msgpack puts around the three parts of an entry."""

BYTES_PER_TURN = 2 * MAX_ANSWER_BYTES
"""The engine waits while answers are read from disk; 2 MiB take it some milliseconds."""
LIMITS = Limits(message_bytes=64 * 1024, send_queue_messages=2 * REQUESTS_PER_TURN, burst=100)
MAX_CLIENT_CHARS = 64
SEQUENCES = 2**63

Op = Callable[[Mapping[str, Any], str | None], dict[str, Any]]
"""Gets the request and the name of its sender's key; None where the socket asks for no key."""


class Refused(Exception):
    """A request that is not followed: `code` is for the program, the text for a person."""

    def __init__(self, code: str, error: str, **more: Any) -> None:
        super().__init__(error)
        self.answer = {"ok": False, "code": code, "error": error, **more}


@dataclasses.dataclass(slots=True)
class _Answered:
    """A request with what goes back: `content`, and the `id` that it had."""

    request: Request
    content: dict[str, Any] = dataclasses.field(default_factory=dict)
    echo: dict[str, Any] = dataclasses.field(default_factory=dict)
    is_ack: bool = False


class JournalDesk(Desk):
    """Binds `endpoint` and answers requests from `serve`. Not thread-safe.

    Args:
        context: the process's ZeroMQ context.
        endpoint: ipc or tcp, see `edged.client.endpoints.journal_endpoint`.
        journal: what is read; entries are handed out byte for byte.
        guard: lets in those who have a key; None: whoever reaches the endpoint.
        software: name and version, as in heartbeats.
        acknowledgements: who has acknowledged what; None: those of the journal, of which health does not speak.
        now_ns: a monotonic clock, for the limit on requests.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        journal: Journal,
        guard: Protector | None = None,
        software: str = "edged",
        acknowledgements: Acknowledgements | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._journal, self._software = journal, software
        self._acknowledgements = acknowledgements or Acknowledgements(journal)
        self._ops: dict[str, Op] = {
            "snapshot": self._snapshot,
            "range": self._range,
            "ack": self._acknowledge,
            "ping": lambda request, key_name: {"ok": True},
        }
        super().__init__(Router(context, endpoint, LIMITS, "verdict", guard, now_ns))

    def serve(self) -> None:
        """Answer what is waiting, at most `REQUESTS_PER_TURN` and `BYTES_PER_TURN`; never blocks."""
        answered: list[_Answered] = []
        size = 0
        for request in self._router.requests():
            answered.append(answer := self._answer(request))
            size += sum(len(payload) for _, _, payload in answer.content.get("entries", ()))
            if size >= BYTES_PER_TURN:
                break
        # Acknowledgements of a turn share one wait for the disk, and are answered only after it.
        problem = self._acknowledgements.write()
        for answer in answered:
            if problem is not None and answer.is_ack:
                answer.content = self._refused(Refused("unavailable", problem))
            self._router.send(answer.request, msgpack.packb(answer.content | answer.echo))

    def _answer(self, request: Request) -> _Answered:
        answer = _Answered(request)
        try:
            if request.wait_ms:
                raise Refused("rate", f"more than {PER_S} requests a second; wait", retry_ms=request.wait_ms)
            wanted = _request(request.frames)
            answer.echo = _echo(wanted)
            op = wanted.get("op")
            if not isinstance(op, str) or op not in self._ops:
                raise Refused("unknown_op", f"op {op!r:.100} is none of {', '.join(self._ops)}")
            answer.content = self._ops[op](wanted, request.key_name)
            answer.is_ack = op == "ack"
        except Refused as refused:
            answer.content = self._refused(refused)
        return answer

    def _refused(self, refused: Refused) -> dict[str, Any]:
        self._router.counts[refused.answer["code"]] += 1
        return refused.answer

    def _snapshot(self, request: Mapping[str, Any], key_name: str | None) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if "client" in request:
            more = {"acknowledged": self._acknowledgements.of(_client(request, key_name))}
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
            **more,
        }

    def _range(self, request: Mapping[str, Any], _: str | None) -> dict[str, Any]:
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

    def _acknowledge(self, request: Mapping[str, Any], key_name: str | None) -> dict[str, Any]:
        client, sequence = _client(request, key_name), _sequence(request, "sequence")
        if not isinstance(request.get("journal_id"), str):
            raise Refused("malformed", f"journal_id: a text is needed, got {request.get('journal_id')!r:.100}")
        self._must_be_this_journal(request)
        if sequence > (last := self._journal.last_sequence):
            raise Refused("out_of_range", f"sequence {sequence} lies beyond the journal's last, {last}")
        try:
            return {"ok": True, "sequence": self._acknowledgements.stage(client, sequence)}
        except TooManyClients as error:
            raise Refused("forbidden", str(error)) from error

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


def _client(request: Mapping[str, Any], key_name: str | None) -> str:
    """Who asks: with keys the name of its key, whatever else it says."""
    found = request.get("client")
    if not isinstance(found, str) or not 0 < len(found) <= MAX_CLIENT_CHARS:
        raise Refused("malformed", f"client: 1 to {MAX_CLIENT_CHARS} characters are needed, got {found!r:.100}")
    if key_name is not None and found != key_name:
        raise Refused("forbidden", f"client {found!r:.100}: your key's name is {key_name!r:.100}")
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
