"""Driver `microphone.portaudio`: a sound card's input through PortAudio (sounddevice), int16 samples.

First step of the data path for audio. PortAudio calls back on a thread of its own; the callback only copies
into a preallocated ring, from which `read` takes chunks. PortAudio can hang in `close`, so the driver runs in a
child process that `Stream` can kill. ALSA reads its configuration when sounddevice is imported, in `open`.
"""

import threading
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from drivers.base import MONOTONIC, Chunk, DeviceError, DriverOptions, HostClock, Isolation, StreamSpec

if TYPE_CHECKING:
    import sounddevice

__all__ = ["MicrophonePortaudio", "MicrophonePortaudioOptions"]

READ_TIMEOUT_S = 0.1
RING_S = 2.0
"""How far `read` may lag behind the callback before blocks are overwritten, which is counted as lost."""

MAX_LATENCY_S = 2.0
"""PortAudio's capture times are not believed when they say that a block is older than this."""

INT16_FULL_SCALE = 32768.0


class MicrophonePortaudioOptions(DriverOptions):
    """`[streams.NAME.options]` of `microphone.portaudio`.

    `device`: PortAudio's index or name, or a part of the name that only one input has; None is the default
    input. `blocksize`: samples a chunk. `latency`: PortAudio's "low", "high" or seconds. `stall_timeout_s`:
    a microphone whose callbacks stop for longer has failed, even though PortAudio calls it active.
    """

    device: str | int | None = None
    rate_hz: Annotated[int, Field(ge=4000, le=384_000)] = 48_000
    channels: Annotated[int, Field(ge=1, le=32)] = 1
    blocksize: Annotated[int, Field(ge=16, le=65_536)] = 480
    latency: Annotated[float, Field(gt=0, le=5)] | Literal["low", "high"] = "low"
    stall_timeout_s: Annotated[float, Field(gt=0)] = 1.0


class _BlockRing:
    """Preallocated blocks between PortAudio's thread and `read`: one writer, one reader, oldest overwritten.

    `first[slot]` counts samples since open, those that PortAudio dropped included.
    """

    def __init__(self, slots: int, blocksize: int, channels: int) -> None:
        self._data = np.zeros((slots, blocksize, channels), np.int16)
        self._first = np.zeros(slots, np.int64)
        self._arrival_ns = np.zeros(slots, np.int64)
        self._slots = slots
        self._written = 0
        self._taken = 0
        self._filled = threading.Semaphore(0)

    def put(self, block: NDArray[np.int16], first: int, arrival_ns: int) -> None:
        """Copy one block in; never blocks."""
        slot = self._written % self._slots
        self._data[slot] = block
        self._first[slot] = first
        self._arrival_ns[slot] = arrival_ns
        self._written += 1
        self._filled.release()

    def take(self, timeout_s: float) -> tuple[NDArray[np.int16], int, int] | None:
        """The oldest block as a copy, its first sample's number and its arrival; None when none came in time."""
        if not self._filled.acquire(timeout=timeout_s):
            return None
        behind = self._written - self._taken
        if behind > self._slots // 2:
            # Skip whole blocks long before the writer could overwrite the one being copied.
            for _ in range(behind - self._slots // 4):
                self._filled.acquire(timeout=0)
                self._taken += 1
        slot = self._taken % self._slots
        self._taken += 1
        return self._data[slot].copy(), int(self._first[slot]), int(self._arrival_ns[slot])


class MicrophonePortaudio:
    """A PortAudio input. `counter` numbers the samples and does not go back when the device is reopened."""

    isolation: ClassVar[Isolation] = "process"
    Options: ClassVar[type[DriverOptions]] = MicrophonePortaudioOptions

    def __init__(self, name: str, options: MicrophonePortaudioOptions, clock: HostClock = MONOTONIC) -> None:
        self._name = name
        self._options = options
        self._clock = clock
        self._stream: sounddevice.InputStream | None = None
        self._ring = self._new_ring()
        self._seq = 0
        self._next_counter = 0
        self._opened_before = False
        self._last_callback_ns = 0
        self._captured_to_ns: int | None = None
        self._next_first = 0

    @property
    def spec(self) -> StreamSpec:
        """Samples `(n, channels)` int16; physical units are full scale, −1 to 1."""
        options = self._options
        return StreamSpec(
            name=self._name,
            kind="audio",
            rate_hz=float(options.rate_hz),
            shape=(options.channels,),
            dtype="int16",
            channels=tuple(f"microphone_{i + 1}" for i in range(options.channels)),
            units=("full_scale",) * options.channels,
            scale=(1 / INT16_FULL_SCALE,) * options.channels,
            torch=options.torch,
        )

    def open(self) -> None:
        """Start capturing. Raises DeviceError naming the device, the inputs there are and what to install."""
        self.close()
        sd = _sounddevice()
        if self._opened_before:
            # PortAudio lists devices once; without this a microphone that was plugged in again stays unknown.
            sd._terminate()
            sd._initialize()
        self._opened_before = True
        index = self._find(sd)
        options = self._options
        self._ring = self._new_ring()
        self._next_first = self._next_counter
        self._captured_to_ns = None
        self._last_callback_ns = self._clock.now_ns()
        try:
            self._stream = sd.InputStream(
                device=index,
                samplerate=options.rate_hz,
                channels=options.channels,
                dtype="int16",
                blocksize=options.blocksize,
                latency=options.latency,
                callback=self._on_block,
            )
            self._stream.start()
        except (sd.PortAudioError, ValueError) as error:
            self.close()
            raise DeviceError(
                f"{self._device} cannot capture {options.channels} channel(s) at {options.rate_hz} Hz: {error}; "
                f"{_inputs(sd)}"
            ) from error

    def read(self) -> Chunk | None:
        """The next block, None when none came within 0.1 s.

        Raises DeviceError when callbacks stopped for `stall_timeout_s` or PortAudio ended the stream.
        """
        if self._stream is None:
            raise DeviceError(f"{self._device} is not open; call open() first")
        taken = self._ring.take(READ_TIMEOUT_S)
        if taken is None:
            self._check_alive(self._stream)
            return None
        data, first, arrival_ns = taken
        chunk = Chunk(
            stream=self._name,
            seq=self._seq,
            counter=first,
            arrival_ns=arrival_ns,
            lost_before=first - self._next_counter,
            data=data,
        )
        self._seq += 1
        self._next_counter = first + len(data)
        return chunk

    def close(self) -> None:
        """Stop capturing. May hang inside PortAudio when the device hangs."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)

    @property
    def _device(self) -> str:
        device = self._options.device
        return f"microphone {self._name} ({'default input' if device is None else device})"

    def _new_ring(self) -> _BlockRing:
        options = self._options
        slots = max(8, round(RING_S * options.rate_hz / options.blocksize))
        return _BlockRing(slots, options.blocksize, options.channels)

    def _on_block(self, indata: NDArray[np.int16], frames: int, times: Any, status: Any) -> None:
        """PortAudio's thread: stamp and copy, nothing else."""
        now_ns = self._clock.now_ns()
        duration_ns = round(frames * 1e9 / self._options.rate_hz)
        # PortAudio's times may be on another clock than ours (pulse: wall clock); only their difference counts.
        # It is the age of the block's first sample, 0 where the device cannot tell.
        age_s = times.currentTime - times.inputBufferAdcTime
        late_ns = round(age_s * 1e9) - duration_ns if 0 <= age_s <= MAX_LATENCY_S else 0
        arrival_ns = now_ns - max(0, late_ns)
        if status.input_overflow:
            self._next_first += self._dropped(arrival_ns - duration_ns)
        self._ring.put(indata, self._next_first, arrival_ns)
        self._next_first += frames
        self._captured_to_ns = arrival_ns
        self._last_callback_ns = now_ns

    def _dropped(self, block_start_ns: int) -> int:
        """Samples lost in an overflow: PortAudio only says that there were some, so the clock tells how many."""
        if self._captured_to_ns is None:
            return 0  # before the first block nothing that was wanted is lost
        gap_ns = block_start_ns - self._captured_to_ns
        return max(1, round(gap_ns * self._options.rate_hz / 1e9))

    def _check_alive(self, stream: "sounddevice.InputStream") -> None:
        if not stream.active:
            raise DeviceError(f"{self._device}: PortAudio ended the stream; check that it is still plugged in")
        silent_s = (self._clock.now_ns() - self._last_callback_ns) / 1e9
        if silent_s > self._options.stall_timeout_s:
            raise DeviceError(
                f"{self._device} delivered nothing for {silent_s:.1f} s (limit {self._options.stall_timeout_s} s) "
                "although PortAudio calls it active; check that it is still plugged in"
            )

    def _find(self, sd: Any) -> int:
        """Index of the wanted input. An exact name wins over a part of one."""
        wanted = self._options.device
        inputs = {i: str(d["name"]) for i, d in enumerate(sd.query_devices()) if d["max_input_channels"] > 0}
        if wanted is None:
            default = int(sd.default.device[0])
            found = [default] if default in inputs else []
        elif isinstance(wanted, int):
            found = [wanted] if wanted in inputs else []
        else:
            exact = [i for i, name in inputs.items() if name == wanted]
            found = exact or [i for i, name in inputs.items() if wanted.lower() in name.lower()]
        if len(found) == 1:
            return found[0]
        problem = f"fits {len(found)} inputs" if found else "is not there"
        raise DeviceError(f"{self._device} {problem}; {_inputs(sd)}")


def _sounddevice() -> Any:
    try:
        import sounddevice
    except OSError as error:
        raise DeviceError(f"PortAudio is missing ({error}); install it: apt install libportaudio2") from error
    return sounddevice


def _inputs(sd: Any) -> str:
    """The inputs there are, for error messages."""
    names = [f"{i}: {d['name']}" for i, d in enumerate(sd.query_devices()) if d["max_input_channels"] > 0]
    return f"inputs: {', '.join(names) or 'none, check that the sound card is plugged in'}"
