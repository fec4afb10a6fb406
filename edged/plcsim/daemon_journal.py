"""The journal socket as a PLC tries it: snapshot, range, acknowledgement, wrong requests, limits."""

import time
from collections.abc import Mapping
from typing import Any

import msgpack
import zmq
from ulid import ULID

from edged.plcsim.visit import Skipped, Visit, as_map, has_fields, must, ok, refused_with, some_of

__all__ = [
    "a_range",
    "a_snapshot",
    "acknowledge",
    "errors",
    "framing",
    "last_of_topics",
    "other_journal",
    "range_edges",
    "rate",
    "sizes",
]

SCHEMA = 1
SILENCE_S = 1.5
MAX_ENTRIES = 1000
MAX_ANSWER_BYTES = 1024 * 1024
BURST = 100
FLOOD = 800
FLOOD_STEP = 16
TOO_LARGE_BYTES = 5 * 1024
CUT_OFF_BYTES = 100 * 1024

MALFORMED: Mapping[str, tuple[bytes, ...]] = {
    "no msgpack": (b"\xc1\xc1",),
    "a number": (b" ",),
    "no map": (msgpack.packb([1, 2]),),
    "two frames": (msgpack.packb({"op": "ping"}), b"a second frame"),
    "a text for a number": (msgpack.packb({"op": "range", "from_sequence": "1", "to_sequence": 2}),),
    "a bool for a number": (msgpack.packb({"op": "range", "from_sequence": True, "to_sequence": 2}),),
    "an id that is none": (msgpack.packb({"op": "ping", "id": 1.5}),),
}


def a_snapshot(visit: Visit) -> str:
    """Clause D2."""
    snapshot = visit.ask("snapshot")
    has_fields(snapshot, "snapshot", schema=int, journal_id=str, first_sequence=int, last_sequence=int, software=str)
    must(snapshot["schema"] == SCHEMA, f"schema {snapshot['schema']}")
    must(snapshot["first_sequence"] <= snapshot["last_sequence"], f"first_sequence {snapshot['first_sequence']}")
    if beats := visit.beats():
        beat = beats[-1][1]
        must(snapshot["journal_id"] == beat["journal_id"], f"journal {snapshot['journal_id']}, {beat['journal_id']}")
        must(snapshot["last_sequence"] >= beat["last_sequence"], f"last_sequence {snapshot['last_sequence']}")
    return f"journal {snapshot['journal_id']}, {snapshot['first_sequence']}–{snapshot['last_sequence']}"


def last_of_topics(visit: Visit) -> str:
    """Clause D3."""
    snapshot = visit.ask("snapshot")
    last = dict(snapshot["last"])
    must(max(last.values(), default=0) == snapshot["last_sequence"], f"last {last}, {snapshot['last_sequence']}")
    must(bool(snapshot["entries"]) == bool(last), f"{len(snapshot['entries'])} entries of {len(last)} topics")
    for sequence, topic, payload in snapshot["entries"]:
        must(last.get(topic) == sequence, f"entry {sequence} of {topic} is not its last, {last.get(topic)}")
        must(
            as_map(payload, topic)["sequence"] == sequence, f"entry {sequence} of {topic} has another sequence inside"
        )
    return f"{len(last)} topics"


def a_range(visit: Visit) -> str:
    """Clause D4."""
    snapshot = visit.ask("snapshot")
    first, last = some_of(snapshot)
    expected, answers = first, 0
    with visit.journal() as asker:
        while expected <= last and answers < 4:
            answer = ok(asker.ask("range", from_sequence=expected, to_sequence=last), "range")
            entries = answer["entries"]
            answers += 1
            must(0 < len(entries) <= MAX_ENTRIES, f"{len(entries)} entries in an answer")
            size = sum(len(payload) for _, _, payload in entries)
            must(size <= MAX_ANSWER_BYTES or len(entries) == 1, f"{size} bytes of payloads in an answer")
            for sequence, topic, payload in entries:
                must(sequence == expected, f"sequence {sequence} where {expected} comes next")
                must(as_map(payload, topic)["sequence"] == sequence, f"entry {sequence} has another sequence inside")
                must(topic == "part" or topic.startswith("verdict/"), f"topic {topic!r} in the journal")
                expected += 1
    return f"{expected - first} entries in {answers} answers"


def range_edges(visit: Visit) -> str:
    """Clause D5."""
    last = visit.ask("snapshot")["last_sequence"]
    beyond = visit.ask("range", from_sequence=last + 1000, to_sequence=last + 2000)
    must(beyond["entries"] == [], f"{len(beyond['entries'])} entries beyond the last")
    with visit.journal() as asker:
        refused_with(asker.ask("range", from_sequence=2, to_sequence=1), "malformed", "from 2 to 1")
        refused_with(asker.ask("range", from_sequence=0, to_sequence=1), "malformed", "from 0")
        refused_with(asker.ask("range", from_sequence=1), "malformed", "no to_sequence")
    return f"nothing beyond {last}"


def other_journal(visit: Visit) -> str:
    """Clause D6."""
    here: str = visit.ask("snapshot")["journal_id"]
    with visit.journal() as asker:
        answer = asker.ask("range", from_sequence=1, to_sequence=1, journal_id=str(ULID()))
    refused_with(answer, "journal", "another journal_id")
    must(answer["journal_id"] == here, f"journal_id {answer['journal_id']}, the snapshot says {here}")
    return here


def framing(visit: Visit) -> str:
    """Clause D7."""
    ping = {"op": "ping"}
    with visit.journal() as asker:
        for number in (7, "seven"):
            answer = asker.exchange(msgpack.packb({**ping, "id": number}))
            must(answer.get("id") == number, f"id {answer.get('id')!r} for {number!r}")
        ok(asker.exchange(msgpack.packb(ping)), "ping of a DEALER")
        ok(asker.exchange(b"", msgpack.packb(ping)), "ping of a DEALER with the empty frame")
    with visit.journal(zmq.REQ) as asker:
        ok(asker.exchange(msgpack.packb(ping)), "ping of a REQ")
    return "REQ, DEALER with and without the empty frame"


def errors(visit: Visit) -> str:
    """Clause D8."""
    with visit.journal() as asker:
        for what, frames in MALFORMED.items():
            refused_with(asker.exchange(*frames), "malformed", what)
        refused_with(asker.ask("open_sesame"), "unknown_op", "an unknown op")
        ok(asker.ask("ping", tomorrow="a field of a newer client"), "ping with a field that it does not know")
    return f"{len(MALFORMED)} kinds of malformed request"


def sizes(visit: Visit) -> str:
    """Clause D9."""
    with visit.journal() as witness, visit.journal() as asker:
        ok(witness.ask("ping"), "ping")
        large = msgpack.packb({"op": "ping", "padding": "x" * TOO_LARGE_BYTES})
        refused_with(asker.exchange(large), "too_large", f"{len(large)} bytes")
        asker.socket.send(msgpack.packb({"op": "ping", "padding": "x" * CUT_OFF_BYTES}))
        must(not asker.socket.poll(round(SILENCE_S * 1e3)), f"{CUT_OFF_BYTES} bytes were answered")
        ok(witness.ask("ping"), "ping of another peer after that")
    return "others go on"


def rate(visit: Visit) -> str:
    """Clause D10."""
    ping = msgpack.packb({"op": "ping"})
    with visit.journal() as asker:
        sent = 0
        refused: list[dict[str, Any]] = []
        while not refused:
            must(sent < FLOOD, f"{FLOOD} requests in a row were all followed")
            for _ in range(FLOOD_STEP):
                asker.socket.send(ping)
            sent += FLOOD_STEP
            # Read at once: a daemon drops answers that its peer is too slow to take.
            answers = [asker.answer() for _ in range(FLOOD_STEP)]
            refused = [answer for answer in answers if answer.get("ok") is not True]
        must(sent > BURST, f"one of the first {sent} requests was refused")
        refused_with(refused[-1], "rate", f"{sent} requests in a row")
        wait_ms = refused[-1]["retry_ms"]
        must(isinstance(wait_ms, int) and 0 < wait_ms < 10_000, f"retry_ms {wait_ms!r}")
        time.sleep(wait_ms / 1e3 + 0.05)
        ok(asker.ask("ping"), f"ping after {wait_ms} ms")
    return f"refused after {sent} requests, followed again after {wait_ms} ms"


def acknowledge(visit: Visit) -> str:
    """Clause D14."""
    client = visit.place.keys.name if visit.place.keys is not None else "plc-sim"
    snapshot = visit.ask("snapshot", client=client)
    journal_id, last, before = snapshot["journal_id"], snapshot["last_sequence"], snapshot["acknowledged"]
    if not last:
        raise Skipped("the journal is empty")
    with visit.journal() as asker:
        ack = {"client": client, "journal_id": journal_id}
        answer = ok(asker.ask("ack", sequence=max(1, before), **ack), "ack")
        must(answer["sequence"] == max(1, before), f"sequence {answer['sequence']}")
        again = ok(asker.ask("ack", sequence=1, **ack), "ack of an older entry")
        must(again["sequence"] == max(1, before), f"went back to {again['sequence']}")
        refused_with(asker.ask("ack", sequence=last + 10_000, **ack), "out_of_range", f"ack of {last + 10_000}")
        wrong = {**ack, "journal_id": str(ULID())}
        refused_with(asker.ask("ack", sequence=1, **wrong), "journal", "ack of another journal")
        if visit.place.keys is not None:
            refused_with(
                asker.ask("ack", sequence=1, **{**ack, "client": "somebody"}), "forbidden", "ack for somebody"
            )
    now = visit.ask("snapshot", client=client)["acknowledged"]
    must(now == max(1, before), f"the snapshot says {now}")
    return f"{client} at {now}"
