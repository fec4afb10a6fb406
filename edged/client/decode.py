"""Bytes from the network → maps, entries, numbers; whatever is not what it should be is None, never an exception."""

from typing import Any

import msgpack

from .events import Entry

__all__ = ["MAX_ANSWER_BYTES", "MAX_PAYLOAD_BYTES", "SCHEMA", "count", "identity", "read_entry", "read_map"]

SCHEMA = 1
MAX_PAYLOAD_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 2 * 1024 * 1024
"""An answer of the journal holds at most 1 MiB of entries, or one larger than that."""

MAX_ITEMS = 16 * 1024
MAX_IDENTITY_CHARS = 64
LABELS = (0, 1, 2)


def read_map(payload: bytes, limit_bytes: int = MAX_PAYLOAD_BYTES) -> dict[str, Any] | None:
    """The msgpack map with text keys, None for anything else or anything larger."""
    if len(payload) > limit_bytes:
        return None
    try:
        found = msgpack.unpackb(payload, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return None
    return found if isinstance(found, dict) and set(map(type, found)) <= {str} else None


def read_entry(topic: bytes | str, payload: bytes) -> Entry | None:
    """A journal entry, None where the message does not say which entry of which journal it is."""
    if isinstance(topic, bytes):
        try:
            topic = topic.decode()
        except UnicodeDecodeError:
            return None
    message = read_map(payload)
    if message is None:
        return None
    journal_id, sequence = identity(message.get("journal_id")), count(message.get("sequence"))
    if journal_id is None or not sequence:
        return None
    return Entry(journal_id, sequence, topic, message | {"label": _label(topic, message)}, payload)


def count(value: object) -> int | None:
    """A whole number from 0 up that fits 63 bits; True is none."""
    return value if isinstance(value, int) and type(value) is int and 0 <= value < 2**63 else None


def identity(value: object) -> str | None:
    """A journal's name."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_IDENTITY_CHARS else None


def _label(topic: str, message: dict[str, Any]) -> int:
    kind, _, program = topic.partition("/")
    if kind == "verdict" and program != (message.get("program") or "unknown"):
        return 0
    schema, label = message.get("schema"), message.get("label")
    if type(schema) is not int or schema != SCHEMA or message.get("kind") != kind:
        return 0
    return label if type(label) is int and label in LABELS else 0
