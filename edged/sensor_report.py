"""What a meter of a sensor says of one seam: problems it can name by itself, and figures to compare with others'.

Beside the data path: `edged.sensor_health` feeds one meter a stream and makes findings of what they report.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk
from edged.types import FindingState

__all__ = ["ArcSpan", "Figure", "Problem", "SensorMeter", "SensorReport", "problem"]

ArcSpan = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """A fault by plain physics: `value` lies beyond `limit`, whatever earlier seams were like."""

    code: str
    state: FindingState
    value: float
    limit: float
    unit: str
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a sound sensor that hardly changes from seam to seam; `code` is the finding when it does.

    `least`: a smaller change is none, however little the accepted seams vary. `rises_only`: falling is no harm.
    """

    code: str
    value: float
    least: float
    unit: str
    detail: str
    rises_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SensorReport:
    """Of one stream and seam. `figures` by name; `still` is what does not move in an arc camera's pictures."""

    problems: tuple[Problem, ...] = ()
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    still: NDArray[np.uint8] | None = None


class SensorMeter(Protocol):
    """One stream of one open seam."""

    def add(self, chunk: Chunk) -> None:
        """Take the next stamped chunk of the stream, from the pre-roll to the post-roll."""
        ...

    def report(self, arcs: tuple[ArcSpan, ...]) -> SensorReport:
        """What is known of the sensor once the seam's arcs are."""
        ...


def problem(
    code: str, value: float, warning: float | None, fault: float | None, unit: str, detail: str
) -> tuple[Problem, ...]:
    """The problem where `value` is above `warning` or `fault` (None: never that), else nothing."""
    levels: tuple[tuple[FindingState, float | None], ...] = (("fault", fault), ("warning", warning))
    for state, limit in levels:
        if limit is not None and value > limit:
            return (Problem(code, state, value, limit, unit, detail),)
    return ()
