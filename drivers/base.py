"""What a driver is and what it produces: the first step of the data path.

A driver blocks in I/O and knows nothing of threads, rings, seams or verdicts. `edged.stream.Stream` owns
its thread or child process, stamps its chunks, reconnects it and reports its health.

Errors::

    DeviceError            the device is missing, broken or talking nonsense; Stream closes and reopens it
    └── StreamEnded        a file-backed source has no more data; Stream stops and does not reopen
"""

import dataclasses
import time
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

__all__ = [
    "MONOTONIC",
    "Chunk",
    "ClockParams",
    "DeviceError",
    "Driver",
    "DriverOptions",
    "HostClock",
    "Isolation",
    "ManualClock",
    "StreamEnded",
    "StreamKind",
    "StreamSpec",
]

StreamKind = Literal["video", "audio", "welder", "motion", "profile", "result"]
Isolation = Literal["thread", "process"]

ENCODED_KINDS: frozenset[str] = frozenset({"video", "result"})
"""Kinds whose chunks are one encoded JPEG image each; all others are sampled at a fixed rate."""


class DeviceError(Exception):
    """A device failed. The message names the device, the value seen and what to do."""


class StreamEnded(DeviceError):
    """A file-backed source has delivered its last item."""


class HostClock(Protocol):
    """Where host time comes from: `MONOTONIC` in the daemon, a `ManualClock` in simulation and tests."""

    def now_ns(self) -> int:
        """Monotonic host time in ns."""
        ...

    def sleep_until_ns(self, t_ns: int) -> None:
        """Return when `now_ns() >= t_ns`."""
        ...


class _Monotonic:
    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_until_ns(self, t_ns: int) -> None:
        while (left_ns := t_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)


MONOTONIC: HostClock = _Monotonic()


class ManualClock:
    """A clock that moves only when told; sleeping on it jumps to the wanted time (as fast as possible)."""

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_until_ns(self, t_ns: int) -> None:
        self._now_ns = max(self._now_ns, t_ns)

    def advance_ns(self, dt_ns: int) -> None:
        """Move forward by `dt_ns` ≥ 0."""
        if dt_ns < 0:
            raise ValueError(f"a clock cannot go back: advance_ns({dt_ns})")
        self._now_ns += dt_ns


@dataclasses.dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a stream carries, known before its device is opened.

    `shape` is the shape of one item: `(channels,)` for audio, welder and motion; `(width,)` for one row
    of a laser profile, floats in mm with NaN where nothing returned; `(height, width)` in pixels for
    encoded images, `(0, 0)` where only the device knows.
    Raw items become physical ones by `raw * scale + offset`, per channel, in `units`; raw data is what is
    recorded. `tick`: "counter" where the device counts its items, so a `ClockModel` can be fitted;
    "arrival" where only the host's arrival time is known. `exposure_ms` is how long one image of a camera collects
    light after its time stamp, rolling read-out included; 0 where it is short or unknown. `readout_ms` is the rolling
    read-out's part of it: the last row is exposed by so much later than the first. `gain` brings
    a sound's level to that of its calibration's reference; it is no part of `physical`, where clipping must be seen.
    """

    name: str
    kind: StreamKind
    rate_hz: float
    shape: tuple[int, ...]
    dtype: str
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    torch: str | None = None
    tick: Literal["counter", "arrival"] = "counter"
    exposure_ms: float = 0.0
    gain: float = 1.0
    readout_ms: float = 0.0

    @property
    def encoded(self) -> bool:
        """Whether a chunk is one encoded image rather than rows of samples."""
        return self.kind in ENCODED_KINDS

    @property
    def dt_ns(self) -> float:
        """Nominal time from one item to the next, ns."""
        return 1e9 / self.rate_hz

    def channel(self, name: str) -> int:
        """Index of the channel `name`. Raises ValueError naming the channels there are."""
        if name not in self.channels:
            raise ValueError(f"stream {self.name} has no channel {name!r}; it has {', '.join(self.channels)}")
        return self.channels.index(name)

    def physical(self, data: NDArray[Any]) -> NDArray[np.float32]:
        """Raw items `(n, channels)` in physical `units`, float32: `raw * scale + offset` per channel."""
        scale = np.asarray(self.scale or (1.0,), np.float32)
        offset = np.asarray(self.offset or (0.0,), np.float32)
        return data.astype(np.float32) * scale + offset


@dataclasses.dataclass(frozen=True, slots=True)
class ClockParams:
    """The line from device counter to host time that a chunk was stamped with; recorded, never refitted.

    An item with counter c lies at `t0_ns + (c - counter0) * ns_per_count`, so an item's time does not
    depend on how the stream was cut into chunks.
    """

    counter0: int
    t0_ns: int
    ns_per_count: float
    residual_ns: float = 0.0

    def t_ns(self, counter: int) -> int:
        """Host time of the item `counter`, ns."""
        return self.t0_ns + round((counter - self.counter0) * self.ns_per_count)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive items of one stream.

    The driver fills everything but `clock`; `Stream` sets `clock` once, on the way into the ring.

    Args:
        stream: name of the stream (`StreamSpec.name`).
        seq: number of this chunk since the stream was configured, +1 each; a jump is a lost chunk.
        counter: device counter of the first item, unwrapped to grow without bound; where the device has
            none, the number of items read so far.
        arrival_ns: host monotonic time at which the last byte of the chunk arrived.
        lost_before: items known to be missing between the previous chunk and this one.
        data: sampled kinds `(n, *spec.shape)` in `spec.dtype`; encoded kinds `(n_bytes,)` uint8, one JPEG.
        clock: how `counter` maps to host time; None until stamped.
    """

    stream: str
    seq: int
    counter: int
    arrival_ns: int
    lost_before: int
    data: NDArray[Any]
    clock: ClockParams | None = None

    @property
    def n(self) -> int:
        """Number of items."""
        return 1 if self.data.ndim == 1 else len(self.data)

    @property
    def t_ns(self) -> int:
        """Host time of the first item, ns. Raises ValueError when not stamped."""
        return self._clock().t_ns(self.counter)

    @property
    def dt_ns(self) -> float:
        """Time from one item to the next, ns. Raises ValueError when not stamped."""
        return self._clock().ns_per_count

    @property
    def end_ns(self) -> int:
        """Host time just after the last item: when the next one is due, ns."""
        return self._clock().t_ns(self.counter + self.n)

    def times_ns(self) -> NDArray[np.int64]:
        """Host time of every item, `(n,)` int64 ns."""
        clock = self._clock()
        steps = np.arange(self.counter - clock.counter0, self.counter - clock.counter0 + self.n)
        times: NDArray[np.int64] = clock.t0_ns + np.rint(steps * clock.ns_per_count).astype(np.int64)
        return times

    def cut(self, start: int, stop: int) -> "Chunk":
        """Items `start..stop` as a view; only the first piece keeps `lost_before`."""
        if self.data.ndim == 1:
            raise ValueError(f"stream {self.stream}: an encoded image cannot be cut")
        return dataclasses.replace(
            self,
            counter=self.counter + start,
            lost_before=self.lost_before if start == 0 else 0,
            data=self.data[start:stop],
        )

    def stamped(self, clock: ClockParams) -> "Chunk":
        """This chunk with its clock set. Raises ValueError when it already has one: nothing restamps."""
        if self.clock is not None:
            raise ValueError(f"stream {self.stream}: chunk {self.seq} is already stamped")
        return dataclasses.replace(self, clock=clock)

    def _clock(self) -> ClockParams:
        if self.clock is None:
            raise ValueError(f"stream {self.stream}: chunk {self.seq} has not been stamped")
        return self.clock


class DriverOptions(BaseModel):
    """Base of every driver's options: the keys under `[streams.NAME]` beside `driver`.

    Unknown keys are errors, so that a misspelt option is reported with its path and not ignored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    torch: str | None = None


@runtime_checkable
class Driver(Protocol):
    """The life of a device: `spec` at any time, then `open`, `read` until it fails, `close`; again `open`.

    A driver imports its device library inside `open`, so that configuring one needs no hardware library.
    """

    isolation: ClassVar[Isolation]
    Options: ClassVar[type[DriverOptions]]

    def __init__(self, name: str, options: Any, clock: HostClock = MONOTONIC) -> None:
        """The driver for the stream `name` from its validated `Options`; opens nothing."""
        ...

    @property
    def spec(self) -> StreamSpec:
        """What the stream will carry; must not touch the device."""
        ...

    def open(self) -> None:
        """Open the device within its stated time-out; cleans up after itself when it raises DeviceError."""
        ...

    def read(self) -> Chunk | None:
        """The next chunk; None when nothing came within the read time-out. Raises DeviceError, StreamEnded."""
        ...

    def close(self) -> None:
        """Release the device; safe to call twice and after a failed `open`."""
        ...
