"""The microphone driver on a real PortAudio input: ALSA's file plugin over a FIFO that this process feeds."""

import ctypes.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from drivers.base import DeviceError, ManualClock
from drivers.microphone_portaudio import MicrophonePortaudio, MicrophonePortaudioOptions
from drivers.sim.alsa_fifo import FifoMicrophone

CHILD = Path(__file__).with_name("microphone_child.py")
ROOT = CHILD.parents[3]

needs_portaudio = pytest.mark.skipif(
    ctypes.util.find_library("portaudio") is None, reason="libportaudio2 is missing: apt install libportaudio2"
)


class CountingFeeder:
    """Writes PCM whose samples count modulo 2^16, 480 at a time, in real time; can be paused."""

    def __init__(self, microphone: FifoMicrophone, rate_hz: int = 48_000) -> None:
        self.running = threading.Event()
        self.running.set()
        self._stop = threading.Event()
        self._microphone, self._rate_hz = microphone, rate_hz
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        written = 0
        due_s = time.monotonic()
        while not self._stop.is_set():
            if not self.running.wait(0.05):
                due_s = time.monotonic()
                continue
            due_s += 480 / self._rate_hz
            time.sleep(max(0.0, due_s - time.monotonic()))
            counts = np.arange(written, written + 480).astype(np.uint16).view(np.int16)
            self._microphone.write(counts[:, None])
            written += 480

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def microphone(tmp_path: Path) -> Iterator[FifoMicrophone]:
    microphone = FifoMicrophone(tmp_path)
    yield microphone
    microphone.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def feeder(microphone: FifoMicrophone) -> Iterator[CountingFeeder]:
    feeder = CountingFeeder(microphone)
    yield feeder
    feeder.close()


def start_child(microphone: FifoMicrophone, *steps: str, **options: object) -> subprocess.Popen[str]:
    options = {"device": microphone.pcm, **options}
    env = {**os.environ, "ALSA_CONFIG_PATH": str(microphone.config_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(CHILD), json.dumps(options), *steps]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answers(child: subprocess.Popen[str]) -> list[dict]:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def breaks(samples: list[int]) -> int:
    steps = np.diff(np.asarray(samples, np.int16).view(np.uint16))
    return int(np.count_nonzero(steps != 1))


@needs_portaudio
def test_every_sample_arrives_in_order_and_reopening_never_goes_back(
    microphone: FifoMicrophone, feeder: CountingFeeder
) -> None:
    _, first, _, _, second, _ = answers(
        start_child(microphone, "open", "read=200", "close", "open", "read=50", "close")
    )
    for part, n in ((first, 200), (second, 50)):
        assert len(part["samples"]) == 480 * n
        assert breaks(part["samples"]) == 0
    chunks = first["chunks"] + second["chunks"]
    assert [c[0] for c in chunks] == list(range(250))
    assert [c[1] for c in chunks] == [480 * i for i in range(250)]
    assert all(c[2] == 480 and c[3] == 0 for c in chunks)
    assert np.all(np.diff([c[4] for c in chunks]) >= 0)


@needs_portaudio
def test_arrival_follows_real_time(microphone: FifoMicrophone, feeder: CountingFeeder) -> None:
    _, answer = answers(start_child(microphone, "open", "read=300"))
    arrival_ns = np.array([c[4] for c in answer["chunks"]])[100:]  # the first ones were waiting in the FIFO
    rate_hz = 480 * 1e9 * np.polyfit(arrival_ns - arrival_ns[0], np.arange(len(arrival_ns)), 1)[0]
    assert rate_hz == pytest.approx(48_000, rel=0.05)


@needs_portaudio
def test_a_microphone_that_stops_is_noticed_although_active(
    microphone: FifoMicrophone, feeder: CountingFeeder
) -> None:
    child = start_child(microphone, "open", "read=50", "fail", stall_timeout_s=0.5)
    assert child.stdout is not None
    lines = [json.loads(child.stdout.readline()) for _ in range(2)]
    assert len(lines[1]["samples"]) == 50 * 480
    feeder.running.clear()
    watchdog = threading.Timer(20, child.kill)
    watchdog.start()
    failed = json.loads(child.stdout.readline() or "null")
    watchdog.cancel()
    feeder.running.set()  # PortAudio would wait for ever at exit
    child.communicate(timeout=30)
    assert failed is not None, "the driver waited for ever"
    assert failed["active"] is True
    assert "mic (weldmic) delivered nothing for 0." in failed["error"]


@needs_portaudio
def test_an_unknown_device_lists_the_inputs_there_are(microphone: FifoMicrophone, feeder: CountingFeeder) -> None:
    (answer,) = answers(start_child(microphone, "open", device="nomic"))
    assert "microphone mic (nomic) is not there; inputs: " in answer["error"]
    assert microphone.pcm in answer["error"]


@needs_portaudio
def test_part_of_a_name_that_fits_two_inputs_is_refused(microphone: FifoMicrophone, feeder: CountingFeeder) -> None:
    (answer,) = answers(start_child(microphone, "open", device="weldmi"))
    assert "fits 2 inputs" in answer["error"]


def test_missing_portaudio_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    child = subprocess.run(
        [sys.executable, str(CHILD), "{}", "open"], env=env, capture_output=True, text=True, check=True, timeout=60
    )
    assert "apt install libportaudio2" in json.loads(child.stdout)["error"]


def test_an_unopened_microphone_cannot_be_read() -> None:
    with pytest.raises(DeviceError, match="not open"):
        MicrophonePortaudio("mic", MicrophonePortaudioOptions()).read()


def test_spec_needs_no_device() -> None:
    spec = MicrophonePortaudio("mic", MicrophonePortaudioOptions(channels=2, torch="left")).spec
    assert (spec.kind, spec.rate_hz, spec.shape, spec.dtype, spec.torch) == ("audio", 48_000.0, (2,), "int16", "left")
    assert spec.physical(np.array([[-32768, 16384]], np.int16)).tolist() == [[-1.0, 0.5]]


class CallbackOnly:
    """Drives the callback as PortAudio does, with a stream object that is always active; no hardware."""

    active = True

    def abort(self, ignore_errors: bool) -> None: ...

    def close(self, ignore_errors: bool) -> None: ...


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000_000)


@pytest.fixture
def driver(clock: ManualClock) -> MicrophonePortaudio:
    driver = MicrophonePortaudio("mic", MicrophonePortaudioOptions(), clock)
    driver._stream = CallbackOnly()  # type: ignore[assignment]
    return driver


def call_back(driver: MicrophonePortaudio, value: int, age_s: float = 0.0, overflow: bool = False) -> None:
    times = SimpleNamespace(currentTime=5_000.0, inputBufferAdcTime=5_000.0 - age_s)
    block = np.full((480, 1), value, np.int16)
    driver._on_block(block, 480, times, SimpleNamespace(input_overflow=overflow))


@pytest.mark.parametrize(
    ("age_s", "earlier_ns"),
    [(0.0, 0), (0.010, 0), (0.035, 25_000_000), (-1.0, 0), (1.7e9, 0)],
)
def test_arrival_is_corrected_by_the_difference_of_portaudios_times_only(
    driver: MicrophonePortaudio, clock: ManualClock, age_s: float, earlier_ns: int
) -> None:
    call_back(driver, 1, age_s)
    chunk = driver.read()
    assert chunk is not None
    assert chunk.arrival_ns == pytest.approx(clock.now_ns() - earlier_ns, abs=1_000)


def test_an_overflow_moves_the_counter_by_the_time_lost(driver: MicrophonePortaudio, clock: ManualClock) -> None:
    call_back(driver, 1)
    clock.advance_ns(10_000_000)
    call_back(driver, 2)
    clock.advance_ns(35_000_000)
    call_back(driver, 3, overflow=True)
    chunks = [driver.read() for _ in range(3)]
    assert [(c.counter, c.lost_before) for c in chunks if c] == [(0, 0), (480, 0), (960 + 1200, 1200)]


def test_a_reader_that_is_too_slow_loses_the_oldest_blocks_and_counts_them(
    driver: MicrophonePortaudio, clock: ManualClock
) -> None:
    for i in range(1_000):
        call_back(driver, i)
    chunks = [driver.read()]
    while (chunk := driver.read()) is not None:
        chunks.append(chunk)
    values = [int(c.data[0, 0]) for c in chunks if c]
    assert values == list(range(values[0], 1_000))
    assert values[0] > 800
    assert chunks[0] is not None
    assert chunks[0].lost_before == 480 * values[0] == chunks[0].counter
    assert [c.seq for c in chunks if c] == list(range(len(chunks)))
