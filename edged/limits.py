"""A program's limits on what its welding procedure fixes: heat input, current, length, short circuits, …

Measured figures against `[programs.NAME.limits]`, before `decide` makes a label of it. A limit is *violated*,
*kept*, or *unknown* where its figure could not be measured. A violated limit is a fact about the weld and no anomaly
score: it stands in the verdict with value, limit and unit, whatever a detector says.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edged.arc_stats import TransferMode
from edged.types import ArcFigures, LimitCheck, LimitState

__all__ = ["LIMITS", "Limits", "check_limits", "describe", "is_too_long", "is_too_short"]

Bound = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = tuple[Bound, Bound]


class Limits(BaseModel):
    """`[programs.NAME.limits]`; every key is optional, ranges are `[lowest, highest]`, both allowed.

    Where only one side matters, give the other as 0 or as a number that is never reached.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    arc_energy_j_mm: Range | None = None
    heat_input_kj_mm: Range | None = None
    mean_current_a: Range | None = None
    mean_voltage_v: Range | None = None
    short_circuit_hz: Range | None = None
    arc_s: Range | None = None
    length_mm: Range | None = None
    travel_speed_mm_s: Range | None = None
    max_restrikes: Annotated[int, Field(ge=0)] | None = None
    transfer_mode: TransferMode | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for row in LIMITS:
            found = getattr(self, row.name)
            if isinstance(found, tuple) and found[0] > found[1]:
                raise ValueError(f"{row.name}: {list(found)} is empty; give [lowest, highest]")
        return self

    @model_serializer(mode="wrap")
    def _only_what_it_has(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A limit that is added to edged later must not change the config_id of those who do not use it.
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if value is not None}


class Row(NamedTuple):
    """One limit: its key, its unit, and the figure that it bounds (None: not measured)."""

    name: str
    unit: str
    value: Callable[[ArcFigures], float | str | None]


LIMITS: tuple[Row, ...] = (
    Row("arc_energy_j_mm", "J/mm", lambda arc: arc.arc_energy_j_mm),
    Row("heat_input_kj_mm", "kJ/mm", lambda arc: arc.heat_input_kj_mm),
    Row("mean_current_a", "A", lambda arc: arc.mean_current_a),
    Row("mean_voltage_v", "V", lambda arc: arc.mean_voltage_v),
    Row("short_circuit_hz", "Hz", lambda arc: arc.short_circuit_hz),
    Row("arc_s", "s", lambda arc: arc.arc_s),
    Row("length_mm", "mm", lambda arc: arc.length_mm),
    Row("travel_speed_mm_s", "mm/s", lambda arc: arc.travel_speed_mm_s),
    Row("max_restrikes", "", lambda arc: arc.restrikes),
    Row("transfer_mode", "", lambda arc: arc.transfer_mode),
)

LENGTHS = ("length_mm", "arc_s")
"""The limits that tell a weld that is too short or too long."""


def check_limits(limits: Limits | None, arc: ArcFigures) -> tuple[LimitCheck, ...]:
    """Every limit of a program against a seam's figures, in the order of `LIMITS`; nothing without limits."""
    if limits is None:
        return ()
    asked = [(row, getattr(limits, row.name)) for row in LIMITS]
    return tuple(_check(row, limit, row.value(arc)) for row, limit in asked if limit is not None)


def _check(row: Row, limit: Range | int | str, value: float | str | None) -> LimitCheck:
    low, high, wanted = None, None, None
    if isinstance(limit, str):
        wanted, kept = limit, value == limit
    else:
        low, high = limit if isinstance(limit, tuple) else (None, float(limit))
        kept = value is not None and (low or 0.0) <= float(value) <= high  # False where it is NaN
    state: LimitState = "unknown" if value is None else "kept" if kept else "violated"
    number = None if value is None or isinstance(value, str) else float(value)
    mode = value if isinstance(value, str) else None
    return LimitCheck(row.name, state, number, low, high, row.unit, mode, wanted)


def describe(check: LimitCheck) -> str:
    """A check in words: what was measured and what is allowed."""
    unit = f" {check.unit}" if check.unit else ""
    if check.wanted is not None:
        return f"{check.name} is {check.mode or 'unknown'}, wanted {check.wanted}"
    allowed = f"at most {check.high:g}" if check.low is None else f"allowed {check.low:g} to {check.high:g}"
    value = "not measured" if check.value is None else f"{check.value:.4g}{unit}"
    return f"{check.name} {value}, {allowed}{unit}"


def is_too_short(checks: Sequence[LimitCheck]) -> bool:
    """Whether a length or arc time lies below its limit."""
    return any(_side(check) < 0 for check in checks if check.name in LENGTHS)


def is_too_long(checks: Sequence[LimitCheck]) -> bool:
    """Whether a length or arc time lies above its limit."""
    return any(_side(check) > 0 for check in checks if check.name in LENGTHS)


def _side(check: LimitCheck) -> int:
    if check.value is None:
        return 0
    below = check.low is not None and check.value < check.low
    above = check.high is not None and check.value > check.high
    return above - below
