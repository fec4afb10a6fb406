"""Messages as subscribers unpack them, made by the daemon's own encoders."""

from typing import Any

import msgpack

from edged import wire, wire_encode
from edged.types import Label
from tests.support.verdicts import a_part, a_verdict

__all__ = ["a_heartbeat_map", "a_part_map", "a_verdict_map"]

JOURNAL_ID = "01JOURNAL"
PAIR = wire.TimePair(monotonic_ns=0, utc_ns=1_800_000_000_000_000_000)


def a_verdict_map(sequence: int = 1, label: Label = Label.OK, **changes: Any) -> dict[str, Any]:
    """`verdict/T1` after its way over the wire."""
    verdict = a_verdict(**({"label": label, "reason": "ok" if label == Label.OK else "limit"} | changes))
    return _over_the_wire(wire_encode.encode_verdict(verdict, JOURNAL_ID, sequence, PAIR))


def a_part_map(sequence: int = 2, label: Label = Label.OK) -> dict[str, Any]:
    """`part` after its way over the wire."""
    return _over_the_wire(wire_encode.encode_part(a_part(label), JOURNAL_ID, sequence))


def a_heartbeat_map(last_sequence: int = 0, **changes: Any) -> dict[str, Any]:
    """A heartbeat with every field that docs/verdict.md names."""
    return {
        "schema": 1,
        "kind": "heartbeat",
        "journal_id": JOURNAL_ID,
        "last_sequence": last_sequence,
        "state": "ok",
        "utc_ns": PAIR.utc_ns,
        "cell": "cell",
        "software": "edged 0.1.0",
        "armed": ["T1"],
        "is_simulated": True,
        "config_id": "c1",
        **changes,
    }


def _over_the_wire(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = msgpack.unpackb(wire.pack(message))
    return found
