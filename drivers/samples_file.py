"""`welder.file`, `motion.file`, `profile.file`: sampled streams from a CSV file, paced like a device.

First step of the data path; what follows cannot tell it from a real board.
"""

import csv
import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self, TextIO

import numpy as np
from pydantic import Field, model_validator

from drivers.base import MONOTONIC, Chunk, DeviceError, HostClock, Isolation, StreamEnded, StreamSpec
from drivers.pacing import FileOptions, Pacer
from drivers.profile_row import row_heights

__all__ = ["SamplesFile", "SamplesFileOptions"]


class SamplesFileOptions(FileOptions):
    """Options of the CSV file drivers.

    `columns` are the header's names of the channels; `channels` renames them. A profile takes `width` columns
    instead, the first ones of each row beside the time, mm, one row a profile; a point that is empty, "nan" or
    `no_return` had no return. `time_column` holds seconds: rows missing between two times are then counted as lost.
    """

    kind: Literal["welder", "motion", "profile"] = "welder"
    rate_hz: Annotated[float, Field(gt=0, le=1_000_000)]
    columns: tuple[str, ...] = ()
    width: Annotated[int, Field(ge=0)] = 0
    no_return: float | None = None
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    time_column: str | None = None
    header: bool = True
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    chunk_s: Annotated[float, Field(gt=0, le=1)] = 0.02

    @model_validator(mode="after")
    def _layout(self) -> Self:
        if (self.kind == "profile") != (self.width > 0) or (self.kind == "profile") == bool(self.columns):
            raise ValueError("kind 'profile' needs width and no columns; welder and motion need columns and no width")
        if self.kind != "profile" and self.no_return is not None:
            raise ValueError("no_return is for kind 'profile'")
        if not self.header and (self.columns or self.time_column):
            raise ValueError("columns and time_column are names, they need header = true")
        for key in ("channels", "units", "scale", "offset"):
            found = len(getattr(self, key))
            if found not in (0, len(self.columns)):
                raise ValueError(f"{key} has {found} entries for {len(self.columns)} columns")
        return self


class SamplesFile:
    """Reads rows; a row that holds no finite number (or mark of no return) in a wanted column is a lost item.

    Chunks of about `chunk_s` are due when their last item would have been sampled. After the last row: StreamEnded.
    """

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[FileOptions]] = SamplesFileOptions

    def __init__(self, name: str, options: SamplesFileOptions, clock: HostClock = MONOTONIC) -> None:
        self._options = options
        self._pacer = Pacer(clock, options.pace)
        self._file: TextIO | None = None
        self._chunks: Iterator[_Run] = iter(())
        self._waiting: _Run | None = None
        self._base = 0
        self._next = 0
        self._seq = 0
        self._spec = StreamSpec(
            name=name,
            kind=options.kind,
            rate_hz=options.rate_hz,
            shape=(options.width or len(options.columns),),
            dtype="float32",
            channels=options.channels or options.columns,
            units=options.units,
            scale=options.scale,
            offset=options.offset,
            torch=options.torch,
        )

    @property
    def spec(self) -> StreamSpec:
        """float32 values as they stand in the file."""
        return self._spec

    def open(self) -> None:
        """Open the file at its beginning. Raises DeviceError when it is missing or lacks a column."""
        self.close()
        try:
            # Stays open between reads.
            self._file = open(self._options.path, encoding="utf-8", errors="replace", newline="")  # noqa: SIM115
        except OSError as error:
            raise DeviceError(f"file {self._options.path} cannot be opened: {error.strerror}; check path") from error
        rows = csv.reader(self._file, delimiter=self._options.delimiter)
        try:
            wanted, time_at = self._columns(rows)
        except DeviceError:
            self.close()
            raise
        self._chunks = _runs(_items(rows, wanted, time_at, self._options), self._chunk_items)
        self._base, self._waiting = self._next, None
        self._pacer.start()

    def read(self) -> Chunk | None:
        """The next rows when they are due. Raises StreamEnded after the last one."""
        if self._file is None:
            raise DeviceError(f"file {self._options.path} is read before it was opened; call open() first")
        try:
            run = self._waiting or next(self._chunks, None)
        except csv.Error as error:
            raise DeviceError(f"file {self._options.path} is no CSV: {error}; check path and delimiter") from error
        if run is None:
            raise StreamEnded(f"file {self._options.path} has ended")
        end = run.counter + len(run.data)
        if (arrival_ns := self._pacer.arrival_ns(end * self._spec.dt_ns)) is None:
            self._waiting = run
            return None
        self._waiting, self._next = None, self._base + end
        chunk = Chunk(self._spec.name, self._seq, self._base + run.counter, arrival_ns, run.lost, run.data)
        self._seq += 1
        return chunk

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _chunk_items(self) -> int:
        return max(1, round(self._options.chunk_s * self._options.rate_hz))

    def _columns(self, rows: Iterator[list[str]]) -> tuple[list[int], int | None]:
        """Indices of the wanted columns and of the time column."""
        options = self._options
        try:
            header = [name.strip() for name in next(rows, [])] if options.header else []
        except csv.Error as error:
            raise DeviceError(f"file {options.path} is no CSV: {error}; check path and delimiter") from error
        wanted = [*options.columns, *([options.time_column] if options.time_column else [])]
        if missing := [name for name in wanted if name not in header]:
            raise DeviceError(
                f"file {options.path} has no column {', '.join(missing)}; its header is {', '.join(header)!r:.300}"
            )
        time_at = header.index(options.time_column) if options.time_column else None
        points = [at for at in range(options.width + 1) if at != time_at][: options.width]
        return [header.index(name) for name in options.columns] or points, time_at


class _Run:
    """Consecutive items: counter of the first, items lost before it, `(n, width)` float32."""

    __slots__ = ("counter", "data", "lost")

    def __init__(self, counter: int, lost: int, values: list[list[float]]) -> None:
        self.counter = counter
        self.lost = lost
        self.data = np.array(values, np.float32)


_Item = tuple[int, int, list[float]]


def _items(
    rows: Iterator[list[str]], wanted: list[int], time_at: int | None, options: SamplesFileOptions
) -> Iterator[_Item]:
    """(counter, lost before, values) of every readable row."""
    counter, lost = -1, 0
    last_s: float | None = None
    for row in rows:
        values = _heights(row, wanted, options) if options.kind == "profile" else _floats(row, wanted)
        time_s = None if time_at is None else _floats(row, [time_at])
        if values is None or (time_at is not None and time_s is None):
            lost += bool(row)  # an empty line is no row
            continue
        if time_s is not None:
            # The times say how much is missing, unreadable rows included.
            steps = 1 if last_s is None else max(1, round((time_s[0] - last_s) * options.rate_hz))
            last_s, lost = time_s[0], steps - 1
        counter += 1 + lost
        yield counter, lost, values
        lost = 0


def _runs(items: Iterator[_Item], max_items: int) -> Iterator[_Run]:
    """Items gathered into runs without a gap inside."""
    start = lost_before = 0
    values: list[list[float]] = []
    for counter, lost, item in items:
        if values and (lost or len(values) >= max_items):
            yield _Run(start, lost_before, values)
            values = []
        if not values:
            start, lost_before = counter, lost
        values.append(item)
    if values:
        yield _Run(start, lost_before, values)


def _heights(row: list[str], wanted: list[int], options: SamplesFileOptions) -> list[float] | None:
    if len(row) <= wanted[-1]:
        return None
    return row_heights([row[at] for at in wanted], options.no_return)


def _floats(row: list[str], wanted: list[int]) -> list[float] | None:
    try:
        values = [float(row[at]) for at in wanted]
    except (ValueError, IndexError):
        return None
    return values if all(map(math.isfinite, values)) else None
