"""One time base for all streams of the virtual cell: item k of a stream is due at t0 + k / rate, whatever happens.

Tracks say what a stream shows at each index: a rendered seam where one is scheduled, idle signal elsewhere.
The pacer delivers them in real time; when late it catches up at once and never drifts.
"""

import heapq
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import MONOTONIC, HostClock

__all__ = ["GRID_NS", "FrameTrack", "Pacer", "SampleTrack", "idle_like"]

MAX_SLEEP_NS = 50_000_000
"""The pacer looks this often whether it shall stop."""


def idle_like(quiet: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    """`n` items of noise with mean, spread and dtype of `quiet` `(m, channels)`: what sensors show at rest."""
    noise = quiet.mean(axis=0) + quiet.std(axis=0) * rng.standard_normal((n, quiet.shape[1]))
    idle: NDArray[Any] = (np.rint(noise) if quiet.dtype.kind == "i" else noise).astype(quiet.dtype)
    return idle


GRID_NS = 100_000_000
"""Seams begin on this grid, on which every stream's chunks begin too; so counters of many seams fit one line each."""


class SampleTrack:
    """What a sampled stream shows: `idle` `(m, channels)` for ever and again, with seams laid over it.

    One thread adds, another takes.
    """

    def __init__(self, rate_hz: float, idle: NDArray[Any]) -> None:
        self.rate_hz = rate_hz
        self._idle = idle
        self._segments: list[tuple[int, NDArray[Any]]] = []
        self._lock = threading.Lock()

    def add(self, first: int, items: NDArray[Any]) -> None:
        """Lay `items` over the indices from `first`."""
        with self._lock:
            self._segments.append((first, items))

    def take(self, first: int, n: int) -> NDArray[Any]:
        """Items `first … first + n`; seams that ended before are forgotten."""
        out = self._idle[np.arange(first, first + n) % len(self._idle)]
        with self._lock:
            self._segments = [(at, items) for at, items in self._segments if at + len(items) > first]
            segments = list(self._segments)
        for at, items in segments:
            start, stop = max(at, first), min(at + len(items), first + n)
            if start < stop:
                out[start - first : stop - first] = items[start - at : stop - at]
        return out


class FrameTrack:
    """What a camera shows: one JPEG per index, `idle` where no seam is."""

    def __init__(self, rate_hz: float, idle: bytes) -> None:
        self.rate_hz = rate_hz
        self._idle = idle
        self._segments: list[tuple[int, Sequence[bytes]]] = []
        self._lock = threading.Lock()

    def add(self, first: int, frames: Sequence[bytes]) -> None:
        """Show `frames` from index `first` on."""
        with self._lock:
            self._segments.append((first, frames))

    def take(self, index: int) -> bytes:
        """The image at `index`."""
        with self._lock:
            self._segments = [(at, frames) for at, frames in self._segments if at + len(frames) > index]
            for at, frames in self._segments:
                if at <= index:
                    return frames[index - at]
        return self._idle


class Pacer:
    """A thread that calls every stream's `deliver(first)` when the items `first … first + block` are due.

    A block of samples is due when its last one is complete (`t0 + (first + block) / rate`), an image at its own
    time (`t0 + first / rate`), because a sensor delivers so.
    """

    def __init__(self, clock: HostClock = MONOTONIC) -> None:
        self.t0_ns = clock.now_ns()
        self.worst_late_ns = 0
        self._clock = clock
        self._streams: list[tuple[float, int, bool, Callable[[int], None]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pacer")

    def add(self, rate_hz: float, block: int, deliver: Callable[[int], None], *, at_end: bool = True) -> None:
        """Add a stream before `start`."""
        self._streams.append((rate_hz, block, at_end, deliver))

    def start(self) -> None:
        """Begin to deliver; index 0 of every stream lies at `t0_ns`."""
        self.t0_ns = self._clock.now_ns()
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False once the thread ended, be it through an error."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop delivering."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _due_ns(self, stream: int, first: int) -> int:
        rate_hz, block, at_end, _ = self._streams[stream]
        return self.t0_ns + round((first + (block if at_end else 0)) * 1e9 / rate_hz)

    def _run(self) -> None:
        due = [(self._due_ns(i, 0), i, 0) for i in range(len(self._streams))]
        heapq.heapify(due)
        while due and not self._stop.is_set():
            due_ns, stream, first = due[0]
            now_ns = self._clock.now_ns()
            if now_ns < due_ns:
                self._clock.sleep_until_ns(min(due_ns, now_ns + MAX_SLEEP_NS))
                continue
            self.worst_late_ns = max(self.worst_late_ns, now_ns - due_ns)
            _, block, _, deliver = self._streams[stream]
            deliver(first)
            heapq.heapreplace(due, (self._due_ns(stream, first + block), stream, first + block))
