"""The seams that the galleries show: for each fault type one program, one seed, its good twin and its severities.

What is drawn is what the sensors give (JPEG frames and photographs, sampled signals); `gallery.py` lays it out.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray

from drivers.sim.damage import HOLE_FROM_CENTRE_MM
from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.programs import PROGRAMS, Program
from drivers.sim.render import render_process, render_result
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam, SeamPlan
from drivers.sim.sessions import session_named, session_names
from drivers.sim.variation import draw_latents

__all__ = ["Specimen", "modes", "specimen", "types_of"]

SEED = 4242
SHOWN_WITH = {"burn_through": "short_circuit", "lens_spatter": "spray", "tip_wear": "spray", "gas_loss": "spray"}
"""The transfer mode on which a type is shown, where it is not short-circuit: where it is seen best in a shop."""
DRIFT_SESSION = "session-00"


@dataclasses.dataclass(frozen=True)
class Specimen:
    """One fault type on one program, or (type None) one good seam of a program."""

    type: str | None
    program: Program
    session: str

    def plan(self, severity: int) -> SeamPlan:
        """Severity 0 is the good twin."""
        if self.type is None or severity == 0:
            return SeamPlan(0, self.program.name, self.session, SEED)
        onset_s, end_s = self.span_s
        fault = fault_of(self.type, severity, onset_s, end_s, self.program)
        return SeamPlan(0, self.program.name, self.session, SEED, FAULTS[self.type].family, fault)

    @property
    def span_s(self) -> tuple[float, float]:
        """Onset and end that the plans ask for: from a third of the seam on."""
        onset_s = round(0.35 * self.program.arc_s, 3)
        extent_s = FAULTS[self.type].extent_s if self.type else None
        return (onset_s, onset_s + extent_s) if extent_s else (onset_s, 2 * self.program.arc_s)

    @property
    def look_s(self) -> float:
        """A moment at which the fault shows, seconds after arc-on."""
        if self.type is not None and getattr(FAULTS[self.type], "extends", "lasts") == "end":
            return _arc_s(self) - 0.15
        onset_s, end_s = self.span_s
        return min(onset_s + 0.45, 0.5 * (onset_s + end_s)) if end_s < self.program.arc_s else onset_s + 0.9

    @property
    def look_mm(self) -> float:
        """Where along the seam the fault's middle lies, mm."""
        if self.type is not None and getattr(FAULTS[self.type], "extends", "lasts") == "end":
            return self.program.length_mm
        if self.type == "wrong_part":
            return self.program.length_mm / 2 + HOLE_FROM_CENTRE_MM[0]
        onset_s, end_s = self.span_s
        return float(np.mean([onset_s, min(end_s, self.program.arc_s)])) * self.program.travel_mm_s

    def label(self, severity: int) -> str:
        """What a picture of that severity is called: the value with its unit, or "good twin"."""
        fault = self.plan(severity).fault
        return "good twin" if fault is None else f"{severity}: {fault.value:g} {fault.unit}"

    def process(self, severity: int) -> RenderedSeam:
        """The process half as the sensors show it."""
        return _process(self, severity)

    def result(self, severity: int) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]]:
        """Views by name, RGB, and the height map in mm."""
        return _result(self, severity)

    def frame(self, severity: int, at_s: float | None = None) -> NDArray[np.uint8]:
        """The arc camera's frame nearest to `at_s` (the moment the fault shows)."""
        seam = self.process(severity)
        index = round((seam.lead_s + (self.look_s if at_s is None else at_s)) * seam.arc_fps)
        return _decode(seam.frames[min(index, len(seam.frames) - 1)])[:, :, 0]


def types_of(*families: str) -> list[str]:
    """The fault types of those families, in the table's order."""
    return [name for name, row in FAULTS.items() if row.family in families]


def specimen(type_name: str) -> Specimen:
    """The seam on which a fault type is shown."""
    transfer = SHOWN_WITH.get(type_name, "short_circuit")
    program = next((p for p in PROGRAMS.values() if p.transfer == transfer), next(iter(PROGRAMS.values())))
    return Specimen(type_name, program, DRIFT_SESSION)


def modes() -> list[Specimen]:
    """One good seam for each transfer mode that the programs have."""
    first: dict[str, Program] = {}
    for program in PROGRAMS.values():
        first.setdefault(program.transfer, program)
    return [
        Specimen(None, program, session) for program, session in zip(first.values(), session_names(9), strict=False)
    ]


@functools.lru_cache(maxsize=128)
def _process(shown: Specimen, severity: int) -> RenderedSeam:
    return render_process(shown.plan(severity), IMAGE_PRESETS["small"])


@functools.lru_cache(maxsize=128)
def _result(shown: Specimen, severity: int) -> tuple[dict[str, NDArray[np.uint8]], NDArray[np.float32]]:
    views, heights = render_result(shown.plan(severity), IMAGE_PRESETS["small"])
    return {name: _decode(jpeg) for name, jpeg in views.items()}, heights


@functools.lru_cache(maxsize=64)
def _arc_s(shown: Specimen) -> float:
    return draw_latents(shown.program, session_named(shown.session), SEED).arc_s


def _decode(jpeg: bytes) -> NDArray[np.uint8]:
    """(rows, columns, 3) RGB."""
    import cv2

    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"a rendered image of {len(jpeg)} bytes does not decode as JPEG")
    return np.asarray(image[:, :, ::-1], np.uint8)
