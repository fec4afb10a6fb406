"""A verdict in the registers of the result block. What is missing in it, or is not what it should be, becomes 0."""

import math
import zlib

from edged.bridges.modbus_codes import KINDS, MODES, reason_code
from edged.bridges.modbus_map import INPUT, put
from edged.client import Entry

__all__ = ["put_result"]

OK, NOK = 1, 2
NS_A_MS = 1_000_000
MAX_SCORE = 2e6
"""Beyond this its thousandfold does not fit 32 bits."""


def put_result(image: list[int], entry: Entry) -> None:
    """Fill the block of `image`, its counters at both ends aside."""
    message = entry.message
    score = _score(message.get("score"))
    texts = [
        put(image, INPUT[name], _text(message.get(name))) for name in ("seam_id", "program", "part_id", "seam_ref")
    ]
    flags = (
        message.get("degraded") is not False and entry.topic != "part",
        entry.is_simulated,
        score is not None,
        not all(texts),
    )
    decided_ms, arc_on_ms = (_count(message.get(name)) // NS_A_MS for name in ("decided_utc_ns", "arc_on_utc_ns"))
    numbers = {
        "sequence": entry.sequence,
        "journal_number": zlib.crc32(entry.journal_id.encode()),
        "kind": KINDS["part" if entry.topic == "part" else "verdict"],
        "label": message["label"],
        "reason": reason_code(message.get("reason")),
        "mode": MODES.get(_text(message.get("mode")), 0),
        "shadow_label": _label(message.get("shadow_label")),
        "flags": sum(1 << bit for bit, is_set in enumerate(flags) if is_set),
        "score_milli": 0 if score is None else round(min(max(score, -MAX_SCORE), MAX_SCORE) * 1000),
        "pass_index": _count(message.get("pass_index")),
        "decided_utc_s": decided_ms // 1000,
        "decided_ms": decided_ms % 1000,
        "arc_on_utc_s": arc_on_ms // 1000,
        "arc_on_ms": arc_on_ms % 1000,
    }
    for name, value in numbers.items():
        put(image, INPUT[name], value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _score(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None  # type: ignore[arg-type,return-value]


def _label(value: object) -> int:
    return value if type(value) is int and value in (OK, NOK) else 0
