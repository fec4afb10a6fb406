"""What `edged plc-sim` checks, by number (D: what a daemon does, C: a client), by the rules of docs/verdict.md.

docs/plc-sim.md has the same table, and a test compares them. Numbers never change and never come back.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["CLIENT", "DAEMON", "Clause", "Outcome", "Result", "as_report", "markdown"]

Result = Literal["pass", "fail", "skip"]


@dataclasses.dataclass(frozen=True, slots=True)
class Clause:
    """A clause: the rules of docs/verdict.md (a section's number where it has none), and in words what must hold."""

    rules: tuple[str, ...]
    text: str


DAEMON: Mapping[str, Clause] = {
    "D1": Clause(("6.1", "6.4"), "a heartbeat comes each second and names journal, last sequence and state"),
    "D2": Clause(("5.4",), "a snapshot names schema, journal, first and last sequence, as the heartbeats do"),
    "D3": Clause(("5.4",), "a snapshot's entries are the last of each topic, and the largest is the journal's last"),
    "D4": Clause(("3.1", "5.5", "5.6"), "a range is gap-free, oldest first, at most 1000 entries and 1 MiB"),
    "D5": Clause(("5.5",), "a range beyond the last sequence is empty; one that ends before it begins is malformed"),
    "D6": Clause(("5.5",), "a request that names another journal gets code journal and the right journal_id"),
    "D7": Clause(("5.1", "5.3"), "REQ and DEALER, with and without the empty frame, are answered, with their id"),
    "D8": Clause(
        ("5.1", "5.2"), "what is no request is malformed, an unknown op unknown_op; unknown fields are ignored"
    ),
    "D9": Clause(("8",), "above 4 KiB a request is too_large; above 64 KiB its connection ends, and nobody else's"),
    "D10": Clause(("8",), "more than 100 requests at once get code rate and retry_ms, and are followed after that"),
    "D11": Clause(("2.1",), "who subscribes late gets the last entry of each topic at once"),
    "D12": Clause(("2.1", "4.8"), "a published entry is, byte for byte, the journal's"),
    "D13": Clause(("2.5",), "health comes each second, of the same journal; only documented topics are published"),
    "D14": Clause(("7.1", "7.2", "7.3"), "an acknowledgement is kept, never goes back and not beyond the last entry"),
    "D15": Clause(("10",), "who has no keys, an unknown one or another daemon's receives nothing and no answer"),
    "D16": Clause(("10",), "a key without the right control is not answered at the control socket"),
    "D17": Clause(("1.1",), "the control socket answers ping, and refuses unknown ops and fields (docs/control.md)"),
    "D18": Clause(("2.8",), "part, expect and end_part are answered, and the part's verdict comes with its part_id"),
}

CLIENT: Mapping[str, Clause] = {
    "C1": Clause(("2.6", "3.4"), "labels 1, 2 and 0 are accepted as what they are, in order"),
    "C2": Clause(("4.1", "4.2"), "who joins late accepts everything from then on, and nothing older afterwards"),
    "C3": Clause(("3.5", "4.4"), "entries that were not received are fetched: none is missing, the order holds"),
    "C4": Clause(("4.3", "6.3"), "they are fetched also where no other entry follows: the heartbeat tells"),
    "C5": Clause(("1.2", "3.2"), "the daemon goes and comes back: no entry is missing, none is accepted twice"),
    "C6": Clause(("4.6",), "a new journal's entries are accepted, although their numbers were seen before"),
    "C7": Clause(("3.3",), "an entry that is published again is accepted once"),
    "C8": Clause(("6.2",), "three seconds without a heartbeat, and the client says stale: it shows not OK"),
    "C9": Clause(("6.2",), "when heartbeats come back the client says live again"),
    "C10": Clause(("3.6", "4.4"), "a client that stood still accepts everything afterwards, in several ranges"),
    "C11": Clause(("10",), "a daemon with another key than the client knows is not listened to"),
    "C12": Clause(("1.3", "6.6"), "a message above the limit is not accepted; those after it are, and it is live"),
    "C13": Clause(("9.1",), "unknown fields are ignored"),
    "C14": Clause(("9.3",), "a verdict of an unknown schema is not OK, and the order goes on behind it"),
    "C15": Clause(("2.6",), 'a label that is no 0, 1 or 2 is not OK: 7, true, 1.0, "1", nil, none at all'),
    "C16": Clause(("2.1", "9.1"), "what is no map of msgpack, and what other topics say, is no verdict"),
    "C17": Clause(("4.7",), "a journal that was set back: numbers that come again with other verdicts are accepted"),
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
    rows = [dataclasses.asdict(outcome) | dataclasses.asdict(clauses[outcome.clause]) for outcome in outcomes]
    return {"role": role, "where": where, **counts, "clauses": rows}


def markdown(clauses: Mapping[str, Clause]) -> str:
    """A table of docs/plc-sim.md."""
    rows = [f"| {number} | {', '.join(clause.rules)} | {clause.text} |" for number, clause in clauses.items()]
    return "\n".join(["| | rules | what must hold |", "|---|---|---|", *rows])
