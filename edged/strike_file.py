"""The strikes of earlier seams on disk: a stream's trend goes on after a restart, where nothing else has changed.

`DATA_DIR/strike-trends.json`, beside the data path: read before the first chunk, replaced after a seam's verdict is
out. A stream whose configured or measured delay is another one begins anew, because its strikes were against that.
"""

from pathlib import Path
from typing import Annotated

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.latency import STRIKES_KEPT
from edged.json_file import replace_json

__all__ = ["FILE", "KeptTrend", "StrikeFile"]

FILE = "strike-trends.json"

log = structlog.get_logger(__name__)

FURTHEST_NS = 10_000_000_000
"""Far beyond where strikes are searched; a larger number in the file is damage."""
Strike = Annotated[int, Field(ge=-FURTHEST_NS, le=FURTHEST_NS)]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeptTrend(_Kept):
    """A stream's last strikes, oldest first, and the delay against which they were seen; all ns."""

    delay_ns: int
    strikes_ns: Annotated[list[Strike], Field(max_length=STRIKES_KEPT)]


class _File(_Kept):
    version: Annotated[int, Field(ge=1, le=1)] = 1
    streams: dict[str, KeptTrend] = {}


class StrikeFile:
    """`path`: the file, None keeps nothing. `error`: why it cannot be read or written, for health."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.error: str | None = None

    def read(self) -> dict[str, KeptTrend]:
        """What was kept; nothing where there is no file, or where it is damaged, which is logged."""
        if self._path is None or not self._path.exists():
            return {}
        try:
            return _File.model_validate_json(self._path.read_bytes()).streams
        except (OSError, ValidationError) as error:
            self.error = f"{self._path} cannot be read, strikes are collected anew: {str(error).splitlines()[0]}"
            log.warning("strike trends", error=self.error)
            return {}

    def write(self, trends: dict[str, KeptTrend]) -> None:
        """Replace the file. A disk that refuses is told in `error` and stops nobody."""
        if self._path is None:
            return
        try:
            replace_json(self._path, _File(streams=trends).model_dump(mode="json"))
            self.error = None
        except OSError as error:
            self.error = f"{self._path} cannot be written: {error.strerror}; strikes are kept in memory"
