"""Plans: reproducible, balanced, spread over sessions; pairs deranged within program and session."""

from collections import Counter

import pytest

from drivers.sim.faults import FAULTS
from drivers.sim.plan import MIX, good_twin, plan_seams
from drivers.sim.programs import PROGRAMS


def test_same_arguments_same_plans() -> None:
    assert plan_seams(40, 5) == plan_seams(40, 5)
    assert plan_seams(40, 5) != plan_seams(40, 6)


def test_mix_is_half_good_and_the_rest_equal() -> None:
    counts = Counter(plan.family for plan in plan_seams(400, 1))
    assert counts["good"] == 200
    assert {counts[family] for family in MIX} == {50}


def test_types_severities_programs_and_sessions_are_all_met() -> None:
    plans = plan_seams(1200, 2)
    met = Counter((p.fault.type, p.fault.severity) for p in plans if p.fault)
    assert len(met) == len(FAULTS) * 5
    assert {p.program for p in plans} == set(PROGRAMS)
    for session in {p.session for p in plans}:
        families = {p.family for p in plans if p.session == session}
        assert families == {"good", *MIX}
    assert [p.session for p in plans] == sorted(p.session for p in plans)


def test_about_a_third_of_faults_begin_in_mid_seam() -> None:
    lasting = [p for p in plan_seams(1500, 3) if p.fault and FAULTS[p.fault.type].extent_s is None]
    mid = [p for p in lasting if p.fault and p.fault.onset_s > 0]
    assert len(mid) / len(lasting) == pytest.approx(1 / 3, abs=0.06)


def test_pairs_swap_beads_within_program_and_session() -> None:
    plans = plan_seams(120, 4, "pair", sessions=2)
    seeds = {p.seed: p for p in plans}
    groups: dict[tuple[str, str], list[int]] = {}
    for plan in plans:
        assert plan.pair_seed is not None
        assert plan.pair_seed != plan.seed
        partner = seeds[plan.pair_seed]
        assert (partner.program, partner.session) == (plan.program, plan.session)
        groups.setdefault((plan.program, plan.session), []).append(plan.pair_seed)
    for shown in groups.values():
        assert len(set(shown)) == len(shown)


def test_a_lone_pair_gets_a_partner_of_its_own() -> None:
    (plan,) = plan_seams(1, 4, "pair")
    assert plan.pair_seed not in (None, plan.seed)


def test_a_twin_shares_everything_but_the_fault() -> None:
    plan = next(p for p in plan_seams(20, 5, "both"))
    twin = good_twin(plan)
    assert (twin.program, twin.session, twin.seed) == (plan.program, plan.session, plan.seed)
    assert twin.family == "good"
    assert twin.fault is None


def test_filters_narrow_what_is_planned() -> None:
    plans = plan_seams(
        60, 6, programs=["spray-lap-5"], faults=["oil", "gas_loss"], severity=2, sessions=["monday", "tuesday"]
    )
    assert {p.program for p in plans} == {"spray-lap-5"}
    assert {p.session for p in plans} == {"monday", "tuesday"}
    assert {(p.fault.type, p.fault.severity) for p in plans if p.fault} == {("oil", 2), ("gas_loss", 2)}
    assert {p.family for p in plans} == {"good", "result", "both"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "number of seams is -1"),
        ({"family": "evil"}, "family 'evil' is not known"),
        ({"programs": ["tig"]}, "program 'tig' is not known"),
        ({"faults": ["rain"]}, "fault type 'rain' is not known"),
        ({"family": "process", "faults": ["oil"]}, "has none of the chosen"),
        ({"severity": 9, "family": "both"}, "severity of .* is 9"),
        ({"sessions": 0}, "sessions is empty"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_seams(**({"n": 4, "seed": 1} | arguments))  # type: ignore[arg-type]
