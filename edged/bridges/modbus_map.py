"""The register map: which value stands where, and how values become registers. docs/modbus.md prints these tables.

Addresses count from 0, as on the wire. Numbers of two or four registers have their most significant register first;
texts have two ASCII characters a register, the first one in the high byte, filled up with zeros.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

__all__ = [
    "CONTROL_BITS",
    "HOLDING",
    "HOLDING_COUNT",
    "INPUT",
    "INPUT_COUNT",
    "LAYOUT",
    "RESULT_COUNT",
    "Field",
    "TextError",
    "get",
    "get_text",
    "put",
    "table",
]

LAYOUT: Final = 1
"""Number of this map; a PLC compares it. It grows when a field moves or changes its meaning."""

Kind = Literal["u16", "i16", "u32", "i32", "u64", "text"]

WIDTHS: Final = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4}


class TextError(ValueError):
    """Registers that hold no readable text; says what is wrong with it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A value at `address`. `count` is in registers; a text holds twice as many characters."""

    name: str
    address: int
    kind: Kind
    count: int
    meaning: str


def _fields(*rows: tuple[int, str, Kind | int, str]) -> dict[str, Field]:
    """Rows of address, name, kind (or the characters of a text) and meaning."""
    found = {}
    for address, name, kind, meaning in rows:
        is_text = isinstance(kind, int)
        count = kind // 2 if isinstance(kind, int) else WIDTHS[kind]
        found[name] = Field(name, address, "text" if is_text else kind, count, meaning)  # type: ignore[arg-type]
    return found


INPUT: Final = _fields(
    (0, "layout", "u16", "1: number of this map; 0 where the bridge was never there"),
    (1, "status", "u16", "bits, see below; the same as discrete inputs 0 to 15"),
    (2, "faults", "u16", "bits, see below"),
    (3, "heartbeat", "u16", "grows with each heartbeat of the daemon, once a second; after 65535 comes 1"),
    (4, "waiting", "u16", "results that wait, without the one that is shown"),
    (5, "seen", "u16", "the bits of `control` that were acted on"),
    (6, "answer", "u16", "to the last command, see below"),
    (7, "block_begin", "u16", "number of the result shown since the bridge began, 0 for none"),
    (8, "sequence", "u64", "of the entry in the daemon's journal"),
    (12, "journal_number", "u32", "CRC-32 of the journal's id: another one means that `sequence` began anew"),
    (14, "kind", "u16", "1 verdict of a seam, 2 of a whole part"),
    (15, "label", "u16", "0 not OK or unknown, 1 OK, 2 NOK"),
    (16, "reason", "u16", "see below"),
    (17, "mode", "u16", "of the program: 0 unknown, 1 collecting, 2 shadow, 3 armed; 0 for a part"),
    (18, "shadow_label", "u16", "what an armed program would have said; 0 where nothing is known"),
    (19, "flags", "u16", "bits: 0 degraded, 1 simulated, 2 score is known, 3 a text was cut or is not ASCII"),
    (20, "score_milli", "i32", "score × 1000; 1000 is the limit, higher is worse; 0 where it is not known"),
    (22, "pass_index", "i16", "0 for the first pass of a seam"),
    (23, "decided_utc_s", "u32", "s since 1970, UTC, of the decision"),
    (25, "decided_ms", "u16", "ms beside it"),
    (26, "arc_on_utc_s", "u32", "s since 1970, UTC, of the first arc's start; 0 for a part"),
    (28, "arc_on_ms", "u16", "ms beside it"),
    (29, "seam_id", 26, "edged's name of the seam"),
    (42, "program", 32, ""),
    (58, "part_id", 64, "as the PLC gave it"),
    (90, "seam_ref", 64, "as the PLC gave it"),
    (122, "block_end", "u16", "as `block_begin`; where the two differ, read again"),
    (128, "answer_seam_id", 26, "seam of an accepted `expect` or `view`"),
    (141, "answer_text", 128, "why a command was not followed"),
    (205, "refused_connections", "u16", "connections from addresses that are not allowed, or beyond the limit"),
    (206, "malformed_requests", "u16", "requests that are no Modbus, or beyond its limits"),
    (207, "ignored_acks", "u16", "ResultAck toggles without a result, or for another `ack_sequence`"),
)
"""Input registers (function code 4): what edged tells the PLC. 0 to 122 can be read with one request."""

INPUT_COUNT: Final = 208
RESULT_COUNT: Final = 123
"""Registers of status and result together, within the 125 of one request."""

HOLDING: Final = _fields(
    (0, "control", "u16", "bits: 0 Trigger, 1 ResultAck, 2 FaultReset; each acts when it changes"),
    (1, "command", "u16", "what Trigger asks for: 0 expect, 1 view, 2 end_part"),
    (2, "ack_sequence", "u32", "low half of the `sequence` that ResultAck means; 0: whichever is shown"),
    (4, "pass_index", "u16", "of an expect"),
    (8, "program", 32, "of an expect"),
    (24, "part_id", 64, "of an expect, view or end_part"),
    (56, "seam_ref", 64, "of an expect or view"),
    (88, "torch", 16, "of an expect, in cells with two"),
    (96, "view", 32, "of a view"),
)
"""Holding registers (function codes 3, 6, 16, 22, 23): what the PLC tells edged. Coils 0 to 15 are `control`."""

HOLDING_COUNT: Final = 112

CONTROL_BITS: Final = {"trigger": 0, "result_ack": 1, "fault_reset": 2}


def put(registers: list[int], field: Field, value: int | str) -> bool:
    """Write a value, clamped to what fits; False where a text was cut or has other characters than ASCII."""
    if isinstance(value, str):
        return _put_text(registers, field, value)
    bits = 16 * field.count
    is_signed = field.kind in ("i16", "i32")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    raw = min(max(value, low), high) % 2**bits
    registers[field.address : field.address + field.count] = [
        raw >> 16 * (field.count - 1 - place) & 0xFFFF for place in range(field.count)
    ]
    return True


def get(registers: Sequence[int], field: Field) -> int:
    """The number in a field's registers."""
    raw = 0
    for register in registers[field.address : field.address + field.count]:
        raw = raw << 16 | register
    bits = 16 * field.count
    is_negative = field.kind in ("i16", "i32") and raw >> (bits - 1)
    return raw - 2**bits if is_negative else raw


def get_text(registers: Sequence[int], field: Field) -> str:
    """The text up to the first zero, without the blanks that PLCs fill up with. Raises TextError."""
    raw = b"".join(register.to_bytes(2, "big") for register in registers[field.address : field.address + field.count])
    found = raw.partition(b"\0")[0].rstrip(b" ")
    if not all(0x20 <= character < 0x7F for character in found):
        raise TextError(f"{field.name}: {found!r:.80} is not printable ASCII; high byte first")
    return found.decode("ascii")


def table(fields: Mapping[str, Field]) -> str:
    """The rows of a map's table in docs/modbus.md."""
    return "\n".join(_rows(fields.values()))


def _rows(fields: Iterable[Field]) -> Iterable[str]:
    for field in fields:
        last = field.address + field.count - 1
        where = f"{field.address}" if field.count == 1 else f"{field.address}–{last}"
        kind = f"text {2 * field.count}" if field.kind == "text" else field.kind
        yield f"| {where} | `{field.name}` | {kind} | {field.meaning} |"


def _put_text(registers: list[int], field: Field, value: str) -> bool:
    plain = "".join(character if " " <= character <= "~" else "?" for character in value)[: 2 * field.count]
    raw = plain.encode("ascii").ljust(2 * field.count, b"\0")
    registers[field.address : field.address + field.count] = [
        int.from_bytes(raw[place : place + 2], "big") for place in range(0, len(raw), 2)
    ]
    return plain == value
