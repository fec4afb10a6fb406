"""The table of faults: type → family, unit, five severities and where it acts.

Faults act on the latent state, downstream of the sensors wherever they would in a shop: gas is lost after the
flow meter, wire slips after the encoder. Faults of the *result* family act on the finished part only.
Severities are physical and were set from practice, not from any detector's score.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from drivers.sim.programs import Program
from drivers.sim.seam import Family, Fault
from drivers.sim.sessions import Session
from drivers.sim.variation import LATENT_HZ, Latents

__all__ = ["FAULTS", "FaultType", "apply_fault", "check_fault", "fault_gate", "fault_of", "sensed_session"]

Array = NDArray[np.float64]
Act = Callable[[Latents, Array, float], None]
Sense = Callable[[Session, float], Session]

EDGE_S = 0.08
"""A fault sets in and leaves over this time: slack in hoses, rollers and pool."""


@dataclasses.dataclass(frozen=True, slots=True)
class FaultType:
    """One row: `act(latents, gate, value)` changes the latent state in place; None for *result* and *drift*.

    `sense(session, value)` gives the session with changed sensors (*drift*): the weld stays what it was.

    `extent_s` limits how long one occurrence lasts; None: to the end of the seam. `bounded_by` names the program's
    quantity that the value may not exceed.
    """

    type: str
    family: Family
    unit: str
    severities: tuple[float, float, float, float, float]
    low: float
    high: float
    act: Act | None
    extent_s: float | None = None
    bounded_by: str | None = None
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


_TABLE = (
    FaultType("gas_loss", "both", "L/min", (7.0, 8.5, 10.0, 11.5, 13.5), 0, 40, _gas_loss, bounded_by="gas_l_min"),
    FaultType("burn_through", "both", "mm", (1.0, 1.3, 1.6, 2.0, 2.5), 0, 5, _burn_through, 0.9, "plate_mm"),
    FaultType("wire_slip", "both", "%", (4.0, 8.0, 12.0, 18.0, 25.0), 0, 60, _wire_slip),
    FaultType("undercut", "both", "mm", (0.4, 0.8, 1.2, 1.7, 2.3), 0, 6, _undercut),
    FaultType("convexity", "both", "mohm", (4.0, 7.0, 10.0, 14.0, 18.0), 0, 40, _convexity),
    FaultType("lack_of_fusion", "process", "mm", (1.0, 1.25, 1.5, 1.75, 2.0), 0, 3, _lack_of_fusion),
    FaultType("subsurface_pores", "process", "mL/100g", (4.0, 7.0, 10.0, 14.0, 20.0), 0, 60, _subsurface_pores),
    FaultType("tip_wear", "process", "mohm", (0.8, 1.6, 2.8, 4.5, 7.0), 0, 40, _tip_wear),
    FaultType("spatter_on_bead", "result", "count", (2.0, 4.0, 7.0, 12.0, 20.0), 0, 200, None),
    FaultType("scratch", "result", "mm", (0.15, 0.25, 0.4, 0.6, 0.9), 0, 3, None),
    FaultType("oil", "result", "mm2", (8.0, 16.0, 30.0, 55.0, 90.0), 0, 400, None),
    FaultType("wrong_part", "result", "mm", (1.0, 1.5, 2.0, 3.0, 4.0), 0, 8, None),
)

FAULTS: Mapping[str, FaultType] = {row.type: row for row in _TABLE}


def fault_of(type_name: str, severity: int, onset_s: float, end_s: float) -> Fault:
    """The fault of a type at severity 1–5. Raises ValueError naming what is known or allowed."""
    if type_name not in FAULTS:
        raise ValueError(f"fault type {type_name!r} is not known; known: {', '.join(FAULTS)}")
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity of {type_name} is {severity}; it must be 1 to 5")
    row = FAULTS[type_name]
    return Fault(type_name, severity, row.severities[severity - 1], row.unit, onset_s, end_s)


def check_fault(fault: Fault, program: Program) -> None:
    """Raise ValueError with quantity, value and range when a fault is physically impossible."""
    if fault.type not in FAULTS:
        raise ValueError(f"fault type {fault.type!r} is not known; known: {', '.join(FAULTS)}")
    row = FAULTS[fault.type]
    high = min(row.high, getattr(program, row.bounded_by)) if row.bounded_by else row.high
    if not row.low <= fault.value <= high:
        raise ValueError(f"{fault.type} is {fault.value} {row.unit}; it must lie in {row.low}–{high} {row.unit}")
    if not 0 <= fault.onset_s <= fault.end_s:
        raise ValueError(f"{fault.type} lasts {fault.onset_s}–{fault.end_s} s; need 0 ≤ onset ≤ end")


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
