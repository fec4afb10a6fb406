"""The real serial driver over a real pty: garbage and unplugging in mid-stream cost what they cover and no more."""

import contextlib
import itertools
import os
import queue
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drivers.base import Chunk
from drivers.serial_frame import encode_block
from edged.config import StreamConfig
from edged.stream import Stream, Timing

N = 50
RATE_HZ = 5_000.0
BLOCK_NS = round(N / RATE_HZ * 1e9)
PATIENCE_S = 60.0
QUICK = Timing(backoff_s=0.05, backoff_limit_s=0.2)


class Board:
    """An ADC board: counts blocks by the clock whether or not it is plugged in; channel 0 is the sample number."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._began_ns = time.monotonic_ns()
        self._lock = threading.Lock()
        self._fds: tuple[int, int] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def plug(self) -> None:
        far, near = os.openpty()
        tty.setraw(near)
        os.set_blocking(far, False)
        self.link.symlink_to(os.ttyname(near))
        with self._lock:
            self._fds = (far, near)

    def unplug(self) -> None:
        with self._lock:
            self.link.unlink(missing_ok=True)
            for fd in self._fds or ():
                os.close(fd)
            self._fds = None

    def garbage(self, n_bytes: int) -> None:
        with self._lock:
            self._write(np.random.default_rng(1).integers(0, 256, n_bytes, np.uint8).tobytes())

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.unplug()

    def _run(self) -> None:
        for seq in itertools.count():
            due_ns = self._began_ns + (seq + 1) * BLOCK_NS
            if self._stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
                return
            samples = np.zeros((N, 3), np.int16)
            samples[:, 0] = (np.arange(N) + seq * N) % 30_000
            with self._lock:
                self._write(encode_block(seq, samples))

    def _write(self, data: bytes) -> None:
        if self._fds is not None:
            with contextlib.suppress(BlockingIOError):  # nobody reads: a real port drops as well
                os.write(self._fds[0], data)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path / "ttyWELD")
    yield made
    made.stop()


@pytest.fixture
def chunks() -> "queue.Queue[Chunk]":
    return queue.Queue()


@pytest.fixture
def stream(board: Board, chunks: "queue.Queue[Chunk]") -> Iterator[Stream]:
    options = {"port": str(board.link), "rate_hz": RATE_HZ, "block_samples": N, "read_timeout_s": 0.2}
    config = StreamConfig(driver="welder.serial", kind="welder", options=options, ring_s=10.0)
    fatal: list[BaseException | None] = []
    made = Stream("welder", config, chunks.put, timing=QUICK, on_fatal=lambda _, error: fatal.append(error))
    yield made
    assert made.stop(10.0)
    assert fatal == []


def collect(chunks: "queue.Queue[Chunk]", count: int) -> list[Chunk]:
    return [chunks.get(timeout=PATIENCE_S) for _ in range(count)]


def wait_for_state(stream: Stream, state: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while stream.health().state != state:
        assert time.monotonic() < deadline_s, stream.health()
        time.sleep(0.01)


def assert_true_losses(found: list[Chunk]) -> None:
    """What each chunk says is lost before it is what the board's own numbers say."""
    for before, after in itertools.pairwise(found):
        missing = (int(after.data[0, 0]) - int(before.data[-1, 0]) - 1) % 30_000
        assert after.lost_before % 30_000 == missing
        assert after.counter == before.counter + before.n + after.lost_before
        assert after.t_ns >= before.end_ns - 1


def test_a_port_that_is_missing_at_start_comes_up_when_plugged(
    board: Board, stream: Stream, chunks: "queue.Queue[Chunk]"
) -> None:
    stream.start()
    wait_for_state(stream, "down")
    assert "ttyWELD" in str(stream.health().error)
    board.plug()
    assert_true_losses(collect(chunks, 20))


def test_unplugging_in_mid_stream_is_a_gap_with_its_size(
    board: Board, stream: Stream, chunks: "queue.Queue[Chunk]"
) -> None:
    board.plug()
    stream.start()
    found = collect(chunks, 30)
    board.unplug()
    wait_for_state(stream, "down")
    unplugged_ns = time.monotonic_ns()
    while time.monotonic_ns() - unplugged_ns < 700_000_000:
        time.sleep(0.01)
    board.plug()
    while not found[-1].lost_before:
        found += collect(chunks, 1)
    gap = found[-1]
    found += collect(chunks, 30)
    assert_true_losses(found)
    assert gap.lost_before >= 0.7 * RATE_HZ
    health = stream.health()
    assert health.reconnects == 1
    assert (health.gaps, health.lost) == (1, gap.lost_before)
    held = stream.ring.slice(gap.t_ns, found[-1].end_ns)
    assert held[0].seq == gap.seq


def test_garbage_in_mid_stream_costs_what_it_covers(
    board: Board, stream: Stream, chunks: "queue.Queue[Chunk]"
) -> None:
    board.plug()
    stream.start()
    found = collect(chunks, 30)
    board.garbage(1_000)
    found += collect(chunks, 60)
    assert_true_losses(found)
    health = stream.health()
    assert health.reconnects == 0
    assert health.lost <= 2 * N
