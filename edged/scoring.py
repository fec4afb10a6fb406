"""What the engine asks of whatever scores: the worker process in the daemon, an in-process detector in replay.

Answers come later through `poll`, so the engine never waits for a model.
"""

import dataclasses
from typing import Protocol

from drivers.base import Chunk, StreamSpec
from pipelines.window import LivePoint, Score, Seam, SeamWindow, UnknownProgramError

__all__ = ["LiveReply", "ScoreReply", "Scorer", "refusal"]


@dataclasses.dataclass(frozen=True, slots=True)
class LiveReply:
    """Points of the live score of a seam that is open."""

    seam_id: str
    points: tuple[LivePoint, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreReply:
    """The answer to one `finish`: a score, or the reason (a key of `REASONS`) and detail why there is none."""

    seam_id: str
    score: Score | None
    reason: str | None = None
    detail: str = ""


def refusal(error: ValueError) -> str:
    """The reason of a seam whose detector says with `error` that it cannot score it."""
    return "unknown_program" if isinstance(error, UnknownProgramError) else "worker_failed"


class Scorer(Protocol):
    """Scores seams by program; every begun seam ends in `finish` (one reply) or `drop` (none)."""

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        """Open a seam at arc-on."""
        ...

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Hand over a stamped chunk; may be dropped under overload, which the reply then says."""
        ...

    def prepare(self, window: SeamWindow) -> None:
        """The seam's process is over and all of it was pushed; results are still to come: do what can be done now."""
        ...

    def finish(self, window: SeamWindow) -> None:
        """Ask for the score; the answer comes from `poll`."""
        ...

    def drop(self, seam_id: str) -> None:
        """Forget a seam that needs no score."""
        ...

    def poll(self) -> list[ScoreReply]:
        """Answers that have arrived since the last call; never blocks."""
        ...

    def live(self) -> list[LiveReply]:
        """Points of the live score that came with the last `poll`s, since the last call."""
        ...

    def close(self) -> None:
        """Release the model or stop the process."""
        ...
