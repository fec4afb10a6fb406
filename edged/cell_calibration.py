"""The calibrations that a cell works with: what they change, and what is wrong with them.

Raw data is recorded; here it becomes physical: the engine gives aligner, scans and scorer the *calibrated* specs and
frames, and the recorder the raw ones together with `content()`. So a recording can be judged again with the
calibrations that it was made with, or with others.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from calibration.files import CalibrationError, CalibrationSet, calibration_paths, read_calibration
from calibration.kinds import KINDS, Noun
from drivers.base import StreamSpec
from edged.config import CalibrationConfig, Config, FrameConfig
from pipelines.window import SeamFrame

__all__ = ["CellCalibration", "Scope", "read_cell_calibration"]

NS_PER_DAY = 86_400e9


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """What a seam uses: only calibrations of these devices concern it."""

    program: str
    streams: frozenset[str]
    views: frozenset[str]

    def concerns(self, name: str) -> bool:
        """Whether the calibration `kind:device` is of something that the seam uses."""
        kind, _, device = name.partition(":")
        if kind not in KINDS:
            return True
        devices: Mapping[Noun, Iterable[str]]
        devices = {"stream": self.streams, "view": self.views, "program": (self.program,)}
        return device in devices[KINDS[kind].device]


@dataclasses.dataclass(frozen=True, slots=True)
class CellCalibration:
    """A set of calibrations; `unusable` says of each that is there and cannot be used ("kind:device") why.

    `delays_ms`: of streams whose measured delay was taken off their stamps (`edged.sound_delay`).
    """

    found: CalibrationSet = dataclasses.field(default_factory=CalibrationSet)
    unusable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    delays_ms: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def calibration_id(self) -> str:
        """Of the usable ones; "none" where there are none."""
        return self.found.calibration_id

    def spec(self, spec: StreamSpec) -> StreamSpec:
        """A stream's calibrated spec, itself where nothing was measured. Raises CalibrationError."""
        for item in self.found.ordered():
            if KINDS[item.kind].device == "stream" and item.device == spec.name:
                try:
                    spec = item.checked.of_stream(spec)
                except ValueError as error:
                    raise CalibrationError(f"{item.name}: {error}; make it again") from error
        return spec

    def frame(self, config: FrameConfig | None, scope: Scope) -> SeamFrame | None:
        """Where the results of a seam lie: as measured, else as configured; None where no frame is configured."""
        if config is None:
            return None
        frame = SeamFrame(config.length_mm, config.lag_mm, config.views, config.scan)
        for item in self.found.ordered():
            if scope.concerns(item.name):
                frame = item.checked.of_frame(frame, item.device, scope.program)
        return frame

    def problem(self, config: CalibrationConfig, scope: Scope) -> str:
        """Why a seam can have no verdict: a required calibration is missing, or one of its own damaged; else ""."""
        missing = [name for name in self.found.missing(config.required) if name not in self.unusable]
        lines = [f"{name} is missing, run 'edged calibrate'" for name in missing if scope.concerns(name)]
        return ", ".join([*lines, *(why for name, why in self.unusable.items() if scope.concerns(name))])

    def expired(self, config: CalibrationConfig, utc_ns: int, scope: Scope | None = None) -> tuple[str, ...]:
        """What is past its time at `utc_ns`, in words; with a scope only what concerns it."""
        now = datetime.datetime.fromtimestamp(utc_ns / 1e9, datetime.UTC)
        return tuple(
            f"calibration {item.name} is {item.age_days(now):.0f} days old and has expired"
            for item in self.found.expired(now, config.max_age_days)
            if scope is None or scope.concerns(item.name)
        )

    def warnings(self, config: CalibrationConfig, utc_ns: int) -> list[str]:
        """What is wrong at all, for health and `edged check`."""
        missing = [name for name in self.found.missing(config.required) if name not in self.unusable]
        lines = [f"calibration {name} is required and missing, run 'edged calibrate'" for name in missing]
        return [*lines, *self.unusable.values(), *self.expired(config, utc_ns)]

    def content(self) -> dict[str, Any]:
        """JSON-ready, for recordings; empty where there is nothing to keep."""
        if not self.found.items and not self.unusable:
            return {}
        return {
            "calibration_id": self.calibration_id,
            "files": self.found.content(),
            "unusable": dict(self.unusable),
            **({"delays_ms": dict(self.delays_ms)} if self.delays_ms else {}),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any], source: str) -> Self:
        """What `content` gave. Raises CalibrationError, naming `source`."""
        found = CalibrationSet.from_content(content.get("files", ()), source)
        return cls(found, dict(content.get("unusable", {})), dict(content.get("delays_ms", {})))


def read_cell_calibration(config: Config, specs: Iterable[StreamSpec] | None = None) -> CellCalibration:
    """The calibrations of a cell; what cannot be used is named and left out, so that the cell goes on.

    Args:
        specs: the streams' raw specs, against which calibrations of streams are held; None: not held against any.
    """
    return read_folder(config.calibration_directory, specs)


def read_folder(folder: Path, specs: Iterable[StreamSpec] | None = None) -> CellCalibration:
    """As `read_cell_calibration`, of any folder."""
    usable, unusable = [], {}
    by_name = None if specs is None else {spec.name: spec for spec in specs}
    for path in calibration_paths(folder):
        try:
            item = read_calibration(path)
            if by_name is not None and item.device in by_name:
                CellCalibration(CalibrationSet.of([item])).spec(by_name[item.device])
            usable.append(item)
        except CalibrationError as error:
            kind, _, device = path.stem.partition("-")
            unusable[f"{kind}:{unquote(device)}"] = str(error)
    return CellCalibration(CalibrationSet.of(usable), unusable)
