"""Files that survive a crash: durable writing of MCAP, and getting an unfinished one back.

Below the codec: knows records and bytes, not streams. An unfinished file is what `kill -9` or a power cut
leaves; every MCAP chunk in it that is complete (its CRC says so) is kept.
"""

import io
import itertools
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import zstandard
from mcap import records as mcap_records
from mcap.exceptions import McapError
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import CompressionType, Writer

__all__ = [
    "DAMAGE",
    "HEADER_METADATA",
    "MAGIC",
    "OPEN_SUFFIX",
    "RECORDING_SUFFIX",
    "DurableFile",
    "RecordingError",
    "fsync_folder",
    "json_values",
    "mcap_writer",
    "recover_recording",
    "to_json",
]

HEADER_METADATA = "edged"
"""The first metadata record of every recording; it is written before anything else."""
MAGIC = b"\x89MCAP0\r\n"
OPEN_SUFFIX = ".open"
RECORDING_SUFFIX = ".mcap"
COMPRESSION = CompressionType.ZSTD
DAMAGE = (McapError, struct.error, ValueError, zstandard.ZstdError, MemoryError)
"""What the mcap package raises on damaged bytes (`ValueError` includes failed CRCs and broken text, a wild size
ends in `MemoryError`)."""


class RecordingError(Exception):
    """A recording cannot be written or read. The message names the file, the numbers seen and the fix."""


class DurableFile:
    """A new file written without a hidden buffer: when `write` returns, the kernel has the bytes.

    So an error surfaces where it happens and `close` has nothing left to fail on. The interface is what
    `mcap.writer.Writer` wants of a stream.
    """

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        self._file = io.FileIO(path, "wb" if replace else "xb")
        self._written = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises OSError, for example ENOSPC."""
        rest = memoryview(data)
        while rest:
            count = self._file.write(rest) or 0
            self._written += count
            rest = rest[count:]
        return len(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._written

    def flush(self) -> None:
        """Nothing is held back; here because the writer asks for it."""

    def sync(self, *, metadata: bool = False) -> None:
        """Wait until the disk has the data; with `metadata`, the file's own attributes too."""
        (os.fsync if metadata else os.fdatasync)(self._file.fileno())

    def close(self) -> None:
        """Release the descriptor; safe to call twice."""
        self._file.close()


def mcap_writer(file: DurableFile, chunk_size: int = 1 << 20) -> Any:
    """An `mcap.writer.Writer` (whose methods are partly untyped) with the compression and checksums we use."""
    return Writer(cast("IO[bytes]", file), chunk_size, compression=COMPRESSION, enable_data_crcs=True)


def to_json(path: Path, what: str, value: Any) -> str:
    """`value` as strict JSON. Raises RecordingError naming `what` in the file when it cannot be."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecordingError(f"{path}: {what}: {value!r:.200} cannot be written as JSON: {error}") from error


def json_values(path: Path, name: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Metadata values, each as JSON, as MCAP wants them."""
    return {key: to_json(path, f"metadata {name}.{key}", value) for key, value in values.items()}


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def recover_recording(path: Path, extra: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Make a valid recording of an unfinished or truncated one, with every complete message.

    `extra` is metadata to add at the end (name → JSON-ready values); readers take it before any earlier one.

    `SEAM.open` becomes `SEAM.mcap` and is removed; any other damaged file is kept and its recovered twin is
    `NAME.recovered.mcap`. The result carries metadata "recovered" with the bytes used and the damage met.
    Raises RecordingError when not even the header is left, or the disk fails.
    """
    target = path.with_suffix(RECORDING_SUFFIX if path.suffix == OPEN_SUFFIX else ".recovered" + RECORDING_SUFFIX)
    scratch = target.with_suffix(".recovering")
    try:
        _rewrite(path, scratch, extra or {})
        os.replace(scratch, target)
        if path.suffix == OPEN_SUFFIX:
            path.unlink()
        fsync_folder(target.parent)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise RecordingError(
            f"{path}: recovery failed: {error.strerror}; free some space in {target.parent} and try again"
        ) from error
    return target


def loads_or_text(text: str) -> Any:
    """Metadata that another tool added need not be JSON; it is kept as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def unfinished_metadata(path: Path) -> dict[str, dict[str, Any]]:
    """The last metadata record of every name in an unfinished recording; empty where nothing can be read."""
    found: dict[str, dict[str, Any]] = {}
    with path.open("rb") as source:
        for record in _complete_records(source, path.stat().st_size, []):
            if isinstance(record, mcap_records.Metadata):
                found[record.name] = {key: loads_or_text(value) for key, value in record.metadata.items()}
    return found


def _rewrite(path: Path, scratch: Path, extra: Mapping[str, Mapping[str, Any]]) -> None:
    size = path.stat().st_size
    damage: list[str] = []
    with path.open("rb") as source:
        records = _complete_records(source, size, damage)
        first, second = next(records, None), next(records, None)
        if not (
            isinstance(first, mcap_records.Header)
            and isinstance(second, mcap_records.Metadata)
            and second.name == HEADER_METADATA
        ):
            raise RecordingError(
                f"{path}: nothing to recover: its {size} bytes do not begin with edged's header "
                f"({damage[0] if damage else 'foreign format'}); delete the file"
            )
        out = DurableFile(scratch, replace=True)
        try:
            writer = mcap_writer(out)
            writer.start(profile=first.profile, library=first.library)
            messages = _copy(itertools.chain([second], records), writer)
            note = {"messages": messages, "bytes_total": size, "damage": damage[0] if damage else None}
            for name, values in {"recovered": note, **extra}.items():
                writer.add_metadata(name, json_values(path, name, values))
            writer.finish()
            out.sync(metadata=True)
        finally:
            out.close()


def _complete_records(source: io.BufferedReader, size: int, damage: list[str]) -> Iterator[mcap_records.McapRecord]:
    """Records up to the first damage, of which a note is left in `damage`."""
    reader = StreamReader(source, emit_chunks=True, record_size_limit=size)
    try:
        for record in reader.records:
            if isinstance(record, mcap_records.Chunk):
                yield from breakup_chunk(record, validate_crc=True)
            elif isinstance(record, mcap_records.DataEnd):
                return
            else:
                yield record
    except DAMAGE as error:
        damage.append(f"{type(error).__name__} {error}".strip() + f" before byte {source.tell()}")


def _copy(records: Iterator[mcap_records.McapRecord], writer: Any) -> int:
    """Write records again; returns the number of messages. Ids are given anew, so they are mapped."""
    schemas: dict[int, int] = {0: 0}
    channels: dict[int, int] = {}
    messages = 0
    for record in records:
        if isinstance(record, mcap_records.Schema):
            if record.id not in schemas:
                schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
        elif isinstance(record, mcap_records.Channel):
            if record.id not in channels:
                channels[record.id] = writer.register_channel(
                    record.topic, record.message_encoding, schemas[record.schema_id], record.metadata
                )
        elif isinstance(record, mcap_records.Metadata):
            writer.add_metadata(record.name, record.metadata)
        elif isinstance(record, mcap_records.Message):
            writer.add_message(
                channels[record.channel_id], record.log_time, record.data, record.publish_time, record.sequence
            )
            messages += 1
    return messages
