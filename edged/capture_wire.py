"""What a capture child tells its parent, one packet each over a SOCK_SEQPACKET pair; data lies in the memfd."""

import json
import struct
from typing import Any, NamedTuple

from pydantic import BaseModel

__all__ = ["CHUNK", "ENDED", "FAILED", "IDLE", "MAX_PACKET", "OPENED", "ChildTask", "Notice", "pack", "unpack"]

OPENED, IDLE, CHUNK, FAILED, ENDED = b"O", b"I", b"C", b"F", b"E"
"""Device opened; read() returned nothing; a chunk lies in the ring; DeviceError; StreamEnded (text follows)."""

MAX_PACKET = 65_536
MAX_TEXT = 4_096

_NOTICE = struct.Struct("<QqqQqII")


class ChildTask(BaseModel):
    """What to capture; sent over the pair and not on the command line, because options may hold passwords."""

    driver: str
    name: str
    options: dict[str, Any]


class Notice(NamedTuple):
    """One chunk in the ring: a `Chunk` without its data, which lies at `offset` of the arena."""

    seq: int
    counter: int
    arrival_ns: int
    lost_before: int
    offset: int
    n_items: int
    n_bytes: int


def pack(kind: bytes, body: Notice | str | None = None) -> bytes:
    """One packet."""
    if isinstance(body, Notice):
        return kind + _NOTICE.pack(*body)
    return kind + (body or "").encode()[:MAX_TEXT]


def unpack(packet: bytes) -> tuple[bytes, Notice | str]:
    """Kind and body of a packet. Raises ValueError when it is neither."""
    kind, body = packet[:1], packet[1:]
    if kind == CHUNK:
        try:
            return kind, Notice(*_NOTICE.unpack(body))
        except struct.error as error:
            raise ValueError(f"a chunk notice of {len(body)} bytes: {error}") from error
    if kind not in (OPENED, IDLE, FAILED, ENDED):
        raise ValueError(f"unknown packet {json.dumps(packet[:16].decode('latin-1'))} from a capture child")
    return kind, body.decode(errors="replace")
