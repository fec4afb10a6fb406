"""What a calibration of each kind holds: one pydantic model a row of `KINDS`.

A kind says what its device is (a stream, a view, a program), what its values must look like, and what they change:
the physical values of a stream, or where a program's results lie. `calibration.files` checks the values when it
writes and when it reads. A further kind is a model and a row.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers.base import StreamSpec
from pipelines.window import SeamFrame

__all__ = ["KINDS", "ChannelLine", "Kind", "LagValues", "MicrophoneValues", "Noun", "Values", "WelderValues"]

Noun = Literal["stream", "view", "program"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Values(BaseModel):
    """Base of all value models: unknown keys are errors, nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def of_stream(self, spec: StreamSpec) -> StreamSpec:
        """The spec whose physical values are the calibrated ones. Raises ValueError where it does not fit."""
        return spec

    def of_frame(self, frame: SeamFrame, device: str) -> SeamFrame:
        """The frame with what was measured of `device` in the place of what the configuration says."""
        return frame


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

    def of_stream(self, spec: StreamSpec) -> StreamSpec:
        """Scale and offset of the compared channels; raw data stays what it is."""
        n = len(spec.channels)
        scale, offset = list(spec.scale or (1.0,) * n), list(spec.offset or (0.0,) * n)
        for name, line in self.channels.items():
            i = spec.channel(name)
            if spec.units and spec.units[i] != line.unit:
                raise ValueError(
                    f"stream {spec.name}: channel {name} is in {spec.units[i]}, calibrated in {line.unit}"
                )
            scale[i], offset[i] = line.gain * scale[i], line.gain * offset[i] + line.offset
        return dataclasses.replace(spec, scale=tuple(scale), offset=tuple(offset))


class MicrophoneValues(Values):
    """`microphone`, of an audio stream."""

    gain_db: Annotated[Finite, Field(ge=-40, le=40)]
    """Added to the level, so that it is what it was at the reference."""
    levels_dbfs: Annotated[dict[str, Annotated[Finite, Field(le=3.1)]], Field(min_length=1)]
    """By program: RMS while the arc burns, before the correction, dB of full scale; median over the seams."""
    noise_floor_dbfs: Annotated[Finite, Field(le=3.1)]
    """RMS without an arc, before the correction."""
    delay_ms: Finite | None = None
    """From the arc to the host, as stamped without any correction; None where the arc was not heard."""
    latency_ms: Finite = 0.0
    """What of it is no way in air: told by a distance that was measured by hand, else taken as 0."""
    distance_m: Annotated[Finite, Field(ge=0, le=20)] | None = None
    """From the arc: the rest of the delay."""
    distance_interval_m: tuple[Finite, Finite] | None = None

    def of_stream(self, spec: StreamSpec) -> StreamSpec:
        """The gain for what hears levels; samples stay a share of full scale, where clipping is seen."""
        return dataclasses.replace(spec, gain=10 ** (self.gain_db / 20))


class LagValues(Values):
    """`lag`, of a program: the bead of a place lies `lag_mm` behind the process that made it."""

    lag_mm: Annotated[Finite, Field(ge=0, le=100)]
    interval_mm: tuple[Finite, Finite]
    """95 % interval, clustered by session where there are sessions."""
    seams: Annotated[int, Field(ge=1)]

    def of_frame(self, frame: SeamFrame, device: str) -> SeamFrame:
        """The lag."""
        return dataclasses.replace(frame, lag_mm=self.lag_mm)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One row: what `device` names, and the model of the values."""

    device: Noun
    values: type[Values]


KINDS: Mapping[str, Kind] = {
    "welder": Kind("stream", WelderValues),
    "microphone": Kind("stream", MicrophoneValues),
    "lag": Kind("program", LagValues),
}
