"""CSV, sound and image files as streams, paced by a clock."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from drivers.base import Chunk, DeviceError, Driver, ManualClock, StreamEnded
from drivers.table import create_driver

MS = 1_000_000


def read_all(driver: Driver) -> list[Chunk]:
    """Open, read to the end, close."""
    chunks: list[Chunk] = []
    driver.open()
    while True:
        try:
            chunk = driver.read()
        except StreamEnded:
            driver.close()
            return chunks
        if chunk is not None:
            chunks.append(chunk)


def csv(folder: Path, text: str, **options: Any) -> Driver:
    path = folder / "log.csv"
    path.write_text(text)
    options = {"path": str(path), "rate_hz": 100, "columns": ["i", "u"], **options}
    return create_driver("welder.file", "welder", options, ManualClock(5_000 * MS))


def test_rows_are_due_when_their_last_item_would_have_been_sampled(tmp_path: Path) -> None:
    text = "t,u,i\n" + "".join(f"0,{-k},{k}\n" for k in range(5))
    chunks = read_all(csv(tmp_path, text))
    assert np.array_equal(np.concatenate([c.data for c in chunks])[:, 0], np.arange(5))
    assert [c.n for c in chunks] == [2, 2, 1]
    assert [c.arrival_ns // MS for c in chunks] == [5020, 5040, 5050]


def test_max_does_not_wait_but_keeps_the_distances(tmp_path: Path) -> None:
    clock = ManualClock(0)
    (tmp_path / "log.csv").write_text("i\n" + "1\n" * 300)
    options = {"path": str(tmp_path / "log.csv"), "rate_hz": 100, "columns": ["i"], "pace": "max", "chunk_s": 1.0}
    chunks = read_all(create_driver("welder.file", "welder", options, clock))
    assert [c.arrival_ns // MS for c in chunks] == [1000, 2000, 3000]
    assert clock.now_ns() == 0


def test_unreadable_rows_are_lost_where_they_stood(tmp_path: Path) -> None:
    chunks = read_all(csv(tmp_path, "i,u\n1,1\nx,1\n2\n\nnan,2\n3,3\n"))
    assert [(c.counter, c.lost_before, c.n) for c in chunks] == [(0, 0, 1), (4, 3, 1)]


def test_a_time_column_tells_what_is_missing(tmp_path: Path) -> None:
    text = "i,u,t\n1,1,7.00\n2,2,7.01\n3,3,7.042\n4,4,7.049\n"
    chunks = read_all(csv(tmp_path, text, time_column="t"))
    assert [(c.counter, c.lost_before, c.n) for c in chunks] == [(0, 0, 2), (4, 2, 2)]


def test_a_slow_source_gives_none_like_a_silent_device(tmp_path: Path) -> None:
    driver = csv(tmp_path, "i,u\n1,1\n2,2\n", rate_hz=1)
    driver.open()
    assert driver.read() is None
    chunk = driver.read()
    assert chunk is not None
    assert chunk.arrival_ns // MS == 6000
    driver.close()


def test_a_missing_column_is_named_with_the_header(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no column u; its header is 'i, amps'"):
        csv(tmp_path, "i,amps\n1,1\n").open()


def test_a_profile_takes_the_first_columns(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("1,2,3,9\n4,5,6,9\n")
    options = {"path": str(tmp_path / "p.csv"), "kind": "profile", "rate_hz": 500, "width": 3, "header": False}
    driver = create_driver("profile.file", "profile", options, ManualClock())
    assert driver.spec.shape == (3,)
    (chunk,) = read_all(driver)
    assert np.array_equal(chunk.data, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": []}, "kind 'profile' needs width"),
        ({"kind": "profile"}, "kind 'profile' needs width"),
        ({"header": False}, "header = true"),
        ({"units": ["A"]}, "units has 1 entries for 2 columns"),
    ],
)
def test_layouts_that_cannot_be_read_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        csv(tmp_path, "", **options)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_sound_comes_bit_exact_and_on_time(tmp_path: Path, name: str) -> None:
    wanted = np.random.default_rng(1).integers(-32768, 32767, (1000, 2)).astype(np.int16)
    soundfile.write(tmp_path / name, wanted, 16_000)
    options = {"path": str(tmp_path / name), "rate_hz": 16_000, "channels": 2}
    chunks = read_all(create_driver("microphone.file", "mic", options, ManualClock()))
    assert np.array_equal(np.concatenate([c.data for c in chunks]), wanted)
    assert [c.arrival_ns // MS for c in chunks][:3] == [10, 20, 30]
    assert chunks[-1].arrival_ns == 62_500_000


def test_sound_of_another_rate_is_refused_with_the_fix(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(10, np.int16), 16_000)
    with pytest.raises(DeviceError, match=r"16000 Hz and 1 channel.*set rate_hz"):
        create_driver("microphone.file", "mic", {"path": str(tmp_path / "a.wav")}).open()
    (tmp_path / "b.wav").write_bytes(b"no sound")
    with pytest.raises(DeviceError, match=r"b\.wav cannot be opened"):
        create_driver("microphone.file", "mic", {"path": str(tmp_path / "b.wav")}).open()


def test_jpegs_pass_through_and_others_are_encoded_once(tmp_path: Path) -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    for k in (2, 10):
        cv2.imwrite(str(tmp_path / f"f{k}.jpg"), image + k)
    cv2.imwrite(str(tmp_path / "f3.png"), image + 200)
    (tmp_path / "f4.jpg").write_bytes(b"no image")
    (tmp_path / "f5.png").write_bytes(b"")
    options = {"path": str(tmp_path), "kind": "result", "rate_hz": 10}
    chunks = read_all(create_driver("camera.folder", "cam", options, ManualClock()))
    assert [c.counter for c in chunks] == [0, 1, 4]
    assert [c.lost_before for c in chunks] == [0, 0, 2]
    assert [c.arrival_ns // MS for c in chunks] == [0, 100, 400]
    assert chunks[0].data.tobytes() == (tmp_path / "f2.jpg").read_bytes()
    assert chunks[2].data.tobytes() == (tmp_path / "f10.jpg").read_bytes()
    decoded = cv2.imdecode(chunks[1].data, cv2.IMREAD_COLOR)
    assert decoded is not None
    assert abs(int(decoded.mean()) - 200) <= 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="holds no image"):
        create_driver("camera.folder", "cam", {"path": str(tmp_path)}).open()
