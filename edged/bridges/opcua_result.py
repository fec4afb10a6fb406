"""A verdict as an OPC UA result: which node holds which of edged's fields.

Names are taken from OPC 40450-1 (Joining Systems) and OPC 40001-101 (Result Transfer) where those have one. Names
only: no type of theirs is instantiated and no conformance is claimed. Nothing of asyncua is imported here.
"""

import datetime
import math
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["ENTITIES", "FIELDS", "NOT_DECIDABLE", "NOT_OK", "OK", "UNDEFINED", "entities_of", "result_of"]

UNDEFINED, OK, NOT_OK, NOT_DECIDABLE = 0, 1, 2, 3
"""ResultEvaluation of OPC 40001-101, section 10.3. Only 1 is OK, as in edged's label."""

SINGLE_RESULT, JOB_RESULT = 1, 4
"""Classification of OPC 40450-1, section 10.1: one seam, or all seams of a part."""

FIELDS: Final[dict[str, str]] = {
    "ResultId": "String",
    "CreationTime": "DateTime",
    "ResultEvaluation": "Int32",
    "ResultEvaluationCode": "Int64",
    "ResultEvaluationDetails": "String",
    "SequenceNumber": "UInt64",
    "IsPartial": "Boolean",
    "IsSimulated": "Boolean",
    "Classification": "Byte",
    "Name": "String",
    "JoiningTechnology": "String",
    "PartId": "String",
    "ExternalRecipeId": "String",
    "JournalId": "String",
    "SeamRef": "String",
    "Torch": "String",
    "Mode": "String",
    "IsDegraded": "Boolean",
    "Reason": "String",
    "Score": "Double",
    "ShadowLabel": "Byte",
}
"""Node below `LastResult` and field of the structure → OPC UA's built-in type. The last eight are edged's own."""

ENTITIES: Final = (("part", "part_id"), ("seam", "seam_ref"), ("program", "program"), ("torch", "torch"))
"""AssociatedEntities: an entity's Name → the field that holds its EntityId."""

MAX_TEXT_CHARS = 1000


def result_of(topic: str, sequence: int, journal_id: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Every name of `FIELDS` with a value of its type; what is missing or nonsense is empty, NaN, 0 or false.

    `IsSimulated` is true unless the message says that the weld was real. A part's `ResultId` is made of journal and
    sequence, a seam's is its `seam_id`: the same result comes again under the same name.
    """
    is_part = topic == "part"
    label, mode = _label(message.get("label")), _text(message.get("mode"))
    made: dict[str, Any] = {
        "ResultId": f"{journal_id}-{sequence}" if is_part else _text(message.get("seam_id")),
        "CreationTime": _time(message.get("decided_utc_ns")),
        "ResultEvaluation": _evaluation(label, decides=is_part or mode == "armed"),
        "ResultEvaluationCode": label,
        "ResultEvaluationDetails": _details(message),
        "SequenceNumber": sequence,
        "IsPartial": False,
        "IsSimulated": message.get("is_simulated") is not False,
        "Classification": JOB_RESULT if is_part else SINGLE_RESULT,
        "Name": "part" if is_part else "seam",
        "JoiningTechnology": "Arc welding",
        "PartId": _text(message.get("part_id")),
        "ExternalRecipeId": _text(message.get("program")),
        "JournalId": journal_id,
        "SeamRef": _text(message.get("seam_ref")),
        "Torch": _text(message.get("torch")),
        "Mode": mode,
        "IsDegraded": message.get("degraded") is True,
        "Reason": _text(message.get("reason")),
        "Score": _number(message.get("score")),
        "ShadowLabel": _label(message.get("shadow_label")),
    }
    return made


def entities_of(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(Name, EntityId) of what the result is about."""
    return [(name, text) for name, field in ENTITIES if (text := _text(message.get(field)))]


def _evaluation(label: int, *, decides: bool) -> int:
    """Undefined while the program does not decide yet, not decidable where it should have."""
    return label or (NOT_DECIDABLE if decides else UNDEFINED)


def _label(value: Any) -> int:
    return value if type(value) is int and value in (OK, NOT_OK) else 0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return value[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else math.nan


def _details(message: Mapping[str, Any]) -> str:
    said = [_text(message.get("reason_text")), _text(message.get("detail"))]
    return _text(": ".join(text for text in said if text))


def _time(utc_ns: Any) -> datetime.datetime:
    """UTC; 1970 for what is no time. OPC UA knows 100 ns, Python µs."""
    microseconds = utc_ns // 1000 if type(utc_ns) is int and 0 <= utc_ns < 2**63 else 0
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=microseconds)
