"""What the PLC may say on the control socket, validated before it reaches the engine.

Every problem of a message comes back in one sentence with the field's name; sizes are limited, because the sender is
another computer.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

__all__ = [
    "Arm",
    "ControlError",
    "Disarm",
    "EndPart",
    "Expect",
    "Message",
    "Part",
    "Ping",
    "View",
    "parse_message",
    "parsed",
]

MAX_PART_SEAMS = 256

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class ControlError(ValueError):
    """A control message that cannot be followed; the text goes back to its sender."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


M = TypeVar("M", bound=_Message)


class Expect(_Message):
    """`expect`: names the next seam of a torch; during an arc, the one after it.

    `session` (shift, batch) and `set_points` (numbers with units in their names) go into the manifest: training
    splits by session and compares with set-points alone. No detector reads them.
    """

    op: Literal["expect"]
    program: Name
    part_id: Name | None = None
    seam_ref: Name | None = None
    torch: Name | None = None
    pass_index: Annotated[int, Field(ge=0, le=999)] = 0
    session: Name | None = None
    set_points: Annotated[dict[Name, FiniteFloat], Field(max_length=32)] = Field(default_factory=dict)


class View(_Message):
    """`view`: the next image, or the scan that begins, is `view` of a seam, by our id or the PLC's reference."""

    op: Literal["view"]
    view: Name
    seam_ref: Name | None = None
    seam_id: Name | None = None
    part_id: Name | None = None

    @model_validator(mode="after")
    def _names_a_seam(self) -> "View":
        if self.seam_ref is None and self.seam_id is None:
            raise ValueError("seam_ref or seam_id is needed")
        return self


class Part(_Message):
    """`part`: a part begins; `seams` are the references of all its seams, one entry per pass."""

    op: Literal["part"]
    part_id: Name
    seams: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_PART_SEAMS)]


class EndPart(_Message):
    """`end_part`: no further seam of this part will come."""

    op: Literal["end_part"]
    part_id: Name


class Ping(_Message):
    """`ping`: is anybody there."""

    op: Literal["ping"]


class Arm(_Message):
    """`arm`: from now on the program's verdicts count; `by` answers for it."""

    op: Literal["arm"]
    program: Name
    by: Name


class Disarm(_Message):
    """`disarm`: the program goes back to shadow; `why` is for whoever asks later."""

    op: Literal["disarm"]
    program: Name
    by: Name
    why: Annotated[str, Field(max_length=500)] = ""


Message = Expect | View | Part | EndPart | Ping

OPS: dict[str, type[Expect] | type[View] | type[Part] | type[EndPart] | type[Ping]] = {
    "part": Part,
    "expect": Expect,
    "view": View,
    "end_part": EndPart,
    "ping": Ping,
}
"""What concerns seams and parts, and so the engine."""


def parse_message(raw: Mapping[str, Any]) -> Message:
    """The validated message of a seam or part. Raises ControlError with every problem in one line."""
    op = raw.get("op") if isinstance(raw, Mapping) else None
    if not isinstance(op, str) or op not in OPS:
        raise ControlError(f"op: {op!r:.80} is not one of {', '.join(OPS)}")
    return parsed(OPS[op], raw)


def parsed(message: type[M], raw: Mapping[str, Any]) -> M:
    """A message of a known kind. Raises ControlError with every problem in one line."""
    try:
        return message.model_validate(dict(raw))
    except ValidationError as error:
        raise ControlError("; ".join(_line(item) for item in error.errors())) from error


def _line(item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    text = "unknown field" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
    return f"{path}: {text}" if path else str(text)
