"""How far apart two beads are: what grades a *pair*, whose process and part are each normal but not of one seam.

A step is as long as good beads of that program differ; the spread comes from the program's own physics.
"""

import functools
from collections.abc import Mapping

import numpy as np

from drivers.sim.bead import form_bead
from drivers.sim.programs import Program
from drivers.sim.sessions import session_named
from drivers.sim.variation import draw_latents

__all__ = ["GRADES", "normal_spread", "pair_distance", "pair_severity"]

GRADES = (0.5, 1.0, 1.5, 2.5)
"""Distance of a pair, in standard deviations, that separates its severities 1 to 5."""
MEASURES = ("width_mm", "height_mm", "area_mm2")
REFERENCE_SEAMS = 96


@functools.cache
def normal_spread(program: Program) -> Mapping[str, float]:
    """Relative standard deviation of good beads' width, height and area within a program and session."""
    session = session_named("spread")
    beads = [
        form_bead(program, session, draw_latents(program, session, seed), seed).summary()
        for seed in range(REFERENCE_SEAMS)
    ]
    values = {name: np.array([bead[name] for bead in beads]) for name in MEASURES}
    return {name: float(seen.std(ddof=1) / seen.mean()) for name, seen in values.items()}


def pair_distance(program: Program, own: Mapping[str, float], shown: Mapping[str, float]) -> float:
    """Root mean square distance of two beads' means in units of the program's normal spread."""
    steps = [(shown[name] - own[name]) / (own[name] * spread) for name, spread in normal_spread(program).items()]
    return float(np.sqrt(np.mean(np.square(steps))))


def pair_severity(distance: float) -> int:
    """1 to 5 by `GRADES`."""
    return 1 + int(np.searchsorted(GRADES, distance))
