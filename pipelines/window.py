"""What a seam is, what a detector is given and what it gives back: the middle of the data path.

Scoring is incremental and there is no other way to score: `Detector.begin` at arc-on, `SeamScorer.push` for
every chunk, `SeamScorer.finish` once the result is there. Live, replay, training and evaluation all do this.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec

__all__ = [
    "Detector",
    "Gap",
    "Integrity",
    "LivePoint",
    "ResultView",
    "Score",
    "Seam",
    "SeamFrame",
    "SeamScorer",
    "SeamWindow",
    "TimelinePoint",
    "UnknownProgramError",
]


class UnknownProgramError(ValueError):
    """A model was not trained on the seam's program; names those it knows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Seam:
    """What the program welds as one: one or more arcs. Times are host monotonic ns.

    `arcs` holds (on, off) of every finished arc; it is empty at `begin` and complete at `finish`.
    `travel_speed_mm_s` is the programmed one, used for mm where there is no motion stream.
    """

    seam_id: str
    cell: str
    torch: str
    program: str
    arc_on_ns: int
    arcs: tuple[tuple[int, int], ...] = ()
    part_id: str | None = None
    seam_ref: str | None = None
    pass_index: int = 0
    travel_speed_mm_s: float | None = None
    session: str | None = None

    @property
    def arc_off_ns(self) -> int:
        """End of the last arc. Raises ValueError while the first arc still burns."""
        if not self.arcs:
            raise ValueError(f"seam {self.seam_id}: its arc has not ended")
        return self.arcs[-1][1]


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a stream that is missing inside a seam, host monotonic ns."""

    stream: str
    from_ns: int
    to_ns: int
    lost_items: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Integrity:
    """How much of one stream the seam has.

    `coverage` is the share of arc time that has data, 0–1. `sync_residual_ms` is this stream's arc strike
    against the current's, None where no strike was seen. `state` is "ok", "degraded" (gaps within limits),
    "broken" (beyond them) or "missing" (no data at all).
    """

    stream: str
    kind: str
    coverage: float
    items: int
    lost_items: int
    gaps: int
    longest_gap_ms: float
    sync_residual_ms: float | None
    state: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ResultView:
    """One post-weld image: `jpeg` is `(n_bytes,)` uint8, the very bytes that are recorded."""

    view: str
    stream: str
    t_ns: int
    jpeg: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class SeamFrame:
    """Where a program's results lie on the seam: plain values, mm. 0 along: where the arc began; across: the joint.

    `views` gives for a photograph the centres of its markers as (along from, along to, across from, across to).
    `scan` gives for a height map (place of its first row, mm a row, half of its width). Metal at s froze while the
    arc stood at s + `lag_mm`.
    """

    length_mm: float
    lag_mm: float = 0.0
    views: Mapping[str, tuple[float, float, float, float]] = dataclasses.field(default_factory=dict)
    scan: tuple[float, float, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SeamWindow:
    """Everything `finish` needs beside the chunks already pushed.

    `height_map_mm` is `(rows, columns)` float32 where a laser profiler scanned the seam. `missing` names
    the stream kinds that gave nothing usable. `frame` is None where nobody said where the results lie.
    """

    seam: Seam
    streams: tuple[StreamSpec, ...]
    views: Mapping[str, ResultView]
    integrity: Mapping[str, Integrity]
    gaps: tuple[Gap, ...] = ()
    height_map_mm: NDArray[np.float32] | None = None
    calibration_id: str = "none"
    missing: tuple[str, ...] = ()
    frame: SeamFrame | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class TimelinePoint:
    """Score of a stretch of the seam that ends `t_s` after arc-on, `mm` along it (None: speed unknown)."""

    t_s: float
    mm: float | None
    score: float


@dataclasses.dataclass(frozen=True, slots=True)
class LivePoint:
    """The live score after 100 ms more of a burning seam; it warns and never decides.

    `t_s`: end of the 100 ms, after arc-on. `mm` along the seam there, by measured speed or, `mm_is_nominal`, by the
    programmed one; None where neither is known. `raw` is positive; `score` is `raw` divided by the limit that 1 % of
    good seams reach anywhere, None without one. `components`: z-scores behind it. `without`: kinds of stream that
    were not in time.
    """

    t_s: float
    mm: float | None
    mm_is_nominal: bool
    raw: float
    score: float | None
    components: Mapping[str, float]
    without: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """A detector's answer for one seam; higher is more anomalous.

    `raw` is in the detector's own units; `score = raw / threshold`, so 1.0 is the limit in every program.
    `threshold` is None, and `score` and `p_value` too, where the program has no threshold yet.
    `components` are the standardised parts (s_P, s_R, s_RP). `stage_ms` is where the time went.
    """

    raw: float
    score: float | None
    p_value: float | None
    threshold: float | None
    threshold_id: str | None
    model_id: str
    components: Mapping[str, float]
    by_modality: Mapping[str, float] = dataclasses.field(default_factory=dict)
    timeline: tuple[TimelinePoint, ...] = ()
    explain: Mapping[str, float] = dataclasses.field(default_factory=dict)
    stage_ms: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def checked(self, seam_id: str) -> Self:
        """Itself. Raises ValueError where a number that decides is NaN or infinite: no limit can judge it."""
        numbers = {name: getattr(self, name) for name in ("raw", "score", "p_value", "threshold")}
        # The largest of several hides a NaN among them, so each is looked at.
        numbers |= {**self.components, **self.by_modality, **self.explain}
        wrong = [f"{name} is {value}" for name, value in numbers.items() if value is not None and not isfinite(value)]
        if wrong:
            raise ValueError(f"seam {seam_id}: {', '.join(wrong)}; its measurements are beyond reason")
        return self


class SeamScorer(Protocol):
    """One open seam inside a detector."""

    def push(self, chunk: Chunk) -> None:
        """Take the next stamped chunk of any stream; chunks of one stream come in time order."""
        ...

    def live(self) -> Sequence[LivePoint]:
        """Points of the live score since the last call; none where the model has no live part."""
        ...

    def prepare(self, window: SeamWindow) -> None:
        """Do what `finish` needs no further result for; called when the process is over, and with every view that
        is not the last. May be left out. Raises ValueError, as `finish` would, where it never can score the seam.
        """
        ...

    def finish(self, window: SeamWindow) -> Score:
        """Score the seam. Raises ValueError naming what is missing when the detector cannot."""
        ...


class Detector(Protocol):
    """A loaded model. Several seams may be open at once."""

    @property
    def model_id(self) -> str:
        """Name and digest of the model."""
        ...

    @property
    def requires(self) -> tuple[str, ...]:
        """Stream kinds without which it cannot score."""
        ...

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> SeamScorer:
        """Open a seam; `streams` are the specs of everything that will be pushed.

        Raises UnknownProgramError or ValueError where it never can score it.
        """
        ...
