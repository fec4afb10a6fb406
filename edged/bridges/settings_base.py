"""What every bridge has in its section: its key, where it begins, and where it remembers how far it has come."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BridgeSection"]


class BridgeSection(BaseModel):
    """Base of `[bridges.NAME]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: Path | None = None
    """The bundle that `edged keys new` wrote for this bridge, mode 0600; None where the daemon wants no keys."""
    programs: tuple[str, ...] | None = None
    """Hand on verdicts of these programs only, and of parts; None: of all."""
    start: Literal["last", "now", "first"] = "last"
    """Where a bridge begins that remembers nothing yet."""
    stale_after_s: Annotated[float, Field(ge=2, le=60)] = 3.0
    """Without a heartbeat for this long the daemon counts as gone."""
    acknowledge_as: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Name under which the daemon hears what was acted on; one of `net.acknowledge`."""
