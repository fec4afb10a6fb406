"""What really happened in a seam, beside the observations and never inside them: for evaluation only.

Last link of the virtual cell's chain: `render` hands over state, arc and part; bulk simulation and the demo write
the result to their truth files.
"""

from typing import Any

from drivers.sim import SIM_VERSION
from drivers.sim.arc import ArcTrace
from drivers.sim.bead import Bead, form_bead
from drivers.sim.faults import fault_span, sensed_session
from drivers.sim.pairs import pair_distance, pair_severity
from drivers.sim.programs import Program
from drivers.sim.seam import SeamPlan
from drivers.sim.sessions import Session
from drivers.sim.variation import CRATER_FILL_S, LATENT_HZ, Latents

__all__ = ["latent_means", "truth_of"]

SENSORS = ("current_gain", "voltage_gain", "mic_distance_m", "mic_gain", "mic_agc", "lens_spots")


def truth_of(
    plan: SeamPlan,
    program: Program,
    session: Session,
    state: Latents,
    trace: ArcTrace,
    part_state: Latents,
    part_bead: Bead,
) -> dict[str, Any]:
    """JSON-ready truth of one seam.

    `state` and `trace` are the seam's own; `part_state` and `part_bead` belong to the part that is photographed,
    for a pair its partner's. Keys without a fault are None.
    """
    sensed = sensed_session(session, plan.fault)
    return {
        "sim_version": SIM_VERSION,
        "family": plan.family,
        **_fault(plan, program, session, state, part_bead),
        "seed": plan.seed,
        "pair_seed": plan.pair_seed,
        "arc_s": state.arc_s,
        "latents": latent_means(state),
        "process": _process(state, trace),
        "part_latents": latent_means(part_state),
        "bead": part_bead.summary(),
        "sensors": {name: getattr(sensed, name) for name in SENSORS},
    }


def latent_means(state: Latents) -> dict[str, float]:
    """Means of what the process really did, from arc-on to the begin of the crater fill; units in the names."""
    moving = slice(0, len(state.position_mm) - round(CRATER_FILL_S * LATENT_HZ))
    return {
        "wire_feed_speed_m_min": float(state.wire_mm_s[moving].mean()) * 0.06,
        "travel_speed_mm_s": float(state.travel_mm_s[moving].mean()),
        "ctwd_mm": float(state.ctwd_mm[moving].mean()),
        "lateral_mm": float(state.lateral_mm[moving].mean()),
        "gap_mm": float(state.gap_mm[moving].mean()),
        "nozzle_l_min": float(state.nozzle_l_min[moving].mean()),
        "plate_c": state.plate_c,
        "arc_s": state.arc_s,
    }


def _process(state: Latents, trace: ArcTrace) -> dict[str, float]:
    """Current and voltage as they were, before any sensor; means over the arc time."""
    return {
        "current_a": float(trace.current_a.mean()),
        "voltage_v": float(trace.voltage_v.mean()),
        "shorts_hz": len(trace.ruptures_s) / state.arc_s,
    }


def _fault(plan: SeamPlan, program: Program, session: Session, state: Latents, part_bead: Bead) -> dict[str, Any]:
    """Type, severity, value, unit and extent of what is wrong; all None on a good seam."""
    if plan.fault is not None:
        what: dict[str, Any] = {name: getattr(plan.fault, name) for name in ("type", "severity", "value", "unit")}
        return what | _extent(state, *fault_span(plan.fault, state.arc_s))
    if plan.pair_seed is not None:
        own = form_bead(program, session, state, plan.seed)
        distance = pair_distance(program, own.summary(), part_bead.summary())
        what = {"type": "derangement", "severity": pair_severity(distance), "value": distance, "unit": "sigma"}
        return what | _extent(state, 0.0, state.arc_s)
    names = ("type", "severity", "value", "unit", "onset_s", "end_s", "onset_mm", "end_mm")
    return dict.fromkeys(names)


def _extent(state: Latents, onset_s: float, end_s: float) -> dict[str, float]:
    last = len(state.position_mm) - 1
    onset_mm, end_mm = (float(state.position_mm[min(int(t * LATENT_HZ), last)]) for t in (onset_s, end_s))
    return {"onset_s": onset_s, "end_s": end_s, "onset_mm": onset_mm, "end_mm": end_mm}
