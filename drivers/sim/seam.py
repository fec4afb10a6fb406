"""The virtual cell's contract: a plan goes in, everything the cell's sensors would see comes out.

`drivers/sim/` renders plans with physics; the transports pace what was rendered; `edged simulate` writes it
to recordings. Truth travels beside the observations and never inside them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["IMAGE_PRESETS", "Family", "Fault", "ImagePreset", "RenderedSeam", "SeamPlan", "announced"]

Family = Literal["good", "process", "result", "pair", "both", "drift"]


@dataclasses.dataclass(frozen=True, slots=True)
class ImagePreset:
    """Sizes of the rendered images: arc camera and post-weld views, pixels (height, width)."""

    arc_px: tuple[int, int]
    view_px: tuple[int, int]
    arc_fps: float
    jpeg_quality: int


IMAGE_PRESETS: Mapping[str, ImagePreset] = {
    "small": ImagePreset(arc_px=(240, 384), view_px=(320, 960), arc_fps=30.0, jpeg_quality=85),
    "full": ImagePreset(arc_px=(600, 960), view_px=(900, 2000), arc_fps=30.0, jpeg_quality=90),
}
"""`small` serves demo and bulk alike, so that a model trained in bulk sees what the demo shows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its type, its severity 1–5 and what that means in physical units.

    `onset_s`/`end_s` are seconds after arc-on; the renderer fills in mm.
    """

    type: str
    severity: int
    value: float
    unit: str
    onset_s: float
    end_s: float

    def __post_init__(self) -> None:
        """Raise ValueError with quantity, value and range; whether the value can be, its type's row says."""
        if self.severity not in (1, 2, 3, 4, 5):
            raise ValueError(f"severity of {self.type} is {self.severity}; it must be 1 to 5")
        if not 0 <= self.onset_s <= self.end_s < math.inf:
            raise ValueError(f"{self.type} lasts {self.onset_s}–{self.end_s} s; need 0 ≤ onset ≤ end")


@dataclasses.dataclass(frozen=True, slots=True)
class SeamPlan:
    """All that determines one seam: same plan, same bytes, on any number of processes.

    `pair_seed` is the seed of the good seam whose bead a *pair* seam shows. A good twin has the same
    `seed`, program and session and no fault.
    """

    index: int
    program: str
    session: str
    seed: int
    family: Family = "good"
    fault: Fault | None = None
    pair_seed: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError with quantity, value and range when a number cannot be."""
        for quantity in ("index", "seed", "pair_seed"):
            value = getattr(self, quantity)
            if value is not None and value < 0:
                raise ValueError(f"{quantity} of a seam is {value}; it must be 0 or more")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RenderedSeam:
    """What the sensors see of one seam. Every stream starts `lead_s` before arc-on and ends `tail_s` after arc-off.

    welder: (n, 3) int16 at `welder_hz`; channels current, voltage, wire_feed_speed; physical = raw * welder_scale.
    audio: (n, 1) int16 at `audio_hz`. frames: one JPEG each at `arc_fps`, the first at the start.
    motion: (n, 3) float32 at `motion_hz`; channels tcp_speed mm/s, tcp_position mm, gas_flow L/min.
    views: view name → JPEG. profile: (rows, width) float32 mm, rows along the seam.
    truth: JSON-ready; for evaluation only.
    """

    plan: SeamPlan
    lead_s: float
    arc_s: float
    tail_s: float
    welder_hz: float
    welder_scale: tuple[float, float, float]
    welder: NDArray[np.int16]
    audio_hz: float
    audio: NDArray[np.int16]
    arc_fps: float
    frames: tuple[bytes, ...]
    motion_hz: float
    motion: NDArray[np.float32]
    views: Mapping[str, bytes]
    profile: NDArray[np.float32]
    profile_mm_per_row: float
    set_points: Mapping[str, float]
    truth: Mapping[str, Any]


def announced(rendered: RenderedSeam) -> dict[str, Any]:
    """What a PLC says of a seam in `expect`: its program, session and set-points."""
    plan = rendered.plan
    return {"program": plan.program, "session": plan.session, "set_points": dict(rendered.set_points)}
