"""What a calibration of each kind holds: one pydantic model a row of `KINDS`.

A kind says what its device is (a stream, a view, a program), what its values must look like, and what they change:
the physical values of a stream, or where a program's results lie. `calibration.files` checks the values when it
writes and when it reads. A further kind is a model and a row.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from drivers.base import StreamSpec
from pipelines.rectify import ViewGeometry
from pipelines.window import SeamFrame

__all__ = [
    "KINDS",
    "CameraValues",
    "ChannelLine",
    "Kind",
    "LagValues",
    "MicrophoneValues",
    "Noun",
    "ProfileValues",
    "ScanValues",
    "Values",
    "ViewValues",
    "WelderValues",
]

Noun = Literal["stream", "view", "program"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Values(BaseModel):
    """Base of all value models: unknown keys are errors, nothing is changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def of_stream(self, spec: StreamSpec) -> StreamSpec:
        """The spec whose physical values are the calibrated ones. Raises ValueError where it does not fit."""
        return spec

    def of_frame(self, frame: SeamFrame, device: str, program: str) -> SeamFrame:
        """A program's frame with what was measured of `device` in the place of what the configuration says."""
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

    def of_frame(self, frame: SeamFrame, device: str, program: str) -> SeamFrame:
        """The lag."""
        return dataclasses.replace(frame, lag_mm=self.lag_mm)


class CameraValues(Values):
    """`camera`, of a camera's stream: what the lens does, for pictures of this size; `calibration.camera`."""

    image_px: tuple[Annotated[int, Field(ge=16)], Annotated[int, Field(ge=16)]]
    """Width and height."""
    fx: Annotated[Finite, Field(gt=0)]
    fy: Annotated[Finite, Field(gt=0)]
    cx: Finite
    cy: Finite
    k1: Finite
    k2: Finite
    p1: Finite
    p2: Finite
    interval: dict[str, Annotated[Finite, Field(ge=0)]]
    """Half width of each parameter's 95 % interval."""
    board: str
    views: Annotated[int, Field(ge=1)]

    @property
    def intrinsics(self) -> tuple[float, float, float, float, float, float, float, float]:
        """As in `pipelines.rectify.ViewGeometry.camera`."""
        return self.fx, self.fy, self.cx, self.cy, self.k1, self.k2, self.p1, self.p2


class ViewValues(Values):
    """`views`, of a view: its markers, mm on the seam, its camera, and how well both agree; `calibration.views`."""

    markers: Annotated[tuple[tuple[int, Finite, Finite], ...], Field(min_length=2)]
    """Id, along, across of the centres."""
    marker_mm: Annotated[Finite, Field(gt=0)]
    dictionary: str
    above_mm: Finite = 0.0
    camera: tuple[Finite, Finite, Finite, Finite, Finite, Finite, Finite, Finite] | None = None
    """fx, fy, cx, cy, k1, k2, p1, p2 of the camera's own calibration."""
    steady: Annotated[tuple[Finite, ...], Field(min_length=9, max_length=9)] | None = None
    image_px: tuple[int, int]
    px_per_mm: Annotated[Finite, Field(gt=0)]
    """On the bead, where it is smallest."""
    camera_mm: tuple[Finite, Finite, Finite] | None = None
    """Where the camera stands: along, across, above the plate."""
    pictures: Annotated[int, Field(ge=1)]

    @property
    def geometry(self) -> ViewGeometry:
        """What brings a picture onto the seam's mm."""
        return ViewGeometry(
            self.markers, self.marker_mm, self.dictionary, self.above_mm, self.camera, self.steady, self.image_px
        )

    def of_frame(self, frame: SeamFrame, device: str, program: str) -> SeamFrame:
        """The view's geometry; where the program says where the view lies, the markers are laid there."""
        geometry = self.geometry
        if device in frame.views:
            from_mm, left_mm = frame.views[device][0], frame.views[device][2]
            geometry = geometry.moved(from_mm - geometry.extent[0], left_mm - geometry.extent[2])
        return dataclasses.replace(
            frame,
            views={**frame.views, device: geometry.extent},
            geometry={**frame.geometry, device: geometry},
        )


class ScanValues(Values):
    """Where the scans of one program lie on its seam; `calibration.registration`."""

    scan: tuple[Finite, Annotated[Finite, Field(gt=0)], Annotated[Finite, Field(gt=0)]]
    """Place of the first row, mm a row, half width."""
    across_mm: Finite
    """How far the rows' middle lies from the joint, and by how much they are turned against the photographs."""
    turn_deg: Finite
    bead: tuple[Finite, Finite]
    """Where good beads begin and end in a scan, mm."""
    seams: Annotated[int, Field(ge=1)]


class ProfileValues(Values):
    """`profile`, of a laser profiler's stream: its heights, and by program where its scans lie.

    A point reads `scale * raw + offset_mm + tilt * y`, y from −`half_width_mm` to it across the rows.
    """

    scale: Annotated[Finite, Field(ge=0.5, le=2.0)] = 1.0
    offset_mm: Finite = 0.0
    tilt: Annotated[Finite, Field(ge=-0.5, le=0.5)] = 0.0
    points: Annotated[int, Field(ge=2)] | None = None
    half_width_mm: Annotated[Finite, Field(gt=0)]
    programs: dict[str, ScanValues] = Field(default_factory=dict)

    def of_stream(self, spec: StreamSpec) -> StreamSpec:
        """The heights of a gauge."""
        (points,) = spec.shape
        if self.points not in (None, points):
            raise ValueError(f"stream {spec.name}: rows of {points} points, calibrated with {self.points}")
        if (self.scale, self.offset_mm, self.tilt) == (1.0, 0.0, 0.0):
            return spec
        scale = np.broadcast_to(np.asarray(spec.scale or (1.0,), np.float64), points)
        offset = np.broadcast_to(np.asarray(spec.offset or (0.0,), np.float64), points)
        y_mm = np.linspace(-self.half_width_mm, self.half_width_mm, points)
        offset = self.scale * offset + self.offset_mm + self.tilt * y_mm
        return dataclasses.replace(spec, scale=tuple((self.scale * scale).tolist()), offset=tuple(offset.tolist()))

    def of_frame(self, frame: SeamFrame, device: str, program: str) -> SeamFrame:
        """Where a scan lies, and where the bead should begin and end in it."""
        laid = self.programs.get(program)
        return frame if laid is None else dataclasses.replace(frame, scan=laid.scan, bead=laid.bead)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One row: what `device` names, and the model of the values."""

    device: Noun
    values: type[Values]


KINDS: Mapping[str, Kind] = {
    "welder": Kind("stream", WelderValues),
    "microphone": Kind("stream", MicrophoneValues),
    "lag": Kind("program", LagValues),
    "camera": Kind("stream", CameraValues),
    "views": Kind("view", ViewValues),
    "profile": Kind("stream", ProfileValues),
}
