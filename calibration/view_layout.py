"""The markers beside a part: a small TOML that says where each stands on the seam, measured once with a rule.

marker_mm = 6.0                  # side of the black square
dictionary = "DICT_4X4_50"       # as OpenCV names it
above_mm = 0.0                   # how far the markers lie above the plate
[markers]                        # id = [mm along the seam from arc-on, mm across, to the right of the travel]
0 = [-13.0, -10.0]
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from calibration.files import CalibrationError
from pipelines.markers import VIEW_DICTIONARY
from pipelines.rectify import ViewGeometry

__all__ = ["read_layout"]

Mm = Annotated[float, Field(allow_inf_nan=False, ge=-10_000, le=10_000)]
LEAST_MARKERS = 2


class _Layout(BaseModel):
    model_config = ConfigDict(extra="forbid")

    marker_mm: Annotated[Mm, Field(gt=0)]
    dictionary: str = VIEW_DICTIONARY
    above_mm: Mm = 0.0
    markers: dict[str, tuple[Mm, Mm]]

    @field_validator("dictionary")
    @classmethod
    def _known(cls, name: str) -> str:
        import cv2

        if not re.fullmatch(r"DICT_\w+", name) or not hasattr(cv2.aruco, name):
            raise ValueError(f"{name!r} is no dictionary of OpenCV; for example {VIEW_DICTIONARY}")
        return name

    @field_validator("markers")
    @classmethod
    def _places(cls, markers: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        if wrong := [name for name in markers if not name.isdecimal()]:
            raise ValueError(f"{wrong[0]!r} is no marker's id; write a number")
        if len(markers) < LEAST_MARKERS:
            raise ValueError(f"{len(markers)} given, {LEAST_MARKERS} are needed, four are usual")
        along, across = ({place[axis] for place in markers.values()} for axis in (0, 1))
        if len(set(markers.values())) < len(markers) or len(along) < 2 or len(across) < 2:
            raise ValueError("they must stand at different places, along the seam and across it")
        return markers


def read_layout(path: Path) -> ViewGeometry:
    """The layout as the geometry of a view without camera. Raises CalibrationError naming file, key and value."""
    try:
        layout = _Layout.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise CalibrationError(f"{path}: {'; '.join(lines)}; docs/calibration-vision.md shows a layout") from error
    markers = sorted((int(name), *place) for name, place in layout.markers.items())
    return ViewGeometry(tuple(markers), layout.marker_mm, layout.dictionary, layout.above_mm)
