"""One suite over every driver: what `drivers/base.py` promises, whatever the device.

A driver joins by a row in `ROWS`: a context manager that gives a working device, and options of a missing one.
"""

import contextlib
import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from drivers.base import Chunk, ClockParams, DeviceError, Driver, ManualClock, StreamEnded, StreamSpec
from drivers.mcap_codec import RecordingHeader, RecordingWriter
from drivers.serial_frame import encode_block
from drivers.table import DRIVERS, create_driver, driver_class
from tests.support.pty_board import PtyBoard

ROOT = Path(__file__).parents[2]
CLOCK_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Device:
    """A device that works: the driver's options and `play`, which makes it deliver some items after `open`."""

    options: dict[str, Any]
    play: Callable[[], None] = lambda: None


@dataclasses.dataclass(frozen=True)
class Row:
    """One driver under test. `present` may use the folder it is given; `missing` must fail in `open`."""

    driver: str
    present: Callable[[Path], contextlib.AbstractContextManager[Device]]
    missing: dict[str, Any]
    library: str | None = None
    """Module that must not be imported before `open`."""
    describes_itself: bool = False
    """A recording is its own description: `spec` reads it, which no real device would allow."""

    def __str__(self) -> str:
        return self.driver


@contextlib.contextmanager
def serial_board(_: Path) -> Iterator[Device]:
    with PtyBoard() as board:
        frames = b"".join(encode_block(k, np.full((50, 3), k, np.int16)) for k in range(10))
        yield Device({"port": board.port}, lambda: board.send(frames))


def csv_board(kind: str) -> Callable[[Path], contextlib.AbstractContextManager[Device]]:
    @contextlib.contextmanager
    def present(_: Path) -> Iterator[Device]:
        with PtyBoard() as board:
            lines = b"".join(b"%d,1.5\r\n" % k for k in range(20))
            columns = {"width": 2} if kind == "profile" else {"channels": ["a", "b"], "units": ["A", "V"]}
            options = {"port": board.port, "kind": kind, **columns}
            yield Device(options, lambda: board.send(lines))

    return present


def csv_file(kind: str, **options: Any) -> Callable[[Path], contextlib.AbstractContextManager[Device]]:
    @contextlib.contextmanager
    def present(folder: Path) -> Iterator[Device]:
        path = folder / "log.csv"
        path.write_text("t,a,b\n" + "".join(f"{k / 100},{k},{-k}\n" for k in range(50)))
        yield Device({"path": str(path), "kind": kind, "rate_hz": 100, **options})

    return present


@contextlib.contextmanager
def sound_file(folder: Path) -> Iterator[Device]:
    path = folder / "sound.flac"
    soundfile.write(path, np.arange(4800, dtype=np.int16), 48_000)
    yield Device({"path": str(path)})


@contextlib.contextmanager
def image_folder(folder: Path) -> Iterator[Device]:
    for k in range(4):
        cv2.imwrite(str(folder / f"f{k}.jpg"), np.full((8, 8, 3), 40 * k, np.uint8))
    yield Device({"path": str(folder)})


@contextlib.contextmanager
def video_file(folder: Path) -> Iterator[Device]:
    path = folder / "arc.avi"
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (64, 48))
    for k in range(6):
        out.write(np.full((48, 64, 3), 40 * k, np.uint8))
    out.release()
    yield Device({"source": str(path)})


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Device]:
    path = folder / "seam.mcap"
    spec = StreamSpec("w", "welder", 1000.0, (2,), "int16", ("current", "voltage"), ("A", "V"))
    writer = RecordingWriter(path, [spec], RecordingHeader("boot", 0, 0, "test", False, "cell"))
    for k in range(5):
        chunk = Chunk("w", k, 10 * k, 10_000_000 * (k + 1), 0, np.full((10, 2), k, np.int16), ClockParams(0, 0, 1e6))
        writer.chunk(chunk)
    writer.finish()
    yield Device({"path": str(path), "stream": "w"})


@contextlib.contextmanager
def no_device(_: Path) -> Iterator[Device]:
    pytest.skip("needs hardware; what happens with a working one is tested beside the driver")
    yield Device({})


NO_PORT = {"port": "/dev/no-such-port"}
NO_FILE = {"path": "/no/such/file", "rate_hz": 100}

ROWS = [
    Row("welder.serial", serial_board, NO_PORT, "serial"),
    Row("welder.csv_serial", csv_board("welder"), NO_PORT, "serial"),
    Row("motion.csv_serial", csv_board("motion"), NO_PORT, "serial"),
    Row("profile.csv_serial", csv_board("profile"), {**NO_PORT, "kind": "profile", "width": 2}, "serial"),
    Row("welder.file", csv_file("welder", columns=["a", "b"]), {**NO_FILE, "columns": ["a"]}),
    Row("motion.file", csv_file("motion", columns=["b"]), {**NO_FILE, "kind": "motion", "columns": ["a"]}),
    Row("profile.file", csv_file("profile", width=3), {**NO_FILE, "kind": "profile", "width": 3}),
    Row("microphone.file", sound_file, {"path": "/no/such.wav"}, "soundfile"),
    Row("camera.folder", image_folder, {"path": "/no/such/folder"}, "cv2"),
    Row("camera.opencv", video_file, {"source": "/no/such.avi"}, "cv2"),
    Row("microphone.portaudio", no_device, {"device": "no such microphone"}, "sounddevice"),
    Row("replay", recording, {"path": "/no/such.mcap"}, describes_itself=True),
]
every_row = pytest.mark.parametrize("row", ROWS, ids=str)


@pytest.fixture
def device(row: Row, tmp_path: Path) -> Iterator[Device]:
    with row.present(tmp_path) as device:
        yield device


def make(row: Row, options: dict[str, Any]) -> Driver:
    return create_driver(row.driver, "s", options, ManualClock(CLOCK_NS))


def first_chunks(driver: Driver, n: int = 3) -> list[Chunk]:
    """Up to `n` chunks; what a device delivers in one piece may be fewer."""
    chunks: list[Chunk] = []
    with contextlib.suppress(StreamEnded):
        for _ in range(200):
            if (chunk := driver.read()) is not None:
                chunks.append(chunk)
            if len(chunks) >= n or (chunks and chunk is None):
                break
    return chunks


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_every_driver_of_the_table_has_a_row() -> None:
    assert {row.driver for row in ROWS} == set(DRIVERS)


@every_row
def test_it_is_a_driver_and_says_where_it_runs(row: Row, device: Device) -> None:
    assert isinstance(make(row, device.options), Driver)
    assert driver_class(row.driver).isolation in ("thread", "process")


@every_row
def test_spec_is_known_without_touching_the_device(row: Row) -> None:
    if row.describes_itself:
        pytest.skip("describes itself")
    before = open_files()
    spec = make(row, row.missing).spec
    assert spec.name == "s"
    assert spec.kind == row.missing.get("kind", spec.kind)
    assert spec.rate_hz > 0
    for names in (spec.channels, spec.units, spec.scale, spec.offset):
        assert len(names) in (0, spec.shape[0])
    assert open_files() == before


@every_row
def test_configuring_imports_no_device_library(row: Row) -> None:
    if row.library is None:
        pytest.skip("needs no device library")
    code = (
        f"import sys; from drivers.table import create_driver; create_driver({row.driver!r}, 's', {row.missing!r}); "
    )
    code += f"sys.exit({row.library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@every_row
def test_a_missing_device_is_a_device_error_that_names_it_and_leaks_nothing(row: Row) -> None:
    driver = make(row, row.missing)
    with pytest.raises(DeviceError, match=str(next(iter(row.missing.values())))):
        driver.open()
    before = open_files()
    for _ in range(3):
        with pytest.raises(DeviceError):
            driver.open()
    assert open_files() == before
    driver.close()


@every_row
def test_reading_before_opening_is_a_device_error(row: Row, device: Device) -> None:
    with pytest.raises(DeviceError, match=r"not open|before it was opened"):
        make(row, device.options).read()


@every_row
def test_chunks_match_the_spec_and_are_numbered(row: Row, device: Device) -> None:
    driver = make(row, device.options)
    spec = driver.spec
    driver.open()
    device.play()
    chunks = first_chunks(driver)
    driver.close()
    assert chunks
    for chunk in chunks:
        assert (chunk.stream, chunk.clock, chunk.data.dtype) == ("s", None, np.dtype(spec.dtype))
        assert chunk.data.ndim == 1 if spec.encoded else chunk.data.shape[1:] == spec.shape
        assert chunk.n >= 1
        assert chunk.lost_before >= 0
        assert chunk.arrival_ns >= CLOCK_NS
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    for last, chunk in itertools.pairwise(chunks):
        assert chunk.counter == last.counter + last.n + chunk.lost_before
        assert chunk.arrival_ns >= last.arrival_ns
    assert driver.spec == spec


@every_row
def test_it_can_be_closed_twice_and_opened_again(row: Row, device: Device) -> None:
    driver = make(row, device.options)
    driver.close()
    before = open_files()
    seen: list[Chunk] = []
    for _ in range(2):
        driver.open()
        device.play()
        chunks = first_chunks(driver)
        assert chunks
        assert not seen or (chunks[0].seq == seen[-1].seq + 1 and chunks[0].counter > seen[-1].counter)
        seen += chunks
        driver.close()
        driver.close()
    assert open_files() <= before + 1  # libraries may keep one handle of their own


@every_row
def test_an_unknown_option_is_refused(row: Row, device: Device) -> None:
    with pytest.raises(ValidationError, match="no_such_option"):
        create_driver(row.driver, "s", {**device.options, "no_such_option": 1})
