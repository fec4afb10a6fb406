"""`edged plc-sim daemon`: what a PLC asks of a running daemon, clause by clause. Everything here is a plain socket.

Checks are rows of a table; each gets the `Visit` and raises `Failed` or `Skipped`, or returns what it saw.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import zmq
from ulid import ULID

from edged.client import Keys
from edged.plcsim.clauses import DAEMON, Outcome
from edged.plcsim.peer import Asker, Listener, NoAnswer, Place

__all__ = ["Visit", "check_daemon"]

SCHEMA = 1
BEATS = 3
BEAT_S = 1.0
BEAT_SLACK_S = 0.75
JOIN_S = 3.0
SILENCE_S = 1.5
VERDICT_S = 90.0
"""An announced seam whose arc never comes is judged after `arc_deadline_s`, 60 by default."""
MAX_ENTRIES = 1000
MAX_ANSWER_BYTES = 1024 * 1024
BURST = 100
FLOOD = 800
FLOOD_STEP = 16
TOO_LARGE_BYTES = 5 * 1024
CUT_OFF_BYTES = 100 * 1024
TOPICS = ("verdict/", "part", "health", "heartbeat", "live")


class Failed(Exception):
    """The daemon does not do what the clause says; the text is what it did."""


class Skipped(Exception):
    """The clause cannot be tried here; the text is why."""


@dataclasses.dataclass
class Visit:
    """What one visit works with: the daemon's place, a subscriber since the beginning, and the first snapshot.

    Attributes:
        program: name of a program to announce a part of; None: D18 is left out, because it writes two verdicts.
        verdict_keys: keys without the right "control", for D16.
    """

    context: "zmq.Context[zmq.Socket[bytes]]"
    place: Place
    listener: Listener
    program: str | None = None
    verdict_keys: Keys | None = None

    def journal(self, kind: int = zmq.DEALER) -> Asker:
        """A new peer of the journal socket; a new one has its own limits."""
        return Asker(self.context, self.place.journal, self.place.keys, kind)

    def control(self, keys: Keys | None = None) -> Asker:
        """A new peer of the control socket. Raises Skipped where no endpoint was given."""
        if self.place.control is None:
            raise Skipped("no --control")
        return Asker(self.context, self.place.control, keys or self.place.keys)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """One request to the journal socket that must be followed. Raises Failed, NoAnswer."""
        with self.journal() as asker:
            return _ok(asker.ask(op, **fields), op)

    def beats(self) -> list[tuple[float, dict[str, Any]]]:
        """Heartbeats so far: (seconds of the monotonic clock, message)."""
        return [(at_s, _map(payload, "a heartbeat")) for at_s, _, payload in self.listener.of("heartbeat")]


def check_daemon(place: Place, program: str | None = None, verdict_keys: Keys | None = None) -> list[Outcome]:
    """Every clause, in order."""
    with zmq.Context() as context, Listener(context, place, place.keys) as listener:
        visit = Visit(context, place, listener, program, verdict_keys)
        return [_outcome(clause, check, visit) for clause, check in CHECKS.items()]


def _outcome(clause: str, check: Callable[[Visit], str], visit: Visit) -> Outcome:
    try:
        return Outcome(clause, "pass", check(visit))
    except Skipped as why:
        return Outcome(clause, "skip", str(why))
    except (Failed, NoAnswer) as what:
        return Outcome(clause, "fail", str(what))
    except KeyError as missing:
        return Outcome(clause, "fail", f"{missing} is missing in what the daemon sent")
    except (TypeError, ValueError) as error:
        return Outcome(clause, "fail", f"what the daemon sent is not as documented: {error}")


# heartbeats, snapshot, range


def _heartbeats(visit: Visit) -> str:
    if not visit.listener.until(lambda: len(visit.listener.of("heartbeat")) >= BEATS, BEATS * BEAT_S + JOIN_S):
        raise Failed(f"{len(visit.listener.of('heartbeat'))} heartbeats within {BEATS * BEAT_S + JOIN_S:g} s")
    beats = visit.beats()
    for _, beat in beats:
        _fields(beat, "heartbeat", kind=str, schema=int, journal_id=str, last_sequence=int, utc_ns=int, software=str)
        _must((beat["kind"], beat["schema"]) == ("heartbeat", SCHEMA), f"{beat['kind']!r}, schema {beat['schema']}")
        _must(beat["state"] in ("ok", "degraded", "fault"), f"state {beat['state']!r}")
        _must(isinstance(beat["armed"], list), f"armed {beat['armed']!r}")
    gaps_s = [later[0] - earlier[0] for earlier, later in itertools.pairwise(beats)]
    _must(max(gaps_s) <= BEAT_S + BEAT_SLACK_S, f"{max(gaps_s):.2f} s between two heartbeats")
    lasts = [beat["last_sequence"] for _, beat in beats]
    _must(lasts == sorted(lasts), f"last_sequence falls: {lasts}")
    return f"{beats[-1][1]['software']}, state {beats[-1][1]['state']}, at most {max(gaps_s):.2f} s apart"


def _snapshot(visit: Visit) -> str:
    snapshot = visit.ask("snapshot")
    _fields(snapshot, "snapshot", schema=int, journal_id=str, first_sequence=int, last_sequence=int, software=str)
    _must(snapshot["schema"] == SCHEMA, f"schema {snapshot['schema']}")
    _must(snapshot["first_sequence"] <= snapshot["last_sequence"], f"first_sequence {snapshot['first_sequence']}")
    if beats := visit.beats():
        beat = beats[-1][1]
        _must(snapshot["journal_id"] == beat["journal_id"], f"journal {snapshot['journal_id']}, {beat['journal_id']}")
        _must(snapshot["last_sequence"] >= beat["last_sequence"], f"last_sequence {snapshot['last_sequence']}")
    return f"journal {snapshot['journal_id']}, {snapshot['first_sequence']}–{snapshot['last_sequence']}"


def _last_of_topics(visit: Visit) -> str:
    snapshot = visit.ask("snapshot")
    last = dict(snapshot["last"])
    _must(max(last.values(), default=0) == snapshot["last_sequence"], f"last {last}, {snapshot['last_sequence']}")
    _must(bool(snapshot["entries"]) == bool(last), f"{len(snapshot['entries'])} entries of {len(last)} topics")
    for sequence, topic, payload in snapshot["entries"]:
        _must(last.get(topic) == sequence, f"entry {sequence} of {topic} is not its last, {last.get(topic)}")
        _must(
            _map(payload, topic)["sequence"] == sequence, f"entry {sequence} of {topic} has another sequence inside"
        )
    return f"{len(last)} topics"


def _range(visit: Visit) -> str:
    snapshot = visit.ask("snapshot")
    first, last = _some(snapshot)
    expected, answers = first, 0
    with visit.journal() as asker:
        while expected <= last and answers < 4:
            answer = _ok(asker.ask("range", from_sequence=expected, to_sequence=last), "range")
            entries = answer["entries"]
            answers += 1
            _must(0 < len(entries) <= MAX_ENTRIES, f"{len(entries)} entries in an answer")
            size = sum(len(payload) for _, _, payload in entries)
            _must(size <= MAX_ANSWER_BYTES or len(entries) == 1, f"{size} bytes of payloads in an answer")
            for sequence, topic, payload in entries:
                _must(sequence == expected, f"sequence {sequence} where {expected} comes next")
                _must(_map(payload, topic)["sequence"] == sequence, f"entry {sequence} has another sequence inside")
                _must(topic == "part" or topic.startswith("verdict/"), f"topic {topic!r} in the journal")
                expected += 1
    return f"{expected - first} entries in {answers} answers"


def _range_edges(visit: Visit) -> str:
    last = visit.ask("snapshot")["last_sequence"]
    beyond = visit.ask("range", from_sequence=last + 1000, to_sequence=last + 2000)
    _must(beyond["entries"] == [], f"{len(beyond['entries'])} entries beyond the last")
    with visit.journal() as asker:
        _refused(asker.ask("range", from_sequence=2, to_sequence=1), "malformed", "from 2 to 1")
        _refused(asker.ask("range", from_sequence=0, to_sequence=1), "malformed", "from 0")
        _refused(asker.ask("range", from_sequence=1), "malformed", "no to_sequence")
    return f"nothing beyond {last}"


def _other_journal(visit: Visit) -> str:
    here = visit.ask("snapshot")["journal_id"]
    with visit.journal() as asker:
        answer = asker.ask("range", from_sequence=1, to_sequence=1, journal_id=str(ULID()))
    _refused(answer, "journal", "another journal_id")
    _must(answer["journal_id"] == here, f"journal_id {answer['journal_id']}, the snapshot says {here}")
    return here


# requests: framing, errors, limits


def _framing(visit: Visit) -> str:
    ping = {"op": "ping"}
    with visit.journal() as asker:
        for number in (7, "seven"):
            answer = asker.exchange(msgpack.packb({**ping, "id": number}))
            _must(answer.get("id") == number, f"id {answer.get('id')!r} for {number!r}")
        _ok(asker.exchange(msgpack.packb(ping)), "ping of a DEALER")
        _ok(asker.exchange(b"", msgpack.packb(ping)), "ping of a DEALER with the empty frame")
    with visit.journal(zmq.REQ) as asker:
        _ok(asker.exchange(msgpack.packb(ping)), "ping of a REQ")
    return "REQ, DEALER with and without the empty frame"


def _errors(visit: Visit) -> str:
    with visit.journal() as asker:
        for what, frames in MALFORMED.items():
            _refused(asker.exchange(*frames), "malformed", what)
        _refused(asker.ask("open_sesame"), "unknown_op", "an unknown op")
        _ok(asker.ask("ping", tomorrow="a field of a newer client"), "ping with a field that it does not know")
    return f"{len(MALFORMED)} kinds of malformed request"


def _sizes(visit: Visit) -> str:
    with visit.journal() as witness, visit.journal() as asker:
        _ok(witness.ask("ping"), "ping")
        large = msgpack.packb({"op": "ping", "padding": "x" * TOO_LARGE_BYTES})
        _refused(asker.exchange(large), "too_large", f"{len(large)} bytes")
        asker.socket.send(msgpack.packb({"op": "ping", "padding": "x" * CUT_OFF_BYTES}))
        _must(not asker.socket.poll(round(SILENCE_S * 1e3)), f"{CUT_OFF_BYTES} bytes were answered")
        _ok(witness.ask("ping"), "ping of another peer after that")
    return "others go on"


def _rate(visit: Visit) -> str:
    ping = msgpack.packb({"op": "ping"})
    with visit.journal() as asker:
        sent, refused = 0, []
        while not refused:
            _must(sent < FLOOD, f"{FLOOD} requests in a row were all followed")
            for _ in range(FLOOD_STEP):
                asker.socket.send(ping)
            sent += FLOOD_STEP
            # Read at once: a daemon drops answers that its peer is too slow to take.
            answers = [asker.answer() for _ in range(FLOOD_STEP)]
            refused = [answer for answer in answers if answer.get("ok") is not True]
        _must(sent > BURST, f"one of the first {sent} requests was refused")
        _refused(refused[-1], "rate", f"{sent} requests in a row")
        wait_ms = refused[-1]["retry_ms"]
        _must(isinstance(wait_ms, int) and 0 < wait_ms < 10_000, f"retry_ms {wait_ms!r}")
        time.sleep(wait_ms / 1e3 + 0.05)
        _ok(asker.ask("ping"), f"ping after {wait_ms} ms")
    return f"refused after {sent} requests, followed again after {wait_ms} ms"


# what is published


def _late_joiner(visit: Visit) -> str:
    last = dict(visit.ask("snapshot")["last"])
    if not last:
        raise Skipped("the journal is empty")
    with Listener(visit.context, visit.place, visit.place.keys) as joined:
        topics = lambda: {topic for _, topic, _ in joined.received}  # noqa: E731
        if not joined.until(lambda: topics() >= set(last), JOIN_S):
            raise Failed(f"nothing of {', '.join(sorted(set(last) - topics()))} within {JOIN_S:g} s of subscribing")
    return f"{len(last)} topics"


def _same_bytes(visit: Visit) -> str:
    with Listener(visit.context, visit.place, visit.place.keys) as joined:
        joined.listen(JOIN_S / 2)
        heard = [*visit.listener.received, *joined.received]
    entries = [(topic, payload) for _, topic, payload in heard if topic == "part" or topic.startswith("verdict/")]
    if not entries:
        raise Skipped("nothing of the journal was published meanwhile, and no last value")
    for topic, payload in entries[-20:]:
        sequence = _map(payload, topic)["sequence"]
        stored = visit.ask("range", from_sequence=sequence, to_sequence=sequence)["entries"]
        _must(stored == [[sequence, topic, payload]], f"entry {sequence} of {topic} is another one in the journal")
    return f"{len(entries[-20:])} entries"


def _health(visit: Visit) -> str:
    journal_id = visit.ask("snapshot")["journal_id"]
    visit.listener.until(lambda: len(visit.listener.of("health")) >= 2, JOIN_S)
    found = visit.listener.of("health")
    other = {topic for _, topic, _ in visit.listener.received if not topic.startswith(TOPICS)}
    _must(not other, f"topics {', '.join(sorted(other))}")
    _must(len(found) >= 2, f"{len(found)} messages of health")
    health = _map(found[-1][2], "health")
    _fields(health, "health", kind=str, schema=int, journal_id=str, state=str, warnings=list, net=dict)
    _must(health["journal_id"] == journal_id, f"health speaks of journal {health['journal_id']}")
    return f"{health['state']}, {len(health['warnings'])} warnings"


# acknowledgements


def _acknowledge(visit: Visit) -> str:
    client = visit.place.keys.name if visit.place.keys is not None else "plc-sim"
    snapshot = visit.ask("snapshot", client=client)
    journal_id, last, before = snapshot["journal_id"], snapshot["last_sequence"], snapshot["acknowledged"]
    if not last:
        raise Skipped("the journal is empty")
    with visit.journal() as asker:
        ack = {"client": client, "journal_id": journal_id}
        answer = _ok(asker.ask("ack", sequence=max(1, before), **ack), "ack")
        _must(answer["sequence"] == max(1, before), f"sequence {answer['sequence']}")
        again = _ok(asker.ask("ack", sequence=1, **ack), "ack of an older entry")
        _must(again["sequence"] == max(1, before), f"went back to {again['sequence']}")
        _refused(asker.ask("ack", sequence=last + 10_000, **ack), "out_of_range", f"ack of {last + 10_000}")
        wrong = {**ack, "journal_id": str(ULID())}
        _refused(asker.ask("ack", sequence=1, **wrong), "journal", "ack of another journal")
        if visit.place.keys is not None:
            _refused(asker.ask("ack", sequence=1, **{**ack, "client": "somebody"}), "forbidden", "ack for somebody")
    now = visit.ask("snapshot", client=client)["acknowledged"]
    _must(now == max(1, before), f"the snapshot says {now}")
    return f"{client} at {now}"


# keys


def _strangers(visit: Visit) -> str:
    if visit.place.keys is None:
        raise Skipped("no --keys: this daemon asks for none")
    public, secret = (half.decode() for half in zmq.curve_keypair())
    other, _ = (half.decode() for half in zmq.curve_keypair())
    own = visit.place.keys
    strangers: dict[str, Keys | None] = {
        "no keys": None,
        "an unknown key": Keys(public, secret, own.server_public),
        "another daemon's key": Keys(own.public, own.secret, other),
    }
    for what, keys in strangers.items():
        with (
            Listener(visit.context, visit.place, keys) as listener,
            Asker(visit.context, visit.place.journal, keys) as asker,
        ):
            asker.socket.send(msgpack.packb({"op": "ping"}))
            listener.listen(2 * BEAT_S)
            _must(not listener.received, f"with {what} {len(listener.received)} messages were received")
            _must(not asker.socket.poll(0), f"with {what} the journal socket answered")
    return ", ".join(strangers)


def _rights(visit: Visit) -> str:
    keys = visit.verdict_keys
    if keys is None or visit.place.control is None:
        raise Skipped("needs --control and --verdict-keys: a key without the right control")
    with visit.control(keys) as asker:
        asker.socket.send(msgpack.packb({"op": "ping"}))
        _must(
            not asker.socket.poll(round(2 * BEAT_S * 1e3)),
            f"the key of {keys.name} was answered at the control socket",
        )
    return f"{keys.name} is not answered"


# control


def _control(visit: Visit) -> str:
    with visit.control() as asker:
        _ok(asker.ask("ping"), "ping")
        for what, frames in {
            "an unknown op": (msgpack.packb({"op": "open_sesame"}),),
            "an unknown field": (msgpack.packb({"op": "ping", "tomorrow": 1}),),
            "no map": (msgpack.packb([1, 2]),),
            "no msgpack": (b"\xc1\xc1",),
        }.items():
            answer = asker.exchange(*frames)
            _must(answer.get("ok") is False and isinstance(answer.get("error"), str), f"{what} → {answer!r:.100}")
    return "4 wrong requests refused"


def _part(visit: Visit) -> str:
    if visit.program is None:
        raise Skipped("no --program: this would write two verdicts into the journal")
    part_id = f"plc-sim-{ULID()}"
    with visit.control() as asker:
        _ok(asker.ask("part", part_id=part_id, seams=["1"]), "part")
        answer = _ok(asker.ask("expect", program=visit.program, part_id=part_id, seam_ref="1"), "expect")
        seam_id = answer["seam_id"]
        _must(isinstance(seam_id, str) and bool(seam_id), f"seam_id {seam_id!r}")
        _ok(asker.ask("end_part", part_id=part_id), "end_part")
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [_map(payload, "part") for _, _, payload in visit.listener.of("part")]
        return any(part["part_id"] == part_id for part in found)

    if not visit.listener.until(is_there, VERDICT_S):
        raise Failed(f"no verdict of part {part_id} within {VERDICT_S:g} s")
    part = next(part for part in found if part["part_id"] == part_id)
    _must(part["label"] != 1, "a part whose seam was not welded is OK")
    return f"label {part['label']} ({part['reason']})"


CHECKS: Mapping[str, Callable[[Visit], str]] = {
    "D1": _heartbeats,
    "D2": _snapshot,
    "D3": _last_of_topics,
    "D4": _range,
    "D5": _range_edges,
    "D6": _other_journal,
    "D7": _framing,
    "D8": _errors,
    "D9": _sizes,
    "D10": _rate,
    "D11": _late_joiner,
    "D12": _same_bytes,
    "D13": _health,
    "D14": _acknowledge,
    "D15": _strangers,
    "D16": _rights,
    "D17": _control,
    "D18": _part,
}
assert CHECKS.keys() == DAEMON.keys()

MALFORMED: Mapping[str, tuple[bytes, ...]] = {
    "no msgpack": (b"\xc1\xc1",),
    "a number": (b" ",),
    "no map": (msgpack.packb([1, 2]),),
    "two frames": (msgpack.packb({"op": "ping"}), b"a second frame"),
    "a text for a number": (msgpack.packb({"op": "range", "from_sequence": "1", "to_sequence": 2}),),
    "a bool for a number": (msgpack.packb({"op": "range", "from_sequence": True, "to_sequence": 2}),),
    "an id that is none": (msgpack.packb({"op": "ping", "id": 1.5}),),
}


def _ok(answer: dict[str, Any], what: str) -> dict[str, Any]:
    if answer.get("ok") is not True:
        raise Failed(f"{what} → {answer!r:.200}")
    return answer


def _refused(answer: Mapping[str, Any], code: str, what: str) -> None:
    if answer.get("ok") is not False or answer.get("code") != code or not isinstance(answer.get("error"), str):
        raise Failed(f"{what} → {dict(answer)!r:.200}, code {code} is due")


def _must(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Failed(otherwise)


def _fields(message: Mapping[str, Any], what: str, **kinds: type) -> None:
    wrong = [name for name, kind in kinds.items() if type(message.get(name)) is not kind]
    if wrong:
        raise Failed(f"{what}: {', '.join(f'{name} is {message.get(name)!r:.60}' for name in wrong)}")


def _map(payload: bytes, what: str) -> dict[str, Any]:
    found = msgpack.unpackb(payload)
    if not isinstance(found, dict):
        raise Failed(f"{what} is no map: {found!r:.60}")
    return found


def _some(snapshot: Mapping[str, Any]) -> tuple[int, int]:
    """First and last sequence of the last few thousand entries. Raises Skipped where there are none."""
    if not snapshot["last_sequence"]:
        raise Skipped("the journal is empty")
    return max(snapshot["first_sequence"], snapshot["last_sequence"] - 3 * MAX_ENTRIES), snapshot["last_sequence"]
