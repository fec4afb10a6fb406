"""Reading a finished recording: everything in the order written, stamps included, as it was.

Where replay, training and evaluation enter the data path.
"""

import json
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Message
from mcap.stream_reader import StreamReader

from drivers.base import Chunk, StreamSpec
from drivers.mcap_file import DAMAGE, HEADER_METADATA, MAGIC, RecordingError, loads_or_text
from drivers.mcap_layouts import (
    FORMAT,
    ControlEvent,
    RecordingHeader,
    chunk_from,
    layout_of,
    spec_from_json,
)
from drivers.mcap_schemas import ChunkMeta

__all__ = ["RecordingReader"]

_FOOTER = struct.Struct("<BQQQI")
"""Opcode, length, start of the summary, start of its offsets, checksum."""


class RecordingReader:
    """Reads a finished recording. Raises RecordingError with the fix when it is unfinished, damaged or foreign."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._metadata: dict[str, dict[str, Any]] = {}
        self._channels: dict[int, Channel] = {}
        self._log_ns: tuple[int, int] | None = None
        try:
            with path.open("rb") as file:
                self._read_summary(file)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
        except DAMAGE as error:
            raise self._damaged(error) from error
        if HEADER_METADATA not in self._metadata:
            raise RecordingError(
                f"{path}: is MCAP but no recording of edged (it has no metadata {HEADER_METADATA!r})"
            )
        self._header = self._parse_header(dict(self._metadata[HEADER_METADATA]))
        specs = [
            spec_from_json(c.metadata["spec"]) for c in self._channels.values() if c.metadata.get("role") == "data"
        ]
        self._specs = {spec.name: spec for spec in specs}

    def _read_summary(self, file: BinaryIO) -> None:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(MAGIC)))
        if file.read() != MAGIC:
            raise RecordingError(
                f"{self._path}: unfinished or truncated: its {size} bytes do not end in the MCAP mark; "
                f"`edged recover {self._path}` saves what is complete"
            )
        file.seek(0)
        reader = SeekingReader(file)
        summary = reader.get_summary()
        if summary is None:
            raise RecordingError(f"{self._path}: has no summary; it was not written by edged")
        _check_summary(file, size)
        self._channels = dict(summary.channels)
        if summary.statistics is not None and summary.statistics.message_count:
            self._log_ns = (summary.statistics.message_start_time, summary.statistics.message_end_time)
        for record in reader.iter_metadata():
            self._metadata[record.name] = {key: loads_or_text(value) for key, value in record.metadata.items()}

    def _parse_header(self, values: dict[str, Any]) -> RecordingHeader:
        if (version := values.pop("format", None)) != FORMAT:
            raise RecordingError(f"{self._path}: has format {version}; this version reads {FORMAT}: update edged")
        try:
            return RecordingHeader(**values)
        except TypeError as error:
            raise RecordingError(f"{self._path}: header {values} does not fit: {error}") from error

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def header(self) -> RecordingHeader:
        """Cell, software and the pair of times."""
        return self._header

    @property
    def specs(self) -> tuple[StreamSpec, ...]:
        """The streams in the order in which they were announced."""
        return tuple(self._specs.values())

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """Monotonic times of the earliest and the latest message of any stream; None when there is none."""
        if self._log_ns is None:
            return None
        first, last = (t - self._header.utc_ns + self._header.monotonic_ns for t in self._log_ns)
        return first, last

    def metadata(self, name: str) -> dict[str, Any] | None:
        """The last metadata record called `name`, values decoded; None where there is none."""
        return self._metadata.get(name)

    def events(self, streams: Collection[str] | None = None) -> Iterator[Chunk | ControlEvent]:
        """Everything in the order written, read as it goes; with `streams` only their chunks.

        Chunks are stamped as they were recorded; their data is a read-only view `(n, *spec.shape)`, for
        images `(n_bytes,)`. Checksums are verified; raises RecordingError at the first damaged byte range.
        """
        unknown = set(streams or ()) - set(self._specs)
        if unknown:
            raise RecordingError(f"{self._path}: no stream {sorted(unknown)}; it has {', '.join(self._specs)}")
        with self._path.open("rb") as file:
            metas: dict[str, Any] = {}
            try:
                for record in StreamReader(file, validate_crcs=True).records:
                    if not isinstance(record, Message):
                        continue
                    event = self._event(record, metas, streams)
                    if event is not None:
                        yield event
            except (*DAMAGE, DecodeError) as error:
                raise self._damaged(error, file.tell()) from error

    def _event(
        self, message: Message, metas: dict[str, Any], streams: Collection[str] | None
    ) -> Chunk | ControlEvent | None:
        channel = self._channels[message.channel_id]
        match channel.metadata.get("role"):
            case "control" if streams is None:
                value = json.loads(message.data)
                return ControlEvent(value["t_ns"], value["message"])
            case "meta" if streams is None or channel.metadata["stream"] in streams:
                metas[channel.metadata["stream"]] = ChunkMeta.FromString(message.data)
            case "data" if streams is None or channel.topic[1:] in streams:
                spec = self._specs[channel.topic[1:]]
                meta = metas.pop(spec.name, None)
                if meta is None:
                    raise RecordingError(f"{self._path}: {channel.topic} message {message.sequence} has no companion")
                return chunk_from(spec, meta, layout_of(spec).message_class.FromString(message.data).data)
        return None

    def _damaged(self, error: BaseException, offset: int | None = None) -> RecordingError:
        where = "in its summary" if offset is None else f"before byte {offset}"
        return RecordingError(
            f"{self._path}: damaged {where} of {self._path.stat().st_size} bytes "
            f"({type(error).__name__}: {error}); `edged recover {self._path}` saves what is complete"
        )


def _check_summary(file: BinaryIO, size: int) -> None:
    """The mcap reader does not check the summary, but the streams' scales stand there. Raises ValueError."""
    file.seek(size - _FOOTER.size - len(MAGIC))
    opcode, _, start, _, expected = _FOOTER.unpack(file.read(_FOOTER.size))
    file.seek(start)
    # Covered: the summary and the footer up to its own checksum.
    found = zlib.crc32(file.read(size - len(MAGIC) - 4 - start))
    if opcode != Opcode.FOOTER or found != expected:
        raise ValueError(f"checksum is {found:#010x}, the footer says {expected:#010x}")
