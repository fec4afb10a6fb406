"""Which seams to weld: plans drawn from one seed, spread over programs, sessions, families, types and severities."""

from collections.abc import Sequence

import numpy as np

from drivers.sim.faults import FAULTS, fault_of
from drivers.sim.programs import PROGRAMS, program_named
from drivers.sim.randomness import generator
from drivers.sim.seam import Family, SeamPlan
from drivers.sim.sessions import session_names

__all__ = ["MIX", "faulty", "good_twin", "plan_seams"]

MIX: tuple[Family, ...] = ("process", "result", "pair", "both")
MID_SEAM_SHARE = 1 / 3


def plan_seams(
    n: int,
    seed: int,
    family: str = "mix",
    programs: Sequence[str] | None = None,
    faults: Sequence[str] | None = None,
    severity: int | None = None,
    sessions: int | Sequence[str] = 8,
) -> list[SeamPlan]:
    """`n` plans, the same for the same arguments.

    `family`: good, process, result, pair, both, or mix = half good, the rest equally from the other four. `faults`
    narrows the types; families without any of them then give way to those that have one. `severity` 1–5 fixes the
    severity. `sessions`: how many, or their names. Raises ValueError naming the argument and what is allowed.
    """
    if n < 0:
        raise ValueError(f"number of seams is {n}; it must be 0 or more")
    names = tuple(session_names(sessions)) if isinstance(sessions, int) else tuple(sessions)
    if not names:
        raise ValueError("sessions is empty; give at least one")
    chosen = tuple(programs) if programs is not None else tuple(PROGRAMS)
    for name in chosen:
        program_named(name)
    rng = generator(seed, "plan")
    families = _families(n, family, _types_by_family(faults), rng)
    types = _types(families, _types_by_family(faults), rng)
    plans = []
    for index, (kind, type_name) in enumerate(zip(families, types, strict=True)):
        program = chosen[int(rng.integers(len(chosen)))]
        # Time-ordered: a session is a stretch of consecutive seams.
        session = names[index * len(names) // n]
        plan = SeamPlan(index, program, session, int(rng.integers(1 << 62)), kind)
        plans.append(faulty(plan, type_name, severity, rng) if type_name else plan)
    return _derange(plans, rng)


def good_twin(plan: SeamPlan) -> SeamPlan:
    """The good seam with the same set-points, session, geometry and nuisance draws."""
    return SeamPlan(plan.index, plan.program, plan.session, plan.seed)


def _types_by_family(faults: Sequence[str] | None) -> dict[str, list[str]]:
    for name in faults or ():
        if name not in FAULTS:
            raise ValueError(f"fault type {name!r} is not known; known: {', '.join(FAULTS)}")
    out: dict[str, list[str]] = {}
    for name, row in FAULTS.items():
        if faults is None or name in faults:
            out.setdefault(row.family, []).append(name)
    return out


def _families(n: int, family: str, types: dict[str, list[str]], rng: np.random.Generator) -> list[Family]:
    if family == "mix":
        kinds = [kind for kind in MIX if kind in types or (kind == "pair" and len(types) == len(MIX) - 1)]
        order: list[Family] = ["good"] * ((n + 1) // 2)
        order += [kinds[k % len(kinds)] for k in range(n // 2)]
        return [order[k] for k in rng.permutation(n)]
    if family in ("good", "pair"):
        return [family] * n  # type: ignore[list-item]
    for kind in MIX:
        if kind == family:
            if kind not in types:
                raise ValueError(f"family {family!r} has none of the chosen fault types")
            return [kind] * n
    raise ValueError(f"family {family!r} is not known; known: mix, good, {', '.join(MIX)}")


def _types(families: list[Family], types: dict[str, list[str]], rng: np.random.Generator) -> list[str | None]:
    """A type for each seam; the types of a family come equally often."""
    decks: dict[str, list[str]] = {}
    out: list[str | None] = []
    for kind in families:
        if kind in ("good", "pair"):
            out.append(None)
            continue
        deck = decks.setdefault(kind, [])
        if not deck:
            deck += [types[kind][k] for k in rng.permutation(len(types[kind]))]
        out.append(deck.pop())
    return out


def faulty(plan: SeamPlan, type_name: str, severity: int | None, rng: np.random.Generator) -> SeamPlan:
    """The plan with a fault of that type; a third set in mid-seam. Without a severity one is drawn."""
    arc_s = PROGRAMS[plan.program].arc_s
    row = FAULTS[type_name]
    mid, where, drawn = rng.uniform(), rng.uniform(), int(rng.integers(1, 6))
    onset_s = float(round((0.2 + 0.5 * where) * arc_s, 3)) if mid < MID_SEAM_SHARE or row.extent_s else 0.0
    end_s = onset_s + row.extent_s if row.extent_s else 2 * arc_s
    fault = fault_of(type_name, severity or drawn, onset_s, end_s)
    return SeamPlan(plan.index, plan.program, plan.session, plan.seed, row.family, fault)


def _derange(plans: list[SeamPlan], rng: np.random.Generator) -> list[SeamPlan]:
    """Give each pair the bead of another pair of its program and session, in a ring; a lone one gets a fresh good."""
    groups: dict[tuple[str, str], list[int]] = {}
    for k, plan in enumerate(plans):
        if plan.family == "pair":
            groups.setdefault((plan.program, plan.session), []).append(k)
    out = list(plans)
    for members in groups.values():
        seeds = [plans[k].seed for k in members]
        partners = seeds[1:] + seeds[:1] if len(members) > 1 else [int(rng.integers(1 << 62))]
        for k, partner in zip(members, partners, strict=True):
            p = plans[k]
            out[k] = SeamPlan(p.index, p.program, p.session, p.seed, p.family, None, partner)
    return out
