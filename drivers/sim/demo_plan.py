"""What the demo welds: half goods, half gross faults that an inspector would reject at a glance or a meter.

The list was written from the physics before any detector had scored it: every type at its highest severity but the
hidden ones (lack of fusion, sub-surface pores) and the hairline scratch; the three commonest in the field come twice.
Each has an oracle AUROC of 0.98 or more (docs/virtual-cell.md); a test holds the list against the report.
"""

import dataclasses

from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.programs import PROGRAMS
from drivers.sim.randomness import generator
from drivers.sim.seam import SeamPlan

__all__ = ["DEMO_FAULTS", "DEMO_PROGRAMS", "DEMO_SEVERITY", "demo_plan"]

DEMO_PROGRAMS = ("short-butt-3", "globular-fillet-6", "spray-lap-5", "pulsed-lap-4")
"""One of each transfer mode: the programs that the shipped model knows; the virtual cell has more."""

DEMO_FAULTS = (
    "gas_loss", "burn_through", "wire_slip", "undercut", "convexity", "tip_wear",
    "spatter_on_bead", "oil", "wrong_part", "wire_slip", "gas_loss", "burn_through",
)  # fmt: skip
DEMO_SEVERITY = 5
SEAMS_PER_SESSION = 12


def demo_plan(seams: int, seed: int) -> list[SeamPlan]:
    """`seams` plans in random order, `seams // 2` of them faults from `DEMO_FAULTS` in turn; programs in turn.

    Sessions carry the seed in their names, so they are none that a model was trained on.
    """
    rng = generator(seed, "demo")
    plans = []
    for index in range(seams):
        session = f"demo-{seed}-{index // SEAMS_PER_SESSION:02d}"
        plan = SeamPlan(index, DEMO_PROGRAMS[index % len(DEMO_PROGRAMS)], session, int(rng.integers(1 << 62)))
        if index < seams // 2:
            plan = _faulty(plan, DEMO_FAULTS[index % len(DEMO_FAULTS)], float(rng.uniform(0.2, 0.6)))
        plans.append(plan)
    order = rng.permutation(seams)
    return [dataclasses.replace(plans[k], index=index) for index, k in enumerate(order)]


def _faulty(plan: SeamPlan, type_name: str, where: float) -> SeamPlan:
    row = FAULTS[type_name]
    program = PROGRAMS[plan.program]
    arc_s = program.arc_s
    # Every third fault begins in mid-seam, as in the bulk plans.
    onset_s = round(where * arc_s, 3) if row.extent_s or plan.index % 3 == 2 else 0.0
    end_s = onset_s + row.extent_s if row.extent_s else 2 * arc_s
    fault = fault_of(type_name, DEMO_SEVERITY, onset_s, end_s, program)
    return dataclasses.replace(plan, family=row.family, fault=fault)
