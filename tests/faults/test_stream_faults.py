"""Streams over devices that vanish, hang, end and crash: a gap with its size, and nothing else stops."""

import itertools
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from drivers.base import Chunk, ManualClock, StreamKind
from edged.config import StreamConfig
from edged.stream import Stream, Timing

QUICK = Timing(backoff_s=0.05, backoff_limit_s=0.2, read_stall_s=0.6, silence_s=0.5)
PATIENCE_S = 60.0
RATE_HZ = 1_000.0


class Bench:
    """Streams under test: collects what they deliver and stops them at the end."""

    def __init__(self) -> None:
        self.chunks: queue.Queue[Chunk] = queue.Queue()
        self.seen: list[Chunk] = []
        self.copies: list[np.ndarray] = []
        self.fatal: list[tuple[str, BaseException | None]] = []
        self.streams: list[Stream] = []

    def stream(
        self,
        driver: str = "Counting",
        sink: Any = None,
        clock: Any = None,
        kind: StreamKind = "welder",
        ring_s: float = 5.0,
        **options: Any,
    ) -> Stream:
        config = StreamConfig(driver=f"counting_driver:{driver}", kind=kind, options=options, ring_s=ring_s)
        extra = {} if clock is None else {"clock": clock}
        stream = Stream(
            "welder",
            config,
            sink or self.chunks.put,
            on_fatal=lambda name, error: self.fatal.append((name, error)),
            timing=QUICK,
            child_env={"EDGED_TEST": "yes"},
            **extra,
        )
        self.streams.append(stream)
        return stream

    def take(self, until: Callable[[Chunk], bool]) -> Chunk:
        """Chunks until one that satisfies `until`; copied as they come."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            chunk = self.chunks.get(timeout=PATIENCE_S)
            self.seen.append(chunk)
            self.copies.append(np.array(chunk.data))
            if until(chunk):
                return chunk
        raise AssertionError("the stream delivers, but not what was waited for")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for stream in made.streams:
        assert stream.stop(10.0)
        assert stream.child_pid is None


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll: what is waited for happens in another thread or process."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def assert_continuous(chunks: list[Chunk], data: list[np.ndarray]) -> None:
    """Sequence, counter and time only grow; the samples between two chunks are what `lost_before` says."""
    for i, (before, after) in enumerate(itertools.pairwise(chunks)):
        assert after.seq == before.seq + 1
        assert after.counter == before.counter + before.n + after.lost_before
        assert after.t_ns >= before.end_ns - 1
        truly_lost = (int(data[i + 1][0, 0]) - int(data[i][-1, 0]) - 1) % 30_000
        # By arrival times on a loaded machine; the sample number of the device is the truth.
        assert abs(truly_lost - after.lost_before) <= 100


@pytest.mark.parametrize("driver", ["Counting", "CountingChild"])
def test_a_stream_delivers_stamped_views_into_its_ring(bench: Bench, driver: str) -> None:
    stream = bench.stream(driver)
    assert stream.health().state == "starting"
    stream.start()
    last = bench.take(lambda chunk: chunk.seq == 120)
    assert_continuous(bench.seen, bench.copies)
    assert not last.data.flags.writeable
    assert stream.ring.valid(last)
    held = stream.ring.slice(bench.seen[0].t_ns, last.end_ns)
    assert [chunk.seq for chunk in held] == list(range(121))
    assert abs(last.t_ns - time.monotonic_ns()) < 30e9
    health = stream.health()
    assert health.state in ("ok", "degraded")
    assert health.items >= 1210
    assert (health.lost, health.gaps, health.reconnects, health.error) == (0, 0, 0, None)
    assert bench.fatal == []


def test_the_driver_runs_in_a_child_that_dies_with_the_stream(bench: Bench) -> None:
    stream = bench.stream("CountingChild")
    stream.start()
    bench.take(lambda chunk: chunk.seq == 3)
    pid = stream.child_pid
    assert pid is not None
    assert int(bench.copies[-1][0, 1]) == pid % 30_000, "the samples carry the id of the process that made them"
    environment = psutil.Process(pid).environ()
    assert (environment["EDGED_TEST"], environment["OMP_NUM_THREADS"]) == ("yes", "1")
    assert stream.stop(10.0)
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("driver", ["Counting", "CountingChild"])
def test_unplug_and_replug_is_a_gap_with_its_size(bench: Bench, driver: str, tmp_path: Path) -> None:
    plug = tmp_path / "plug"
    stream = bench.stream(driver, plug=str(plug))
    stream.start()
    wait_for(lambda: stream.health().state == "down")
    assert "plug it in" in str(stream.health().error)
    plug.touch()
    bench.take(lambda chunk: chunk.seq == 20)
    plug.unlink()
    wait_for(lambda: stream.health().state == "down")
    unplugged = time.monotonic_ns()
    wait_for(lambda: time.monotonic_ns() - unplugged > 500_000_000)
    plug.touch()
    gap = bench.take(lambda chunk: chunk.lost_before > 0)
    assert gap.lost_before > 400
    bench.take(lambda chunk: chunk.seq == gap.seq + 20)
    assert_continuous(bench.seen, bench.copies)
    health = stream.health()
    assert (health.gaps, health.reconnects, health.lost) == (1, 1, gap.lost_before)


def test_images_of_a_child_are_right_or_known_to_be_overwritten(bench: Bench) -> None:
    stream = bench.stream("ImagesChild", kind="video", ring_s=0.1)
    stream.start()
    right = 0
    while stream.ring.overwritten < 200:
        chunk = bench.take(lambda chunk: True)
        copy = bench.copies[-1]
        if stream.ring.valid(chunk):
            right += 1
            assert len(copy) == 1_000 + chunk.counter * 7919 % 60_000
            assert (copy == chunk.counter % 251).all()
    assert right > 100
    assert not stream.ring.valid(bench.seen[0])
    held = stream.ring.slice(0, 2**62)
    assert 1 < len(held) <= 50
    assert [c.seq for c in held] == list(range(held[0].seq, held[0].seq + len(held)))


def test_a_kind_that_a_driver_cannot_deliver_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="delivers welder, which cannot be video"):
        bench.stream(kind="video")


def test_a_read_that_never_returns_is_killed_and_started_again(bench: Bench, tmp_path: Path) -> None:
    hanging = bench.stream("CountingChild", hang_marker=str(tmp_path / "hung"))
    beside_queue: queue.Queue[Chunk] = queue.Queue()
    beside = bench.stream("Counting", sink=beside_queue.put)
    hanging.start()
    beside.start()
    gap = bench.take(lambda chunk: chunk.lost_before > 0)
    assert gap.lost_before >= 500, "at least the stall limit is missing"
    bench.take(lambda chunk: chunk.seq == gap.seq + 10)
    assert_continuous(bench.seen, bench.copies)
    assert hanging.health().reconnects == 1
    beside_chunks = [beside_queue.get() for _ in range(beside_queue.qsize())]
    assert sum(chunk.lost_before for chunk in beside_chunks) == 0
    assert beside.health().state in ("ok", "degraded")


def test_a_stopped_child_is_killed_and_started_again(bench: Bench) -> None:
    stream = bench.stream("CountingChild")
    stream.start()
    bench.take(lambda chunk: chunk.seq == 20)
    pid = stream.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    gap = bench.take(lambda chunk: chunk.lost_before > 0)
    assert gap.lost_before >= 500
    assert not psutil.pid_exists(pid)
    assert stream.child_pid not in (None, pid)
    bench.take(lambda chunk: chunk.seq == gap.seq + 10)
    assert_continuous(bench.seen, bench.copies)


def test_a_killed_child_is_a_device_error_that_names_the_signal(bench: Bench) -> None:
    stream = bench.stream("CountingChild")
    stream.start()
    bench.take(lambda chunk: chunk.seq == 20)
    pid = stream.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "SIGKILL" in (stream.health().error or "") or stream.health().reconnects == 1)
    gap = bench.take(lambda chunk: chunk.lost_before > 0)
    assert stream.health().reconnects == 1
    assert gap.lost_before > 10


@pytest.mark.parametrize("driver", ["Counting", "CountingChild"])
def test_a_silent_device_is_down_and_opened_again(bench: Bench, driver: str) -> None:
    stream = bench.stream(driver, silent=True)
    stream.start()
    wait_for(lambda: stream.health().reconnects >= 2)
    assert stream.health().state == "down"
    assert stream.health().items == 0


@pytest.mark.parametrize("driver", ["Counting", "CountingChild"])
def test_a_stream_that_ends_is_not_opened_again(bench: Bench, driver: str) -> None:
    stream = bench.stream(driver, end_after=100)
    stream.start()
    wait_for(lambda: stream.has_ended)
    assert (stream.health().state, stream.health().items) == ("ended", 100)
    assert bench.fatal == []


def test_a_manual_clock_drives_the_stream_as_fast_as_possible(bench: Bench) -> None:
    stream = bench.stream("CountingChild", clock=ManualClock(10**12), end_after=60_000)
    stream.start()
    wait_for(lambda: stream.has_ended)
    assert stream.health().items == 60_000
    assert stream.health().lost == 0
    assert stream.child_pid is None, "a child has no manual clock"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_driver_ends_the_process_not_the_stream_alone(bench: Bench) -> None:
    stream = bench.stream(crash_after=50)
    stream.start()
    wait_for(lambda: bool(bench.fatal))
    name, error = bench.fatal[0]
    assert (name, str(error)) == ("welder", "a bug in a driver")
    assert "a bug in a driver" in str(stream.health().error)


def test_a_bug_in_a_child_costs_the_child(bench: Bench) -> None:
    stream = bench.stream("CountingChild", crash_after=50)
    stream.start()
    wait_for(lambda: stream.health().reconnects >= 1)
    assert bench.fatal == []


def test_a_child_that_breaks_its_spec_is_refused_by_name(bench: Bench) -> None:
    stream = bench.stream("CountingChild", bad_dtype=True)
    stream.start()
    wait_for(lambda: "its driver gave int32" in (stream.health().error or ""))
    assert stream.health().items == 0


def test_the_default_for_a_bug_is_to_end_the_process(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from edged.config import StreamConfig
from edged.stream import Stream
config = StreamConfig(driver="counting_driver:Counting", kind="welder", options={{"crash_after": 50}})
stream = Stream("welder", config, lambda chunk: None)
stream.start()
time.sleep(30)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "RuntimeError: a bug in a driver" in done.stderr


def test_a_child_dies_with_its_daemon(tmp_path: Path) -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from edged.config import StreamConfig
from edged.stream import Stream
config = StreamConfig(driver="counting_driver:CountingChild", kind="welder", options={{"silent": True}})
stream = Stream("welder", config, lambda chunk: None)
stream.start()
pid = None
while stream.health().reconnects + (stream.health().state == "down") < 1 or pid is None:
    time.sleep(0.01)
    pid = stream.child_pid  # None while a silent child is being replaced
print(pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            pid = next(int(line) for line in daemon.stdout if line.strip().isdigit())
            assert psutil.pid_exists(pid)
        finally:
            daemon.kill()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_child_is_light() -> None:
    code = """
import sys, edged.capture
print([m for m in ("zmq", "torch", "typer", "structlog", "cv2", "scipy") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("wrong_clock", "delivered", "says"),
    [("utc", 0, "another clock than the host's monotonic one"), ("set_back", 5, "went back by 3600")],
)
def test_arrivals_of_another_epoch_or_of_a_clock_set_back_are_an_error(
    bench: Bench, wrong_clock: str, delivered: int, says: str
) -> None:
    stream = bench.stream(clock=ManualClock(10**12), wrong_clock=wrong_clock)
    errors = []
    stream.start()
    deadline_s = time.monotonic() + PATIENCE_S
    while not errors and time.monotonic() < deadline_s:
        error = stream.health().error
        errors += [error] if error else []
        time.sleep(0.01)
    assert says in errors[0]
    assert "stream welder" in errors[0]
    assert stream.stop(10.0)
    times = [chunk.t_ns for chunk in bench.chunks.queue]
    assert times == sorted(times)
    assert len(times) >= delivered
