"""The in-process scorer answers like the worker: a score, or the reason why there is none."""

import dataclasses

import numpy as np
import pytest

from drivers.base import Chunk, StreamSpec
from edged.local_scorer import FeatureCollector, LocalScorer
from edged.scoring import Scorer
from pipelines.window import LivePoint, Score, Seam, SeamWindow
from tests.support import seam_chunks as cell
from tests.support.backbone import TinyBackbone


@dataclasses.dataclass
class CountingSeam:
    """Its score is the number of chunks it got; it refuses the call that it is told to refuse."""

    refuse: str
    n: int = 0
    prepared: int = 0

    def push(self, chunk: Chunk) -> None:
        _maybe_refuse("push", self.refuse)
        self.n += 1

    def live(self) -> list[LivePoint]:
        return [LivePoint(0.1 * self.n, None, True, 1.0, None, {})]

    def prepare(self, window: SeamWindow) -> None:
        _maybe_refuse("prepare", self.refuse)
        self.prepared += 1

    def finish(self, window: SeamWindow) -> Score:
        _maybe_refuse("finish", self.refuse)
        return Score(float(self.n), None, None, None, None, "counting", {})


@dataclasses.dataclass(frozen=True)
class CountingDetector:
    refuse: str = ""
    model_id: str = "counting"
    requires: tuple[str, ...] = ()

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> CountingSeam:
        _maybe_refuse("begin", self.refuse)
        return CountingSeam(self.refuse)


def _maybe_refuse(call: str, refuse: str) -> None:
    if call == refuse:
        raise ValueError(f"no {call} today")


CHUNKS = [c for s in cell.seam_chunks(np.random.default_rng(0), 0.5).values() for c in s]
WINDOW = cell.window(np.random.default_rng(0), 0.5)


def run(scorer: Scorer, seam: Seam) -> None:
    scorer.begin(seam, cell.STREAMS)
    for chunk in CHUNKS:
        scorer.push(seam.seam_id, chunk)
    scorer.finish(WINDOW)


def test_scores_what_was_pushed_and_answers_once() -> None:
    scorer = LocalScorer({"p1": CountingDetector()})
    run(scorer, cell.seam())
    (reply,) = scorer.poll()
    assert reply.score is not None
    assert (reply.seam_id, reply.score.raw) == ("seam", len(CHUNKS))
    assert scorer.poll() == []


@pytest.mark.parametrize("when", ["begin", "push", "finish"])
def test_a_detector_that_cannot_says_why(when: str) -> None:
    scorer = LocalScorer({"p1": CountingDetector(when)})
    run(scorer, cell.seam())
    (reply,) = scorer.poll()
    assert (reply.score, reply.reason) == (None, "worker_failed")
    assert f"no {when} today" in reply.detail


def test_a_program_without_a_model_and_a_seam_never_begun() -> None:
    scorer = LocalScorer({})
    run(scorer, cell.seam())
    scorer.finish(WINDOW)
    assert [reply.reason for reply in scorer.poll()] == ["no_model", "worker_failed"]


def test_a_dropped_seam_gives_no_answer_of_its_own() -> None:
    scorer = LocalScorer({"p1": CountingDetector()})
    scorer.begin(cell.seam(), cell.STREAMS)
    scorer.drop("seam")
    assert scorer.poll() == []


def test_features_are_collected_instead_of_scored() -> None:
    collector = FeatureCollector(TinyBackbone())
    run(collector, cell.seam())
    (reply,) = collector.poll()
    assert (reply.score, reply.reason) == (None, "collecting")
    assert collector.features["seam"].tokens == 5
    assert collector.failed == {}


def test_points_come_as_the_seam_is_pushed_and_only_once() -> None:
    scorer = LocalScorer({"p1": CountingDetector()})
    scorer.begin(cell.seam(), cell.STREAMS)
    scorer.push("seam", CHUNKS[0])
    (reply,) = scorer.live()
    assert (reply.seam_id, [point.t_s for point in reply.points]) == ("seam", [0.1])
    assert scorer.live() == []


def test_what_cannot_be_prepared_is_the_seams_answer() -> None:
    scorer = LocalScorer({"p1": CountingDetector("prepare")})
    scorer.begin(cell.seam(), cell.STREAMS)
    scorer.prepare(WINDOW)
    scorer.finish(WINDOW)
    (reply,) = scorer.poll()
    assert (reply.score, reply.reason) == (None, "worker_failed")
    assert "no prepare today" in reply.detail
