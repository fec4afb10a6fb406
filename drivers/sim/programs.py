"""The welding programs of the virtual cell: what the robot and the power source are told to do.

First link of the chain of causes. Set-points follow practice for 1.2 mm solid wire under Ar + 20 % CO2
(docs/virtual-cell.md gives the sources).
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

__all__ = ["PROGRAMS", "VIEW_NAMES", "WIRE_AREA_MM2", "Joint", "Program", "Transfer", "program_named"]

Transfer = Literal["short_circuit", "globular", "spray"]
Joint = Literal["butt", "lap", "fillet"]

VIEW_NAMES = ("top", "left", "right", "start", "end")
"""Photographs that a program can ask for; every program has "top". "left" and "right" look obliquely across the seam,
"start" and "end" are close-ups of its ends."""

WIRE_AREA_MM2 = 1.131
"""Cross-section of 1.2 mm wire."""


LIMITS: Mapping[str, tuple[float, float]] = {
    "plate_mm": (0.5, 40.0),
    "length_mm": (5.0, 2000.0),
    "current_a": (40.0, 450.0),
    "voltage_v": (12.0, 45.0),
    "wire_feed_m_min": (1.0, 25.0),
    "travel_mm_s": (1.0, 50.0),
    "ctwd_mm": (8.0, 35.0),
    "gas_l_min": (0.0, 40.0),
    "inductance_mh": (0.05, 2.0),
    "source_mohm": (1.0, 100.0),
    "gap_share": (0.0, 1.0),
    "gap_max_mm": (0.0, 10.0),
}
"""What a 1.2 mm wire torch can be set to at all."""


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """Set-points and part of one kind of seam. `current_a` is the mean that the feed rate leads to."""

    name: str
    transfer: Transfer
    joint: Joint
    plate_mm: float
    length_mm: float
    current_a: float
    voltage_v: float
    wire_feed_m_min: float
    travel_mm_s: float
    ctwd_mm: float
    gas_l_min: float
    inductance_mh: float
    source_mohm: float
    gap_share: float
    """Part of the joint gap's cross-section that the bead fills before it stands above the plate."""
    gap_max_mm: float = 0.8
    views: tuple[str, ...] = ("top",)
    """Photographs after the seam, in the order in which the robot shows them."""

    def __post_init__(self) -> None:
        """Raise ValueError with quantity, value and range when a set-point is physically impossible."""
        for quantity, (low, high) in LIMITS.items():
            value = getattr(self, quantity)
            if not low <= value <= high:
                raise ValueError(f"program {self.name}: {quantity} is {value}; it must lie in {low}–{high}")
        unknown = [view for view in self.views if view not in VIEW_NAMES]
        if unknown or "top" not in self.views:
            raise ValueError(
                f"program {self.name}: views are {', '.join(self.views)}; they must include top"
                f" and be of {', '.join(VIEW_NAMES)}"
            )
        if self.gap_max_mm > self.plate_mm:
            raise ValueError(
                f"program {self.name}: gap_max_mm is {self.gap_max_mm}; it must lie in 0–{self.plate_mm} (the plate)"
            )

    @property
    def arc_s(self) -> float:
        """Nominal arc time of the seam without crater fill."""
        return self.length_mm / self.travel_mm_s

    def set_points(self) -> Mapping[str, float]:
        """What the controller would report, units in the names."""
        return {
            "current_a": self.current_a,
            "voltage_v": self.voltage_v,
            "wire_feed_speed_m_min": self.wire_feed_m_min,
            "travel_speed_mm_s": self.travel_mm_s,
            "ctwd_mm": self.ctwd_mm,
            "gas_flow_l_min": self.gas_l_min,
        }


_TABLE = (
    Program("short-butt-3", "short_circuit", "butt", 3.0, 25.0, 160.0, 18.0, 3.6, 5.0, 15.0, 14.0, 0.20, 14.0, 0.37),
    Program(
        "globular-fillet-6", "globular", "fillet", 6.0, 30.0, 210.0, 22.2, 5.2, 6.0, 17.0, 15.0, 0.30, 16.0, 0.22
    ),
    Program("spray-lap-5", "spray", "lap", 5.0, 40.0, 275.0, 29.5, 8.0, 8.0, 19.0, 16.0, 0.30, 12.0, 0.30),
)

PROGRAMS: Mapping[str, Program] = {program.name: program for program in _TABLE}


def program_named(name: str) -> Program:
    """The program of that name. Raises ValueError naming the known ones."""
    if name not in PROGRAMS:
        raise ValueError(f"program {name!r} is not known to the virtual cell; known: {', '.join(PROGRAMS)}")
    return PROGRAMS[name]
