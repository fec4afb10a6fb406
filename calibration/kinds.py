"""What a calibration of each kind holds: one pydantic model a row of `KINDS`.

A kind says what its device is (a stream, a view, a program) and what its values must look like; `calibration.files`
checks both when it writes and when it reads. A further kind is a model and a row.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["KINDS", "ChannelLine", "Kind", "LagValues", "MicrophoneValues", "Values", "WelderValues"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Values(BaseModel):
    """Base of all value models: unknown keys are errors, nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChannelLine(Values):
    """What turns a channel's reading into the reference meter's: `gain * reading + offset`, in `unit`."""

    gain: Annotated[Finite, Field(ge=0.2, le=5.0)]
    offset: Finite
    unit: Annotated[str, Field(min_length=1)]
    range: tuple[Finite, Finite]
    """Smallest and largest reference value that was compared, `unit`; beyond it the line is extrapolated."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {list(self.range)}: the first must lie below the second")
        return self


class WelderValues(Values):
    """`welder`, of a welder stream: a line for each channel that was compared, by the channel's name."""

    channels: Annotated[dict[str, ChannelLine], Field(min_length=1)]


class MicrophoneValues(Values):
    """`microphone`, of an audio stream."""

    gain_db: Annotated[Finite, Field(ge=-40, le=40)]
    """Added to the level, so that it is what it was at the reference."""
    level_dbfs: Annotated[Finite, Field(le=3.1)]
    """RMS while the arc burns, before the correction, dB of full scale; median over the seams."""
    noise_floor_dbfs: Annotated[Finite, Field(le=3.1)]
    """RMS without an arc, before the correction."""
    distance_m: Annotated[Finite, Field(ge=0, le=20)] | None = None
    """From the arc; None where no strike could be heard."""
    distance_interval_m: tuple[Finite, Finite] | None = None


class LagValues(Values):
    """`lag`, of a program: the bead of a place lies `lag_mm` behind the process that made it."""

    lag_mm: Annotated[Finite, Field(ge=0, le=100)]
    interval_mm: tuple[Finite, Finite]
    """95 % interval, clustered by session where there are sessions."""
    seams: Annotated[int, Field(ge=1)]


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One row: what `device` names, and the model of the values."""

    device: str
    values: type[Values]


KINDS: Mapping[str, Kind] = {
    "welder": Kind("stream", WelderValues),
    "microphone": Kind("stream", MicrophoneValues),
    "lag": Kind("program", LagValues),
}
