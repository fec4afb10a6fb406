"""From plan to observations: the whole chain of causes of one seam.

set-points → latent state (faults act here) → arc → welder signals, sound, frames; bead → photographs, height map.
Each observation draws its noise from its own generator, so a fault changes only what it causes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim import SIM_VERSION, arc, arc_camera, damage, photograph, profile, sound
from drivers.sim.bead import Bead, form_bead
from drivers.sim.faults import FAULTS, apply_fault, sensed_session
from drivers.sim.programs import Program, program_named
from drivers.sim.randomness import generator
from drivers.sim.seam import ImagePreset, RenderedSeam, SeamPlan
from drivers.sim.sessions import Session, session_named
from drivers.sim.variation import LATENT_HZ, Latents, draw_latents

__all__ = ["MOTION_HZ", "SIM_VERSION", "TAIL_S", "check_plan", "render_process", "render_result", "render_seam"]

MOTION_HZ = 100.0
TAIL_S = 0.5
GRADES = (0.5, 1.0, 1.5, 2.5)
"""Latent distance of a pair, in standard deviations, that separates its severities 1 to 5."""
NORMAL_SPREAD = {"width_mm": 0.035, "height_mm": 0.05, "area_mm2": 0.05}
"""Relative standard deviation of good beads within a program."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """What is left on the table after welding: seed, state, bead and marks of the seam whose part is photographed."""

    seed: int
    state: Latents
    bead: Bead
    marks: damage.Marks


def render_seam(plan: SeamPlan, preset: ImagePreset) -> RenderedSeam:
    """Everything the cell's sensors would see of one seam; the same plan gives the same bytes everywhere.

    Raises ValueError naming quantity, value and range when the plan is physically impossible.
    """
    views, heights = render_result(plan, preset)
    return dataclasses.replace(render_process(plan, preset), views=views, profile=heights)


def render_process(plan: SeamPlan, preset: ImagePreset) -> RenderedSeam:
    """The process half of `render_seam`, with truth: `views` empty, `profile` without rows.

    A *result* seam's process is bit-identical to its good twin's, so a study of thousands need not render it twice.
    """
    check_plan(plan)
    program, session, state = _cause(plan, plan.seed)
    sensed = sensed_session(session, plan.fault)
    lead_s = round(float(generator(plan.seed, "lead").uniform(0.6, 1.0)), 3)
    trace = arc.simulate_arc(program, session, state, plan.seed)
    seed = plan.seed
    return RenderedSeam(
        plan=plan,
        lead_s=lead_s,
        arc_s=state.arc_s,
        tail_s=TAIL_S,
        welder_hz=arc.WELDER_HZ,
        welder_scale=arc.WELDER_SCALE,
        welder=arc.sample_welder(program, sensed, state, trace, seed, lead_s, TAIL_S),
        audio_hz=sound.AUDIO_HZ,
        audio=sound.render_sound(program, sensed, state, trace, seed, lead_s, TAIL_S),
        arc_fps=preset.arc_fps,
        frames=arc_camera.render_frames(program, sensed, state, trace, seed, lead_s, TAIL_S, preset),
        motion_hz=MOTION_HZ,
        motion=_motion(program, state, seed, lead_s),
        views={},
        profile=np.zeros((0, profile.PROFILE_POINTS), np.float32),
        profile_mm_per_row=profile.PROFILE_MM_PER_ROW,
        set_points=program.set_points(),
        truth=_truth(plan, program, session, state, _result_of(plan).bead),
    )


def render_result(plan: SeamPlan, preset: ImagePreset) -> tuple[Mapping[str, bytes], NDArray[np.float32]]:
    """The result half of `render_seam`: view name → JPEG, and the height map (rows, `PROFILE_POINTS`) float32 mm.

    A *process* seam's result is bit-identical to its good twin's.
    """
    check_plan(plan)
    program, session = program_named(plan.program), session_named(plan.session)
    result = _result_of(plan)
    views = {
        name: photograph.render_view(program, session, result.bead, result.marks, result.seed, preset, name)
        for name in program.views
    }
    return views, _profile(result)


def _cause(plan: SeamPlan, seed: int) -> tuple[Program, Session, Latents]:
    """Program, session and latent state of the seam with that seed; the plan's fault acts on the plan's own seed."""
    program, session = program_named(plan.program), session_named(plan.session)
    state = draw_latents(program, session, seed)
    if plan.fault is not None and seed == plan.seed:
        apply_fault(state, plan.fault, program)
    return program, session, state


def check_plan(plan: SeamPlan) -> None:
    """Raise ValueError when family and fault contradict each other or the plan cannot be."""
    if plan.seed < 0:
        raise ValueError(f"seed is {plan.seed}; it must be 0 or more")
    if (plan.family == "pair") != (plan.pair_seed is not None):
        raise ValueError(
            f"seam {plan.index}: family {plan.family!r} with pair_seed {plan.pair_seed}; only pairs have one"
        )
    family = FAULTS[plan.fault.type].family if plan.fault is not None and plan.fault.type in FAULTS else None
    if plan.fault is not None and family is not None and family != plan.family:
        raise ValueError(f"seam {plan.index}: {plan.fault.type} belongs to family {family!r}, not {plan.family!r}")
    if plan.fault is None and plan.family not in ("good", "pair"):
        raise ValueError(f"seam {plan.index}: family {plan.family!r} needs a fault")


def _result_of(plan: SeamPlan) -> _Result:
    """The part that lies under the result camera: this seam's own, or a pair's partner."""
    seed = plan.seed if plan.pair_seed is None else plan.pair_seed
    program, session, state = _cause(plan, seed)
    bead = form_bead(program, session, state, seed)
    marks = damage.place_marks(plan.fault, bead, state, program.length_mm, seed)
    return _Result(seed, state, bead, marks)


def _profile(result: _Result) -> NDArray[np.float32]:
    x, y = profile.profile_grid(result.bead)
    return profile.render_profile(result.bead, result.seed, result.marks.relief(x, y).T)


def _motion(program: Program, state: Latents, seed: int, lead_s: float) -> NDArray[np.float32]:
    """(n, 3) float32: TCP speed, TCP position, gas through the meter; the meter cannot see a draught."""
    count = int((lead_s + state.arc_s + TAIL_S) * MOTION_HZ)
    t = np.arange(count) / MOTION_HZ - lead_s
    at = np.clip((t * LATENT_HZ).astype(int), 0, len(state.position_mm) - 1)
    burning = (t >= 0) & (t < state.arc_s)
    noise = generator(seed, "motion").standard_normal((count, 3))
    speed = np.where(burning, state.travel_mm_s[at] * (1 + 0.004 * noise[:, 0]), 0.0)
    position = state.position_mm[at] + 0.02 * noise[:, 1]
    flow = np.where(t > -sound.PRE_FLOW_S, state.meter_l_min[at] * (1 + 0.005 * noise[:, 2]), 0.0)
    return np.stack([speed, position, flow], axis=1).astype(np.float32)


def _truth(plan: SeamPlan, program: Program, session: Session, state: Latents, bead: Bead) -> dict[str, Any]:
    """JSON-ready truth of one seam, for evaluation only."""
    truth: dict[str, Any] = {
        "sim_version": SIM_VERSION,
        "family": plan.family,
        "type": None,
        "severity": None,
        "value": None,
        "unit": None,
        "onset_s": None,
        "end_s": None,
        "onset_mm": None,
        "end_mm": None,
        "arc_s": state.arc_s,
        "seed": plan.seed,
        "pair_seed": plan.pair_seed,
        "bead": bead.summary(),
        "gap_mm": float(state.gap_mm.mean()),
        "plate_c": state.plate_c,
    }
    if plan.fault is not None:
        end_s = min(plan.fault.end_s, state.arc_s)
        truth |= {
            "type": plan.fault.type,
            "severity": plan.fault.severity,
            "value": plan.fault.value,
            "unit": plan.fault.unit,
        } | _extent(state, plan.fault.onset_s, end_s)
    if plan.pair_seed is not None:
        own = form_bead(program, session, state, plan.seed).summary()
        distance = pair_distance(own, bead.summary())
        truth |= {
            "type": "derangement",
            "severity": 1 + int(np.searchsorted(GRADES, distance)),
            "value": distance,
            "unit": "sigma",
        } | _extent(state, 0.0, state.arc_s)
    return truth


def _extent(state: Latents, onset_s: float, end_s: float) -> dict[str, float]:
    last = len(state.position_mm) - 1
    onset_mm, end_mm = (float(state.position_mm[min(int(t * LATENT_HZ), last)]) for t in (onset_s, end_s))
    return {"onset_s": onset_s, "end_s": end_s, "onset_mm": onset_mm, "end_mm": end_mm}


def pair_distance(own: dict[str, float], shown: dict[str, float]) -> float:
    """Root mean square distance of two beads' means in units of the normal spread within the program."""
    steps = [(shown[k] - own[k]) / (own[k] * spread) for k, spread in NORMAL_SPREAD.items()]
    return float(np.sqrt(np.mean(np.square(steps))))
