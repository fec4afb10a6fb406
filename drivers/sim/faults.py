"""The table of faults: type → family, unit, five severities and where it acts.

Faults act on the latent state, downstream of the sensors wherever they would in a shop: gas is lost after the
flow meter, wire slips after the encoder. Faults of the *result* family act on the finished part only, those of the
*drift* family on the sensors only. Severities are physical and were set from practice, not from any detector's
score; `basis` says from what.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import Program
from drivers.sim.seam import Family, Fault
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = [
    "FAULTS",
    "FaultType",
    "apply_fault",
    "check_fault",
    "fault_gate",
    "fault_of",
    "fault_span",
    "fault_type",
    "sensed_session",
]

Array = NDArray[np.float64]
Act = Callable[[Latents, Array, float], None]
Sense = Callable[[Session, float], Session]

EDGE_S = 0.08
"""A fault sets in and leaves over this time: slack in hoses, rollers and pool."""


@dataclasses.dataclass(frozen=True, slots=True)
class FaultType:
    """One row: `act(latents, gate, value)` changes the latent state in place; None for *result* and *drift*.

    `sense(session, value)` gives the session with changed sensors (*drift*): the weld stays what it was.

    `extent_s` limits how long one occurrence lasts. Without it a fault "lasts" from its onset on, is there for the
    "whole" seam whatever its onset, or comes at the seam's "end". `bounded_by` names the program's quantity that the
    value may not exceed; `in_proportion_to` a program's quantity, and at how much of it the severities are given.
    """

    type: str
    family: Family
    unit: str
    severities: tuple[float, float, float, float, float]
    low: float
    high: float
    basis: str
    """What practice the severities come from."""
    act: Act | None = None
    extent_s: float | None = None
    bounded_by: str | None = None
    in_proportion_to: tuple[str, float] | None = None
    extends: Literal["lasts", "whole", "end"] = "lasts"
    sense: Sense | None = None


def _gas_loss(state: Latents, gate: Array, lost_l_min: float) -> None:
    state.nozzle_l_min = np.maximum(state.nozzle_l_min - gate * lost_l_min, 0.0)


def _burn_through(state: Latents, gate: Array, gap_mm: float) -> None:
    state.gap_mm = np.maximum(state.gap_mm, gate * gap_mm)
    # The pool sags into a gap that it cannot bridge; below about 1 mm it still bridges.
    state.sink_mm = state.sink_mm + gate * 1.1 * max(gap_mm - 0.9, 0.0)


def _lack_of_fusion(state: Latents, gate: Array, offset_mm: float) -> None:
    state.sidewall_mm = state.sidewall_mm + gate * offset_mm
    state.arc_noise_v = state.arc_noise_v + gate * 0.06 * offset_mm


def _subsurface_pores(state: Latents, gate: Array, hydrogen_ml_100g: float) -> None:
    state.hydrogen = state.hydrogen + gate * hydrogen_ml_100g / 20.0


def _tip_wear(state: Latents, gate: Array, noise_mohm: float) -> None:
    state.tip_noise_mohm = state.tip_noise_mohm + gate * noise_mohm


def _undercut(state: Latents, gate: Array, arc_mm: float) -> None:
    state.arc_length_extra_mm = state.arc_length_extra_mm + gate * arc_mm
    state.source_v = state.source_v + gate * 1.1 * arc_mm


def _convexity(state: Latents, gate: Array, lead_mohm: float) -> None:
    state.lead_mohm = state.lead_mohm + gate * lead_mohm


def _wire_slip(state: Latents, gate: Array, percent: float) -> None:
    state.wire_mm_s = state.wire_mm_s * (1 - gate * percent / 100)


def _overlap(state: Latents, gate: Array, roll_mm: float) -> None:
    # A lagging torch with a short arc: about a volt less for each millimetre that the cold metal rolls over the toe.
    state.overlap_mm = state.overlap_mm + gate * roll_mm
    state.source_v = state.source_v - gate * 1.0 * roll_mm


def _crater_crack(state: Latents, gate: Array, missing_ms: float) -> None:
    """Source and feeder stop `missing_ms` too early; the robot stands and the gas flows as they were told."""
    missing = min(round(missing_ms * 1e-3 * LATENT_HZ), len(state.wire_mm_s))
    state.crater_fill_missing_s = max(state.crater_fill_missing_s, missing / LATENT_HZ)
    for name in ("source_v", "wire_mm_s", "motor_mm_s"):
        values = getattr(state, name).copy()
        values[len(values) - missing :] = 0.0
        setattr(state, name, values)


def _current_gain(session: Session, percent: float) -> Session:
    # Zero and span of a current transducer move either way; which, a session keeps.
    sign = 1 if session.lens_seed % 2 else -1
    return dataclasses.replace(session, current_gain=session.current_gain * (1 + sign * percent / 100))


def _lens_spatter(session: Session, spots: float) -> Session:
    return dataclasses.replace(session, lens_spots=session.lens_spots + round(spots))


def _microphone_moved(session: Session, cm: float) -> Session:
    return dataclasses.replace(session, mic_distance_m=session.mic_distance_m + cm / 100)


_TABLE = (
    FaultType(
        "gas_loss", "both", "L/min", (7.0, 8.5, 10.0, 11.5, 13.5), 0, 40,
        "80/20 mix stays sound down to about 5 L/min at the nozzle: from a slight draught to an empty bottle",
        _gas_loss, bounded_by="gas_l_min", in_proportion_to=("gas_l_min", 15.0),
    ),
    FaultType(
        "burn_through", "both", "mm", (0.9, 1.1, 1.4, 1.8, 2.5), 0, 5,
        "fit-up allows 0.8 mm; the pool bridges about the wire's 1.2 mm, through twice that it falls",
        _burn_through, 0.9, "plate_mm",
    ),
    FaultType(
        "wire_slip", "both", "%", (2.0, 4.0, 8.0, 15.0, 25.0), 0, 60,
        "feeders hold 2 %; worn rolls or a kinked liner lose 5-10 %, a clogged one up to a quarter",
        _wire_slip,
    ),
    FaultType(
        "undercut", "both", "mm", (0.4, 0.8, 1.2, 1.7, 2.3), 0, 6,
        "arc lengthening by a tilted torch, as it takes to dig the 0.2-1 mm at the toe that inspectors measure",
        _undercut,
    ),
    FaultType(
        "convexity", "both", "mohm", (2.0, 4.0, 7.0, 12.0, 18.0), 0, 40,
        "a sound work lead has about 2 mOhm; a loose one adds 2-5, a rusty one up to 20: 0.4-4 V at 200 A",
        _convexity,
    ),
    FaultType(
        "lack_of_fusion", "process", "mm", (1.0, 1.25, 1.5, 1.75, 2.0), 0, 3,
        "1-2 mm beside the joint (virtual-cell specification): robots repeat to 0.1 mm, parts lie 1-2 mm off",
        _lack_of_fusion,
    ),
    FaultType(
        "subsurface_pores", "process", "mL/100g", (2.0, 4.0, 7.0, 12.0, 20.0), 0, 60,
        "diffusible hydrogen on top of a dry wire's: within class H5, then H10, H20 and what damp wire gives",
        _subsurface_pores,
    ),
    FaultType(
        "tip_wear", "process", "mohm", (0.4, 0.8, 1.6, 3.3, 7.0), 0, 40,
        "contact of a new tip flickers by 0.2-0.8 mOhm; an oval bore by several, until the wire burns back",
        _tip_wear,
    ),
    FaultType(
        "spatter_on_bead", "result", "count", (1.0, 2.0, 4.0, 9.0, 20.0), 0, 200,
        "balls of 0.6-1.5 mm stuck to 25-40 mm of seam: from what a brush takes off to a part for rework",
    ),
    FaultType(
        "scratch", "result", "mm", (0.03, 0.08, 0.2, 0.45, 0.9), 0, 3,
        "from the trace of a clamp to a groove that grinding leaves",
    ),
    FaultType("oil", "result", "mm2", (1.5, 4.0, 10.0, 30.0, 90.0), 0, 400, "from a speck to a thumb's print"),
    FaultType(
        "wrong_part", "result", "mm", (0.2, 0.4, 0.8, 1.6, 3.2), 0, 8,
        "place of a locating hole: from just beyond a jig's tolerance to another variant", extends="whole",
    ),
    FaultType(
        "overlap", "both", "mm", (0.1, 0.25, 0.5, 1.0, 1.8), 0, 4,
        "metal over the toe, with the volt per millimetre that brings it there",
        _overlap,
    ),
    FaultType(
        "crater_crack", "both", "ms", (40.0, 70.0, 110.0, 170.0, 250.0), 0, 250,
        "of the 250 ms of crater fill: from a sixth left out to a trigger let go at full current",
        _crater_crack, extends="end",
    ),
    FaultType(
        "current_gain", "drift", "%", (2.0, 4.0, 7.0, 10.0, 15.0), 0, 50,
        "calibration holds 1-2 %; an ageing or heated transducer drifts by 2-15 % (virtual-cell specification)",
        extends="whole", sense=_current_gain,
    ),
    FaultType(
        "lens_spatter", "drift", "spots", (6.0, 12.0, 20.0, 32.0, 50.0), 0, 200,
        "a session begins with up to 13 on the cover glass; 50 more are a glass that nobody changed for days",
        extends="whole", sense=_lens_spatter,
    ),
    FaultType(
        "microphone_moved", "drift", "cm", (4.0, 8.0, 15.0, 25.0, 40.0), 0, 150,
        "away from its 20-35 cm; the direct sound falls as 1/r: from a nudge to a bracket turned away",
        extends="whole", sense=_microphone_moved,
    ),
)  # fmt: skip

FAULTS: Mapping[str, FaultType] = {row.type: row for row in _TABLE}


def fault_type(name: str) -> FaultType:
    """The row of that name. Raises ValueError naming what is known."""
    if name not in FAULTS:
        raise ValueError(f"fault type {name!r} is not known; known: {', '.join(FAULTS)}")
    return FAULTS[name]


def fault_of(type_name: str, severity: int, onset_s: float, end_s: float, program: Program | None = None) -> Fault:
    """The fault of a type at severity 1–5; what goes in proportion to a program's quantity does so if it is given.

    Raises ValueError naming what is known or allowed.
    """
    row = fault_type(type_name)
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity of {type_name} is {severity}; it must be 1 to 5")
    value = row.severities[severity - 1]
    if row.in_proportion_to and program is not None:
        quantity, at = row.in_proportion_to
        value = round(value * getattr(program, quantity) / at, 3)
    return Fault(type_name, severity, value, row.unit, onset_s, end_s)


def check_fault(fault: Fault, program: Program) -> None:
    """Raise ValueError with quantity, value and range when a fault is physically impossible."""
    row = fault_type(fault.type)
    high = min(row.high, getattr(program, row.bounded_by)) if row.bounded_by else row.high
    if not row.low <= fault.value <= high:
        raise ValueError(f"{fault.type} is {fault.value} {row.unit}; it must lie in {row.low}–{high} {row.unit}")
    if fault.unit != row.unit:
        raise ValueError(f"{fault.type} is given in {fault.unit!r}; its unit is {row.unit!r}")


def fault_span(fault: Fault, arc_s: float) -> tuple[float, float]:
    """Onset and end in seconds after arc-on that a fault truly has in a seam of `arc_s`."""
    if FAULTS[fault.type].extends == "whole":
        return 0.0, arc_s
    if FAULTS[fault.type].extends == "end":
        return max(arc_s - fault.value * 1e-3, 0.0), arc_s
    return min(fault.onset_s, arc_s), min(fault.end_s, arc_s)


def fault_gate(fault: Fault, count: int) -> Array:
    """0–1 over the latent grid: where the fault is in force. A fault from the start has no rising edge."""
    t_s = np.arange(count) / LATENT_HZ
    rise = np.ones(count) if fault.onset_s <= 0 else np.clip((t_s - fault.onset_s) / EDGE_S, 0, 1)
    fall = np.clip((fault.end_s - t_s) / EDGE_S, 0, 1) if fault.end_s < count / LATENT_HZ else np.ones(count)
    return np.asarray(rise * fall)


def apply_fault(state: Latents, fault: Fault, program: Program) -> None:
    """Change the latent state in place. Raises ValueError when the fault is impossible."""
    check_fault(fault, program)
    act = FAULTS[fault.type].act
    if act is not None:
        act(state, fault_gate(fault, len(state.position_mm)), fault.value)


def sensed_session(session: Session, fault: Fault | None) -> Session:
    """The session as its sensors show it: other than it is only under a fault of the *drift* family."""
    sense = FAULTS[fault.type].sense if fault is not None else None
    return session if sense is None or fault is None else sense(session, fault.value)
