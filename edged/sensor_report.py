"""What a meter of a sensor says of one seam: problems it can name by itself, and figures to compare with others'.

Beside the data path: `edged.sensor_health` feeds one meter a stream and makes findings of what they report.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.types import FindingState

__all__ = ["ArcSpan", "Batch", "Figure", "Lead", "Problem", "SensorMeter", "SensorReport", "Stretch", "problem"]

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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Samples in a row: times (n,) ns, raw data (n, channels), and whether data is missing before them."""

    times: NDArray[np.int64]
    data: NDArray[Any]
    after_gap: bool


class SensorMeter(Protocol):
    """One stream of one open seam."""

    def add(self, chunk: Chunk) -> None:
        """Take the next stamped chunk of the stream, from the pre-roll to the post-roll."""
        ...

    def report(self, arcs: tuple[ArcSpan, ...]) -> SensorReport:
        """What is known of the sensor once the seam's arcs are."""
        ...


class Batch:
    """Chunks of a sampled stream joined to stretches of `least` samples: a call costs more than its samples."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._chunks: list[Chunk] = []
        self._end_ns: int | None = None
        self._is_after_gap = False

    def add(self, chunk: Chunk) -> list[Stretch]:
        """Take a chunk (its data is copied); the stretches that are ready."""
        if not chunk.n:
            return []
        ready: list[Stretch] = []
        if self._end_ns is not None and abs(chunk.t_ns - self._end_ns) > 2 * chunk.dt_ns:
            ready = self.rest()
            self._is_after_gap = True
        self._end_ns = chunk.end_ns
        self._chunks.append(dataclasses.replace(chunk, data=chunk.data.copy()))
        return ready + (self.rest() if sum(each.n for each in self._chunks) >= self._least else [])

    def rest(self) -> list[Stretch]:
        """What is left, however little."""
        if not self._chunks:
            return []
        times = np.concatenate([chunk.times_ns() for chunk in self._chunks])
        stretch = Stretch(times, np.concatenate([chunk.data for chunk in self._chunks]), self._is_after_gap)
        self._chunks, self._is_after_gap = [], False
        return [stretch]


class Lead:
    """From when on there is silence before an arc. `due_ns`: where a stream begins if it was silent for long.

    A window begins no earlier than the torch's arc before ended, so where one begins late that arc still rings on.
    Told from the samples, not from the tracker: a replay of one seam knows of no other.
    """

    def __init__(self, spec: StreamSpec, due_ns: int) -> None:
        self._late_ns = due_ns + round(2 * spec.dt_ns)
        self._begins_ns: int | None = None

    def see(self, times: NDArray[np.int64]) -> None:
        """Take the times of the next samples."""
        if self._begins_ns is None and len(times):
            self._begins_ns = int(times[0])

    def calm_from_ns(self, rings_ns: int) -> int:
        """From when on nothing is left of an arc before that rings on for `rings_ns`."""
        begins_ns = self._begins_ns or 0
        return begins_ns + rings_ns if begins_ns > self._late_ns else begins_ns


def problem(
    code: str, value: float, warning: float | None, fault: float | None, unit: str, detail: str
) -> tuple[Problem, ...]:
    """The problem where `value` is above `warning` or `fault` (None: never that), else nothing."""
    levels: tuple[tuple[FindingState, float | None], ...] = (("fault", fault), ("warning", warning))
    for state, limit in levels:
        if limit is not None and value > limit:
            return (Problem(code, state, value, limit, unit, detail),)
    return ()
