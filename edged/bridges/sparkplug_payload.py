"""Sparkplug B payloads: metrics to protobuf bytes and back.

The messages are the part of the Sparkplug specification 3.0.0 (section 6.4, "Payload Definition") that edged uses:
scalar metrics, no data sets, templates or properties; unknown fields of others' payloads are skipped. The descriptor
is built here, so that no generated file must be kept in step with the installed protobuf.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

__all__ = ["MAX_PAYLOAD_BYTES", "Metric", "PayloadError", "decode", "encode", "kind_of"]

MAX_PAYLOAD_BYTES = 64 * 1024
"""Commands from hosts are some tens of bytes; anything much larger is not meant for us."""

MAX_METRICS = 256

_FIELD = descriptor_pb2.FieldDescriptorProto
_OPTIONAL, _REPEATED = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED

# name, number, type; section 6.4.2 to 6.4.6 of the specification
_METRIC_FIELDS = (
    ("name", 1, _FIELD.TYPE_STRING),
    ("alias", 2, _FIELD.TYPE_UINT64),
    ("timestamp", 3, _FIELD.TYPE_UINT64),
    ("datatype", 4, _FIELD.TYPE_UINT32),
    ("is_historical", 5, _FIELD.TYPE_BOOL),
    ("is_transient", 6, _FIELD.TYPE_BOOL),
    ("is_null", 7, _FIELD.TYPE_BOOL),
)
_VALUE_FIELDS = (
    ("int_value", 10, _FIELD.TYPE_UINT32),
    ("long_value", 11, _FIELD.TYPE_UINT64),
    ("float_value", 12, _FIELD.TYPE_FLOAT),
    ("double_value", 13, _FIELD.TYPE_DOUBLE),
    ("boolean_value", 14, _FIELD.TYPE_BOOL),
    ("string_value", 15, _FIELD.TYPE_STRING),
)

KINDS: Final = {
    "Int64": (4, "long_value"),
    "UInt8": (5, "int_value"),
    "UInt64": (8, "long_value"),
    "Double": (10, "double_value"),
    "Boolean": (11, "boolean_value"),
    "String": (12, "string_value"),
    "DateTime": (13, "long_value"),
}
"""Sparkplug's data type → its number and the field that holds it; a DateTime is ms since 1970, UTC."""

_NAMES = {number: name for name, (number, _) in KINDS.items()}


class PayloadError(ValueError):
    """Bytes that are no Sparkplug payload, or one beyond the limits."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `value` None: known to be unknown. `timestamp_ms` is UTC; `kind` None where a host left it out."""

    name: str
    kind: str | None
    value: int | float | bool | str | None
    timestamp_ms: int | None = None
    is_historical: bool = False


def _build() -> type[Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="edged_sparkplug_b.proto", package="edged.sparkplug", syntax="proto2"
    )
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    for name, number, kind in _METRIC_FIELDS:
        metric.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
    for name, number, kind in _VALUE_FIELDS:
        metric.field.add(name=name, number=number, type=kind, label=_OPTIONAL, oneof_index=0)
    payload.field.add(name="timestamp", number=1, type=_FIELD.TYPE_UINT64, label=_OPTIONAL)
    payload.field.add(
        name="metrics",
        number=2,
        type=_FIELD.TYPE_MESSAGE,
        label=_REPEATED,
        type_name=".edged.sparkplug.Payload.Metric",
    )
    payload.field.add(name="seq", number=3, type=_FIELD.TYPE_UINT64, label=_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("edged.sparkplug.Payload"))


_Payload = _build()


def kind_of(number: int) -> str | None:
    """Name of a data type's number; None for one that edged does not use."""
    return _NAMES.get(number)


def encode(metrics: Iterable[Metric], timestamp_ms: int, seq: int | None) -> bytes:
    """A payload's bytes.

    Args:
        timestamp_ms: when it is sent, UTC.
        seq: 0 to 255; None in a death certificate, which has none.
    Raises PayloadError for a metric whose kind is not in `KINDS`.
    """
    payload = _Payload(timestamp=timestamp_ms)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        if metric.kind not in KINDS:
            raise PayloadError(f"metric {metric.name!r}: {metric.kind!r} is none of {', '.join(KINDS)}")
        number, field = KINDS[metric.kind]
        item = payload.metrics.add(name=metric.name, datatype=number)
        item.timestamp = timestamp_ms if metric.timestamp_ms is None else metric.timestamp_ms
        if metric.is_historical:
            item.is_historical = True
        if metric.value is None:
            item.is_null = True
        elif metric.kind == "Int64":
            item.long_value = int(metric.value) % 2**64  # two's complement: the field is unsigned
        else:
            setattr(item, field, metric.value)
    data: bytes = payload.SerializeToString()
    return data


def decode(data: bytes) -> tuple[list[Metric], int | None, int | None]:
    """Metrics, timestamp (ms, UTC) and seq of a payload. Raises PayloadError."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"{len(data)} bytes, the limit is {MAX_PAYLOAD_BYTES}")
    payload = _Payload()
    try:
        payload.ParseFromString(data)
    except DecodeError as error:
        raise PayloadError(f"no Sparkplug payload: {error}") from error
    if len(payload.metrics) > MAX_METRICS:
        raise PayloadError(f"{len(payload.metrics)} metrics, the limit is {MAX_METRICS}")
    metrics = [_metric(item) for item in payload.metrics]
    timestamp = payload.timestamp if payload.HasField("timestamp") else None
    return metrics, timestamp, payload.seq if payload.HasField("seq") else None


def _metric(item: Any) -> Metric:
    field = item.WhichOneof("value")
    kind = kind_of(item.datatype)
    value = None if field is None or item.is_null else getattr(item, field)
    if kind == "Int64" and isinstance(value, int) and value >= 2**63:
        value -= 2**64
    return Metric(
        name=item.name,
        kind=kind,
        value=value,
        timestamp_ms=item.timestamp if item.HasField("timestamp") else None,
        is_historical=item.is_historical,
    )
