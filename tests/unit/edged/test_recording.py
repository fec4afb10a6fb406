"""A seam's recording is on disk before anybody hears of it, and a full disk or a crash is never silent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import ControlEvent, RecordingError, RecordingHeader, RecordingReader
from edged.manifest import MANIFEST, append_manifest, read_manifest
from edged.recording import (
    SeamRecorder,
    SeamRecordingError,
    host_header,
    open_recordings,
    recorded_seam,
    recordings,
    recover_interrupted,
)
from pipelines.window import Seam

SPECS = (
    StreamSpec("welder", "welder", 10_000.0, (3,), "int16", ("current", "voltage", "wfs")),
    StreamSpec("arc", "video", 30.0, (0, 0), "uint8"),
)
S = 1_000_000_000
INTERRUPTED = {"label": "INDETERMINATE", "reason": "interrupted", "score": None, "model_id": None}


def header() -> RecordingHeader:
    return RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", False, "cell")


def make_seam(seam_id: str, arcs: tuple[tuple[int, int], ...] = ()) -> Seam:
    return Seam(seam_id, "cell", "t1", "P1", 2 * S, arcs, part_id="part-9", session="monday")


def noise(seq: int, rows: int = 100) -> Chunk:
    data = np.random.default_rng(seq).integers(-(2**15), 2**15, (rows, 3), np.int16)
    return Chunk("welder", seq, seq * rows, 2 * S + seq, 0, data, ClockParams(0, 2 * S, 1e5))


def test_a_seam_becomes_a_recording_with_verdict_and_manifest_line(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path / "new" / "recordings", header)
    recorder.begin(make_seam("A"), SPECS, 2 * S)
    recorder.chunk("A", noise(0))
    recorder.control("A", 2 * S, {"op": "expect", "program": "P1", "set_points": {"wfs": 8.5}})
    recorder.control("A", 3 * S, {"op": "view", "view": "top"})
    assert [path.name for path in open_recordings(tmp_path / "new" / "recordings")] == ["A.open"]
    done = make_seam("A", ((2 * S, 4 * S),))
    path = recorder.finish(done, {"label": "OK", "score": 0.5, "model_id": "m"}, 5 * S)

    assert path == tmp_path / "new" / "recordings" / "A.mcap" == recorder.path("A")
    assert open_recordings(path.parent) == []
    assert recordings(path.parent) == [path]
    reader = RecordingReader(path)
    assert recorded_seam(reader) == done
    assert reader.metadata("verdict") == {"label": "OK", "score": 0.5, "model_id": "m"}
    assert [type(event) for event in reader.events()] == [Chunk, ControlEvent, ControlEvent]
    assert read_manifest(path.parent)["A"] == {
        "seam_id": "A",
        "program": "P1",
        "session": "monday",
        "set_points": {"wfs": 8.5},
        "utc": "2023-11-14T22:13:22.000+00:00",
        "label": "OK",
        "shadow_label": None,
    }


def test_several_seams_are_open_at_once_and_do_not_mix(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    for seam_id in "ABC":
        recorder.begin(make_seam(seam_id), SPECS, 0)
    for seq in range(9):
        recorder.chunk("ABC"[seq % 3], noise(seq))
    recorder.finish(make_seam("B", ((2 * S, 3 * S),)), {"label": "OK"}, 0)
    assert recorder.open_seams == ("A", "C")
    recorder.finish(make_seam("A", ((2 * S, 3 * S),)), {"label": "NOK"}, 0)
    recorder.abandon("C")
    assert [path.stem for path in recordings(tmp_path)] == ["A", "B"]
    assert [e.seq for e in RecordingReader(tmp_path / "B.mcap").events() if isinstance(e, Chunk)] == [1, 4, 7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.mcap", "B.mcap", MANIFEST]


def test_tick_brings_a_burning_seam_to_disk_each_second(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    recorder.begin(make_seam("A"), SPECS, 0)
    sizes = []
    for step in range(31):
        recorder.chunk("A", noise(step))
        recorder.tick(step * S // 10)
        sizes.append((tmp_path / "A.open").stat().st_size)
    recorder.close()
    grown = [step for step in range(1, 31) if sizes[step] > sizes[step - 1]]
    assert len(grown) == 3
    assert max(np.diff([0, *grown])) <= 10


def test_a_killed_process_loses_at_most_what_came_after_the_last_tick(tmp_path: Path) -> None:
    child = _run_child(tmp_path, KILLED)
    assert child.returncode == -9
    (left,) = open_recordings(tmp_path)
    seam, path = recover_interrupted(left, INTERRUPTED)
    assert seam == make_seam("A")
    assert [e.seq for e in RecordingReader(path).events() if isinstance(e, Chunk)] == list(range(20))
    assert RecordingReader(path).metadata("verdict") == INTERRUPTED
    assert read_manifest(tmp_path)["A"]["label"] == "INDETERMINATE"
    assert open_recordings(tmp_path) == []


def test_a_file_that_holds_nothing_is_set_aside_and_reported_once(tmp_path: Path) -> None:
    (tmp_path / "A.open").write_bytes(b"")
    with pytest.raises(RecordingError, match=r"nothing to recover: its 0 bytes .* kept as .*A\.lost"):
        recover_interrupted(tmp_path / "A.open", INTERRUPTED)
    assert open_recordings(tmp_path) == []
    assert (tmp_path / "A.lost").exists()


def test_a_verdict_that_was_never_published_does_not_survive_recovery(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    recorder.begin(make_seam("A"), SPECS, 0)
    recorder.finish(make_seam("A", ((2 * S, 3 * S),)), {"label": "OK"}, 0)
    (tmp_path / "A.mcap").rename(tmp_path / "A.open")  # as if it had died just before the rename
    _, path = recover_interrupted(tmp_path / "A.open", INTERRUPTED)
    assert (RecordingReader(path).metadata("verdict") or {})["reason"] == "interrupted"
    assert read_manifest(tmp_path)["A"]["label"] == "INDETERMINATE"


def test_a_full_disk_is_an_error_that_names_seam_and_fix_and_abandon_frees_the_space(tmp_path: Path) -> None:
    child = _run_child(tmp_path, FULL)
    assert child.returncode == 0, child.stderr
    report = json.loads(child.stdout)
    assert report["seam_id"] == "A"
    assert "File too large" in report["error"]
    assert "free space" in report["error"]
    assert "failed earlier" in report["again"]
    assert report["left"] == ["B.mcap", MANIFEST]
    assert len(list(RecordingReader(tmp_path / "B.mcap").events())) == 1


def test_a_seam_id_that_is_used_twice_is_refused_with_its_name(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    recorder.begin(make_seam("A"), SPECS, 0)
    with pytest.raises(SeamRecordingError, match="exists already") as caught:
        recorder.begin(make_seam("A"), SPECS, 0)
    assert caught.value.seam_id == "A"
    recorder.close()
    assert [path.name for path in open_recordings(tmp_path)] == ["A.open"]


def test_a_seam_that_was_not_begun_is_an_error(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    with pytest.raises(SeamRecordingError, match="seam X is not being recorded"):
        recorder.chunk("X", noise(0))
    with pytest.raises(SeamRecordingError, match="seam X is not being recorded"):
        recorder.finish(make_seam("X"), {"label": "OK"}, 0)
    recorder.abandon("X")


def test_a_torn_manifest_line_is_cut_off_and_a_foreign_one_is_named(tmp_path: Path) -> None:
    for name in "AB":
        (tmp_path / f"{name}.mcap").touch()
    append_manifest(tmp_path, {"seam_id": "A", "n": 1})
    with (tmp_path / MANIFEST).open("ab") as file:
        file.write(b'{"seam_id": "B", "pad": "' + b"x" * 9000)
    assert list(read_manifest(tmp_path)) == ["A"]
    append_manifest(tmp_path, {"seam_id": "B", "n": 2})
    append_manifest(tmp_path, {"seam_id": "gone", "n": 3})
    assert read_manifest(tmp_path) == {"A": {"seam_id": "A", "n": 1}, "B": {"seam_id": "B", "n": 2}}
    with (tmp_path / MANIFEST).open("ab") as file:
        file.write(b"hello\n")
    with pytest.raises(RecordingError, match="line 4 'hello' is no manifest line"):
        read_manifest(tmp_path)


def test_the_hosts_header_ties_monotonic_time_to_utc() -> None:
    first = host_header("cell", "0.1.0", is_simulated=False)
    second = host_header("cell", "0.1.0", is_simulated=False)
    assert first.boot_id == second.boot_id
    assert abs(first.to_utc_ns(second.monotonic_ns) - second.utc_ns) < S


PRELUDE = """
import json, os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_recording import *
folder = Path({folder!r})
recorder = SeamRecorder(folder, header)
"""
KILLED = """
recorder.begin(make_seam("A"), SPECS, 0)
for seq in range(25):
    recorder.chunk("A", noise(seq))
    if seq == 19:
        recorder.tick(S)
os.kill(os.getpid(), signal.SIGKILL)
"""
FULL = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
recorder.begin(make_seam("A"), SPECS, 0)
recorder.begin(make_seam("B"), SPECS, 0)
recorder.chunk("B", noise(0))
for seq in range(400):
    recorder.chunk("A", noise(seq))
report = {}
try:
    recorder.tick(S)
except SeamRecordingError as error:
    report |= {"seam_id": error.seam_id, "error": str(error)}
try:
    recorder.finish(make_seam("A", ((2 * S, 3 * S),)), {"label": "OK"}, S)
except SeamRecordingError as error:
    report["again"] = str(error)
recorder.abandon("A")
recorder.finish(make_seam("B", ((2 * S, 3 * S),)), {"label": "OK"}, S)
print(json.dumps(report | {"left": sorted(p.name for p in folder.iterdir())}))
"""


def _run_child(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    prelude = PRELUDE.format(here=str(here), folder=str(folder))
    return subprocess.run(
        [sys.executable, "-c", prelude + body],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=here.parents[2],
        env={**os.environ, "PYTHONPATH": str(here.parents[2])},
    )


def test_a_recording_is_brought_to_disk_ahead_of_its_end(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    recorder.begin(make_seam("A"), SPECS, 0)
    recorder.chunk("A", noise(0))
    before = (tmp_path / "A.open").stat().st_size
    recorder.sync("A")
    assert (tmp_path / "A.open").stat().st_size > before
    recorder.finish(make_seam("A", ((2 * S, 4 * S),)), {"label": "OK"}, 5 * S)
    recorder.close()
    assert len(list(RecordingReader(tmp_path / "A.mcap").events())) == 1


def test_a_manifest_that_cannot_be_written_is_the_seams_failure(tmp_path: Path) -> None:
    recorder = SeamRecorder(tmp_path, header)
    recorder.begin(make_seam("A"), SPECS, 0)
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(SeamRecordingError, match=r"A\.open"):
        recorder.finish(make_seam("A", ((2 * S, 4 * S),)), {"label": "OK"}, 5 * S)
    assert recordings(tmp_path) == []
