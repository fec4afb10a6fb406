"""`microphone.file`: sound from a WAV or FLAC file, paced like a microphone. First step of the data path."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from drivers.base import MONOTONIC, Chunk, DeviceError, HostClock, Isolation, StreamEnded, StreamSpec
from drivers.pacing import FileOptions, Pacer

if TYPE_CHECKING:
    import soundfile

__all__ = ["AudioFile", "AudioFileOptions"]


class AudioFileOptions(FileOptions):
    """Options of `microphone.file`; `rate_hz` and `channels` must be the file's: `spec` is known before opening."""

    rate_hz: Annotated[float, Field(gt=0, le=768_000)] = 48_000.0
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    chunk_s: Annotated[float, Field(gt=0, le=1)] = 0.01


class AudioFile:
    """Reads int16 frames in chunks of `chunk_s`. After the last frame: StreamEnded."""

    isolation: ClassVar[Isolation] = "thread"
    Options: ClassVar[type[FileOptions]] = AudioFileOptions

    def __init__(self, name: str, options: AudioFileOptions, clock: HostClock = MONOTONIC) -> None:
        self._options = options
        self._pacer = Pacer(clock, options.pace)
        self._file: soundfile.SoundFile | None = None
        self._waiting: Any = None
        self._next = 0
        self._base = 0
        self._seq = 0
        self._spec = StreamSpec(
            name=name,
            kind="audio",
            rate_hz=options.rate_hz,
            shape=(options.channels,),
            dtype="int16",
            channels=tuple(f"audio_{k}" for k in range(options.channels)),
            units=("FS",) * options.channels,
            scale=(1 / 32768,) * options.channels,
            offset=(0.0,) * options.channels,
            torch=options.torch,
        )

    @property
    def spec(self) -> StreamSpec:
        """int16 frames; physical values are full scale ±1."""
        return self._spec

    def open(self) -> None:
        """Open the file at its beginning. Raises DeviceError when it is missing, no sound or of another rate."""
        import soundfile

        self.close()
        options = self._options
        try:
            self._file = soundfile.SoundFile(options.path)
        except (OSError, soundfile.SoundFileError) as error:
            raise DeviceError(
                f"sound file {options.path} cannot be opened: {error}; WAV and FLAC are read"
            ) from error
        found = (self._file.samplerate, self._file.channels)
        if found != (options.rate_hz, options.channels):
            self.close()
            raise DeviceError(
                f"sound file {options.path} has {found[0]} Hz and {found[1]} channel(s), the config says "
                f"{options.rate_hz:g} Hz and {options.channels}; set rate_hz and channels to the file's"
            )
        self._base, self._waiting = self._next, None
        self._pacer.start()

    def read(self) -> Chunk | None:
        """The next frames when they are due. Raises StreamEnded after the last one, DeviceError on damage."""
        import soundfile

        if self._file is None:
            raise DeviceError(f"sound file {self._options.path} is read before it was opened; call open() first")
        data = self._waiting
        if data is None:
            frames = max(1, round(self._options.chunk_s * self._options.rate_hz))
            try:
                data = self._file.read(frames, dtype="int16", always_2d=True)
            except soundfile.SoundFileError as error:
                raise DeviceError(f"sound file {self._options.path} is damaged: {error}") from error
        if len(data) == 0:
            raise StreamEnded(f"sound file {self._options.path} has ended")
        end = self._next + len(data)
        if (arrival_ns := self._pacer.arrival_ns((end - self._base) * self._spec.dt_ns)) is None:
            self._waiting = data
            return None
        chunk = Chunk(self._spec.name, self._seq, self._next, arrival_ns, 0, data)
        self._waiting, self._next = None, end
        self._seq += 1
        return chunk

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
