"""The journal: every verdict, in the order of finalisation, on disk before anyone hears of it.

It stands between the decision and the publisher: what is published is an entry's `payload`, byte for byte.
One SQLite file in WAL mode with `synchronous=FULL`; the daemon is its only writer (a lock file says so), others
may read. A subscriber tells a gap by `sequence`, which grows by one and never restarts within a `journal_id`.

When the disk is full, a reserve file of preallocated space is freed, so that the seam still gets
INDETERMINATE(not_recorded); verdicts stay that until there is room for the reserve again.

Errors::

    JournalError           the journal cannot be opened or written; the daemon must end
    ├── JournalFull        not even the reserve was enough
    └── DuplicateSeam      the seam already has its verdict
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from ulid import ULID

from edged.arming import ArmRecord
from edged.types import Label, PartVerdict, Verdict
from edged.wire import TimePair, pack, verdict_topic
from edged.wire_encode import encode_part, encode_verdict

__all__ = ["DuplicateSeam", "Entry", "Journal", "JournalError", "JournalFull", "accepted_score"]

RESERVE_BYTES = 4 * 1024 * 1024
"""Room for some hundred small verdicts with their write-ahead pages."""

FORMAT = "1"
IDS_A_QUERY = 500

TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    seam_id TEXT UNIQUE,
    label INTEGER NOT NULL,
    appended_utc_ns INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_by_topic ON entries (topic, sequence);
CREATE TABLE IF NOT EXISTS arming (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    program TEXT NOT NULL,
    action TEXT NOT NULL,
    by TEXT NOT NULL,
    utc_ns INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    why TEXT NOT NULL,
    model_id TEXT NOT NULL,
    calibration_id TEXT NOT NULL,
    budget REAL,
    threshold_ids TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS accepted (
    sequence INTEGER PRIMARY KEY,
    threshold_id TEXT NOT NULL,
    raw REAL NOT NULL,
    session TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS accepted_by_threshold ON accepted (threshold_id, sequence);
CREATE TABLE IF NOT EXISTS acks (
    client TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL,
    utc_ns INTEGER NOT NULL
) STRICT;
"""


LAST_OF_TOPICS = """
WITH RECURSIVE topics (topic) AS (
    SELECT min(topic) FROM entries
    UNION ALL
    SELECT (SELECT min(topic) FROM entries WHERE topic > topics.topic) FROM topics WHERE topics.topic IS NOT NULL
)
SELECT topic, (SELECT max(sequence) FROM entries WHERE entries.topic = topics.topic) AS last
FROM topics WHERE topic IS NOT NULL ORDER BY last
"""
"""Goes from topic to topic in the index, where GROUP BY would read all of it."""


class JournalError(Exception):
    """The journal cannot be opened or written; names the file, what happened and what to do."""


class JournalFull(JournalError):
    """Not even INDETERMINATE(not_recorded) could be written."""


class DuplicateSeam(JournalError):
    """The seam already has a verdict; a seam gets exactly one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: `payload` is the msgpack map that is published under `topic`."""

    journal_id: str
    sequence: int
    topic: str
    payload: bytes


class Journal:
    """The one writer of `path`. Not thread-safe: it belongs to the thread that opened it.

    Args:
        path: the SQLite file; made with its folder when missing.
        reserve_bytes: size of the preallocated file beside it.
        pair: reads both clocks; monotonic times become UTC in the payload.
    Raises JournalError when another process writes it, or when it is no journal.
    """

    def __init__(
        self, path: Path, *, reserve_bytes: int = RESERVE_BYTES, pair: Callable[[], TimePair] = TimePair.now
    ) -> None:
        self.path = path
        self._pair = pair
        self._reserve_path = path.with_suffix(".reserve")
        self._reserve_bytes = reserve_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path.with_suffix(".lock"))
        try:
            self._db = self._open()
            self.journal_id, self.created_utc_ns = self._identify()
            self._last = self._read_last()
            self._last_of_topics = dict(self._db.execute(LAST_OF_TOPICS).fetchall())
        except sqlite3.Error as error:
            self._lock.close()
            raise JournalError(f"{path}: cannot be opened as a journal: {error}; restore or move it away") from error
        self.has_reserve = self._make_reserve()

    @property
    def last_sequence(self) -> int:
        """Sequence of the last entry, 0 when there is none."""
        return self._last

    def append(self, verdict: Verdict | PartVerdict, pair: TimePair | None = None) -> Entry:
        """Write a verdict durably and return what is to be published.

        On a full disk the entry says INDETERMINATE(not_recorded) instead. `pair`: the clocks of the boot in which
        the seam was welded, where that is not this one. Raises DuplicateSeam, JournalFull, WireError.
        """
        pair = pair or self._pair()
        if self.has_reserve or self._restore_reserve():
            try:
                return self._write(verdict, pair)
            except sqlite3.OperationalError as error:
                first = error
            self._free_reserve()
        else:
            first = sqlite3.OperationalError("no room for the reserve")
        try:
            return self._write(_not_recorded(verdict, f"journal: {first}"), pair)
        except sqlite3.OperationalError as error:
            raise JournalFull(f"{self.path}: no room even for not_recorded: {error}; free disk space") from error

    def range(self, from_sequence: int, to_sequence: int, limit: int = 1000) -> list[Entry]:
        """Entries with `from_sequence <= sequence <= to_sequence`, oldest first, at most `limit`."""
        return self._entries(
            "WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?", from_sequence, to_sequence, limit
        )

    def read(self, from_sequence: int, to_sequence: int) -> Iterator[Entry]:
        """The same one by one, without a limit: what is not taken is not read from disk."""
        rows = self._db.execute(
            "SELECT sequence, topic, payload FROM entries WHERE sequence BETWEEN ? AND ? ORDER BY sequence",
            (from_sequence, to_sequence),
        )
        return (Entry(self.journal_id, sequence, topic, payload) for sequence, topic, payload in rows)

    def last_of_topics(self) -> dict[str, int]:
        """Topic (each program's verdicts, and `part`) → sequence of its last entry, the newest first."""
        return dict(reversed(self._last_of_topics.items()))

    def last_per_program(self) -> list[Entry]:
        """The last entry of every topic, oldest first, for late joiners."""
        return [entry for sequence in self._last_of_topics.values() for entry in self.read(sequence, sequence)]

    @property
    def first_sequence(self) -> int:
        """Sequence of the oldest entry that is kept, 0 when there is none."""
        row = self._db.execute("SELECT min(sequence) FROM entries").fetchone()
        return int(row[0] or 0)

    def has_seam(self, seam_id: str) -> bool:
        """Whether the seam has its verdict already."""
        row = self._db.execute("SELECT 1 FROM entries WHERE seam_id = ?", (seam_id,)).fetchone()
        return row is not None

    def labels(self, seam_ids: Iterable[str]) -> dict[str, str]:
        """Seam id → name of the label, for those of `seam_ids` that have their verdict."""
        found: dict[str, str] = {}
        ids = list(seam_ids)
        for some in (ids[i : i + IDS_A_QUERY] for i in range(0, len(ids), IDS_A_QUERY)):
            marks = ",".join("?" * len(some))
            rows = self._db.execute(f"SELECT seam_id, label FROM entries WHERE seam_id IN ({marks})", some)
            found |= {seam_id: Label(label).name for seam_id, label in rows}
        return found

    def record_arming(self, record: ArmRecord) -> None:
        """Write who armed or disarmed a program; durable when this returns. Raises JournalFull."""
        values = dataclasses.asdict(record) | {"threshold_ids": json.dumps(record.threshold_ids)}
        names = ", ".join(values)
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                marks = ", ".join("?" * len(values))
                self._db.execute(f"INSERT INTO arming ({names}) VALUES ({marks})", tuple(values.values()))
        except sqlite3.OperationalError as error:
            raise JournalFull(f"{self.path}: the arming cannot be written: {error}; free disk space") from error

    def arming(self) -> dict[str, ArmRecord]:
        """The last record of every program that was ever armed or disarmed."""
        names = [field.name for field in dataclasses.fields(ArmRecord)]
        last = "SELECT max(number) FROM arming GROUP BY program"
        rows = self._db.execute(f"SELECT {', '.join(names)} FROM arming WHERE number IN ({last})").fetchall()
        found = (dict(zip(names, row, strict=True)) for row in rows)
        return {
            row["program"]: ArmRecord(**row | {"threshold_ids": tuple(json.loads(row["threshold_ids"]))})
            for row in found
        }

    def accepted(self, threshold_id: str, after_sequence: int = 0) -> list[tuple[int, float, str]]:
        """(sequence, raw score, session) of the seams that a threshold accepted after a verdict, oldest first."""
        return self._db.execute(
            "SELECT sequence, raw, session FROM accepted WHERE threshold_id = ? AND sequence > ? ORDER BY sequence",
            (threshold_id, after_sequence),
        ).fetchall()

    def acknowledge(self, sequences: Mapping[str, int]) -> None:
        """Note that each client has acted on everything up to its sequence; durable when this returns.

        A client's never goes back. Raises JournalFull where there is no room; the reserve is for verdicts alone.
        """
        if not self.has_reserve:
            raise JournalFull(f"{self.path}: the disk is full: acknowledgements are not written; free disk space")
        rows = [(client, sequence, time.time_ns()) for client, sequence in sequences.items()]
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(
                    "INSERT INTO acks VALUES (?, ?, ?) ON CONFLICT (client) DO UPDATE SET "
                    "sequence = excluded.sequence, utc_ns = excluded.utc_ns WHERE excluded.sequence > acks.sequence",
                    rows,
                )
        except sqlite3.OperationalError as error:
            raise JournalFull(f"{self.path}: acknowledgements cannot be written: {error}; free disk space") from error

    def acknowledged(self) -> dict[str, int]:
        """Client → up to which sequence it has acted."""
        return dict(self._db.execute("SELECT client, sequence FROM acks").fetchall())

    def oldest_after(self, sequence: int) -> int | None:
        """When the first entry beyond `sequence` was written, ns UTC; None where there is none."""
        first = "SELECT appended_utc_ns FROM entries WHERE sequence > ? ORDER BY sequence LIMIT 1"
        row = self._db.execute(first, (sequence,)).fetchone()
        return None if row is None else int(row[0])

    def check(self) -> None:
        """Read the journal back: the watchdog's proof. Raises JournalError where it is not what was written."""
        try:
            found = self._read_last()
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot be read any more: {error}") from error
        if found != self._last:
            raise JournalError(f"{self.path}: ends at {found}, but {self._last} was written; somebody changed it")

    def close(self) -> None:
        """Close the file and let another process write it."""
        self._db.close()
        self._lock.close()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.executescript(TABLES)
        return db

    def _identify(self) -> tuple[str, int]:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (str(ULID()),))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (FORMAT,))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('created_utc_ns', ?)", (str(time.time_ns()),))
        meta = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        if meta["format"] != FORMAT:
            raise sqlite3.DatabaseError(f"its format is {meta['format']}, this edged writes {FORMAT}")
        return str(meta["journal_id"]), int(meta["created_utc_ns"])

    def _read_last(self) -> int:
        # AUTOINCREMENT's own counter, so that the sequence goes on even where old entries were removed.
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
        return int(row[0]) if row else 0

    def _write(self, verdict: Verdict | PartVerdict, pair: TimePair) -> Entry:
        sequence = self._last + 1
        if isinstance(verdict, Verdict):
            # Any name may be announced; topics are kept for late joiners, so only configured programs get one.
            program = "" if verdict.mode == "unknown" else verdict.seam.program
            seam_id, topic = verdict.seam.seam_id, verdict_topic(program)
            payload = pack(encode_verdict(verdict, self.journal_id, sequence, pair))
        else:
            seam_id, topic = None, "part"
            payload = pack(encode_part(verdict, self.journal_id, sequence))
        row = (sequence, topic, seam_id, int(verdict.label), time.time_ns(), payload)
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", row)
                if (good := accepted_score(verdict)) is not None:
                    self._db.execute("INSERT INTO accepted VALUES (?, ?, ?, ?)", (sequence, *good))
        except sqlite3.IntegrityError as error:
            raise DuplicateSeam(f"{self.path}: seam {seam_id} already has a verdict ({error})") from error
        self._last = sequence
        self._last_of_topics.pop(topic, None)  # put back at the end: the dict stays in the order of `sequence`
        self._last_of_topics[topic] = sequence
        return Entry(self.journal_id, sequence, topic, payload)

    def _entries(self, where: str, *values: int) -> list[Entry]:
        rows = self._db.execute(f"SELECT sequence, topic, payload FROM entries {where}", values)
        return [Entry(self.journal_id, sequence, topic, payload) for sequence, topic, payload in rows]

    def _make_reserve(self) -> bool:
        """Whether the reserve is there, made of blocks that the file system has really set aside."""
        descriptor = os.open(self._reserve_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._reserve_bytes)
            os.fsync(descriptor)
        except OSError:
            # Part of a reserve would only take the room that verdicts need; health says that there is none.
            os.ftruncate(descriptor, 0)
            return False
        finally:
            os.close(descriptor)
        return True

    def _restore_reserve(self) -> bool:
        self.has_reserve = self._make_reserve()
        return self.has_reserve

    def _free_reserve(self) -> None:
        self.has_reserve = False
        os.truncate(self._reserve_path, 0)


def accepted_score(verdict: Verdict | PartVerdict) -> tuple[str, float, str] | None:
    """(threshold_id, raw score, session) of a seam that is OK, or would be if its program were armed; else None.

    Where nobody names sessions, a day (UTC) is one, as in the manifest.
    """
    if isinstance(verdict, PartVerdict) or verdict.score is None or verdict.score.threshold_id is None:
        return None
    label = verdict.label if verdict.shadow_label is None else verdict.shadow_label
    if label is not Label.OK or not math.isfinite(verdict.score.raw):
        return None
    day = datetime.datetime.fromtimestamp(verdict.decided_utc_ns / 1e9, datetime.UTC).date().isoformat()
    return verdict.score.threshold_id, verdict.score.raw, verdict.seam.session or day


def _lock(path: Path) -> IO[str]:
    """Hold `path` for as long as it is open. Raises JournalError where another process holds it."""
    with contextlib.ExitStack() as undo:
        lock = undo.enter_context(path.open("a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalError(f"{path}: another process writes this journal; is edged running already?") from error
        undo.pop_all()
    return lock


def _not_recorded(verdict: Verdict | PartVerdict, detail: str) -> Verdict | PartVerdict:
    """The small verdict that still fits, with nothing in it that needs much room."""
    if isinstance(verdict, PartVerdict):
        return dataclasses.replace(
            verdict, label=Label.INDETERMINATE, reason="not_recorded", detail=detail[:200], seams=()
        )
    return dataclasses.replace(
        verdict,
        label=Label.INDETERMINATE,
        shadow_label=None,
        reason="not_recorded",
        detail=detail[:200],
        score=None,
        recording=None,
    )
