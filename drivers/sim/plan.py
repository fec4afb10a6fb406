"""Which seams to weld: plans drawn from one seed, spread over programs, sessions, families, types and severities."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from drivers.sim.faults import FAULTS, fault_of, fault_span, fault_type
from drivers.sim.programs import PROGRAMS, program_named
from drivers.sim.randomness import generator
from drivers.sim.seam import Family, SeamPlan
from drivers.sim.sessions import session_names
from drivers.sim.variation import arc_time_s

__all__ = ["DERANGEMENT", "FAMILIES", "MIX", "derange", "faulty", "good_twin", "plan_seams"]

MIX: tuple[Family, ...] = ("process", "result", "pair", "both")
"""The defective half of a mix. Drift is not among them: it is a sensor's health, the weld is good."""
FAMILIES: tuple[Family, ...] = (*MIX, "drift")
DERANGEMENT = "derangement"
"""The one type of the family *pair*; how severe it is follows from the two seams (`pairs`)."""
MID_SEAM_SHARE = 1 / 3


def plan_seams(
    n: int,
    seed: int,
    family: str = "mix",
    programs: Sequence[str] | None = None,
    faults: Sequence[str] | None = None,
    severity: int | Sequence[int] | None = None,
    sessions: int | Sequence[str] = 8,
) -> list[SeamPlan]:
    """`n` plans, the same for the same arguments.

    `family`: good, process, result, pair, both, drift, or mix = half good, the rest equally from `MIX`. `faults`
    narrows the types ("derangement" is the pairs'); a mix then has the families of those types, drift too.
    `severity`: of 1–5, the only one or the only ones. Within a family every type at every severity comes equally
    often. `sessions`: how many, or their names. Raises ValueError naming the argument and what is allowed.
    """
    if n < 0:
        raise ValueError(f"number of seams is {n}; it must be 0 or more")
    names = tuple(session_names(sessions)) if isinstance(sessions, int) else tuple(sessions)
    chosen = tuple(PROGRAMS if programs is None else programs)
    for what, values in (("sessions", names), ("programs", chosen)):
        if not values:
            raise ValueError(f"{what} is empty; give at least one")
    for name in chosen:
        program_named(name)
    types, severities = _types_by_family(faults), _severities(severity)
    rng = generator(seed, "plan")
    decks = {kind: _deck(types[kind], severities, rng) for kind in types if kind != "pair"}
    plans = []
    for index, kind in enumerate(_families(n, family, types, faults is not None, rng)):
        program = chosen[int(rng.integers(len(chosen)))]
        # Time-ordered: a session is a stretch of consecutive seams.
        plan = SeamPlan(index, program, names[index * len(names) // n], int(rng.integers(1 << 62)))
        if kind == "pair":
            plan = dataclasses.replace(plan, family="pair")
        plans.append(faulty(plan, *next(decks[kind]), rng) if kind in decks else plan)
    return derange(plans, rng)


def good_twin(plan: SeamPlan) -> SeamPlan:
    """The good seam with the same set-points, session, geometry and nuisance draws."""
    return SeamPlan(plan.index, plan.program, plan.session, plan.seed)


def faulty(plan: SeamPlan, type_name: str, severity: int, rng: np.random.Generator) -> SeamPlan:
    """The good `plan` with a fault of that type; `rng` says where along the seam, a third of the time in mid-seam.

    Takes as many draws whatever the type. Raises ValueError for an unknown type or severity.
    """
    program, row = program_named(plan.program), fault_type(type_name)
    mid, where = rng.uniform(size=2)
    onset_s = 0.0
    if row.extends == "lasts" and (mid < MID_SEAM_SHARE or row.extent_s):
        onset_s = float(round((0.2 + 0.5 * where) * program.arc_s, 3))
    end_s = onset_s + row.extent_s if row.extent_s else 2 * program.arc_s
    fault = fault_of(type_name, severity, onset_s, end_s, program)
    if row.extends == "end":
        onset_s, end_s = fault_span(fault, arc_time_s(program, plan.seed))
        fault = dataclasses.replace(fault, onset_s=onset_s, end_s=end_s)
    return dataclasses.replace(plan, family=row.family, fault=fault, pair_seed=None)


def derange(plans: Sequence[SeamPlan], rng: np.random.Generator) -> list[SeamPlan]:
    """Give each pair the part of another pair of its program and session, in a ring; a lone one gets a fresh good.

    Plans of other families stay as they are.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for k, plan in enumerate(plans):
        if plan.family == "pair":
            groups.setdefault((plan.program, plan.session), []).append(k)
    out = list(plans)
    for members in groups.values():
        seeds = [plans[k].seed for k in members]
        partners = seeds[1:] + seeds[:1] if len(members) > 1 else [int(rng.integers(1 << 62))]
        for k, partner in zip(members, partners, strict=True):
            out[k] = dataclasses.replace(plans[k], pair_seed=partner)
    return out


def _types_by_family(faults: Sequence[str] | None) -> dict[Family, list[str]]:
    """Family → its chosen types; families without any are not there."""
    family_of: dict[str, Family] = {name: row.family for name, row in FAULTS.items()} | {DERANGEMENT: "pair"}
    for name in faults or ():
        if name not in family_of:
            raise ValueError(f"fault type {name!r} is not known; known: {', '.join(family_of)}")
    out: dict[Family, list[str]] = {}
    for name, family in family_of.items():
        if faults is None or name in faults:
            out.setdefault(family, []).append(name)
    return out


def _severities(severity: int | Sequence[int] | None) -> list[int]:
    chosen = [severity] if isinstance(severity, int) else list(range(1, 6) if severity is None else severity)
    if not chosen:
        raise ValueError("severity is empty; give at least one of 1 to 5")
    for each in chosen:
        if each not in (1, 2, 3, 4, 5):
            raise ValueError(f"severity is {each}; it must be 1 to 5")
    return chosen


def _families(
    n: int, family: str, types: dict[Family, list[str]], narrowed: bool, rng: np.random.Generator
) -> list[Family]:
    if family == "mix":
        kinds = [kind for kind in (FAMILIES if narrowed else MIX) if kind in types]
        if not kinds:
            raise ValueError("faults is empty; a mix needs at least one type")
        order: list[Family] = ["good"] * ((n + 1) // 2)
        order += [kinds[k % len(kinds)] for k in range(n // 2)]
        return [order[k] for k in rng.permutation(n)]
    for kind in ("good", *FAMILIES):
        if kind == family:
            if kind != "good" and kind not in types:
                raise ValueError(f"family {family!r} has none of the chosen fault types")
            return [kind] * n
    raise ValueError(f"family {family!r} is not known; known: mix, good, {', '.join(FAMILIES)}")


def _deck(types: Sequence[str], severities: Sequence[int], rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """Types with severities for ever: every round has each type once, five rounds have each type at each severity."""
    while True:
        order = {name: rng.permutation(np.asarray(severities)) for name in types}
        for turn in range(len(severities)):
            for k in rng.permutation(len(types)):
                yield types[k], int(order[types[k]][turn])
