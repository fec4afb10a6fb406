"""The worker's twin inside this process: replay, training and evaluation score with it.

The same detector gets the same pushes in the same order; only the process boundary is missing. `FeatureCollector`
stops halfway: it keeps a seam's features instead of scoring them, for training.
"""

from collections.abc import Mapping
from pathlib import Path

from drivers.base import Chunk, StreamSpec
from edged.scoring import LiveReply, ScoreReply, refusal
from pipelines.features.extractor import SeamExtractor, SeamFeatures
from pipelines.features.lite0 import Backbone
from pipelines.features.table import Tier
from pipelines.models import load_detector
from pipelines.window import Detector, Seam, SeamScorer, SeamWindow

__all__ = ["FeatureCollector", "LocalScorer"]


class LocalScorer:
    """Scores in the calling thread; `poll` has the answer right after `finish`.

    Args:
        detectors: program → loaded model.
    """

    def __init__(self, detectors: Mapping[str, Detector]) -> None:
        self._detectors = detectors
        self._open: dict[str, SeamScorer | ScoreReply] = {}
        self._replies: list[ScoreReply] = []
        self._live: list[LiveReply] = []

    @classmethod
    def load(cls, models: Mapping[str, str], cache_dir: Path, device: str = "cpu", threads: int = 1) -> "LocalScorer":
        """Load each model once; `models` is program → directory or name of one that ships. Raises ModelError."""
        loaded = {model: load_detector(model, device, threads, cache_dir) for model in dict.fromkeys(models.values())}
        return cls({program: loaded[model] for program, model in models.items()})

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        """Open a seam at arc-on."""
        detector = self._detectors.get(seam.program)
        if detector is None:
            self._open[seam.seam_id] = ScoreReply(
                seam.seam_id, None, "no_model", f"program {seam.program!r} has no model in the configuration"
            )
            return
        try:
            self._open[seam.seam_id] = detector.begin(seam, streams)
        except ValueError as error:
            self._open[seam.seam_id] = _failed(seam.seam_id, error)

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Hand over a stamped chunk."""
        scorer = self._open.get(seam_id)
        if scorer is None or isinstance(scorer, ScoreReply):
            return
        try:
            scorer.push(chunk)
            if points := tuple(scorer.live()):
                self._live.append(LiveReply(seam_id, points))
        except ValueError as error:
            self._open[seam_id] = _failed(seam_id, error)

    def prepare(self, window: SeamWindow) -> None:
        """Do what can be done before the last result is there."""
        scorer = self._open.get(window.seam.seam_id)
        if scorer is not None and not isinstance(scorer, ScoreReply):
            try:
                scorer.prepare(window)
            except ValueError as error:
                self._open[window.seam.seam_id] = _failed(window.seam.seam_id, error)

    def finish(self, window: SeamWindow) -> None:
        """Score now; the answer comes from `poll`."""
        seam_id = window.seam.seam_id
        scorer = self._open.pop(seam_id, None)
        if scorer is None:
            scorer = ScoreReply(seam_id, None, "worker_failed", "the seam was never begun")
        if not isinstance(scorer, ScoreReply):
            try:
                scorer = ScoreReply(seam_id, scorer.finish(window))
            except ValueError as error:
                scorer = _failed(seam_id, error)
        self._replies.append(scorer)

    def drop(self, seam_id: str) -> None:
        """Forget a seam that needs no score."""
        self._open.pop(seam_id, None)

    def poll(self) -> list[ScoreReply]:
        """Answers since the last call."""
        replies, self._replies = self._replies, []
        return replies

    def live(self) -> list[LiveReply]:
        """Points of the live score since the last call."""
        live, self._live = self._live, []
        return live

    def close(self) -> None:
        """Forget everything."""
        self._open.clear()


def _failed(seam_id: str, error: ValueError) -> ScoreReply:
    return ScoreReply(seam_id, None, refusal(error), f"the detector cannot score: {error}")


class FeatureCollector:
    """A `Scorer` that keeps features: `features[seam_id]`, or in `failed[seam_id]` why there are none."""

    def __init__(self, backbone: Backbone, tier: Tier = "default") -> None:
        self._backbone, self._tier = backbone, tier
        self._open: dict[str, SeamExtractor] = {}
        self._replies: list[ScoreReply] = []
        self.features: dict[str, SeamFeatures] = {}
        self.failed: dict[str, str] = {}

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        """Open a seam at arc-on."""
        self._open[seam.seam_id] = SeamExtractor(seam, streams, self._backbone, self._tier)

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Hand over a stamped chunk."""
        if seam_id in self._open:
            try:
                self._open[seam_id].push(chunk)
            except ValueError as error:
                self.failed[seam_id] = str(error)
                del self._open[seam_id]

    def prepare(self, window: SeamWindow) -> None:
        """Nothing: features are kept whole."""

    def finish(self, window: SeamWindow) -> None:
        """Keep the seam's features."""
        seam_id = window.seam.seam_id
        extractor = self._open.pop(seam_id, None)
        if extractor is not None:
            try:
                self.features[seam_id] = extractor.finish(window)
            except ValueError as error:
                self.failed[seam_id] = str(error)
        self._replies.append(ScoreReply(seam_id, None, "collecting", "features were kept for training"))

    def drop(self, seam_id: str) -> None:
        """Forget a seam."""
        self._open.pop(seam_id, None)

    def poll(self) -> list[ScoreReply]:
        """Answers since the last call."""
        replies, self._replies = self._replies, []
        return replies

    def live(self) -> list[LiveReply]:
        """Never any."""
        return []

    def close(self) -> None:
        """Forget open seams; collected features stay."""
        self._open.clear()
