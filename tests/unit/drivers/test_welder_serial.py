"""`welder.serial` over a real pty, with the documented C sender too."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.base import Chunk, DeviceError, ManualClock
from drivers.serial_frame import encode_block
from drivers.welder_serial import WelderSerial, WelderSerialOptions
from tests.support.pty_board import PtyBoard

SENDER = Path(__file__).parents[3] / "docs" / "serial_sender.c"
N = 50


def frame(seq: int) -> bytes:
    start = seq % 300 * N
    return encode_block(seq, (start + np.arange(N * 3).reshape(N, 3)).astype(np.int16))


@pytest.fixture
def board() -> Iterator[PtyBoard]:
    with PtyBoard() as board:
        yield board


def driver(board: PtyBoard, clock: ManualClock | None = None, **options: Any) -> WelderSerial:
    return WelderSerial(
        "welder", WelderSerialOptions(port=board.port, read_timeout_s=2.0, **options), clock or ManualClock()
    )


def next_chunk(device: WelderSerial) -> Chunk:
    for _ in range(60):
        if (chunk := device.read()) is not None:
            return chunk
    raise AssertionError("nothing came")


def read_until(device: WelderSerial, next_counter: int) -> list[Chunk]:
    """Chunks up to the sample before `next_counter`."""
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].counter + chunks[-1].n < next_counter:
        chunks.append(next_chunk(device))
    return chunks


def test_samples_arrive_whole_and_in_order(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    board.send(b"".join(frame(seq) for seq in range(200)))
    chunks = read_until(device, 200 * N)
    device.close()
    data = np.concatenate([chunk.data for chunk in chunks])
    assert data.dtype == np.int16
    assert np.array_equal(data[::N, 0], np.arange(200) * N)
    assert [chunk.seq for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.lost_before == 0 for chunk in chunks)


def test_damage_is_a_gap_of_known_size_and_chunks_do_not_span_it(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    bad = bytearray(frame(3))
    bad[40] ^= 4
    board.send(frame(0)[100:] + frame(1) + frame(2) + bytes(bad) + b"\xff\x13garbage\0" + frame(5) + frame(6))
    chunks = read_until(device, 7 * N)
    device.close()
    assert sum(chunk.lost_before for chunk in chunks) == 2 * N
    assert chunks[0].counter == N
    after = next(chunk for chunk in chunks if chunk.lost_before)
    assert after.counter == 5 * N
    assert after.data[0, 0] == 5 * N
    assert device.bad_frames == 2


def test_a_board_that_restarts_goes_on_with_a_gap(board: PtyBoard) -> None:
    clock = ManualClock()
    device = driver(board, clock)
    device.open()
    board.send(frame(100) + frame(101))
    assert read_until(device, 102 * N)[0].counter == 100 * N
    clock.advance_ns(1_000_000_000)
    board.send(frame(0) + frame(1))
    chunks = read_until(device, 302 * N)
    device.close()
    assert (chunks[0].counter, chunks[0].lost_before) == (301 * N, 199 * N)
    assert device.restarts == 1


def test_the_gap_while_closed_is_counted_when_open_again(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    board.send(frame(4))
    read_until(device, 5 * N)
    device.close()
    device.open()
    board.send(frame(9))
    (chunk,) = read_until(device, 10 * N)
    device.close()
    assert (chunk.counter, chunk.lost_before, chunk.seq) == (9 * N, 4 * N, 1)


def test_unplugged_is_a_device_error_that_names_the_port(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    board.send(frame(0))
    read_until(device, N)
    board.unplug()
    with pytest.raises(DeviceError, match=board.port):
        device.read()
    device.close()
    with pytest.raises(DeviceError, match="edged devices"):
        device.open()


def test_a_second_program_cannot_open_the_port(board: PtyBoard) -> None:
    first, second = driver(board), driver(board)
    first.open()
    with pytest.raises(DeviceError, match="another program holds it"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_the_wrong_baud_rate_is_said_and_not_waited_out(board: PtyBoard) -> None:
    device = driver(board, baud=115_200, rate_hz=1000)
    device.open()
    board.send(os.urandom(40_000))
    with pytest.raises(DeviceError, match="without one valid"):
        read_until(device, 1)
    device.close()


def test_blocks_of_another_size_are_refused_with_the_fix(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    board.send(encode_block(0, np.zeros((20, 2), np.int16)))
    with pytest.raises(DeviceError, match=r"20 samples × 2 channels.*50 × 3"):
        device.read()
    device.close()


def test_silence_is_none(board: PtyBoard) -> None:
    device = WelderSerial("welder", WelderSerialOptions(port=board.port, read_timeout_s=0.02))
    device.open()
    assert device.read() is None
    device.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_hz": 25_000}, "921600 baud carries 147"),
        ({"channels": ("current",)}, "units has 3 entries for 1 channels"),
        ({"block_samples": 4000, "baud": 3_000_000}, "frames of"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WelderSerialOptions.model_validate({"port": "/dev/x", **options})


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_documented_c_sender_is_read_back(board: PtyBoard, tmp_path: Path) -> None:
    binary = tmp_path / "serial_sender"
    warnings = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
    subprocess.run(["cc", *warnings, "-o", binary, SENDER], check=True)
    blocks = 700
    device = driver(board)
    device.open()
    with subprocess.Popen([binary, "-", str(blocks)], stdout=board.far) as sender:
        chunks = read_until(device, blocks * N)
        assert sender.wait(timeout=10) == 0
    device.close()
    data = np.concatenate([chunk.data for chunk in chunks])
    k = np.arange(blocks * N) % 30_000
    assert np.array_equal(data, np.stack([k, -k, k % 256], axis=1))
    assert sum(chunk.lost_before for chunk in chunks) == 0
    assert device.bad_frames == 0
