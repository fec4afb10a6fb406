"""Figures of bead, height map and damage, measured on simulated seams; `physics.py` makes rows of them."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from drivers.sim.bead import BEAD_STEP_MM, Bead, form_bead
from drivers.sim.faults import FAULTS, apply_fault, fault_of
from drivers.sim.programs import Program
from drivers.sim.sessions import session_named
from drivers.sim.surface import height_map
from drivers.sim.variation import Latents, draw_latents
from edged.bench.physics_arc import GoodSeam, steady

__all__ = ["Section", "bead_of", "deposited_share", "faulty_bead", "heat_input_kj_mm", "section", "volume_error"]

THERMAL_EFFICIENCY = 0.8
"""k of MAG welding (ISO/TR 17671-1, as SSAB quotes it)."""

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Mean cross-section of a bead as its height map shows it, mm and degrees."""

    width_mm: float
    height_mm: float
    toe_deg: float
    groove_mm: float
    """How deep the deeper toe lies below the plate."""
    sink_mm: float
    """How deep the bead's middle lies below its good height at the worst place; 0 for a good one."""


def bead_of(seam: GoodSeam) -> Bead:
    """The solidified bead of a good seam."""
    return form_bead(seam.program, seam.session, seam.state, seam.seed)


def faulty_bead(program: Program, fault: str, severity: int, seed: int = 4100) -> tuple[Bead, Latents]:
    """Bead and latent state of a seam with that fault over its middle third, or to its end."""
    session = session_named("session-02")
    state = draw_latents(program, session, seed)
    row = FAULTS[fault]
    onset_s = state.arc_s / 3
    end_s = onset_s + row.extent_s if row.extent_s else 2 * state.arc_s
    apply_fault(state, fault_of(fault, severity, onset_s, end_s, program), program)
    return form_bead(program, session, state, seed), state


def section(bead: Bead, seed: int, span: tuple[float, float] = (0.25, 0.75)) -> Section:
    """The mean cross-section over a share of the seam's length, from the height map."""
    x = np.linspace(span[0] * bead.x_mm[-1], span[1] * bead.x_mm[-1], 160)
    y = np.linspace(-12.0, 12.0, 961)
    z = height_map(bead, x, y, seed).astype(float)
    mean = z.mean(axis=1)
    crown = int(mean.argmax())
    height = float(mean[crown])
    above = np.flatnonzero(mean > 0.05 * height)
    return Section(
        width_mm=float(y[above[-1]] - y[above[0]]),
        height_mm=height,
        toe_deg=_toe_angle(y, mean, crown),
        groove_mm=float(max(-mean.min(), 0.0)),
        sink_mm=float(max(height - z[crown].min(), 0.0)),
    )


def _toe_angle(y: Array, mean: Array, crown: int) -> float:
    """Angle of the flanks between 5 and 35 % of the height, mean of both, degrees."""
    height = mean[crown]
    angles = []
    for flank, across in ((mean[:crown][::-1], y[:crown][::-1]), (mean[crown:], y[crown:])):
        part = (flank > 0.05 * height) & (flank < 0.35 * height)
        slope = np.polyfit(across[part], flank[part], 1)[0]
        angles.append(float(np.degrees(np.arctan(abs(slope)))))
    return float(np.mean(angles))


def _solid_mm3(bead: Bead) -> float:
    return float((bead.area_mm2 + bead.filled_mm2 + bead.below_mm2).sum() * BEAD_STEP_MM)


def deposited_share(bead: Bead) -> float:
    """Metal in bead, gap and below, over the wire that was fed, %."""
    return 100 * _solid_mm3(bead) / bead.fed_mm3


def volume_error(good: Bead, faulty: Bead) -> float:
    """How far the deposited share of a faulty seam departs from its good twin's, %: no metal appears or vanishes."""
    return abs(deposited_share(faulty) - deposited_share(good))


def heat_input_kj_mm(seam: GoodSeam) -> float:
    """k · ∫U·I dt / length over the steady part (ISO/TR 18491: instantaneous values), kJ/mm."""
    power = float(steady(seam.trace.current_a * seam.trace.voltage_v).mean())
    speed = float(seam.state.travel_mm_s[500:-400].mean())
    return THERMAL_EFFICIENCY * power / speed / 1000
