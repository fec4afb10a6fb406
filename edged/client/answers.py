"""What an answer of the journal socket holds, put into order: rows → entries, and what is missing between them."""

from typing import Any

from .decode import count, identity, read_entry
from .events import Entry, Lost

__all__ = ["in_order", "latest_of", "rows_of"]

UNREADABLE = "the journal's entry cannot be read"
NOT_THERE = "the journal does not have it any more"


def rows_of(answer: dict[str, Any], journal_id: str | None, first: int, last: int) -> dict[int, Entry | None]:
    """Sequence → entry for the rows `[sequence, topic, payload]` within `first` … `last`; None: unreadable."""
    rows = answer.get("entries")
    found: dict[int, Entry | None] = {}
    for row in rows if isinstance(rows, list) else []:
        sequence = count(row[0]) if isinstance(row, list) and len(row) == 3 else None
        if sequence is None or not first <= sequence <= last:
            continue
        _, topic, payload = row
        entry = read_entry(topic, payload) if isinstance(topic, str) and isinstance(payload, bytes) else None
        is_itself = entry is not None and (entry.journal_id, entry.sequence) == (journal_id, sequence)
        found[sequence] = entry if is_itself else None
    return found


def in_order(first: int, last: int, rows: dict[int, Entry | None]) -> list[Entry | Lost]:
    """Everything from `first` to `last`: the entries that `rows` has, and what it lacks as `Lost`."""
    events: list[Entry | Lost] = []
    at = first
    for sequence in sorted(number for number in rows if first <= number <= last):
        if at < sequence:
            events.append(Lost(at, sequence - 1, NOT_THERE))
        events.append(rows[sequence] or Lost(sequence, sequence, UNREADABLE))
        at = sequence + 1
    return events + ([Lost(at, last, NOT_THERE)] if at <= last else [])


def latest_of(answer: dict[str, Any], wanted: frozenset[str] | None) -> list[tuple[int, Entry | None]]:
    """The last entry of every wanted topic in a snapshot, oldest first; None: it must be asked for by itself."""
    journal_id, last = identity(answer.get("journal_id")), count(answer.get("last_sequence")) or 0
    named = answer.get("last")
    sequences = {
        sequence
        for topic, sequence in (row for row in (named if isinstance(named, list) else []) if _is_pair(row))
        if wanted is None or topic in wanted
    }
    rows = rows_of(answer, journal_id, 1, last)
    return [(sequence, rows.get(sequence)) for sequence in sorted(sequences) if sequence <= last]


def _is_pair(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and bool(count(row[1]))
