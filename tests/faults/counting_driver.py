"""A small real driver for tests: counts samples in real time and misbehaves on demand, in a thread or a child."""

import os
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from drivers.base import MONOTONIC, Chunk, DeviceError, DriverOptions, HostClock, Isolation, StreamEnded, StreamSpec

N = 10
RATE_HZ = 1_000.0
READ_TIMEOUT_S = 0.05


class CountingOptions(DriverOptions):
    """`plug`: the device is there while this file exists. `once`: what goes wrong, the first time only."""

    plug: Path | None = None
    hang_marker: Path | None = None
    end_after: int | None = None
    crash_after: int | None = None
    bad_dtype: bool = False
    silent: bool = False
    wrong_clock: Literal["", "utc", "set_back"] = ""


class Counting:
    """`RATE_HZ` samples a second, whose value is their number since 1970 in the device's own count, modulo 30000."""

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[DriverOptions]] = CountingOptions

    def __init__(self, name: str, options: CountingOptions, clock: HostClock = MONOTONIC) -> None:
        self._name, self._options, self._clock = name, options, clock
        self._next: int | None = None
        self._seq = 0

    @property
    def spec(self) -> StreamSpec:
        return StreamSpec(self._name, "welder", RATE_HZ, (2,), "int16", ("current", "voltage"), ("A", "V"))

    def open(self) -> None:
        self._check_plug()
        self._first = self._next = self._device_count()

    def _arrival_ns(self) -> int:
        assert self._next is not None
        if self._options.wrong_clock == "utc":
            return time.time_ns()
        is_set_back = self._options.wrong_clock == "set_back" and self._next - self._first >= 5 * N
        return self._clock.now_ns() - (3_600_000_000_000 if is_set_back else 0)

    def read(self) -> Chunk | None:
        self._check_plug()
        if self._options.silent:
            time.sleep(READ_TIMEOUT_S)
            return None
        assert self._next is not None, "read before open"
        self._maybe_fail(self._next - self._first)
        self._clock.sleep_until_ns(round((self._next + N) * 1e9 / RATE_HZ))
        numbers = np.arange(self._next, self._next + N)
        dtype = np.int32 if self._options.bad_dtype else np.int16
        data = np.stack([numbers % 30_000, np.full(N, os.getpid() % 30_000)], axis=1).astype(dtype)
        chunk = Chunk(self._name, self._seq, self._next - self._first, self._arrival_ns(), 0, data)
        self._next += N
        self._seq += 1
        return chunk

    def close(self) -> None:
        self._next = None

    def _device_count(self) -> int:
        return round(self._clock.now_ns() * RATE_HZ / 1e9)

    def _check_plug(self) -> None:
        if self._options.plug is not None and not self._options.plug.exists():
            raise DeviceError(f"stream {self._name}: {self._options.plug} is not there; plug it in")

    def _maybe_fail(self, given: int) -> None:
        options = self._options
        if options.end_after is not None and given >= options.end_after:
            raise StreamEnded(f"stream {self._name}: {given} items delivered")
        if options.crash_after is not None and given >= options.crash_after:
            raise RuntimeError("a bug in a driver")
        if options.hang_marker is not None and given >= 200 and not options.hang_marker.exists():
            options.hang_marker.touch()
            while True:  # what OpenCV's read() does after some reconnections
                time.sleep(3600)


class CountingChild(Counting):
    """The same, in a process of its own."""

    isolation: ClassVar[Isolation] = "process"


class ImagesChild(CountingChild):
    """Images of many sizes, 500 a second; every byte is the image's number modulo 251."""

    @property
    def spec(self) -> StreamSpec:
        return StreamSpec(self._name, "video", 500.0, (64, 64), "uint8", tick="arrival")

    def read(self) -> Chunk | None:
        self._clock.sleep_until_ns(self._clock.now_ns() + 2_000_000)
        image = np.full(1_000 + self._seq * 7919 % 60_000, self._seq % 251, np.uint8)
        self._seq += 1
        return Chunk(self._name, self._seq - 1, self._seq - 1, self._clock.now_ns(), 0, image)
