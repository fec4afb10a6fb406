"""The engine's recorder, guarded: what fails to be recorded becomes a reason in that seam's verdict and nothing else.

Once a seam's recording has failed it is given up, so that a full disk costs one error per seam, and never stops
another seam or the scoring.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import RecordingError
from edged.recording import SeamRecordingError
from pipelines.window import Seam

__all__ = ["RecorderLike", "RecordingGuard"]

log = structlog.get_logger()


class RecorderLike(Protocol):
    """What the engine asks of the recorder; every call may raise RecordingError."""

    def begin(self, seam: Seam, specs: tuple[StreamSpec, ...], now_ns: int) -> None:
        """Open a seam's recording."""
        ...

    def chunk(self, seam_id: str, chunk: Chunk) -> None:
        """Record a stamped chunk."""
        ...

    def control(self, seam_id: str, t_ns: int, message: Mapping[str, Any]) -> None:
        """Record a control message that concerns the seam."""
        ...

    def sync(self, seam_id: str) -> None:
        """Bring to disk what there is of the seam."""
        ...

    def complete(self, seam: Seam) -> None:
        """Note that the seam's inputs are all recorded, so that it can be scored after a crash."""
        ...

    def tick(self, now_ns: int) -> None:
        """Flush what is due."""
        ...

    def finish(self, seam: Seam, verdict: Mapping[str, Any], now_ns: int) -> Path:
        """Close the recording and return once it is on disk."""
        ...

    def abandon(self, seam_id: str) -> None:
        """Give a recording up that failed."""
        ...


class RecordingGuard:
    """A recorder, or None where nothing is recorded (replay)."""

    def __init__(self, recorder: RecorderLike | None) -> None:
        self._recorder = recorder
        self._open: set[str] = set()
        self._errors: dict[str, str] = {}

    @property
    def records(self) -> bool:
        """Whether seams are recorded at all."""
        return self._recorder is not None

    def begin(self, seam: Seam, specs: tuple[StreamSpec, ...], now_ns: int) -> None:
        """Open a seam's recording."""
        if self._recorder is not None:
            recorder = self._recorder
            self._open.add(seam.seam_id)
            self._try(seam.seam_id, lambda: recorder.begin(seam, specs, now_ns))

    def chunk(self, seam_id: str, chunk: Chunk) -> None:
        """Record a chunk, unless the seam's recording has failed before."""
        if self._recorder is not None and seam_id in self._open:
            recorder = self._recorder
            self._try(seam_id, lambda: recorder.chunk(seam_id, chunk))

    def control(self, seam_id: str, t_ns: int, message: Mapping[str, Any]) -> None:
        """Record a control message, unless the seam's recording has failed before."""
        if self._recorder is not None and seam_id in self._open:
            recorder = self._recorder
            self._try(seam_id, lambda: recorder.control(seam_id, t_ns, message))

    def sync(self, seam_id: str) -> None:
        """Bring to disk what there is of the seam, unless its recording has failed before."""
        if self._recorder is not None and seam_id in self._open:
            recorder = self._recorder
            self._try(seam_id, lambda: recorder.sync(seam_id))

    def complete(self, seam: Seam) -> None:
        """Note that all inputs are recorded, unless the seam's recording has failed before."""
        if self._recorder is not None and seam.seam_id in self._open:
            recorder = self._recorder
            self._try(seam.seam_id, lambda: recorder.complete(seam))

    def tick(self, now_ns: int) -> None:
        """Flush what is due."""
        if self._recorder is None:
            return
        try:
            self._recorder.tick(now_ns)
        except SeamRecordingError as error:
            self._failed(error.seam_id, error)

    def finish(self, seam: Seam, verdict: Mapping[str, Any], now_ns: int) -> Path | None:
        """Close the seam's recording; its path once it is on disk, None where it failed now or before."""
        if self._recorder is None or seam.seam_id not in self._open:
            return None
        try:
            path = self._recorder.finish(seam, verdict, now_ns)
        except RecordingError as error:
            self._failed(seam.seam_id, error)
            return None
        self._open.discard(seam.seam_id)
        return path

    def take_error(self, seam_id: str) -> str:
        """Why the seam's recording failed; forgotten thereafter."""
        return self._errors.pop(seam_id, "")

    def _try(self, seam_id: str, write: Callable[[], None]) -> None:
        try:
            write()
        except RecordingError as error:
            self._failed(seam_id, error)

    def _failed(self, seam_id: str, error: RecordingError) -> None:
        log.error("recording failed", seam_id=seam_id, error=str(error))
        self._errors[seam_id] = str(error)
        self._open.discard(seam_id)
        if self._recorder is not None:
            self._recorder.abandon(seam_id)
