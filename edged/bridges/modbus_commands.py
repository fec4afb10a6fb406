"""What a PLC asks for through its holding registers, and asking the daemon for it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from edged.bridges.modbus_map import HOLDING, TextError, get, get_text
from edged.client import Control, Refused

__all__ = ["ACCEPTED", "BAD_TEXT", "NO_ANSWER", "REFUSED", "STALE", "UNKNOWN_COMMAND", "Answer", "Command", "ask"]

ACCEPTED, REFUSED, NO_ANSWER, BAD_TEXT, UNKNOWN_COMMAND, STALE = 1, 2, 3, 4, 5, 6
"""Keys of `modbus_codes.ANSWERS`."""

TEXTS = {
    "expect": ("program", "part_id", "seam_ref", "torch"),
    "view": ("view", "part_id", "seam_ref"),
    "end_part": ("part_id",),
}
"""Command → the texts that it takes from the holding registers; the first one must be there."""

NUMBERS = {"expect": ("pass_index",)}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command."""

    code: int
    seam_id: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One request to the control socket, as the registers had it when Trigger changed."""

    op: str
    fields: dict[str, Any]

    @classmethod
    def read(cls, op: str, holding: Sequence[int]) -> "Command":
        """Raises TextError where a text is unreadable, or the first one missing."""
        fields: dict[str, Any] = {name: get_text(holding, HOLDING[name]) for name in TEXTS[op]}
        first = TEXTS[op][0]
        if not fields[first]:
            raise TextError(f"{first}: is empty; {op} needs it")
        numbers = {name: get(holding, HOLDING[name]) for name in NUMBERS.get(op, ())}
        return cls(op, {name: text for name, text in fields.items() if text} | numbers)


def ask(control: Control, command: Command) -> Answer:
    """The daemon's answer; waits for it."""
    try:
        found = control.ask(command.op, **command.fields)
    except Refused as error:
        return Answer(REFUSED, text=str(error))
    except TimeoutError as error:
        return Answer(NO_ANSWER, text=str(error))
    return Answer(ACCEPTED, seam_id=str(found.get("seam_id", "")))
