"""The protobuf messages that edged adds to Foxglove's: the leaves of the recording format.

`edged.Samples` carries raw rows of a sampled stream; `edged.ChunkMeta` carries what a `Chunk` has beside its
data, on the companion channel of every stream. They are declared here as tables, so that no generated code
has to be kept in step. `docs/recordings.md` shows them as `.proto` text.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.descriptor import FileDescriptor

__all__ = ["ChunkMeta", "Samples", "descriptor_set"]

_FIELD = descriptor_pb2.FieldDescriptorProto
_TIMESTAMP = ".google.protobuf.Timestamp"

_Fields = dict[str, tuple[Any, bool]]
# name → (type or message name, repeated); field numbers are the order here, so a new field goes to the end.
_SAMPLES: _Fields = {
    "timestamp": (_TIMESTAMP, False),
    "dt_ns": (_FIELD.TYPE_DOUBLE, False),
    "data": (_FIELD.TYPE_BYTES, False),
    "dtype": (_FIELD.TYPE_STRING, False),
    "shape": (_FIELD.TYPE_INT64, True),
    "channels": (_FIELD.TYPE_STRING, True),
    "units": (_FIELD.TYPE_STRING, True),
    "scale": (_FIELD.TYPE_DOUBLE, True),
    "offset": (_FIELD.TYPE_DOUBLE, True),
}
_CHUNK_META: _Fields = {
    "seq": (_FIELD.TYPE_INT64, False),
    "counter": (_FIELD.TYPE_INT64, False),
    "arrival_ns": (_FIELD.TYPE_INT64, False),
    "lost_before": (_FIELD.TYPE_INT64, False),
    "clock_counter0": (_FIELD.TYPE_INT64, False),
    "clock_t0_ns": (_FIELD.TYPE_INT64, False),
    "clock_ns_per_count": (_FIELD.TYPE_DOUBLE, False),
    "clock_residual_ns": (_FIELD.TYPE_DOUBLE, False),
}


def _declare() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="edged/recording.proto", package="edged", syntax="proto3")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    for name, fields in (("Samples", _SAMPLES), ("ChunkMeta", _CHUNK_META)):
        message = file.message_type.add(name=name)
        for number, (field, (kind, repeated)) in enumerate(fields.items(), start=1):
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, kind
            else:
                added.type = kind
    return file


def _message_class(name: str) -> Any:
    pool = descriptor_pool.Default()
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


descriptor_pool.Default().Add(_declare())
Samples: Any = _message_class("edged.Samples")
ChunkMeta: Any = _message_class("edged.ChunkMeta")


def descriptor_set(message_class: Any) -> bytes:
    """A serialised `FileDescriptorSet` of the message's file and all it depends on, dependencies first."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        found.setdefault(file.name, file)

    add(message_class.DESCRIPTOR.file)
    result = descriptor_pb2.FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(result.file.add())
    return result.SerializeToString()
