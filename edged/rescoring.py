"""Seams that a crash left without a verdict, scored from their recordings while the daemon already watches new ones.

Beside the data path, in the engine's thread and in slices of a few milliseconds: the recording runs through an engine
of its own on a manual clock, its chunks go to the same worker, and what comes out is journaled like any verdict. The
worker's answers are told apart by seam.
"""

import dataclasses
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import structlog

from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import RecordingError, RecordingReader
from edged.config import Config
from edged.engine import Engine
from edged.recording import relabel
from edged.replay_engine import ReplaySetup, replay_steps, replaying_engine
from edged.scoring import LiveReply, Scorer, ScoreReply
from edged.types import Verdict
from edged.wire import TimePair
from pipelines.window import Seam, SeamWindow

__all__ = ["Lane", "Rescorer", "SharedScorer"]

SLICE_NS = 5_000_000
"""How long one turn of the daemon may be held up."""

log = structlog.get_logger(__name__)


class SharedScorer:
    """One worker for several engines: each gets a `Lane`, and only the answers to its own seams."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.owners: dict[str, Lane] = {}

    def lane(self) -> "Lane":
        """A `Scorer` for one more engine."""
        return Lane(self)

    def deliver(self) -> None:
        """Hand what has arrived to the lanes."""
        for reply in self.scorer.poll():
            lane = self.owners.pop(reply.seam_id, None)
            if lane is None:
                log.warning("score of no open seam", seam_id=reply.seam_id, reason=reply.reason)
            else:
                lane.take(reply)
        for live in self.scorer.live():
            owner = self.owners.get(live.seam_id)
            if owner is not None:
                owner.take_live(live)


class Lane:
    """What one engine sees of a `SharedScorer`."""

    def __init__(self, shared: SharedScorer) -> None:
        self._shared = shared
        self._replies: list[ScoreReply] = []
        self._live: list[LiveReply] = []
        self._asked: set[str] = set()

    @property
    def waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._asked)

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        """Open a seam at arc-on."""
        self._shared.owners[seam.seam_id] = self
        self._shared.scorer.begin(seam, streams)

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Hand over a stamped chunk."""
        self._shared.scorer.push(seam_id, chunk)

    def prepare(self, window: SeamWindow) -> None:
        """Do what can be done before the last result is there."""
        self._shared.scorer.prepare(window)

    def finish(self, window: SeamWindow) -> None:
        """Ask for the score."""
        self._asked.add(window.seam.seam_id)
        self._shared.scorer.finish(window)

    def drop(self, seam_id: str) -> None:
        """Forget a seam that needs no score."""
        self._asked.discard(seam_id)
        self._shared.owners.pop(seam_id, None)
        self._shared.scorer.drop(seam_id)

    def take(self, reply: ScoreReply) -> None:
        """An answer to this lane's seam."""
        self._asked.discard(reply.seam_id)
        self._replies.append(reply)

    def take_live(self, live: LiveReply) -> None:
        """Points of this lane's seam."""
        self._live.append(live)

    def live(self) -> list[LiveReply]:
        """Points of the live score since the last call."""
        live, self._live = self._live, []
        return live

    def poll(self) -> list[ScoreReply]:
        """Answers since the last call."""
        self._shared.deliver()
        replies, self._replies = self._replies, []
        return replies

    def close(self) -> None:
        """The scorer belongs to whoever made it."""


class Rescorer:
    """Works through `paths`, oldest first, whenever `step` is called.

    Args:
        config: the running configuration, by which the seams are judged.
        lane: where to score.
        paths: recordings whose inputs are complete and which have no verdict.
        may_push: whether the worker is ready and has room; False pauses.
        on_verdict: gets each verdict and the clocks of the boot in which the seam was welded.
        give_up: makes the verdict of a seam that cannot be replayed, from its recording and the reason.
    """

    def __init__(
        self,
        config: Config,
        lane: Lane,
        paths: Sequence[Path],
        may_push: Callable[[], bool],
        on_verdict: Callable[[Verdict, TimePair], None],
        give_up: Callable[[Path, str], Verdict],
    ) -> None:
        self._config = config
        self._lane = lane
        self._left = list(paths)
        self._may_push = may_push
        self._on_verdict = on_verdict
        self._give_up = give_up
        self._steps: Generator[None, None, Verdict] | None = None

    @property
    def pending(self) -> tuple[str, ...]:
        """Seams that still have no verdict; their recordings must stay."""
        return tuple(path.stem for path in self._left)

    def step(self) -> None:
        """Go on for a few milliseconds, or until the worker is to answer."""
        end_ns = time.perf_counter_ns() + SLICE_NS
        while self._left and self._may_push() and time.perf_counter_ns() < end_ns:
            path = self._left[0]
            try:
                self._steps = self._steps or replay_steps(
                    path, self._engine, self._config, lambda: self._lane.waiting
                )
                next(self._steps)
                if self._lane.waiting:
                    return
            except StopIteration as done:
                self._finish(path, done.value, f"{done.value.detail}; scored from its recording after a restart")
            except RecordingError as error:
                self._lane.drop(path.stem)
                verdict = self._give_up(path, str(error))
                self._finish(path, verdict, verdict.detail)

    def _is_waiting(self) -> bool:
        return self._lane.waiting

    def _finish(self, path: Path, verdict: Verdict, detail: str) -> None:
        self._steps = None
        self._left.pop(0)
        header = RecordingReader(path).header
        verdict = dataclasses.replace(
            verdict,
            detail=detail.removeprefix("; "),
            config_id=self._config.config_id,
            latency_from_arc_off_ms=None,
            latency_from_last_input_ms=None,
            decided_utc_ns=time.time_ns(),
            recording=str(path),
        )
        log.warning("seam of before the restart", seam_id=verdict.seam.seam_id, label=verdict.label.name)
        self._on_verdict(verdict, TimePair(header.monotonic_ns, header.utc_ns))
        relabel(path, verdict)

    def _engine(self, setup: ReplaySetup, on_verdict: Callable[[Verdict], None]) -> Engine:
        return replaying_engine(setup, self._lane, on_verdict)
