"""`welder.csv_serial`, `motion.csv_serial`, `profile.csv_serial`: boards that print lines, "182.4,21.3,6.1".

First step of the data path: port → lines → floats → Chunk. For waveforms use `welder.serial`: text of three
channels at 10 kHz needs three times the bytes and carries no checksum. A laser profiler prints one row of heights a
line.
"""

import math
from collections import deque
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from drivers.base import MONOTONIC, Chunk, DeviceError, DriverOptions, HostClock, Isolation, StreamSpec
from drivers.counter import CounterUnwrapper
from drivers.profile_row import row_heights
from drivers.serial_port import SerialPort

__all__ = ["WelderCsvSerial", "WelderCsvSerialOptions"]

POINT_BYTES = 16

MIN_JUDGED_LINES = 200
"""So many malformed lines in a row are a wrong baud rate or layout, not noise."""


class WelderCsvSerialOptions(DriverOptions):
    """Options of the `csv_serial` drivers. `channels` are the columns in order, after the counter column if any.

    A profile has `width` columns instead, and one `scale` and `offset` (to mm) for all of them; a point that is
    empty, "nan" or `no_return` had no return.
    """

    port: Annotated[str, Field(min_length=1)]
    kind: Literal["welder", "motion", "profile"] = "welder"
    baud: Annotated[int, Field(ge=1200, le=12_000_000)] = 115_200
    rate_hz: Annotated[float, Field(gt=0, le=20_000)] = 100.0
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    no_return: float | None = None
    channels: Annotated[tuple[str, ...], Field(min_length=1)] = ("current", "voltage", "wire_feed_speed")
    units: tuple[str, ...] = ("A", "V", "m/min")
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    counter_column: bool = False
    """The first column counts the lines: lost lines are then known exactly and a clock can be fitted."""
    counter_bits: Annotated[int, Field(ge=8, le=48)] = 32
    max_line_bytes: Annotated[int, Field(ge=8, le=65_536)] = 256
    """Longer lines are malformed; a profile may have 16 bytes a point on top."""
    read_timeout_s: Annotated[float, Field(gt=0, le=10)] = 0.5

    @model_validator(mode="after")
    def _profile(self) -> Self:
        if (self.kind == "profile") != (self.width > 0):
            raise ValueError(f"width is {self.width}: kind 'profile' needs its points a row, other kinds have none")
        if self.kind != "profile" and self.no_return is not None:
            raise ValueError("no_return is for kind 'profile'")
        if self.kind == "profile" and (named := {"channels", "units"} & self.model_fields_set):
            raise ValueError(f"{' and '.join(sorted(named))}: the points of a profile have no names; give width")
        return self

    @property
    def columns(self) -> int:
        """Numbers on a line beside the counter."""
        return self.width or len(self.channels)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.kind == "profile":
            if max(len(self.scale), len(self.offset)) > 1:
                raise ValueError("scale and offset of a profile are one number for all points")
            return self
        for key in ("units", "scale", "offset"):
            found = len(getattr(self, key))
            if found != len(self.channels) and not (key != "units" and found == 0):
                raise ValueError(f"{key} has {found} entries for {len(self.channels)} channels")
        return self


class WelderCsvSerial:
    """Reads lines; a malformed, overlong or non-finite one is a lost item and never an error by itself.

    Without a counter column, `counter` counts the lines, the lost ones too. The first line after opening is
    dropped, since its beginning may be missing. Opening never blocks, reading for `read_timeout_s` at most.
    """

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[DriverOptions]] = WelderCsvSerialOptions

    def __init__(self, name: str, options: WelderCsvSerialOptions, clock: HostClock = MONOTONIC) -> None:
        self._options = options
        self._clock = clock
        self._port = SerialPort(options.port, options.baud, options.read_timeout_s)
        self._lines = _Lines(options.max_line_bytes + POINT_BYTES * options.width)
        self._counter = CounterUnwrapper(options.counter_bits, options.rate_hz)
        self._next_line = 0
        self._lost_lines = 0
        self._last_arrival_ns: int | None = None
        self._is_reopened = False
        self._ready: deque[Chunk] = deque()
        self._seq = 0
        self._malformed = 0
        self._malformed_in_a_row = 0
        self._spec = StreamSpec(
            name=name,
            kind=options.kind,
            rate_hz=options.rate_hz,
            shape=(options.columns,),
            dtype="float32",
            channels=() if options.width else options.channels,
            units=() if options.width else options.units,
            scale=options.scale * (options.width or 1),
            offset=options.offset * (options.width or 1),
            torch=options.torch,
            tick="counter" if options.counter_column else "arrival",
        )

    @property
    def spec(self) -> StreamSpec:
        """float32 values of the configured channels, or of a profile's points."""
        return self._spec

    @property
    def malformed_lines(self) -> int:
        """Lines that could not be read, since the stream was configured."""
        return self._malformed

    def open(self) -> None:
        """Open the port exclusively. Raises DeviceError when it is missing, forbidden or in use."""
        self._port.open()
        self._lines.reset()
        self._ready.clear()
        self._malformed_in_a_row = 0
        self._is_reopened = self._last_arrival_ns is not None

    def read(self) -> Chunk | None:
        """The next consecutive lines. Raises DeviceError when the port fails or prints something else."""
        if not self._ready:
            data = self._port.read(1)
            self._queue(self._lines.feed(data), self._clock.now_ns())
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Release the port; safe to call twice."""
        self._port.close()
        self._ready.clear()

    def _queue(self, lines: list[bytes | None], arrival_ns: int) -> None:
        run: list[list[float]] = []
        counter = lost = 0
        for line in lines:
            values = None if line is None else _values(line, self._options)
            self._judge(line, values is None)
            if values is None:
                continue
            at, missing = self._place(values, arrival_ns)
            if run and missing:
                self._emit(run, counter, lost, arrival_ns)
                run = []
            if not run:
                counter, lost = at, missing
            run.append(values[-self._options.columns :])
        if run:
            self._emit(run, counter, lost, arrival_ns)

    def _judge(self, line: bytes | None, malformed: bool) -> None:
        self._malformed += malformed
        self._lost_lines += malformed
        self._malformed_in_a_row = self._malformed_in_a_row + 1 if malformed else 0
        if self._malformed_in_a_row >= MIN_JUDGED_LINES:
            names = (f"{self._options.width} heights",) if self._options.width else self._options.channels
            option = "width" if self._options.width else "channels"
            columns = ("counter", *names) if self._options.counter_column else names
            raise DeviceError(
                f"serial port {self._options.port}: {MIN_JUDGED_LINES} lines in a row are not the columns "
                f"{', '.join(columns)}, the last is {(line or b'')[:60]!r}; check baud, {option} and counter_column"
            )

    def _place(self, values: list[float], arrival_ns: int) -> tuple[int, int]:
        if self._options.counter_column:
            step = self._counter.step(int(values[0]), arrival_ns)
            return step.counter, step.lost
        lost, self._lost_lines = self._lost_lines, 0
        if self._is_reopened and self._last_arrival_ns is not None:
            # Nothing counts the lines while the port is closed, so host time must.
            lost = max(1, lost, round((arrival_ns - self._last_arrival_ns) / self._spec.dt_ns) - 1)
        self._is_reopened, self._last_arrival_ns = False, arrival_ns
        self._next_line += lost + 1
        return self._next_line - 1, lost

    def _emit(self, run: list[list[float]], counter: int, lost: int, arrival_ns: int) -> None:
        data = np.array(run, np.float32)
        self._ready.append(Chunk(self._spec.name, self._seq, counter, arrival_ns, lost, data))
        self._seq += 1


class _Lines:
    """Bytes → whole lines, `None` for an overlong one; holds `max_bytes` at most."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.reset()

    def reset(self) -> None:
        self._rest = b""
        self._skipping = False
        self._synced = False

    def feed(self, data: bytes) -> list[bytes | None]:
        *whole, rest = (self._rest + data).split(b"\n")
        lines: list[bytes | None] = []
        for line in whole:
            if self._synced:
                lines.append(None if self._skipping or len(line) > self._max_bytes else line)
            self._skipping, self._synced = False, True
        self._skipping = self._skipping or len(rest) > self._max_bytes
        self._rest = b"" if self._skipping else rest
        return lines


def _values(line: bytes, options: WelderCsvSerialOptions) -> list[float] | None:
    fields = line.split(options.delimiter.encode())
    if len(fields) != options.columns + options.counter_column:
        return None
    if options.counter_column and not fields[0].strip().isdigit():
        return None
    if options.kind == "profile":
        at = int(options.counter_column)
        heights = row_heights(fields[at:], options.no_return)
        return None if heights is None else [*map(float, fields[:at]), *heights]
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None
