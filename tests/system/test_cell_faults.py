"""No failure is silent: one shift of the virtual cell on the real daemon, in which everything breaks once.

The shift is welded once, a fault a seam in mid-arc; each test looks at what a subscriber (plain pyzmq) got.
"""

import dataclasses
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edged.client.endpoints import journal_endpoint
from edged.control import ask
from edged.types import Label
from edged.wire import unpack
from tests.support.welding import Welding, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

STREAMS = {"welder", "mic", "arccam", "motion"}
CLEAN, UNPLUG, REPLUGGED, GARBAGE, STALL, CHILDREN, WORKER, SCORED, DAEMON, RESTARTED, CTRL_C = range(11)
UNPLUG_S, GARBAGE_S, STALL_S = 1.0, 0.5, 2.0

Verdict = dict[str, Any]


@dataclasses.dataclass
class Shift:
    """What was seen of the shift: verdicts by seam, and the rest at the moments of interest."""

    verdicts: dict[int, Verdict] = dataclasses.field(default_factory=dict)
    health_after_clean: dict[str, Any] = dataclasses.field(default_factory=dict)
    counts_after_clean: dict[str, Any] = dataclasses.field(default_factory=dict)
    orphans: list[psutil.Process] = dataclasses.field(default_factory=list)
    rest_of_the_arc: list[Verdict] = dataclasses.field(default_factory=list)
    journal: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    sequences: list[int] = dataclasses.field(default_factory=list)
    last_sequence: int = 0
    exit_codes: tuple[int, int] = (-1, -1)
    left_processes: list[psutil.Process] = dataclasses.field(default_factory=list)
    left_in_workdir: set[str] = dataclasses.field(default_factory=set)
    left_sockets: list[Path] = dataclasses.field(default_factory=list)
    ports: list[Path] = dataclasses.field(default_factory=list)


@pytest.fixture(scope="module")
def shift() -> Iterator[Shift]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as folder:
        welding = Welding(Path(folder), CTRL_C + 1)
        try:
            yield _weld(welding)
        finally:
            welding.close()


def _weld(welding: Welding) -> Shift:
    seen = Shift()
    for number, faults, lasts_s in (
        (CLEAN, (), 0.0),
        (UNPLUG, ("unplug_welder",), UNPLUG_S),
        (REPLUGGED, (), 0.0),
        (GARBAGE, ("garbage_welder",), GARBAGE_S),
        (STALL, ("stall_arc", "silence_microphone"), STALL_S),
    ):
        seam = welding.burning(number)
        for name in faults:
            welding.fault(name, is_on=True)
        time.sleep(lasts_s)
        for name in faults:
            welding.fault(name, is_on=False)
        seen.verdicts[number] = welding.verdict(seam["seam_id"])
        if number == CLEAN:
            seen.health_after_clean = dict(welding.subscriber.health)
            seen.counts_after_clean = welding.counts()
    _kill_processes(welding, seen)
    _ctrl_c(welding, seen)
    return seen


def _kill_processes(welding: Welding, seen: Shift) -> None:
    seam = welding.burning(CHILDREN)
    for child in psutil.Process(welding.daemon.pid).children():
        if "edged.capture" in child.cmdline():
            child.kill()
    seen.verdicts[CHILDREN] = welding.verdict(seam["seam_id"])

    seam = welding.burning(WORKER)
    os.kill(welding.status()["health"]["worker"]["pid"], signal.SIGKILL)
    seen.verdicts[WORKER] = welding.verdict(seam["seam_id"])
    seen.verdicts[SCORED] = welding.verdict(welding.burning(SCORED)["seam_id"])

    seam = welding.burning(DAEMON)
    children = psutil.Process(welding.daemon.pid).children(recursive=True)
    welding.daemon.kill()
    welding.daemon.wait()
    seen.orphans = psutil.wait_procs(children, timeout=20)[1]
    welding.start_daemon()
    seen.verdicts[DAEMON] = welding.verdict(seam["seam_id"])
    seen.verdicts[RESTARTED] = welding.verdict(welding.burning(RESTARTED)["seam_id"])
    known = {verdict["seam_id"] for verdict in seen.verdicts.values()}
    seen.rest_of_the_arc = [v for v in welding.subscriber.verdicts if v["seam_id"] not in known]


def _ctrl_c(welding: Welding, seen: Shift) -> None:
    seam = welding.burning(CTRL_C)
    answer = ask(journal_endpoint(welding.endpoint), {"op": "range", "from_sequence": 1, "to_sequence": 1000})
    seen.journal = [(topic, unpack(payload)) for _, topic, payload in answer["entries"]]
    wait_for(lambda: welding.subscriber.last_sequence == len(seen.journal), "the heartbeat after the last verdict")
    seen.sequences, seen.last_sequence = welding.subscriber.sequences, welding.subscriber.last_sequence
    seen.ports = [welding.workdir / name for name in ("welder", "motion", "microphone.fifo")]
    assert all(port.exists() for port in seen.ports)
    tree = welding.children()
    seen.exit_codes = welding.interrupt()
    seen.left_processes = psutil.wait_procs(tree, timeout=20)[1]
    seen.left_in_workdir = {path.name for path in welding.workdir.iterdir()}
    seen.left_sockets = list(welding.folder.rglob("*.sock"))
    seen.verdicts[CTRL_C] = welding.verdict(seam["seam_id"])


def _whole(verdict: Verdict, streams: set[str] = STREAMS) -> None:
    """Nothing is lost and nothing broken. Frames are stamped as they arrive, so a busy machine may make them late."""
    for name in streams:
        found = verdict["integrity"][name]
        assert (found["lost_items"], found["state"] in ("ok", "degraded")) == (0, True), (name, found)
        assert found["gaps"] == 0 or name == "arccam", (name, found)


def _judged_ok(verdict: Verdict) -> None:
    _whole(verdict)
    assert (verdict["label"], verdict["reason"]) == (Label.OK, "ok"), verdict["detail"]


def _broken(verdict: Verdict, stream: str, at_least_s: float) -> None:
    """INDETERMINATE, and the size of the gap stands in the figures and in the words."""
    found = verdict["integrity"][stream]
    assert (verdict["label"], verdict["reason"]) == (Label.INDETERMINATE, "stream_broken"), verdict["detail"]
    assert found["state"] == "broken"
    assert found["gaps"] >= 1
    assert 0.9 * at_least_s * 1e3 < found["longest_gap_ms"] < 1e3 * verdict["arc_s"]
    assert (
        f"{stream} covers {found['coverage']:.1%}, longest gap {found['longest_gap_ms']:.0f} ms" in verdict["detail"]
    )
    assert found["coverage"] == pytest.approx(1 - found["longest_gap_ms"] / 1e3 / verdict["arc_s"], abs=0.05)


def test_when_nothing_is_wrong_nothing_is_lost(shift: Shift) -> None:
    _judged_ok(shift.verdicts[CLEAN])
    streams = shift.health_after_clean["streams"]
    assert {name: (s["lost"], s["gaps"], s["reconnects"]) for name, s in streams.items()} == dict.fromkeys(
        STREAMS | {"resultcam"}, (0, 0, 0)
    )
    dropped = {name: count for name, count in shift.counts_after_clean.items() if "dropped" in name and count}
    assert dropped == {}


def test_a_welder_unplugged_in_mid_seam_is_a_gap_and_comes_back(shift: Shift) -> None:
    verdict = shift.verdicts[UNPLUG]
    _broken(verdict, "welder", UNPLUG_S)
    found = verdict["integrity"]["welder"]
    assert found["lost_items"] == pytest.approx(10 * found["longest_gap_ms"], rel=0.05)
    _whole(verdict, STREAMS - {"welder"})  # one device takes no other with it
    _judged_ok(shift.verdicts[REPLUGGED])


def test_garbage_on_the_serial_line_costs_what_it_covers(shift: Shift) -> None:
    verdict = shift.verdicts[GARBAGE]
    _broken(verdict, "welder", GARBAGE_S)
    _whole(verdict, STREAMS - {"welder"})
    _whole(shift.verdicts[STALL], {"welder"})  # in step again


def test_a_camera_that_hangs_and_a_silent_microphone_are_gaps(shift: Shift) -> None:
    verdict = shift.verdicts[STALL]
    _broken(verdict, "arccam", STALL_S)
    _broken(verdict, "mic", STALL_S)
    assert verdict["integrity"]["arccam"]["lost_items"] >= 0.9 * STALL_S * 30
    assert verdict["integrity"]["mic"]["lost_items"] >= 0.9 * STALL_S * 48_000
    _whole(verdict, {"welder", "motion"})


def test_capture_children_killed_in_mid_seam_are_started_again(shift: Shift) -> None:
    verdict = shift.verdicts[CHILDREN]
    for stream in ("arccam", "mic"):
        _broken(verdict, stream, 0.25)
    _whole(verdict, {"welder", "motion"})
    _whole(shift.verdicts[WORKER])


def test_a_worker_killed_in_mid_seam_costs_that_score_only(shift: Shift) -> None:
    verdict = shift.verdicts[WORKER]
    assert (verdict["label"], verdict["reason"]) == (Label.INDETERMINATE, "worker_failed")
    assert "SIGKILL" in verdict["detail"]
    assert verdict["score"] is None
    _whole(verdict)
    _judged_ok(shift.verdicts[SCORED])


def test_a_daemon_killed_in_mid_seam_reports_it_and_goes_on_counting(shift: Shift) -> None:
    verdict = shift.verdicts[DAEMON]
    assert (verdict["label"], verdict["reason"]) == (Label.INDETERMINATE, "interrupted")
    assert shift.orphans == []
    _judged_ok(shift.verdicts[RESTARTED])
    # An arc that still burned when the daemon was back is nobody's seam: reported, and never OK.
    assert {v["label"] for v in shift.rest_of_the_arc} <= {Label.INDETERMINATE}


def test_every_entry_of_the_journal_was_received_once_and_in_one_sequence(shift: Shift) -> None:
    assert len({entry["journal_id"] for _, entry in shift.journal}) == 1
    assert [entry["sequence"] for _, entry in shift.journal] == list(range(1, len(shift.journal) + 1))
    assert shift.sequences == [entry["sequence"] for _, entry in shift.journal]
    assert shift.last_sequence == len(shift.journal)
    welded = [
        entry["seam_ref"] for topic, entry in shift.journal if topic.startswith("verdict/") and entry["seam_ref"]
    ]
    assert welded == [f"seam-{number:05d}" for number in range(CTRL_C)]
    parts = {entry["part_id"]: Label(entry["label"]) for topic, entry in shift.journal if topic == "part"}
    assert parts == {f"part-{n:05d}": Label(shift.verdicts[n]["label"]) for n in range(CTRL_C)}


def test_every_seam_is_on_disk(shift: Shift) -> None:
    assert {number: Path(v["recording"]).exists() for number, v in shift.verdicts.items()} == dict.fromkeys(
        range(CTRL_C + 1), True
    )


def test_ctrl_c_in_mid_seam_is_told_and_leaves_nothing_behind(shift: Shift) -> None:
    verdict = shift.verdicts[CTRL_C]
    assert (verdict["label"], verdict["reason"]) == (Label.INDETERMINATE, "interrupted")
    assert shift.exit_codes == (0, 130)
    assert shift.left_processes == []
    assert not any(port.exists() or port.is_symlink() for port in shift.ports)
    assert shift.left_in_workdir == {"truth.jsonl"}
    assert shift.left_sockets == []
