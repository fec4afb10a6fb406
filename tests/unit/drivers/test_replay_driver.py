"""A recorded stream plays back with its own items, counters, losses and delays."""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from mcap.reader import make_reader

from drivers.base import Chunk, ClockParams, DeviceError, ManualClock, StreamEnded, StreamSpec
from drivers.mcap_codec import RecordingHeader, RecordingWriter
from drivers.replay import Replay, ReplayOptions
from drivers.table import create_driver

S = 1_000_000_000
MS = 1_000_000
WELDER = StreamSpec("welder", "welder", 1000.0, (3,), "int16", ("current", "voltage", "wfs"), torch="t1")
ARC = StreamSpec("arc", "video", 25.0, (0, 0), "uint8", tick="arrival")
HEADER = RecordingHeader("boot", 0, 1_700_000_000 * S, "0.1.0", False, "cell")


def write(
    path: Path, first_counter: int, chunks: int, start_ns: int, specs: tuple[StreamSpec, ...] = (WELDER, ARC)
) -> None:
    clock = ClockParams(first_counter, start_ns, 1e6)
    with RecordingWriter(path, specs, HEADER) as writer:
        for k in range(chunks):
            rows = np.full((100, 3), k, np.int16)
            end_ns = start_ns + (k + 1) * 100 * MS
            lost = 7 if k == 1 else 0
            writer.chunk(Chunk("welder", 50 + k, first_counter + k * 100, end_ns + k * MS, lost, rows, clock))
            if ARC in specs:
                jpeg = np.frombuffer(bytes([k, 1, 2]), np.uint8)
                writer.chunk(Chunk("arc", k, 900 + k, end_ns, 0, jpeg, ClockParams(900 + k, end_ns, 4e7)))
        writer.finish()


def drain(driver: Replay) -> list[Chunk]:
    chunks = []
    try:
        while True:
            if (chunk := driver.read()) is not None:
                chunks.append(chunk)
    except StreamEnded:
        return chunks


@pytest.mark.parametrize("pace", ["real", "max"])
def test_it_plays_the_recorded_items_with_counters_losses_and_delays(
    tmp_path: Path, pace: Literal["real", "max"]
) -> None:
    write(tmp_path / "a.mcap", 4000, 20, 9 * S)
    clock = ManualClock(77 * S)
    driver = Replay("w1", ReplayOptions(path=str(tmp_path / "a.mcap"), stream="welder", pace=pace), clock)
    spec = driver.spec
    assert (spec.name, spec.kind, spec.rate_hz, spec.torch) == ("w1", "welder", 1000.0, "t1")
    driver.open()
    got = drain(driver)
    driver.close()
    assert [chunk.counter for chunk in got] == [4000 + 100 * k for k in range(20)]
    assert [chunk.seq for chunk in got] == [50 + k for k in range(20)]
    assert [chunk.lost_before for chunk in got] == [0, 7] + [0] * 18
    assert {chunk.stream for chunk in got} == {"w1"}
    assert all(chunk.clock is None for chunk in got)
    assert [int(chunk.data[0, 0]) for chunk in got] == list(range(20))
    assert np.diff([chunk.arrival_ns for chunk in got]).tolist() == [101 * MS] * 19


def test_streams_of_one_recording_stay_in_step_however_late_one_opens(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", 0, 10, 9 * S)
    clock = ManualClock(S)
    options = {"path": str(tmp_path / "a.mcap"), "pace": "max"}
    welder, arc = (create_driver("replay", name, options, clock) for name in ("welder", "arc"))
    assert isinstance(welder, Replay)
    assert isinstance(arc, Replay)
    welder.open()
    clock.advance_ns(60 * MS)
    arc.open()
    ends = zip(drain(welder), drain(arc), strict=True)
    assert [one.arrival_ns - other.arrival_ns for one, other in ends] == [k * MS for k in range(10)]
    welder.close()
    arc.close()
    clock.advance_ns(S)
    arc.open()
    first = arc.read()
    assert first is not None
    assert first.arrival_ns > clock.now_ns()
    arc.close()


def test_a_folder_plays_as_if_the_device_had_run_through(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", 4000, 5, 9 * S)
    write(tmp_path / "b.mcap", 17, 5, 500 * S)
    write(tmp_path / "c.mcap", 17, 0, 900 * S)
    driver = Replay("welder", ReplayOptions(path=str(tmp_path), gap_s=2.0), ManualClock())
    driver.open()
    got = drain(driver)
    assert [chunk.seq for chunk in got] == list(range(50, 60))
    # A recording ends where its last item begins, hence not exactly 2 s.
    assert got[5].arrival_ns - got[4].arrival_ns == pytest.approx(2 * S, abs=0.2 * S)
    elapsed_items = (got[5].arrival_ns - got[4].arrival_ns) // MS
    assert got[5].counter == got[4].counter + elapsed_items
    assert [chunk.counter - got[5].counter for chunk in got[5:]] == [0, 100, 200, 300, 400]


def test_reopened_it_starts_over_and_counts_on(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", 4000, 3, 9 * S)
    driver = Replay("welder", ReplayOptions(path=str(tmp_path / "a.mcap")), ManualClock())
    driver.open()
    first = drain(driver)
    driver.open()
    again = drain(driver)
    driver.close()
    driver.close()
    assert [int(chunk.data[0, 0]) for chunk in again] == [0, 1, 2]
    assert again[0].seq == first[-1].seq + 1
    assert again[0].counter >= first[-1].counter + 100


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    def driver(path: Path, stream: str = "welder") -> Replay:
        return Replay(stream, ReplayOptions(path=str(path)), ManualClock())

    with pytest.raises(DeviceError, match=r"none\.mcap: cannot be read: No such file"):
        driver(tmp_path / "none.mcap").open()
    with pytest.raises(DeviceError, match=r"has no \*\.mcap file"):
        _ = driver(tmp_path).spec
    write(tmp_path / "a.mcap", 0, 1, S)
    with pytest.raises(DeviceError, match="has no stream 'mic'; it has arc, welder: set stream"):
        driver(tmp_path, "mic").open()
    with pytest.raises(DeviceError, match="read before it was opened"):
        driver(tmp_path).read()
    other = StreamSpec("welder", "welder", 2000.0, (3,), "int16")
    write(tmp_path / "b.mcap", 0, 1, S, (other,))
    with pytest.raises(DeviceError, match=r"b\.mcap: stream welder is .* play them apart"):
        driver(tmp_path).open()
    shutil.copy(tmp_path / "a.mcap", tmp_path / "c.mcap")
    blob = bytearray((tmp_path / "c.mcap").read_bytes())
    with (tmp_path / "c.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    blob[summary.chunk_indexes[0].chunk_start_offset + 100] ^= 0xFF
    (tmp_path / "c.mcap").write_bytes(blob)
    damaged = driver(tmp_path / "c.mcap")
    damaged.open()
    with pytest.raises(DeviceError, match="damaged"):
        drain(damaged)
    damaged.close()
