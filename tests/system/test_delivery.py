"""`edged bench delivery`, small: nobody misses a verdict, whoever is stopped, killed or late; else it says so."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from edged.bench.delivery import delivery_markdown, latencies, missed
from edged.bench.delivery_run import NAMES, Cell, DeliveryError, Plan, deliver
from edged.bench.delivery_subscriber import Seen
from edged.client import Entry, Lost, Position

SMALL = Plan(2000, rate_hz=500.0, stop_s=1.5, within_s=90.0)


@pytest.mark.slow
def test_everybody_holds_the_identical_sequence(tmp_path: Path) -> None:
    with Cell(tmp_path, curve=True) as cell:
        report = deliver(cell, SMALL)
    assert (report["sent"], report["subscribers"], report["identical"]) == (2000, 8, 8)
    assert (report["missing"], report["duplicated"]) == (0, 0)
    assert report["acknowledged"] == 2000
    assert report["starts"] == {name: 1 + (name == "killed") for name in NAMES}


def test_latencies_are_those_of_one_clock(tmp_path: Path) -> None:
    with Cell(tmp_path, curve=False) as cell:
        report = latencies(cell, ("plain",), 1.0)
    assert report["n"] == 50
    assert 0 < report["latency_ms_p50"] <= report["latency_ms_p99"] < 1000
    assert 0 < report["commit_to_publish_ms_p50"] < 100
    assert report["decision_to_commit_ms_p50"] > 0


def test_a_process_that_ends_badly_is_named(tmp_path: Path) -> None:
    with Cell(tmp_path, curve=False) as cell:
        cell.start_source(10, 0.0, times=tmp_path / "no" / "folder")
        assert cell.source is not None
        end_s = time.monotonic() + 30
        while cell.source.poll() is None and time.monotonic() < end_s:
            time.sleep(0.05)
        with pytest.raises(DeliveryError, match=r"source ended with 1.*processes\.log"):
            cell.alive()


def entry(sequence: int) -> Entry:
    return Entry("J", sequence, "verdict/T1", {"label": 1}, b"payload %d" % sequence)


def test_gaps_and_repetitions_are_counted_and_break_the_chain(tmp_path: Path) -> None:
    whole, gapped, again = Seen(), Seen(), Seen()
    for sequence in (1, 2, 3, 4):
        assert whole.add(entry(sequence))
    for sequence in (1, 4):
        gapped.add(entry(sequence))
    for sequence in (1, 2, 2, 3, 4):
        again.add(entry(sequence))
    assert (whole.missing, whole.duplicated, whole.count) == (0, 0, 4)
    assert (gapped.missing, gapped.duplicated) == (2, 0)
    assert (again.missing, again.duplicated) == (0, 1)
    assert len({whole.chain, gapped.chain, again.chain}) == 3
    gapped.add(Lost(5, 7, "gone"))
    assert gapped.lost == 3
    whole.save(tmp_path / "seen.json")
    later = Seen(**json.loads((tmp_path / "seen.json").read_text()))
    assert later == whole
    assert later.start == Position("J", 4)
    assert Seen().start == "first"


def a_report(**changes: Any) -> dict[str, Any]:
    times = ("latency", "latency_8", "commit_to_publish", "decision_to_commit", "modbus", "noop")
    report: dict[str, Any] = {f"{name}_ms_{p}": 0.1 for name in times for p in ("p50", "p99")}
    report |= {"sent": 10, "subscribers": 8, "identical": 8, "missing": 0, "duplicated": 0, "curve": True}
    report |= {"daemon_kills": 3, "starts": {"killed": 2, "late": 1}, "delivery_s": 1.0, "per_s": 10, "n": 9}
    report |= {"command": "edged bench delivery", "cores": 2, "load_1min_before": 0.5, "pace_hz": 100.0}
    return report | {"reached_hz": 99, "fsync_ms_p50": 2.0} | changes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"missing": 1}, "1 missing"),
        ({"duplicated": 2}, "2 duplicated"),
        ({"identical": 7}, "only 7 of 8"),
        ({"latency_ms_p50": 0.4}, "latency_ms_p50 is 0.4"),
        ({"modbus_ms_p50": None}, "modbus_ms_p50 is None"),
    ],
)
def test_what_is_missed_is_said(changes: dict[str, Any], problem: str) -> None:
    assert missed(a_report()) == []
    (found,) = missed(a_report(**changes))
    assert problem in found


def test_table() -> None:
    assert "| hold the identical sequence | 8 of 8 |" in delivery_markdown(a_report())


def test_the_truth_is_the_journal(tmp_path: Path) -> None:
    """A subscriber's chain is compared with what stands in the journal, not with another subscriber's."""
    seen = Seen()
    with Cell(tmp_path, curve=False) as cell:
        cell.start_source(20, 0.0)
        cell.start_subscriber("plain", 20)
        assert cell.subscribers["plain"].wait(60) == 0
        cell.end_source()
        seen = cell.seen("plain")
        assert cell.truth()[:2] == (20, seen.chain)
        with sqlite3.connect(cell.journal) as db:
            db.execute("UPDATE entries SET payload = ? WHERE sequence = 7", (b"another",))
        db.close()
        assert cell.truth()[1] != seen.chain
