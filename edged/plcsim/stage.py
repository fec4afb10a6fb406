"""The stage of `edged plc-sim client`: a daemon's delivery that comes, goes and lies, and what the client says.

What a client ought to accept is noted as it is published; a scene ends by comparing that with what it reported.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import zmq

from edged.journal import Entry
from edged.plcsim.made_up import made_up_part, made_up_verdict
from edged.plcsim.played import PlayedDelivery
from edged.plcsim.reports import Reports
from edged.types import Label, Verdict

__all__ = ["Due", "Stage"]

SETTLE_S = 10.0
GRACE_S = 0.3
AWAY_S = 0.4
NOT_OK = frozenset({0, 2, None})
"""What a client may make of a verdict that it must not take for OK; None: it passes over it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """An entry as a client ought to report it: with one of `labels`, where None means not at all."""

    sequence: int
    seam_id: str
    labels: frozenset[int | None]


class Stage:
    """One daemon after another at the same endpoint; a context manager.

    Args:
        folder: for journals.
        verdicts: where clients look for the daemon.
        reports: what the client says.
        keys: folder of the daemon's keys, None: it asks for none.
        process: the client's, where it was started here.
    """

    def __init__(
        self,
        folder: Path,
        verdicts: str,
        reports: Reports,
        keys: Path | None = None,
        process: "subprocess.Popen[str] | None" = None,
        journal: str | None = None,
    ) -> None:
        self._folder, self.verdicts, self.reports, self.keys, self.process = folder, verdicts, reports, keys, process
        self._journal_endpoint = journal
        self._number = 0
        self._delivery: PlayedDelivery | None = None
        self.due: list[Due] = []
        self._mark = 0

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def delivery(self) -> PlayedDelivery:
        """The daemon that is there now."""
        assert self._delivery is not None
        return self._delivery

    def enter(self, keys: Path | None = None) -> None:
        """The daemon comes up, on the journal of before. `keys`: others than its own."""
        self._delivery = PlayedDelivery(
            self._folder / f"journal-{self._number}.db", self.verdicts, keys or self.keys, self._journal_endpoint
        )

    def leave(self) -> None:
        """The daemon goes; what is queued is gone with it."""
        if self._delivery is not None:
            self._delivery.close()
            self._delivery = None

    def restart(self, away_s: float = AWAY_S) -> None:
        """It goes and comes back."""
        self.leave()
        time.sleep(away_s)
        self.enter()

    def new_journal(self) -> None:
        """It comes back with another journal."""
        self.leave()
        self._number += 1
        time.sleep(AWAY_S)
        self.enter()

    @contextlib.contextmanager
    def set_back(self) -> Iterator[None]:
        """What happens meanwhile is gone afterwards: the journal is then a copy of now."""
        with self._away() as path:
            copy = shutil.copy2(path, path.with_suffix(".copy"))
        yield
        with self._away() as path:
            shutil.copy2(copy, path)

    def publish_part(self) -> None:
        """A part's verdict, which a client may report or not."""
        part = made_up_part("P-1", [made_up_verdict()])
        entry = self.delivery.publish(part)
        self.due.append(Due(entry.sequence, part.part_id, frozenset({int(part.label), None})))

    def publish(self, label: Label = Label.OK, program: str = "bracket", *, times: int = 1) -> Entry:
        """A verdict into the journal and out, as often as said; due with its label."""
        entry = self._append(made_up_verdict(program, label))
        for _ in range(times):
            self.delivery.publisher.publish(entry)
        self.delivery.turn()
        return entry

    def lose(self, count: int, program: str = "bracket") -> None:
        """Verdicts that go into the journal only, as if the queue to everybody were full; due all the same."""
        for _ in range(count):
            self._append(made_up_verdict(program))

    def write_odd(self, changes: Sequence[dict[str, Any]]) -> list[Due]:
        """Entries that no edged of today writes: the journal's file is changed while the daemon is away."""
        with self._away() as path, contextlib.closing(sqlite3.connect(path)) as db:
            journal_id = str(db.execute("SELECT value FROM meta WHERE key = 'journal_id'").fetchone()[0])
            sequence = int(db.execute("SELECT max(sequence) FROM entries").fetchone()[0])
            model = msgpack.unpackb(db.execute("SELECT payload FROM entries ORDER BY sequence DESC").fetchone()[0])
            rows, found = [], []
            for number, change in enumerate(changes, sequence + 1):
                message = {
                    **model,
                    "journal_id": journal_id,
                    "sequence": number,
                    "seam_id": f"odd-{number}",
                    **change,
                }
                payload = msgpack.packb({key: value for key, value in message.items() if value is not ...})
                rows.append((number, f"verdict/{model['program']}", f"odd-{number}", 0, time.time_ns(), payload))
                found.append(Due(number, f"odd-{number}", NOT_OK))
            with db:
                db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
        return found

    def settle(self, within_s: float = SETTLE_S) -> str | None:
        """Wait until the client has reported the last entry that is due, and compare since the last call.

        None: all as it ought to be; else what is not.
        """
        due, self.due = self.due, []
        must = [item.sequence for item in due if None not in item.labels]
        start = self._mark

        def has_all() -> bool:
            said = {report.sequence for report in self.reports.accepted[start:]}
            return said.issuperset(must)

        self.until(has_all, within_s)
        self.delivery.serve(GRACE_S)
        self._mark = len(self.reports.accepted)
        return compare(due, [(r.sequence, r.label, r.seam_id) for r in self.reports.accepted[start : self._mark]])

    def skip(self) -> None:
        """Forget what is due and what was said so far."""
        self.due = []
        self._mark = len(self.reports.accepted)

    def until(self, is_so: Callable[[], Any], within_s: float) -> bool:
        """Be the daemon until something is so; False when that does not come in time."""
        end_s = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() >= end_s or self.reports.has_ended:
                return False
            self.delivery.turn(0.02)
        return True

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """The client's processes are stopped meanwhile (SIGSTOP), where they were started here."""
        group = None if self.process is None else os.getpgid(self.process.pid)
        if group is not None:
            os.killpg(group, signal.SIGSTOP)
        try:
            yield
        finally:
            if group is not None:
                os.killpg(group, signal.SIGCONT)

    def send(self, topic: str, message: object) -> None:
        """Publish what is in no journal; bytes as they are."""
        payload = message if isinstance(message, bytes) else msgpack.packb(message)
        with contextlib.suppress(zmq.Again):
            self.delivery.send(topic.encode(), payload)

    def forged(self, **changes: Any) -> dict[str, Any]:
        """The map of an OK verdict that would be the next one, with changes."""
        entry = self.delivery.journal.range(1, 2**62, 1)
        message: dict[str, Any] = msgpack.unpackb(entry[0].payload)
        following = self.delivery.journal.last_sequence + 1
        return {**message, "label": 1, "sequence": following, "seam_id": f"forged-{following}", **changes}

    def _append(self, verdict: Verdict) -> Entry:
        entry = self.delivery.append(verdict)
        self.due.append(Due(entry.sequence, verdict.seam.seam_id, frozenset({int(verdict.label)})))
        return entry

    @contextlib.contextmanager
    def _away(self) -> Iterator[Path]:
        path = self.delivery.journal.path
        self.leave()
        yield path
        self.enter()


def compare(due: Sequence[Due], said: Sequence[tuple[int, int, str]]) -> str | None:
    """What is wrong with what was said: missing, again, out of order, a wrong label or seam, or never published."""
    by_sequence = {item.sequence: item for item in due}
    seen: set[int] = set()
    last = 0
    for sequence, label, seam_id in said:
        if sequence not in by_sequence:
            return f"sequence {sequence} was accepted with label {label}, but must not be, or not again"
        if sequence in seen:
            return f"sequence {sequence} was accepted twice"
        if sequence < last:
            return f"sequence {sequence} was accepted after {last}"
        item = by_sequence[sequence]
        if label not in item.labels:
            wanted = " or ".join(str(one) for one in sorted(one for one in item.labels if one is not None))
            return f"sequence {sequence} was accepted with label {label}, not {wanted}"
        if seam_id != item.seam_id:
            return f"sequence {sequence} was accepted as seam {seam_id}, not {item.seam_id}"
        seen.add(sequence)
        last = sequence
    missing = [item.sequence for item in due if None not in item.labels and item.sequence not in seen]
    if missing:
        return f"{len(missing)} of {len(due)} were not accepted, the first of them {missing[0]}"
    return None
