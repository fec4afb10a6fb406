"""`csv_serial` over a real pty: lines good, bad, too long and missing."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import Chunk, DeviceError, ManualClock
from drivers.welder_csv_serial import WelderCsvSerial, WelderCsvSerialOptions, _Lines
from tests.support.pty_board import PtyBoard


@pytest.fixture
def board() -> Iterator[PtyBoard]:
    with PtyBoard() as board:
        yield board


def driver(board: PtyBoard, clock: ManualClock | None = None, **options: Any) -> WelderCsvSerial:
    options = {"channels": ("current", "voltage"), "units": ("A", "V"), "read_timeout_s": 2.0, **options}
    return WelderCsvSerial("welder", WelderCsvSerialOptions(port=board.port, **options), clock or ManualClock())


def read_items(device: WelderCsvSerial, n: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    for _ in range(1000):
        if (chunk := device.read()) is not None:
            chunks.append(chunk)
        if sum(chunk.n for chunk in chunks) >= n:
            return chunks
    raise AssertionError(f"{n} items did not come")


def test_lines_become_floats_and_bad_ones_are_lost_where_they_stood(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    bad = [b"x,y", b"1", b"1,2,3", b"nan,1", b"1,inf", b"", b"\xff\x00,1", b"7," + b"0" * 9000]
    board.send(b"56,7\n1,2\r\n 3 , -4.5\n" + b"\n".join(bad) + b"\n5,6\n")
    chunks = read_items(device, 3)
    device.close()
    assert np.array_equal(np.concatenate([c.data for c in chunks]), np.array([[1, 2], [3, -4.5], [5, 6]], np.float32))
    assert chunks[-1].lost_before == len(bad)
    assert chunks[-1].counter == 2 + len(bad)
    assert device.malformed_lines == len(bad)
    assert device.spec.tick == "arrival"


def test_a_counter_column_counts_what_is_missing(board: PtyBoard) -> None:
    device = driver(board, counter_column=True, counter_bits=8, kind="motion")
    device.open()
    board.send(b"\n254,1,1\n255,2,2\n0,3,3\njunk\n2,5,5\n-1,6,6\n3,6,6\n")
    chunks = read_items(device, 5)
    device.close()
    assert [c.counter for c in chunks] == [254, 258]
    assert [c.lost_before for c in chunks] == [0, 1]
    assert [c.n for c in chunks] == [3, 2]
    assert (device.spec.kind, device.spec.tick) == ("motion", "counter")


def test_what_was_missed_while_closed_is_lost(board: PtyBoard) -> None:
    clock = ManualClock()
    device = driver(board, clock, rate_hz=100)
    device.open()
    board.send(b"\n1,1\n")
    read_items(device, 1)
    device.close()
    clock.advance_ns(1_000_000_000)
    device.open()
    board.send(b"\n2,2\n")
    (chunk,) = read_items(device, 1)
    device.close()
    assert (chunk.lost_before, chunk.counter) == (99, 100)


def test_nothing_but_other_lines_is_said(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    board.send(b"hello world\n" * 500)
    with pytest.raises(DeviceError, match=r"columns current, voltage.*hello world"):
        read_items(device, 1)
    device.close()


def test_unplugged_is_a_device_error(board: PtyBoard) -> None:
    device = driver(board)
    device.open()
    board.unplug()
    with pytest.raises(DeviceError, match=board.port):
        device.read()
    device.close()


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(8, 32))
def test_any_bytes_leave_bounded_memory_and_the_same_lines(pieces: list[bytes], limit: int) -> None:
    split, whole = _Lines(limit), _Lines(limit)
    lines = []
    for piece in pieces:
        lines += split.feed(piece)
        assert len(split._rest) <= limit
    assert lines == whole.feed(b"".join(pieces))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValidationError, match="scale has 1 entries for 3 channels"):
        WelderCsvSerialOptions(port="/dev/x", scale=(1.0,))
