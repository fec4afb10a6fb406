"""The golden byte vectors: made once, committed, and compared ever after.

`python -m tests.support.golden` writes tests/golden/ and docs/verdict.schema.json anew; what then differs from what
is committed is a change of the wire format, which needs a line in CHANGELOG.md, or a higher `schema`.
"""

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import zmq

from edged.journal import Journal
from edged.journal_desk import JournalDesk
from edged.types import Label, LimitCheck, PartSeam, PartVerdict, SensorFinding, Verdict
from edged.wire import (
    AcknowledgementMessage,
    HealthMessage,
    HeartbeatMessage,
    ProgramHealthMessage,
    StreamHealthMessage,
    TimePair,
    as_map,
    pack,
)
from edged.wire_encode import encode_live, encode_part, encode_verdict
from edged.wire_schema import message_schema
from tests.support.journals import Peer
from tests.support.verdicts import a_part, a_point, a_score, a_verdict

__all__ = ["FOLDER", "SCHEMA_FILE", "exchanges", "messages", "readable", "rendered_schema"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "golden"
SCHEMA_FILE = ROOT / "docs" / "verdict.schema.json"
JOURNAL_ID = "01JGOLDEN0000000000000000A"
OTHER_ID = "01JGOLDEN0000000000000000B"
PAIR = TimePair(10_000_000_000, 1_790_000_000_000_000_000)
UTC_NS = 1_790_000_060_000_000_000
SOFTWARE = "edged 0.1.0"


def messages() -> dict[str, tuple[str, bytes]]:
    """Name → (topic, payload) of each published message, from today's encoder."""
    score = a_score(score=1.75, raw=5.25, p_value=0.01)
    shadow = {"label": Label.INDETERMINATE, "reason": "shadow", "mode": "shadow", "shadow_label": Label.OK}
    nothing = {"label": Label.INDETERMINATE, "reason": "no_result", "score": None, "degraded": True}
    beyond = {
        "label": Label.NOK,
        "reason": "limit",
        "detail": "mean_current_a is 150, allowed are 160 to 190 A",
        "limits": (LimitCheck("mean_current_a", "violated", 150.0, 160.0, 190.0, "A"),),
        "sensor_health": {"mic": (SensorFinding("clipped", "warning", 0.02, 0.01, "1", 10**10, "too loud"),)},
    }
    verdicts = {
        "verdict_ok": _verdict("A", "T1"),
        "verdict_nok": _verdict("B", "T1", label=Label.NOK, reason="score_above_threshold", score=score),
        "verdict_shadow": _verdict("C", "T2", **shadow),
        "verdict_indeterminate": _verdict("D", "Kehlnaht 3 größer", **nothing, recording=None),
        "verdict_limits": _verdict("E", "T1", **beyond),
    }
    found = {
        name: (f"verdict/{verdict.seam.program}", pack(encode_verdict(verdict, JOURNAL_ID, number, PAIR)))
        for number, (name, verdict) in enumerate(verdicts.items(), 1)
    }
    return found | {
        "part_ok": ("part", pack(encode_part(a_part(), JOURNAL_ID, 6))),
        "part_nok": ("part", pack(encode_part(_bad_part(), JOURNAL_ID, 7))),
        "health": ("health", pack(as_map(_health()))),
        "heartbeat": ("heartbeat", pack(as_map(_heartbeat()))),
        "live": ("live", pack(as_map(encode_live(a_verdict().seam, a_point(), PAIR, is_simulated=True)))),
        "verdict_of_a_newer_daemon": _newer(*found["verdict_ok"]),
        "verdict_of_an_older_daemon": _older(*found["verdict_ok"]),
    }


def _verdict(letter: str, program: str, **changes: Any) -> Verdict:
    return a_verdict(f"01JSEAM000000000000000000{letter}", program, **changes)


def _bad_part() -> PartVerdict:
    seams = (
        PartSeam("1", "01JSEAM000000000000000000A", Label.OK, "ok"),
        PartSeam("2", None, Label.NOK, "seam_missing"),
    )
    return PartVerdict("cell", "P-2", Label.NOK, "seam_missing", "seam 2", seams, "c1", True, UTC_NS, ("2",))


def _newer(topic: str, payload: bytes) -> tuple[str, bytes]:
    """A field of each type that no client knows, also inside."""
    known = msgpack.unpackb(payload)
    strange = {"a_map": {"x": [1, None, True]}, "a_number": -1.5, "a_text": "ß", "some_bytes": b"\x00\xff"}
    known["integrity"]["welder"] |= {"grade": "A"}
    return topic, msgpack.packb({**strange, **known, "sequence": 8})


def _older(topic: str, payload: bytes) -> tuple[str, bytes]:
    """Without what was added after the first release of schema 1."""
    later = ("along", "calibration_warnings", "arc", "limits", "sensor_health", "false_alarm_budget")
    known = msgpack.unpackb(payload)
    return topic, msgpack.packb({key: value for key, value in known.items() if key not in later})


def _heartbeat() -> HeartbeatMessage:
    return HeartbeatMessage(
        journal_id=JOURNAL_ID,
        last_sequence=7,
        state="degraded",
        utc_ns=UTC_NS,
        cell="cell",
        software=SOFTWARE,
        armed=["T1"],
        is_simulated=True,
        config_id="c1",
    )


def _health() -> HealthMessage:
    stream: dict[str, Any] = {"kind": "welder", "state": "ok", "measured_hz": 9999.5, "nominal_hz": 10000.0}
    counts = dict.fromkeys(("items", "lost", "gaps", "reconnects", "overwritten"), 0)
    none = dict.fromkeys(("last_utc_ns", "drift_ppm", "clock_residual_ms", "error"))
    program: dict[str, Any] = {"mode": "armed", "why": "", "model_id": "m1", "goods": 120, "sessions": 4}
    return HealthMessage(
        journal_id=JOURNAL_ID,
        cell="cell",
        state="degraded",
        warnings=["press-plc has not acknowledged verdict 6 for 75 s, 2 wait; look whether it runs and is connected"],
        streams={"welder": StreamHealthMessage(**(stream | counts | none))},
        worker={"state": "ready", "pid": 4711, "models": {"T1": "m1"}, "model_errors": {}, "waiting_seams": 0},
        programs={
            "T1": ProgramHealthMessage(
                **program, needed=99, false_alarm_budget=0.01, by="QA", since_utc_ns=UTC_NS, drift=0.25
            )
        },
        config_id="c1",
        utc_ns=UTC_NS,
        acknowledgements={"press-plc": AcknowledgementMessage(sequence=5, waiting=2, oldest_utc_ns=UTC_NS)},
        net={"journal_malformed": 1},
    )


REQUESTS: dict[str, Any] = {
    "ping": {"op": "ping"},
    "snapshot": {"op": "snapshot", "id": 1},
    "snapshot_of_a_client": {"op": "snapshot", "client": "press-plc", "id": "a"},
    "range": {"op": "range", "from_sequence": 2, "to_sequence": 3, "journal_id": JOURNAL_ID, "id": 2},
    "range_beyond_the_end": {"op": "range", "from_sequence": 5, "to_sequence": 9},
    "range_of_another_journal": {"op": "range", "from_sequence": 1, "to_sequence": 9, "journal_id": OTHER_ID},
    "ack": {"op": "ack", "client": "press-plc", "journal_id": JOURNAL_ID, "sequence": 3},
    "ack_that_goes_back": {"op": "ack", "client": "press-plc", "journal_id": JOURNAL_ID, "sequence": 1},
    "ack_beyond_the_end": {"op": "ack", "client": "press-plc", "journal_id": JOURNAL_ID, "sequence": 5},
    "unknown_op": {"op": "expect", "program": "T1"},
    "malformed": {"op": "range", "from_sequence": 0, "to_sequence": 3},
}


def exchanges() -> Iterator[tuple[str, bytes, bytes]]:
    """(name, request, answer) of the journal socket, asked one after the other of a journal of four entries."""
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:
        path = Path(folder) / "journal.db"
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
            db.execute("INSERT INTO meta VALUES ('journal_id', ?)", (JOURNAL_ID,))
        db.close()
        journal = Journal(path, reserve_bytes=4096, pair=lambda: PAIR)
        for i, program in enumerate(("T1", "T2", "T1")):
            journal.append(a_verdict(f"01JSEAM00000000000000000{i:02d}", program))
        journal.append(a_part())
        desk = JournalDesk(context, f"ipc://{folder}/j.sock", journal, software=SOFTWARE)
        peer = Peer(context, desk)
        for name, request in REQUESTS.items():
            packed = msgpack.packb(request)
            peer.send(packed)
            desk.socket.poll(10_000)
            desk.serve()
            yield name, packed, peer.socket.recv()
        peer.socket.close()
        desk.close()
        journal.close()


def readable(packed: bytes) -> Any:
    """What is in msgpack bytes as JSON has it; bytes as {"bin": their hexadecimal digits}."""

    def shown(value: Any) -> Any:
        if isinstance(value, bytes):
            return {"bin": value.hex()}
        if isinstance(value, dict):
            return {key: shown(item) for key, item in value.items()}
        return [shown(item) for item in value] if isinstance(value, list) else value

    return shown(msgpack.unpackb(packed))


def rendered_schema() -> str:
    """docs/verdict.schema.json as it is to be."""
    return json.dumps(message_schema(), indent=1) + "\n"


def _write(name: str, packed: bytes, **about: Any) -> None:
    (FOLDER / f"{name}.bin").write_bytes(packed)
    text = json.dumps({**about, "content": readable(packed)}, indent=1, ensure_ascii=False)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Write everything anew."""
    FOLDER.mkdir(exist_ok=True)
    for old in [*FOLDER.glob("*.bin"), *FOLDER.glob("*.json")]:
        old.unlink()
    for name, (topic, payload) in messages().items():
        _write(f"message_{name}", payload, topic=topic)
    for name, request, answer in exchanges():
        _write(f"request_{name}", request)
        _write(f"answer_{name}", answer)
    SCHEMA_FILE.write_text(rendered_schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
