"""What an import must know of a data set: where a run's files lie and what its columns mean.

The defaults are the Intel Robotic Welding Multimodal Dataset; a TOML file with these keys serves other sets of
CSV, sound, video and photographs.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipelines.datasets import weld4m

__all__ = ["LogMapping", "Mapping", "MappingError", "PhotoMapping", "load_mapping"]


class MappingError(Exception):
    """The mapping file is wrong; one line per problem."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LogMapping(_Section):
    """`[log]`: columns of the CSV. Header names are compared without surrounding blanks."""

    time_columns: tuple[str, ...] = ("Date", "Time")
    """Joined by a blank and read by `time_format`; the one name of a column of seconds where that is "seconds"."""
    time_format: str = "%m/%d/%Y %H:%M:%S.%f"
    rate_hz: Annotated[float, Field(gt=0)] = 9.0
    welder: dict[str, str] = Field(
        default_factory=lambda: {"current": "Primary Weld Current", "voltage": "Secondary Weld Voltage"}
    )
    """Channel → column; `current` must be there."""
    motion: dict[str, str] = Field(
        default_factory=lambda: {
            "gas_flow": "CO2 Weld Flow",
            "gas_pressure": "Pressure",
            "feed": "Feed",
            "wire_consumed": "Wire Consumed",
        }
    )
    units: dict[str, str] = Field(default_factory=lambda: {"current": "A", "voltage": "V"})
    """Channel → unit; what is not given stays without, because the data set does not say."""

    @field_validator("welder")
    @classmethod
    def _has_current(cls, value: dict[str, str]) -> dict[str, str]:
        if "current" not in value:
            raise ValueError("a column for the channel 'current' is needed: the arc is found in it")
        return value


class PhotoMapping(_Section):
    """`[photos]`: result views, and how the sticker that shows the class is blanked in them.

    "detect" looks for white rectangles; "boxes" takes only `boxes` (x, y, width, height as shares 0–1), which are
    blanked in any case. A photo in which there is nothing to blank is left out, since the label might still be seen,
    unless "none" says that there are no stickers.
    """

    sticker: Literal["detect", "boxes", "none"] = "detect"
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    max_views: Annotated[int, Field(ge=0, le=16)] = 5


class Mapping(_Section):
    """The whole mapping. In file patterns `{run}` stands for the run's id, which is its folder's name."""

    log_file: str = weld4m.LOG_FILE
    sound_file: str = weld4m.SOUND_FILE
    video_file: str = weld4m.VIDEO_FILE
    photo_files: str = weld4m.PHOTO_FILES
    program: str = "intel"
    cell: str = "intel"
    class_pattern: str = weld4m.CLASS_PATTERN
    """Its first group in the run id is the class code."""
    good_codes: tuple[str, ...] = weld4m.GOOD_CODES
    class_names: dict[str, str] = Field(default_factory=dict)
    """Class code → defect; a code without a name is called class_NN."""
    typical_fps: Annotated[float, Field(gt=0)] = 29.8
    log: LogMapping = LogMapping()
    photos: PhotoMapping = PhotoMapping()

    @field_validator("class_pattern")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"{value!r} must have one group, the class code")
        return value

    def class_of(self, run_id: str) -> str | None:
        """The defect's name, None for a good run. Raises MappingError when the id has no class code."""
        match = re.search(self.class_pattern, run_id)
        if match is None:
            raise MappingError(f"run {run_id!r} does not match class_pattern {self.class_pattern!r}")
        code = match.group(1)
        return None if code in self.good_codes else self.class_names.get(code, f"class_{code}")


def load_mapping(path: Path | None) -> Mapping:
    """The mapping of `path`, the Intel set's without one. Raises MappingError with every problem."""
    if path is None:
        return Mapping()
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise MappingError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise MappingError(f"{path}: " + "; ".join(lines)) from error
