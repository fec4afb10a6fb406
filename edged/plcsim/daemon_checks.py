"""`edged plc-sim daemon`: what a PLC asks of a running daemon, clause by clause. Everything here is a plain socket.

Checks are rows of a table; each gets the `Visit` and raises `Failed` or `Skipped`, or returns what it saw.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import zmq
from ulid import ULID

from edged.client import Keys
from edged.plcsim import daemon_journal, daemon_published
from edged.plcsim.clauses import DAEMON, Outcome
from edged.plcsim.peer import Asker, Listener, NoAnswer, Place
from edged.plcsim.visit import Failed, Skipped, Visit, as_map, must, ok

__all__ = ["check_daemon"]

BEAT_S = 1.0
VERDICT_S = 90.0
"""An announced seam whose arc never comes is judged after `arc_deadline_s`, 60 by default."""


def check_daemon(place: Place, program: str | None = None, verdict_keys: Keys | None = None) -> list[Outcome]:
    """Every clause, in order. Without any answer of the journal socket all of them fail."""
    with zmq.Context() as context, Listener(context, place, place.keys) as listener:
        visit = Visit(context, place, listener, program, verdict_keys)
        try:
            visit.ask("ping")
        except (Failed, NoAnswer) as what:
            return [Outcome(clause, "fail", str(what)) for clause in CHECKS]
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
            must(not listener.received, f"with {what} {len(listener.received)} messages were received")
            must(not asker.socket.poll(0), f"with {what} the journal socket answered")
    return ", ".join(strangers)


def _rights(visit: Visit) -> str:
    keys = visit.verdict_keys
    if keys is None or visit.place.control is None:
        raise Skipped("needs --control and --verdict-keys: a key without the right control")
    with visit.control(keys) as asker:
        asker.socket.send(msgpack.packb({"op": "ping"}))
        must(
            not asker.socket.poll(round(2 * BEAT_S * 1e3)),
            f"the key of {keys.name} was answered at the control socket",
        )
    return f"{keys.name} is not answered"


# control


def _control(visit: Visit) -> str:
    with visit.control() as asker:
        ok(asker.ask("ping"), "ping")
        for what, frames in {
            "an unknown op": (msgpack.packb({"op": "open_sesame"}),),
            "an unknown field": (msgpack.packb({"op": "ping", "tomorrow": 1}),),
            "no map": (msgpack.packb([1, 2]),),
            "no msgpack": (b"\xc1\xc1",),
        }.items():
            answer = asker.exchange(*frames)
            must(answer.get("ok") is False and isinstance(answer.get("error"), str), f"{what} → {answer!r:.100}")
    return "4 wrong requests refused"


def _part(visit: Visit) -> str:
    if visit.program is None:
        raise Skipped("no --program: this would write two verdicts into the journal")
    part_id = f"plc-sim-{ULID()}"
    with visit.control() as asker:
        ok(asker.ask("part", part_id=part_id, seams=["1"]), "part")
        answer = ok(asker.ask("expect", program=visit.program, part_id=part_id, seam_ref="1"), "expect")
        seam_id = answer["seam_id"]
        must(isinstance(seam_id, str) and bool(seam_id), f"seam_id {seam_id!r}")
        ok(asker.ask("end_part", part_id=part_id), "end_part")
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = [as_map(payload, "part") for _, _, payload in visit.listener.of("part")]
        return any(part["part_id"] == part_id for part in found)

    if not visit.listener.until(is_there, VERDICT_S):
        raise Failed(f"no verdict of part {part_id} within {VERDICT_S:g} s")
    part = next(part for part in found if part["part_id"] == part_id)
    must(part["label"] != 1, "a part whose seam was not welded is OK")
    return f"label {part['label']} ({part['reason']})"


CHECKS: Mapping[str, Callable[[Visit], str]] = {
    "D1": daemon_published.heartbeats,
    "D2": daemon_journal.a_snapshot,
    "D3": daemon_journal.last_of_topics,
    "D4": daemon_journal.a_range,
    "D5": daemon_journal.range_edges,
    "D6": daemon_journal.other_journal,
    "D7": daemon_journal.framing,
    "D8": daemon_journal.errors,
    "D9": daemon_journal.sizes,
    "D10": daemon_journal.rate,
    "D11": daemon_published.late_joiner,
    "D12": daemon_published.same_bytes,
    "D13": daemon_published.health,
    "D14": daemon_journal.acknowledge,
    "D15": _strangers,
    "D16": _rights,
    "D17": _control,
    "D18": _part,
}
assert CHECKS.keys() == DAEMON.keys()
