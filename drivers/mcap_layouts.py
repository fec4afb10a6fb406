"""What lies where in a recording: its header, its channels, and chunks ↔ protobuf messages.

Below the codec. Bytes of images and samples pass through unchanged; everything beside them is in the companion.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_schemas import ChunkMeta, Samples

__all__ = [
    "CONTROL_SCHEMA",
    "CONTROL_TOPIC",
    "FORMAT",
    "ControlEvent",
    "Layout",
    "RecordingHeader",
    "chunk_from",
    "form_problem",
    "layout_of",
    "meta_bytes",
    "spec_from_json",
    "spec_to_json",
]

CONTROL_TOPIC = "/edged/control"
CONTROL_SCHEMA = {
    "title": "edged.Control",
    "type": "object",
    "required": ["t_ns", "message"],
    "properties": {
        "t_ns": {"type": "integer", "description": "host monotonic time at which the message took effect"},
        "message": {"type": "object", "description": "the control message as the PLC sent it"},
    },
}
FORMAT = 1
FOXGLOVE_AUDIO_DTYPE = "<i2"
"""The only sample format Foxglove's RawAudio knows ("pcm-s16"); other audio is written as edged.Samples."""


_SPEC = TypeAdapter(StreamSpec)


@dataclasses.dataclass(frozen=True, slots=True)
class RecordingHeader:
    """Whose recording this is, and the pair of times that ties monotonic ns (one boot) to UTC ns."""

    boot_id: str
    monotonic_ns: int
    utc_ns: int
    software: str
    is_simulated: bool
    cell: str
    calibration_id: str = "none"

    def to_utc_ns(self, t_ns: int) -> int:
        """UTC of a monotonic time of this boot, ns."""
        return t_ns - self.monotonic_ns + self.utc_ns


@dataclasses.dataclass(frozen=True, slots=True)
class ControlEvent:
    """A control message and the monotonic time at which it took effect."""

    t_ns: int
    message: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How a stream is written: the protobuf class and chunk, UTC ns → serialised message."""

    message_class: Any
    encode: Callable[[Chunk, int], bytes]


def layout_of(spec: StreamSpec) -> Layout:
    """The layout of a stream: images as CompressedImage, int16 sound as RawAudio, all else as edged.Samples."""
    if spec.encoded:
        return _image_layout(spec)
    if spec.kind == "audio" and np.dtype(spec.dtype) == FOXGLOVE_AUDIO_DTYPE:
        return _audio_layout(spec)
    return _samples_layout(spec)


def _timestamp(utc_ns: int) -> Timestamp:
    return Timestamp(seconds=utc_ns // 1_000_000_000, nanos=utc_ns % 1_000_000_000)


def _image_layout(spec: StreamSpec) -> Layout:
    def encode(chunk: Chunk, utc_ns: int) -> bytes:
        image = CompressedImage(
            timestamp=_timestamp(utc_ns), frame_id=spec.name, data=chunk.data.tobytes(), format="jpeg"
        )
        return image.SerializeToString()

    return Layout(CompressedImage, encode)


def _audio_layout(spec: StreamSpec) -> Layout:
    channels = spec.shape[0] if spec.shape else 1

    def encode(chunk: Chunk, utc_ns: int) -> bytes:
        audio = RawAudio(
            timestamp=_timestamp(utc_ns),
            data=chunk.data.tobytes(),
            format="pcm-s16",
            sample_rate=round(spec.rate_hz),
            number_of_channels=channels,
        )
        return audio.SerializeToString()

    return Layout(RawAudio, encode)


def _samples_layout(spec: StreamSpec) -> Layout:
    # What never changes is serialised once: protobuf messages joined end to end are their merge.
    constant: bytes = Samples(
        dtype=np.dtype(spec.dtype).str,
        channels=spec.channels,
        units=spec.units,
        scale=spec.scale,
        offset=spec.offset,
    ).SerializeToString()

    def encode(chunk: Chunk, utc_ns: int) -> bytes:
        varying: bytes = Samples(
            timestamp=_timestamp(utc_ns), dt_ns=chunk.dt_ns, data=chunk.data.tobytes(), shape=chunk.data.shape
        ).SerializeToString()
        return varying + constant

    return Layout(Samples, encode)


def meta_bytes(chunk: Chunk) -> bytes:
    """The companion message of a stamped chunk. Raises ValueError when it is not stamped."""
    clock = chunk.clock
    if clock is None:
        raise ValueError(f"stream {chunk.stream}: chunk {chunk.seq} has not been stamped")
    data: bytes = ChunkMeta(
        seq=chunk.seq,
        counter=chunk.counter,
        arrival_ns=chunk.arrival_ns,
        lost_before=chunk.lost_before,
        clock_counter0=clock.counter0,
        clock_t0_ns=clock.t0_ns,
        clock_ns_per_count=clock.ns_per_count,
        clock_residual_ns=clock.residual_ns,
    ).SerializeToString()
    return data


def chunk_from(spec: StreamSpec, meta: Any, data: bytes) -> Chunk:
    """The chunk as it was written; its data is a read-only view of `data`. Raises ValueError on a wrong size."""
    if spec.encoded:
        array = np.frombuffer(data, np.uint8)
    else:
        array = np.frombuffer(data, np.dtype(spec.dtype)).reshape(-1, *spec.shape)
    return Chunk(
        stream=spec.name,
        seq=meta.seq,
        counter=meta.counter,
        arrival_ns=meta.arrival_ns,
        lost_before=meta.lost_before,
        data=array,
        clock=ClockParams(meta.clock_counter0, meta.clock_t0_ns, meta.clock_ns_per_count, meta.clock_residual_ns),
    )


def form_problem(spec: StreamSpec, chunk: Chunk) -> str | None:
    """Why `chunk` does not fit its spec, or None. A chunk that does not fit could not be read back."""
    dtype = np.dtype(np.uint8 if spec.encoded else spec.dtype)
    if chunk.data.dtype != dtype:
        return f"data is {chunk.data.dtype}, the spec says {dtype}"
    if spec.encoded:
        return None if chunk.data.ndim == 1 else f"an image must be (n_bytes,), not {chunk.data.shape}"
    if chunk.data.shape[1:] != spec.shape or chunk.data.ndim == 0:
        return f"data is {chunk.data.shape}, the spec says (n, {', '.join(map(str, spec.shape))})"
    return None


def spec_to_json(spec: StreamSpec) -> str:
    """A spec as JSON; floats survive exactly."""
    return _SPEC.dump_json(spec).decode()


def spec_from_json(text: str) -> StreamSpec:
    """The spec back. Raises ValueError when the text is none."""
    return _SPEC.validate_json(text)
