"""What recordings say of one stream, raw: as its device gave it, whatever calibration it was judged with."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import RecordingError, RecordingReader
from edged.recording import recorded_seam, recordings
from pipelines.window import Seam

__all__ = ["RecordedStream", "recorded_streams", "recording_files"]

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RecordedStream:
    """One stream of one recorded seam. `times_ns` `(n,)` are the host's; `data` `(n, *spec.shape)` is raw."""

    path: Path
    seam: Seam
    spec: StreamSpec
    times_ns: NDArray[np.int64]
    data: NDArray[np.generic]
    utc_offset_ns: int
    """UTC minus the host's clock."""

    @property
    def physical(self) -> NDArray[np.float32]:
        """As the device states it, `(n, channels)`."""
        return self.spec.physical(self.data)

    @property
    def burning(self) -> NDArray[np.bool_]:
        """Where an arc burns, `(n,)`."""
        found = np.zeros(len(self.times_ns), np.bool_)
        for on_ns, off_ns in self.seam.arcs:
            found |= (self.times_ns >= on_ns) & (self.times_ns < off_ns)
        return found


def recording_files(paths: Sequence[Path]) -> list[Path]:
    """Recordings, and those of the folders among `paths`. Raises RecordingError where there are none."""
    files = [file for path in paths for file in (recordings(path) if path.is_dir() else [path])]
    if not files:
        raise RecordingError(f"{', '.join(map(str, paths))}: no recordings there; make some with 'edged record'")
    return files


def recorded_streams(files: Sequence[Path], stream: str, kind: str) -> Iterator[RecordedStream]:
    """The stream of each recording that has arcs. Raises RecordingError: no such stream, or of another kind."""
    for path in files:
        reader = RecordingReader(path)
        specs = {spec.name: spec for spec in reader.specs}
        if stream not in specs or specs[stream].kind != kind:
            named = ", ".join(spec.name for spec in reader.specs if spec.kind == kind) or "none"
            raise RecordingError(f"{path}: has no {kind} stream {stream!r}; it has {named}")
        seam = recorded_seam(reader)
        chunks = [event for event in reader.events([stream]) if isinstance(event, Chunk)]
        if seam.arcs and chunks:
            times = np.concatenate([chunk.times_ns() for chunk in chunks])
            data = np.concatenate([chunk.data for chunk in chunks])
            yield RecordedStream(path, seam, specs[stream], times, data, reader.header.to_utc_ns(0))
