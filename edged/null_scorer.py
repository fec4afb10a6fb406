"""A scorer for cells that only record: every seam ends without a score, with the reason `collecting`."""

from drivers.base import Chunk, StreamSpec
from edged.scoring import LiveReply, ScoreReply
from pipelines.window import Seam, SeamWindow

__all__ = ["NullScorer"]


class NullScorer:
    """Satisfies `Scorer`; keeps nothing of what it is given."""

    def __init__(self) -> None:
        self._replies: list[ScoreReply] = []

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        """Nothing to prepare."""

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Nothing to compute."""

    def prepare(self, window: SeamWindow) -> None:
        """Nothing to compute."""

    def finish(self, window: SeamWindow) -> None:
        """Answer at the next `poll`."""
        self._replies.append(ScoreReply(window.seam.seam_id, None, "collecting", "recorded without scoring"))

    def drop(self, seam_id: str) -> None:
        """Nothing to forget."""

    def poll(self) -> list[ScoreReply]:
        """The answers to every `finish` since the last call."""
        replies, self._replies = self._replies, []
        return replies

    def live(self) -> list[LiveReply]:
        """Never any."""
        return []

    def close(self) -> None:
        """Nothing to release."""
