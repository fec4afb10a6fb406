"""Rows of a laser profiler from a serial board and from a file: heights, points without return, lost rows."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from drivers.base import Chunk, ManualClock, StreamEnded
from drivers.table import create_driver
from tests.support.pty_board import PtyBoard

NAN = float("nan")


def read_board(text: bytes, **options: Any) -> list[Chunk]:
    with PtyBoard() as board:
        given = {"port": board.port, "kind": "profile", "width": 3, "rate_hz": 100.0, **options}
        driver = create_driver("profile.csv_serial", "laser", given)
        driver.open()
        board.send(b"tail of a line\n" + text)
        chunks: list[Chunk] = []
        while (chunk := driver.read()) is not None:
            chunks.append(chunk)
        driver.close()
        spec = driver.spec
    assert (spec.kind, spec.shape, spec.dtype) == ("profile", (3,), "float32")
    return [chunk for chunk in chunks if chunk.n]


def rows(chunks: list[Chunk]) -> np.ndarray:
    return np.concatenate([chunk.data for chunk in chunks])


def test_a_point_that_is_empty_nan_or_the_devices_own_mark_is_nan() -> None:
    chunks = read_board(b"7,0.5,,1.5\r\n8,nan,-99.9,2.5\r\n9,1,2,3\r\n", counter_column=True, no_return=-99.9)
    np.testing.assert_array_equal(rows(chunks), np.array([[0.5, NAN, 1.5], [NAN, NAN, 2.5], [1, 2, 3]], np.float32))
    assert sum(chunk.lost_before for chunk in chunks) == 0


def test_the_mark_of_no_return_does_not_touch_the_counter() -> None:
    chunks = read_board(b"9999,1,2,3\r\n10000,9999,5,6\r\n", counter_column=True, no_return=9999)
    np.testing.assert_array_equal(rows(chunks), np.array([[1, 2, 3], [NAN, 5, 6]], np.float32))
    assert chunks[0].counter == 9999


def test_rows_that_are_lost_or_malformed_are_counted() -> None:
    chunks = read_board(b"1,1,1,1\r\n4,4,4,4\r\n5,x,5,5\r\n6,6,6\r\n7,7,inf,7\r\n8,8,8,8\r\n", counter_column=True)
    assert rows(chunks)[:, 0].tolist() == [1, 4, 8]
    assert [(chunk.counter, chunk.lost_before) for chunk in chunks] == [(1, 0), (4, 2), (8, 3)]


def test_one_scale_serves_all_points_and_long_rows_fit() -> None:
    line = ",".join(["123456"] * 300).encode() + b"\r\n"
    (chunk, *_) = read_board_wide(line)
    assert chunk.data.shape[1] == 300


def read_board_wide(line: bytes) -> list[Chunk]:
    with PtyBoard() as board:
        options = {"port": board.port, "kind": "profile", "width": 300, "scale": [0.001]}
        driver = create_driver("profile.csv_serial", "laser", options)
        driver.open()
        board.send(b"\n" + line)
        chunks = [chunk for _ in range(4) if (chunk := driver.read()) is not None]
        assert driver.spec.physical(chunks[0].data)[0, 7] == pytest.approx(123.456, rel=1e-6)
        driver.close()
    return chunks


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"kind": "profile"}, "width is 0"),
        ({"kind": "welder", "width": 3}, "width is 3"),
        ({"kind": "profile", "width": 3, "channels": ["a"]}, "channels: the points of a profile have no names"),
        ({"kind": "profile", "width": 3, "scale": [1.0, 2.0]}, "one number for all points"),
        ({"kind": "motion", "no_return": 0}, "no_return is for kind 'profile'"),
    ],
)
def test_options_that_do_not_fit_a_profile_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        create_driver("profile.csv_serial", "laser", {"port": "/dev/null", **options})


def test_a_file_of_rows_with_times_in_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "scan.csv"
    path.write_text("t,z0,z1\n0.00,1,2\n0.01,,3\n0.04,-1,5\n")
    options = {"path": str(path), "kind": "profile", "rate_hz": 100, "width": 2, "time_column": "t", "no_return": -1}
    driver = create_driver("profile.file", "laser", options, ManualClock())
    driver.open()
    chunks: list[Chunk] = []
    with contextlib.suppress(StreamEnded):
        while (chunk := driver.read()) is not None:
            chunks.append(chunk)
    driver.close()
    np.testing.assert_array_equal(rows(chunks), np.array([[1, 2], [NAN, 3], [NAN, 5]], np.float32))
    assert [(chunk.counter, chunk.lost_before) for chunk in chunks] == [(0, 0), (4, 2)]
