"""The camera driver on real transports: HTTP MJPEG on loopback and video files, through OpenCV and FFmpeg."""

import subprocess
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from numbered_images import number_of, numbered_jpeg

from drivers.base import Chunk, DeviceError, ManualClock, StreamEnded
from drivers.camera_opencv import CameraOpencv, CameraOpencvOptions, is_whole_jpeg, source_type
from drivers.sim.mjpeg import MjpegServer


class Feeder:
    """Pushes numbered images at 60 Hz from a thread, as a camera does, and remembers what it pushed."""

    def __init__(self, server: MjpegServer, path: str) -> None:
        self.sent: list[bytes] = []
        self.replace: dict[int, bytes] = {}
        self._server, self._path = server, path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(1 / 60):
            number = len(self.sent)
            jpeg = self.replace.get(number, numbered_jpeg(number))
            self.sent.append(jpeg)
            self._server.push(self._path, jpeg)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    server = MjpegServer(("arc", "result"))
    yield server
    server.close()


@pytest.fixture
def feeder(server: MjpegServer) -> Iterator[Feeder]:
    feeder = Feeder(server, "arc")
    yield feeder
    feeder.close()


def camera(source: str, clock: ManualClock | None = None, **options: object) -> CameraOpencv:
    made = CameraOpencvOptions.model_validate({"source": source, **options})
    return CameraOpencv("arccam", made, clock) if clock else CameraOpencv("arccam", made)


def read_images(driver: CameraOpencv, n: int) -> list[Chunk]:
    chunks = []
    for _ in range(n):
        chunk = driver.read()
        assert chunk is not None
        chunks.append(chunk)
    return chunks


def test_mjpeg_over_http_passes_through_byte_for_byte(server: MjpegServer, feeder: Feeder) -> None:
    driver = camera(server.url("arc"))
    driver.open()
    chunks = read_images(driver, 60)
    driver.close()
    numbers = [number_of(chunk.data) for chunk in chunks]
    assert numbers == list(range(numbers[0], numbers[0] + 60))
    assert all(chunk.data.tobytes() == feeder.sent[n] for chunk, n in zip(chunks, numbers, strict=True))
    assert [chunk.counter for chunk in chunks] == list(range(60))
    assert all(chunk.lost_before == 0 and chunk.n == 1 for chunk in chunks)


def test_an_image_is_there_when_its_last_byte_came(server: MjpegServer, feeder: Feeder) -> None:
    driver = camera(server.url("arc"))
    driver.open()
    while number_of(read_images(driver, 1)[0].data) < len(feeder.sent) - 2:
        pass  # FFmpeg hands out at once whatever it buffered while it looked at the stream
    behind = [-number_of(read_images(driver, 1)[0].data) + len(feeder.sent) for _ in range(30)]
    driver.close()
    assert np.median(behind) <= 2, "FFmpeg holds images back"


def test_damaged_images_are_lost_and_counted(server: MjpegServer, feeder: Feeder) -> None:
    driver = camera(server.url("arc"))
    driver.open()
    read_images(driver, 5)
    at = len(feeder.sent) + 20
    whole = numbered_jpeg(at)
    feeder.replace = {at: whole[: len(whole) // 2], at + 1: b"no image at all"}
    chunks = read_images(driver, 60)
    driver.close()
    assert at - 1 in [number_of(chunk.data) for chunk in chunks]
    lost = {number_of(chunk.data): chunk.lost_before for chunk in chunks if chunk.lost_before}
    assert lost == {at + 2: 2}
    assert chunks[-1].counter == 66


def test_only_damaged_images_are_a_device_error(server: MjpegServer, feeder: Feeder) -> None:
    driver = camera(server.url("arc"))
    driver.open()
    at = len(feeder.sent) + 10
    feeder.replace = {n: b"\xff\xd8\xff" + bytes(100) for n in range(at, at + 200)}
    with pytest.raises(DeviceError, match="30 damaged images in a row"):
        read_images(driver, 200)
    driver.close()


def test_stalled_camera_fails_after_the_read_timeout_and_recovers(server: MjpegServer, feeder: Feeder) -> None:
    driver = camera(server.url("arc"), read_timeout_ms=1000)
    driver.open()
    read_images(driver, 5)
    server.stall("arc", is_stalled=True)
    with pytest.raises(DeviceError, match=r"arccam \(http://.*gave no frame within 1000 ms"):
        read_images(driver, 1000)
    server.stall("arc", is_stalled=False)
    driver.open()
    after = read_images(driver, 5)
    driver.close()
    assert after[0].counter >= 5
    assert [chunk.seq for chunk in after] == list(range(after[0].counter, after[0].counter + 5))


def test_server_gone_is_noticed_and_reopening_says_what_to_check() -> None:
    server = MjpegServer(("arc",))
    feeder = Feeder(server, "arc")
    driver = camera(server.url("arc"), open_timeout_ms=1000, read_timeout_ms=1000)
    driver.open()
    read_images(driver, 5)
    feeder.close()
    server.close()
    with pytest.raises(DeviceError, match="check the address"):
        read_images(driver, 1000)
    with pytest.raises(DeviceError, match="cannot be opened; check the address"):
        driver.open()
    driver.close()
    driver.close()


def test_open_gives_up_on_a_silent_camera(server: MjpegServer) -> None:
    started_s = time.monotonic()
    with pytest.raises(DeviceError, match="arccam"):
        camera(server.url("result"), open_timeout_ms=500, read_timeout_ms=500).open()
    assert time.monotonic() - started_s < 20, "OpenCV's own limit of 30 s was left in place"


@pytest.mark.parametrize(
    ("source", "fix"),
    [("/dev/video99", "v4l2-ctl --list-devices"), ("nowhere.avi", "no such file")],
)
def test_a_missing_source_is_named_with_its_fix(source: str, fix: str) -> None:
    with pytest.raises(DeviceError, match=fix) as caught:
        camera(source).open()
    assert source in str(caught.value)


@pytest.fixture
def video(tmp_path):
    """Writes 12 numbered images as `codec` at 25 frames/s."""

    def write(codec: str) -> str:
        for number in range(12):
            (tmp_path / f"{number:03d}.jpg").write_bytes(numbered_jpeg(number))
        path = tmp_path / f"{codec}.avi"
        coder = ["-c:v", "copy"] if codec == "mjpeg" else ["-c:v", codec, "-q:v", "2"]
        source = ["-framerate", "25", "-i", str(tmp_path / "%03d.jpg")]
        subprocess.run([get_ffmpeg_exe(), "-loglevel", "error", "-y", *source, *coder, str(path)], check=True)
        return str(path)

    return write


def test_mjpeg_file_passes_through_paced_by_its_clock_and_ends(video) -> None:
    clock = ManualClock(1_000)
    driver = camera(video("mjpeg"), clock, rate_hz=50.0)
    driver.open()
    chunks = read_images(driver, 12)
    assert [chunk.data.tobytes() for chunk in chunks] == [numbered_jpeg(n) for n in range(12)]
    assert [chunk.arrival_ns for chunk in chunks] == [1_000 + n * 20_000_000 for n in range(12)]
    assert clock.now_ns() == chunks[-1].arrival_ns
    with pytest.raises(StreamEnded, match="after 12 frames"):
        driver.read()
    driver.open()
    assert read_images(driver, 1)[0].counter == 12
    driver.close()


def test_other_codecs_are_decoded_and_encoded_once(video) -> None:
    driver = camera(video("mpeg4"), ManualClock(), rate_hz=25.0, kind="result")
    driver.open()
    assert [number_of(chunk.data) for chunk in read_images(driver, 12)] == list(range(12))
    assert driver.spec.kind == "result"
    with pytest.raises(StreamEnded):
        driver.read()
    driver.close()


def test_a_files_own_rate_must_be_confirmed(video) -> None:
    with pytest.raises(DeviceError, match=r"says 25\.000 frames/s; state rate_hz"):
        camera(video("mjpeg"), ManualClock()).open()


def test_a_stated_size_is_checked(video) -> None:
    with pytest.raises(DeviceError, match=r"gives 320×240 pixels, the config says width = 640"):
        camera(video("mjpeg"), ManualClock(), rate_hz=25.0, width=640, height=480).open()


def test_reading_an_unopened_camera_is_an_error() -> None:
    with pytest.raises(DeviceError, match="not open"):
        camera("/dev/video0").read()


def test_spec_needs_no_device() -> None:
    spec = camera("rtsp://cell/arc", rate_hz=15.0, width=960, height=600, torch="left").spec
    assert (spec.kind, spec.rate_hz, spec.shape, spec.torch, spec.tick) == (
        "video",
        15.0,
        (600, 960),
        "left",
        "arrival",
    )
    assert [source_type(s) for s in ("/dev/video0", "http://a/b", "a/b.avi")] == ["v4l2", "url", "file"]


def test_whole_jpegs_are_told_from_pieces() -> None:
    whole = np.frombuffer(numbered_jpeg(3), np.uint8)
    assert is_whole_jpeg(whole)
    assert is_whole_jpeg(np.concatenate([whole, np.zeros(64, np.uint8)]))
    assert not is_whole_jpeg(whole[:-2])
    assert not is_whole_jpeg(whole[1:])
    assert not is_whole_jpeg(np.zeros(0, np.uint8))
