"""The clauses of docs/verdict.md that `edged plc-sim` checks, by number: D for what a daemon does, C for a client.

The page has the same table, and a test compares them: numbers never change and never come back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["CLIENT", "DAEMON", "Outcome", "Result", "as_report", "markdown"]

Result = Literal["pass", "fail", "skip"]

DAEMON: Mapping[str, str] = {
    "D1": "a heartbeat comes each second and names journal, last sequence, state, time and software",
    "D2": "a snapshot names schema, journal, first and last sequence, and is that of the journal in the heartbeats",
    "D3": "a snapshot's entries are the last of each topic, and its largest sequence is the journal's last",
    "D4": "a range is gap-free, oldest first, at most 1000 entries and 1 MiB, and each payload says its own sequence",
    "D5": "a range beyond the last sequence is empty, one that ends before it begins is malformed",
    "D6": "a request that names another journal is refused with code journal and the right journal_id",
    "D7": "the id of a request is in its answer; REQ and DEALER, with and without the empty frame, are answered",
    "D8": "what is no request is answered malformed, an unknown op unknown_op; unknown fields are ignored",
    "D9": "a request above 4 KiB is answered too_large; one above 64 KiB ends its connection and nobody else's",
    "D10": "more than 100 requests at once are refused with code rate and retry_ms, and served again after that",
    "D11": "who subscribes late gets the last entry of each topic at once",
    "D12": "a published entry is, byte for byte, the journal's",
    "D13": "health comes each second, of the same journal; no topic but the documented ones is published",
    "D14": "an acknowledgement counts up to its sequence, never goes back, and not beyond the last one",
    "D15": "who has no keys, or another daemon's key, receives nothing and is not answered",
    "D16": "a key without the right control is not answered at the control socket",
    "D17": "the control socket answers ping, and refuses unknown ops, unknown fields and what is no request",
    "D18": "part, expect and end_part are answered, and the part's verdict is published with its part_id",
}

CLIENT: Mapping[str, str] = {
    "C1": "labels 1, 2 and 0 are accepted as what they are, in order",
    "C2": "who joins late accepts everything from then on, each once, and no old entry after a newer one",
    "C3": "entries that were not received are fetched from the journal: none is missing, the order holds",
    "C4": "entries that were not received are fetched also where none follows: the heartbeat tells",
    "C5": "the daemon goes and comes back with the same journal: none is missing, none is accepted twice",
    "C6": "a new journal begins at 1: its entries are accepted, although their numbers were seen before",
    "C7": "an entry that is published again is accepted once",
    "C8": "without a heartbeat for three seconds the client says stale, and shows not OK",
    "C9": "when heartbeats come back the client says live again",
    "C10": "a client that stood still accepts everything afterwards, more than one answer holds",
    "C11": "a daemon with another key than the client knows is not listened to",
    "C12": "a message above the limit is not accepted, and those after it are",
    "C13": "unknown fields are ignored",
    "C14": "a verdict of an unknown schema is not OK",
    "C15": 'a label that is not 0, 1 or 2 is not OK: 7, true, 1.0, "1", nil or none at all',
    "C16": "what is no msgpack map, and what other topics say, is no verdict; those after it are accepted",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """Of one clause; `detail` says what was seen, or why it was not tried."""

    clause: str
    result: Result
    detail: str = ""


def as_report(role: str, where: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What `--json` writes."""
    clauses = DAEMON if role == "daemon" else CLIENT
    counts = {name: sum(outcome.result == name for outcome in outcomes) for name in ("pass", "fail", "skip")}
    return {
        "role": role,
        "where": where,
        **counts,
        "clauses": [{**dataclasses.asdict(outcome), "text": clauses[outcome.clause]} for outcome in outcomes],
    }


def markdown() -> str:
    """The tables of docs/verdict.md."""
    parts = []
    for title, clauses in (("A daemon", DAEMON), ("A client", CLIENT)):
        rows = "\n".join(f"| {number} | {text} |" for number, text in clauses.items())
        parts.append(f"| {title} | |\n|---|---|\n{rows}\n")
    return "\n".join(parts)
