"""Plays one stream of recordings as if its device were there: same items, counters, losses and delays.

For running the whole daemon on recorded seams. `edged replay` does not use it: it feeds recorded chunks with their
recorded stamps, here `Stream` stamps anew.
"""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from drivers.base import MONOTONIC, Chunk, DeviceError, DriverOptions, HostClock, Isolation, StreamEnded, StreamSpec
from drivers.mcap_codec import RECORDING_SUFFIX, RecordingError, RecordingReader
from drivers.pacing import FileOptions, Pacer

__all__ = ["Replay", "ReplayOptions"]

START_LEAD_NS = 100_000_000
"""Time for the drivers of all streams to open before the first item is due."""


class ReplayOptions(FileOptions):
    """`path` is a recording or a folder of them, played one after the other with `gap_s` between them.

    `stream` is the name in the recording where it is not the name in the config.
    """

    stream: str | None = None
    gap_s: Annotated[float, Field(ge=0)] = 1.0


class _Starts:
    """One start for all drivers that play the same path on the same clock, so that streams stay in step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: dict[tuple[int, str], tuple[int, int]] = {}

    def join(self, clock: HostClock, path: str) -> int:
        """When the first item is due, host ns: chosen by whoever opens first."""
        with self._lock:
            users, start_ns = self._started.get((id(clock), path), (0, clock.now_ns() + START_LEAD_NS))
            self._started[id(clock), path] = (users + 1, start_ns)
            return start_ns

    def leave(self, clock: HostClock, path: str) -> None:
        """The last one to close ends it; the next to open starts anew."""
        with self._lock:
            users, start_ns = self._started.pop((id(clock), path))
            if users > 1:
                self._started[id(clock), path] = (users - 1, start_ns)


_STARTS = _Starts()


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    """A recorded chunk, when it is due after the start, and whether a recording begins with it."""

    due_ns: int
    chunk: Chunk
    begins: bool


class Replay:
    """The driver `replay`. `read` waits half a second at most; after the last item it raises StreamEnded."""

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[DriverOptions]] = ReplayOptions

    def __init__(self, name: str, options: ReplayOptions, clock: HostClock = MONOTONIC) -> None:
        self._name = name
        self._source = options.stream or name
        self._options = options
        self._clock = clock
        self._pacer = Pacer(clock, options.pace)
        self._readers: list[RecordingReader] | None = None
        self._items: Iterator[_Item] | None = None
        self._waiting: _Item | None = None
        self._lead_ns = 0
        self._last: Chunk | None = None
        self._shift = (0, 0)

    @property
    def spec(self) -> StreamSpec:
        """The recorded stream's spec under this stream's name.

        A recording is its own description, so this reads the first file's header. Raises DeviceError when it is
        not there.
        """
        recorded = self._recorded_spec(self._recordings()[0])
        return dataclasses.replace(recorded, name=self._name, torch=self._options.torch or recorded.torch)

    def open(self) -> None:
        """Start playing from the beginning. Raises DeviceError when a recording is missing, damaged or different."""
        self.close()
        self._readers = None
        readers = self._recordings()
        expected = self._recorded_spec(readers[0])
        for reader in readers:
            if (found := self._recorded_spec(reader)) != expected:
                raise DeviceError(
                    f"replay {reader.path}: stream {self._source} is {found}, but {readers[0].path} has {expected}; "
                    "play them apart"
                )
        self._items = self._timed(readers)
        self._pacer.start()
        self._lead_ns = _STARTS.join(self._clock, self._options.path) - self._clock.now_ns()

    def read(self) -> Chunk | None:
        """The next chunk when it is due. Raises StreamEnded after the last, DeviceError where a file is damaged."""
        if self._items is None:
            raise DeviceError(f"replay {self._options.path} is read before it was opened; call open() first")
        try:
            item = self._waiting or next(self._items, None)
        except RecordingError as error:
            raise DeviceError(str(error)) from error
        if item is None:
            raise StreamEnded(f"replay {self._options.path}: stream {self._source} has ended")
        if (arrival_ns := self._pacer.arrival_ns(self._lead_ns + item.due_ns)) is None:
            self._waiting = item
            return None
        self._waiting = None
        if item.begins:
            self._shift = _shift(self._last, item.chunk, arrival_ns)
        seq, counter = item.chunk.seq + self._shift[0], item.chunk.counter + self._shift[1]
        self._last = dataclasses.replace(
            item.chunk, stream=self._name, seq=seq, counter=counter, arrival_ns=arrival_ns, clock=None
        )
        return self._last

    def close(self) -> None:
        """Stop playing; safe to call twice."""
        if self._items is not None:
            self._items, self._waiting = None, None
            _STARTS.leave(self._clock, self._options.path)

    def _recordings(self) -> list[RecordingReader]:
        """Those of the path that have the stream."""
        if self._readers is not None:
            return self._readers
        path = Path(self._options.path)
        files = sorted(path.glob(f"*{RECORDING_SUFFIX}")) if path.is_dir() else [path]
        try:
            readers = [RecordingReader(file) for file in files]
        except RecordingError as error:
            raise DeviceError(f"replay: {error}") from error
        if not readers:
            raise DeviceError(f"replay {path}: the folder has no *{RECORDING_SUFFIX} file; check path")
        self._readers = [reader for reader in readers if any(s.name == self._source for s in reader.specs)]
        if not self._readers:
            known = sorted({spec.name for reader in readers for spec in reader.specs})
            self._readers = None
            raise DeviceError(f"replay {path}: has no stream {self._source!r}; it has {', '.join(known)}: set stream")
        return self._readers

    def _recorded_spec(self, reader: RecordingReader) -> StreamSpec:
        return next(spec for spec in reader.specs if spec.name == self._source)

    def _timed(self, readers: list[RecordingReader]) -> Iterator[_Item]:
        """All chunks with their due times.

        A recording begins with the earliest item of *any* of its streams, so all streams agree on where it lies.
        """
        base_ns = 0
        for reader in readers:
            first_ns, last_ns = reader.span_ns or (0, 0)
            begins = True
            for event in reader.events([self._source]):
                if isinstance(event, Chunk):
                    yield _Item(base_ns + event.arrival_ns - first_ns, event, begins)
                    begins = False
            base_ns += last_ns - first_ns + round(self._options.gap_s * 1e9)


def _shift(last: Chunk | None, event: Chunk, arrival_ns: int) -> tuple[int, int]:
    """What to add to seq and counter of a recording that begins with `event`, as if the device had run through.

    The very first recording keeps its own numbers.
    """
    if last is None:
        return 0, 0
    passed = round((arrival_ns - last.arrival_ns) / event.dt_ns)
    counter = last.counter + last.n + max(0, passed - event.n)
    return last.seq + 1 - event.seq, counter - event.counter
