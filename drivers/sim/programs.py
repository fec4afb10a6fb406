"""The welding programs of the virtual cell: what the robot and the power source are told to do.

First link of the chain of causes. Set-points follow practice for 1.2 mm solid wire under Ar + 20 % CO2
(docs/virtual-cell.md gives the sources).
"""

import dataclasses
from collections.abc import Mapping
from typing import Literal

__all__ = ["PROGRAMS", "VIEW_NAMES", "WIRE_AREA_MM2", "Joint", "Program", "Pulse", "Transfer", "program_named"]

Transfer = Literal["short_circuit", "globular", "spray", "pulsed"]
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

PULSE_LIMITS: Mapping[str, tuple[float, float]] = {
    "peak_a": (250.0, 600.0),
    "base_a": (15.0, 200.0),
    "pulse_ms": (0.5, 6.0),
    "frequency_hz": (20.0, 350.0),
}
"""What a pulsing source can be set to for 1.2 mm steel wire."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pulse:
    """Current wave of a pulsed program; the source moves `frequency_hz` with wire speed and arc voltage."""

    peak_a: float
    base_a: float
    pulse_ms: float
    frequency_hz: float

    def __post_init__(self) -> None:
        """Raise ValueError with quantity, value and range when no source could give this wave."""
        for quantity, (low, high) in PULSE_LIMITS.items():
            value = getattr(self, quantity)
            if not low <= value <= high:
                raise ValueError(f"pulse: {quantity} is {value}; it must lie in {low}–{high}")
        longest = round(600.0 / self.frequency_hz, 3)
        if self.pulse_ms > longest:
            raise ValueError(
                f"pulse: pulse_ms is {self.pulse_ms}; it must lie in {PULSE_LIMITS['pulse_ms'][0]}–{longest}"
                f" (0.6 of the period at {self.frequency_hz} Hz)"
            )


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
    pulse: Pulse | None = None
    """The current wave of a pulsed program; None of any other."""

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
        if (self.transfer == "pulsed") != (self.pulse is not None):
            raise ValueError(
                f"program {self.name}: transfer is {self.transfer} and pulse is {self.pulse};"
                " a pulsed program needs one and no other may have one"
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
        points = {
            "current_a": self.current_a,
            "voltage_v": self.voltage_v,
            "wire_feed_speed_m_min": self.wire_feed_m_min,
            "travel_speed_mm_s": self.travel_mm_s,
            "ctwd_mm": self.ctwd_mm,
            "gas_flow_l_min": self.gas_l_min,
        }
        if self.pulse is not None:
            points |= {
                "peak_current_a": self.pulse.peak_a,
                "base_current_a": self.pulse.base_a,
                "pulse_duration_ms": self.pulse.pulse_ms,
                "pulse_frequency_hz": self.pulse.frequency_hz,
            }
        return points


_OBLIQUE = ("top", "left", "right")
_ENDS = ("top", "start", "end")

# name, transfer, joint: plate mm, length mm, A, V, wire m/min, travel mm/s, CTWD mm, gas L/min, mH, mΩ, gap share
_TABLE = (
    Program("short-butt-3", "short_circuit", "butt", 3.0, 25.0, 160.0, 18.0, 3.6, 5.0, 15.0, 14.0, 0.20, 14.0, 0.45),
    Program(
        "globular-fillet-6", "globular", "fillet", 6.0, 30.0, 210.0, 22.2, 5.2, 6.0, 17.0, 15.0, 0.30, 16.0, 0.27,
    ),
    Program("spray-lap-5", "spray", "lap", 5.0, 40.0, 275.0, 29.5, 8.0, 8.0, 19.0, 16.0, 0.30, 12.0, 0.43),
    Program("short-lap-3", "short_circuit", "lap", 3.0, 24.0, 150.0, 17.4, 3.2, 4.8, 15.0, 14.0, 0.22, 14.0, 0.41),
    Program(
        "short-fillet-4", "short_circuit", "fillet", 4.0, 20.0, 155.0, 17.7, 3.3, 4.2, 15.0, 14.0, 0.21, 14.0, 0.36,
        views=_OBLIQUE,
    ),
    Program("globular-butt-8", "globular", "butt", 8.0, 25.0, 220.0, 23.0, 5.7, 4.8, 18.0, 16.0, 0.32, 16.0, 0.28),
    Program("spray-fillet-8", "spray", "fillet", 8.0, 42.0, 300.0, 31.0, 8.1, 8.0, 17.0, 18.0, 0.30, 12.0, 0.20),
    Program(
        "pulsed-lap-4", "pulsed", "lap", 4.0, 36.0, 150.0, 24.0, 4.0, 7.2, 16.0, 15.0, 0.10, 10.0, 0.26,
        pulse=Pulse(420.0, 60.0, 2.0, 118.0),
    ),
    Program(
        "pulsed-fillet-5", "pulsed", "fillet", 5.0, 32.0, 180.0, 25.0, 5.0, 6.4, 16.0, 16.0, 0.10, 10.0, 0.29,
        views=_ENDS, pulse=Pulse(440.0, 65.0, 2.0, 144.0),
    ),
    Program(
        "pulsed-butt-6", "pulsed", "butt", 6.0, 30.0, 210.0, 26.0, 6.2, 5.6, 17.0, 17.0, 0.10, 10.0, 0.42,
        views=VIEW_NAMES, pulse=Pulse(430.0, 75.0, 2.0, 175.0),
    ),
)  # fmt: skip

PROGRAMS: Mapping[str, Program] = {program.name: program for program in _TABLE}


def program_named(name: str) -> Program:
    """The program of that name. Raises ValueError naming the known ones."""
    if name not in PROGRAMS:
        raise ValueError(f"program {name!r} is not known to the virtual cell; known: {', '.join(PROGRAMS)}")
    return PROGRAMS[name]
