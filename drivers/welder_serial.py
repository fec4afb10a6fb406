"""`welder.serial`: current, voltage and wire feed speed from an ADC board, as COBS block frames on a serial port.

First step of the data path: port → `FrameParser` → `CounterUnwrapper` → Chunk.
"""

from collections import deque
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from drivers.base import MONOTONIC, Chunk, DeviceError, DriverOptions, HostClock, Isolation, StreamSpec
from drivers.counter import CounterUnwrapper
from drivers.serial_frame import MAX_CHANNELS, MAX_FRAME_BYTES, Block, FrameParser, frame_bytes
from drivers.serial_port import SerialPort

__all__ = ["WelderSerial", "WelderSerialOptions"]

BITS_PER_BYTE = 10
"""8N1: a start and a stop bit around every byte."""

MIN_JUDGED_BYTES = 4096
"""So much without one valid frame is a wrong baud rate or another device, not noise."""


class WelderSerialOptions(DriverOptions):
    """Options of `welder.serial`.

    921600 baud is the default because every USB bridge reaches it and it carries 14.7 kHz of three channels; 25 kHz
    needs 3000000, which not every bridge has. USB CDC boards ignore the figure.
    """

    port: Annotated[str, Field(min_length=1)]
    baud: Annotated[int, Field(ge=1200, le=12_000_000)] = 921_600
    rate_hz: Annotated[float, Field(gt=0, le=100_000)] = 10_000.0
    block_samples: Annotated[int, Field(ge=1, le=4096)] = 50
    channels: Annotated[tuple[str, ...], Field(min_length=1, max_length=MAX_CHANNELS)] = (
        "current",
        "voltage",
        "wire_feed_speed",
    )
    units: tuple[str, ...] = ("A", "V", "m/min")
    scale: tuple[float, ...] = (0.1, 0.01, 0.01)
    """Physical units per count, per channel: 0.1 A reaches ±3276 A, 0.01 V ±327 V, 0.01 m/min ±327 m/min."""
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    read_timeout_s: Annotated[float, Field(gt=0, le=10)] = 0.5

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for key in ("units", "scale", "offset"):
            if len(getattr(self, key)) != len(self.channels):
                raise ValueError(f"{key} has {len(getattr(self, key))} entries for {len(self.channels)} channels")
        size = frame_bytes(self.block_samples, len(self.channels))
        if size > MAX_FRAME_BYTES:
            raise ValueError(
                f"block_samples {self.block_samples} makes frames of {size} bytes, over {MAX_FRAME_BYTES}"
            )
        carries_hz = self.baud / BITS_PER_BYTE * self.block_samples / size
        if carries_hz < self.rate_hz:
            raise ValueError(
                f"{self.baud} baud carries {carries_hz:.0f} Hz of {len(self.channels)} channels, not "
                f"{self.rate_hz:.0f}; raise baud or lower rate_hz"
            )
        return self


class WelderSerial:
    """Reads block frames; a chunk holds all consecutive blocks that one read completed.

    `counter` is block sequence × N, unwrapped. It goes on over closing and opening, so that the samples missed
    meanwhile are known as lost. Opening never blocks; reading blocks for `read_timeout_s` at most.
    """

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[DriverOptions]] = WelderSerialOptions

    def __init__(self, name: str, options: WelderSerialOptions, clock: HostClock = MONOTONIC) -> None:
        self._options = options
        self._clock = clock
        self._port = SerialPort(options.port, options.baud, options.read_timeout_s)
        self._parser = FrameParser()
        self._blocks = CounterUnwrapper(32, options.rate_hz / options.block_samples)
        self._ready: deque[Chunk] = deque()
        self._seq = 0
        self._bytes_without_frame = 0
        self._spec = StreamSpec(
            name=name,
            kind="welder",
            rate_hz=options.rate_hz,
            shape=(len(options.channels),),
            dtype="int16",
            channels=options.channels,
            units=options.units,
            scale=options.scale,
            offset=options.offset,
            torch=options.torch,
        )

    @property
    def spec(self) -> StreamSpec:
        """int16 samples of the configured channels; physical by `scale` and `offset`."""
        return self._spec

    @property
    def bad_frames(self) -> int:
        """Frames that arrived damaged, since the stream was configured."""
        return self._parser.bad_frames

    @property
    def restarts(self) -> int:
        """How often the board's block sequence went back or ran away: it restarted."""
        return self._blocks.restarts

    def open(self) -> None:
        """Open the port exclusively. Raises DeviceError when it is missing, forbidden or in use."""
        self._port.open()
        self._parser.reset()
        self._ready.clear()
        self._bytes_without_frame = 0

    def read(self) -> Chunk | None:
        """The next consecutive samples. Raises DeviceError when the port fails or carries no such frames."""
        if not self._ready:
            # Waiting for a whole frame and not for its first byte halves the wake-ups.
            data = self._port.read(frame_bytes(self._options.block_samples, len(self._options.channels)))
            arrival_ns = self._clock.now_ns()
            blocks = self._parser.feed(data)
            self._judge(len(data), blocks)
            self._queue(blocks, arrival_ns)
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        """Release the port; safe to call twice."""
        self._port.close()
        self._ready.clear()

    def _judge(self, n_bytes: int, blocks: list[Block]) -> None:
        self._bytes_without_frame = 0 if blocks else self._bytes_without_frame + n_bytes
        options = self._options
        if self._bytes_without_frame > max(MIN_JUDGED_BYTES, options.baud // BITS_PER_BYTE):
            raise DeviceError(
                f"serial port {options.port}: {self._bytes_without_frame} bytes at {options.baud} baud without one "
                "valid frame; set baud as on the board and check that it sends frames as in docs/serial-frame.md"
            )
        expected = (options.block_samples, len(options.channels))
        for block in blocks:
            if block.samples.shape != expected:
                n, channels = block.samples.shape
                raise DeviceError(
                    f"serial port {options.port}: the board sends blocks of {n} samples × {channels} channels, the "
                    f"config expects {expected[0]} × {expected[1]}; set block_samples and channels as on the board"
                )

    def _queue(self, blocks: list[Block], arrival_ns: int) -> None:
        n = self._options.block_samples
        run: list[Block] = []
        counter = lost = 0
        for block in blocks:
            step = self._blocks.step(block.seq, arrival_ns)
            if run and step.lost:
                self._emit(run, counter, lost, arrival_ns)
                run = []
            if not run:
                counter, lost = step.counter * n, step.lost * n
            run.append(block)
        if run:
            self._emit(run, counter, lost, arrival_ns)

    def _emit(self, run: list[Block], counter: int, lost: int, arrival_ns: int) -> None:
        data = run[0].samples if len(run) == 1 else np.concatenate([block.samples for block in run])
        data = data.astype(np.int16, copy=False)
        self._ready.append(Chunk(self._spec.name, self._seq, counter, arrival_ns, lost, data))
        self._seq += 1
