"""Writing one recording: header, chunks, control messages and metadata → MCAP, in the order given.

Stands beside the data path: the recorder and `edged simulate` write with it.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from drivers.base import Chunk, StreamSpec
from drivers.mcap_file import HEADER_METADATA, DurableFile, RecordingError, json_values, mcap_writer, to_json
from drivers.mcap_layouts import (
    CONTROL_SCHEMA,
    CONTROL_TOPIC,
    FORMAT,
    Layout,
    RecordingHeader,
    form_problem,
    layout_of,
    meta_bytes,
    spec_to_json,
)
from drivers.mcap_schemas import ChunkMeta, descriptor_set

__all__ = ["RecordingWriter"]

MCAP_CHUNK_BYTES = 1 << 20


class RecordingWriter:
    """Writes one recording; every method raises RecordingError when the disk or the data is wrong.

    A message and its companion always share an MCAP chunk, so a crash never leaves one without the other.
    """

    def __init__(self, path: Path, specs: Sequence[StreamSpec], header: RecordingHeader) -> None:
        self._path = path
        self._header = header
        self._specs = {spec.name: spec for spec in specs}
        self._pending_bytes = 0
        self._failed: str | None = None
        self._finished = False
        try:
            self._file = DurableFile(path)
        except FileExistsError:
            raise RecordingError(f"{path}: exists already; recordings are never overwritten, move it away") from None
        except OSError as error:
            raise RecordingError(f"{path}: cannot be created: {error.strerror}") from error
        # The MCAP chunk is closed by `_count`, never between the two messages of a pair.
        self._mcap = mcap_writer(self._file, chunk_size=1 << 62)
        try:
            self._guarded(self._start)
        except RecordingError:
            self._file.close()
            path.unlink()
            raise

    def _start(self) -> None:
        self._mcap.start(profile="", library=f"edged {self._header.software}")
        values = {"format": FORMAT, **dataclasses.asdict(self._header)}
        self._mcap.add_metadata(HEADER_METADATA, json_values(self._path, HEADER_METADATA, values))
        schemas: dict[str, int] = {}
        self._layouts: dict[str, Layout] = {}
        self._channels: dict[str, tuple[int, int]] = {}
        meta_schema = self._mcap.register_schema("edged.ChunkMeta", "protobuf", descriptor_set(ChunkMeta))
        for spec in self._specs.values():
            if "/" in spec.name:
                raise RecordingError(f"{self._path}: stream name {spec.name!r} must not contain '/'")
            layout = self._layouts[spec.name] = layout_of(spec)
            full_name = layout.message_class.DESCRIPTOR.full_name
            if full_name not in schemas:
                data = descriptor_set(layout.message_class)
                schemas[full_name] = self._mcap.register_schema(full_name, "protobuf", data)
            self._channels[spec.name] = (
                self._mcap.register_channel(
                    f"/{spec.name}/meta", "protobuf", meta_schema, {"role": "meta", "stream": spec.name}
                ),
                self._mcap.register_channel(
                    f"/{spec.name}", "protobuf", schemas[full_name], {"role": "data", "spec": spec_to_json(spec)}
                ),
            )
        control = json.dumps(CONTROL_SCHEMA).encode()
        control_schema = self._mcap.register_schema("edged.Control", "jsonschema", control)
        self._control = self._mcap.register_channel(CONTROL_TOPIC, "json", control_schema, {"role": "control"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file being written."""
        return self._path

    @property
    def bytes_written(self) -> int:
        """Bytes given to the kernel so far; up to one MCAP chunk (1 MiB before compression) is still held."""
        return self._file.tell()

    def chunk(self, chunk: Chunk) -> None:
        """Append a stamped chunk. Raises ValueError when it is not stamped."""
        spec = self._specs.get(chunk.stream)
        if spec is None:
            raise RecordingError(
                f"{self._path}: stream {chunk.stream!r} was not announced; known: {', '.join(self._specs)}"
            )
        if problem := form_problem(spec, chunk):
            raise RecordingError(f"{self._path}: stream {spec.name}, chunk {chunk.seq}: {problem}")
        log_ns = self._log_ns(chunk.t_ns)
        publish_ns = max(0, self._header.to_utc_ns(chunk.arrival_ns))
        sequence = chunk.seq & 0xFFFFFFFF
        meta = meta_bytes(chunk)
        data = self._layouts[spec.name].encode(chunk, log_ns)
        meta_channel, data_channel = self._channels[spec.name]

        def add() -> None:
            self._mcap.add_message(meta_channel, log_ns, meta, publish_ns, sequence)
            self._mcap.add_message(data_channel, log_ns, data, publish_ns, sequence)
            self._count(len(meta) + len(data))

        self._guarded(add)

    def control(self, t_ns: int, message: Mapping[str, Any]) -> None:
        """Append a control message that took effect at monotonic `t_ns`; it must be representable as JSON."""
        data = to_json(self._path, CONTROL_TOPIC, {"t_ns": t_ns, "message": dict(message)}).encode()
        log_ns = self._log_ns(t_ns)

        def add() -> None:
            self._mcap.add_message(self._control, log_ns, data, log_ns)
            self._count(len(data))

        self._guarded(add)

    def metadata(self, name: str, values: Mapping[str, Any]) -> None:
        """Append a metadata record; values are JSON. Of several records with one name readers take the last."""
        data = json_values(self._path, name, values)
        self._guarded(lambda: self._mcap.add_metadata(name, data))

    def sync(self) -> None:
        """Close the current MCAP chunk and wait until the disk has everything so far."""

        def flush() -> None:
            self._flush()
            self._file.sync()

        self._guarded(flush)

    def flush(self) -> None:
        """Close the current MCAP chunk and give the kernel everything so far; `settle` waits for the disk."""
        self._guarded(self._flush)

    def settle(self) -> None:
        """Wait until the disk has what the kernel was given. Another thread may write meanwhile, but not close."""
        try:
            self._file.sync()
        except OSError as error:
            self._failed = str(error.strerror)
            raise RecordingError(
                f"{self._path}: the disk did not take it: {error.strerror}; look at the disk of {self._path.parent}"
            ) from error

    def finish(self) -> None:
        """Write index and footer, wait for the disk and close. The recording is complete; it can be renamed."""

        def end() -> None:
            self._mcap.finish()
            self._file.sync(metadata=True)

        self._guarded(end)
        self._finished = True
        self._file.close()

    def close(self) -> None:
        """Release the file as it is: unfinished unless `finish` succeeded; `recover_recording` reads the rest."""
        self._file.close()

    def _count(self, count: int) -> None:
        self._pending_bytes += count
        if self._pending_bytes >= MCAP_CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._mcap.flush()
        self._pending_bytes = 0

    def _log_ns(self, t_ns: int) -> int:
        log_ns = self._header.to_utc_ns(t_ns)
        if not 0 <= log_ns < 1 << 63:
            raise RecordingError(
                f"{self._path}: monotonic time {t_ns} ns is UTC {log_ns} ns with the header's pair "
                f"({self._header.monotonic_ns}, {self._header.utc_ns}); the pair must be of this boot"
            )
        return log_ns

    def _guarded(self, write: Callable[[], None]) -> None:
        """Run a write; after the first failure the file's tail is undefined, so nothing more is written."""
        if self._finished:
            raise RecordingError(f"{self._path}: is finished after {self.bytes_written} bytes; nothing can be added")
        if self._failed is not None:
            raise RecordingError(f"{self._path}: failed earlier: {self._failed}")
        try:
            write()
        except OSError as error:
            self._failed = str(error.strerror)
            raise RecordingError(
                f"{self._path}: write failed after {self.bytes_written} bytes: {error.strerror}; "
                f"free space on the disk of {self._path.parent}"
            ) from error
