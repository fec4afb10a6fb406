"""The journal on real files: order, bytes, restart, second writer, full disk."""

import contextlib
import dataclasses
import os
import resource
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from edged.journal import DuplicateSeam, Journal, JournalError
from edged.types import Label
from edged.wire import TimePair, VerdictMessage, decode
from tests.support.verdicts import a_part, a_verdict

SMALL_RESERVE = 64 * 1024


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db", reserve_bytes=SMALL_RESERVE)
    yield journal
    journal.close()


def test_sequence_grows_by_one_and_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = Journal(path, reserve_bytes=SMALL_RESERVE)
    assert [first.append(a_verdict(f"s{i}")).sequence for i in range(3)] == [1, 2, 3]
    assert first.append(a_part()).sequence == 4
    first.close()
    second = Journal(path, reserve_bytes=SMALL_RESERVE)
    assert (second.last_sequence, second.journal_id) == (4, first.journal_id)
    assert second.append(a_verdict("s9")).sequence == 5
    second.close()


def test_sequence_does_not_restart_when_old_entries_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(path, reserve_bytes=SMALL_RESERVE)
    journal.append(a_verdict("a"))
    journal.append(a_verdict("b"))
    journal.close()
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM entries")
    other.close()
    again = Journal(path, reserve_bytes=SMALL_RESERVE)
    assert again.append(a_verdict("c")).sequence == 3
    again.close()


def test_stored_bytes_are_the_published_ones(journal: Journal) -> None:
    entry = journal.append(a_verdict("a"), TimePair(monotonic_ns=10_000_000_000, utc_ns=10**18))
    assert journal.range(1, 1) == [entry]
    message = decode(entry.topic, entry.payload)
    assert isinstance(message, VerdictMessage)
    assert (message.journal_id, message.sequence, message.seam_id) == (journal.journal_id, 1, "a")
    assert message.arcs_utc_ns == [(10**18, 10**18 + 2_000_000_000)]
    assert msgpack.unpackb(entry.payload)["schema"] == 1


def test_a_seam_gets_one_verdict(journal: Journal) -> None:
    journal.append(a_verdict("a"))
    with pytest.raises(DuplicateSeam, match="seam a "):
        journal.append(a_verdict("a", label=Label.NOK))
    assert journal.append(a_verdict("b")).sequence == 2
    assert journal.has_seam("a")
    assert not journal.has_seam("c")


def test_parts_may_repeat(journal: Journal) -> None:
    assert [journal.append(a_part()).sequence for _ in range(2)] == [1, 2]


def test_range_is_closed_and_last_is_per_topic(journal: Journal) -> None:
    for i, program in enumerate(["A", "B", "A", ""]):
        journal.append(a_verdict(f"s{i}", program))
    journal.append(a_part())
    assert [e.sequence for e in journal.range(2, 4)] == [2, 3, 4]
    assert [e.sequence for e in journal.range(1, 99, limit=2)] == [1, 2]
    last = {e.topic: e.sequence for e in journal.last_per_program()}
    assert last == {"verdict/A": 3, "verdict/B": 2, "verdict/unknown": 4, "part": 5}


def test_programs_that_are_not_configured_share_one_topic_whatever_they_are_called(journal: Journal) -> None:
    announced = [dataclasses.replace(a_verdict(f"s{i}", f"typo-{i}"), mode="unknown") for i in range(3)]
    entries = [journal.append(verdict) for verdict in announced]
    assert journal.last_of_topics() == {"verdict/unknown": 3}
    assert [msgpack.unpackb(entry.payload)["program"] for entry in entries] == ["typo-0", "typo-1", "typo-2"]


def test_the_last_of_topics_is_the_same_after_a_restart(journal: Journal) -> None:
    assert (journal.last_of_topics(), journal.first_sequence) == ({}, 0)
    for i, program in enumerate(["A", "B", "A", "", "B", "C"]):
        journal.append(a_verdict(f"s{i}", program))
    wanted = [("verdict/C", 6), ("verdict/B", 5), ("verdict/unknown", 4), ("verdict/A", 3)]
    assert list(journal.last_of_topics().items()) == wanted
    journal.close()
    again = Journal(journal.path, reserve_bytes=65536)
    assert list(again.last_of_topics().items()) == wanted
    assert [entry.sequence for entry in again.last_per_program()] == [3, 4, 5, 6]
    assert again.first_sequence == 1
    again.close()


def test_what_is_not_taken_of_a_reading_blocks_nobody(journal: Journal) -> None:
    for i in range(5):
        journal.append(a_verdict(f"s{i}"))
    reading = journal.read(2, 5)
    assert next(reading).sequence == 2
    assert journal.append(a_verdict("next")).sequence == 6
    assert [entry.sequence for entry in reading] == [3, 4, 5]


def test_an_acknowledgement_never_goes_back(journal: Journal) -> None:
    journal.acknowledge({"plc": 7, "mes": 1})
    journal.acknowledge({"plc": 3, "mes": 2})
    assert journal.acknowledged() == {"plc": 7, "mes": 2}
    assert journal.oldest_after(0) is None
    journal.append(a_verdict())
    assert journal.oldest_after(0) is not None
    assert journal.oldest_after(1) is None


def test_is_durable(journal: Journal) -> None:
    other = sqlite3.connect(journal.path)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_journal_that_somebody_changed_is_noticed(journal: Journal) -> None:
    journal.append(a_verdict("a"))
    journal.check()
    with sqlite3.connect(journal.path) as other:
        other.execute("UPDATE sqlite_sequence SET seq = 9")
    other.close()
    with pytest.raises(JournalError, match="ends at 9, but 1 was written"):
        journal.check()


def test_second_writer_is_refused(journal: Journal) -> None:
    with pytest.raises(JournalError, match="another process"):
        Journal(journal.path)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path, reserve_bytes=SMALL_RESERVE).close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = '9' WHERE key = 'format'")
    other.close()
    with pytest.raises(JournalError, match="format is 9"):
        Journal(path)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_full_disk_gives_not_recorded_until_there_is_room(tiny_disk: Path) -> None:
    journal = Journal(tiny_disk / "journal.db", reserve_bytes=256 * 1024)
    journal.append(a_verdict("before"))
    filler = tiny_disk / "filler"
    _fill(filler)
    labels = {}
    for i in range(8):
        entry = journal.append(a_verdict(f"s{i}"))
        message = decode(entry.topic, entry.payload)
        assert isinstance(message, VerdictMessage)
        labels[i] = (message.sequence, message.label, message.reason)
    # The first ones may still fit into pages that the write-ahead file has; no later one is ever OK.
    full = next(i for i, found in labels.items() if found[2] == "not_recorded")
    assert [labels[i] for i in range(full, 8)] == [
        (i + 2, Label.INDETERMINATE, "not_recorded") for i in range(full, 8)
    ]
    filler.unlink()
    message = decode("verdict/T1", journal.append(a_verdict("after")).payload)
    assert isinstance(message, VerdictMessage)
    assert (message.label, message.sequence) == (Label.OK, 10)
    assert journal.has_reserve
    journal.close()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass


def test_no_room_at_all_ends_the_process(tmp_path: Path) -> None:
    """A limit on the size of files is a disk without reserve: the freed space helps nobody."""
    child = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from edged.journal import Journal
        from tests.support.verdicts import a_verdict
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = Journal(Path(sys.argv[1]), reserve_bytes=65536)
        entry = journal.append(a_verdict("s0"))
        print(entry.sequence, flush=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        for i in range(1, 1000):
            journal.append(a_verdict(f"s{i}"))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", child, tmp_path / "journal.db"], capture_output=True, text=True, cwd=os.getcwd()
    )
    assert done.stdout == "1\n"
    assert done.returncode == 1
    assert "JournalFull" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
