"""Plans: reproducible, balanced, spread over sessions; pairs deranged within program and session."""

from collections import Counter

import pytest

from drivers.sim.faults import FAULTS
from drivers.sim.pairs import GRADES, normal_spread, pair_distance, pair_severity
from drivers.sim.plan import FAMILIES, MIX, derange, faulty, good_twin, plan_seams
from drivers.sim.programs import PROGRAMS
from drivers.sim.randomness import generator
from drivers.sim.seam import SeamPlan


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
    assert len(met) == sum(row.family in MIX for row in FAULTS.values()) * 5
    assert {p.program for p in plans} == set(PROGRAMS)
    for session in {p.session for p in plans}:
        families = {p.family for p in plans if p.session == session}
        assert families == {"good", *MIX}
    assert [p.session for p in plans] == sorted(p.session for p in plans)


def lasts(type_name: str) -> bool:
    return FAULTS[type_name].extends == "lasts" and FAULTS[type_name].extent_s is None


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "pair"])
def test_a_family_has_each_of_its_types_at_each_severity_equally_often(family: str) -> None:
    of_family = [name for name, row in FAULTS.items() if row.family == family]
    plans = plan_seams(3 * 5 * len(of_family), 9, family)
    met = Counter((p.fault.type, p.fault.severity) for p in plans if p.fault)
    assert met == {(name, severity): 3 for name in of_family for severity in range(1, 6)}
    assert {p.family for p in plans} == {family}
    # Short plans too: types first, severities after.
    few = Counter(p.fault.type for p in plan_seams(2 * len(of_family), 9, family) if p.fault)
    assert few == dict.fromkeys(of_family, 2)


def test_drift_is_welded_on_request_only() -> None:
    assert "drift" not in {p.family for p in plan_seams(200, 1)}
    assert {p.family for p in plan_seams(20, 1, faults=["lens_spatter"])} == {"good", "drift"}


def test_sensors_drift_and_wrong_parts_are_wrong_for_the_whole_seam() -> None:
    plans = plan_seams(60, 3, faults=[name for name, row in FAULTS.items() if row.extends == "whole"])
    for plan in plans:
        if plan.fault:
            assert plan.fault.onset_s == 0
            assert plan.fault.end_s > PROGRAMS[plan.program].arc_s


def test_about_a_third_of_faults_begin_in_mid_seam() -> None:
    lasting = [p for p in plan_seams(1500, 3) if p.fault and lasts(p.fault.type)]
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


def test_any_pairs_can_be_deranged_and_others_stay() -> None:
    program = next(iter(PROGRAMS))
    plans = [SeamPlan(k, program, "monday", 100 + k, "pair" if k % 2 else "good") for k in range(6)]
    out = derange(plans, generator(1, "test"))
    assert [p.pair_seed for p in out] == [None, 103, None, 105, None, 101]
    assert [p for p in out if p.family == "good"] == plans[::2]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pair_is_graded_in_steps_of_its_own_programs_spread(program: str) -> None:
    spread = normal_spread(PROGRAMS[program])
    assert all(0.005 < value < 0.2 for value in spread.values())
    own = dict.fromkeys(spread, 2.0)
    shown = {name: 2.0 * (1 + 1.2 * value) for name, value in spread.items()}
    assert pair_distance(PROGRAMS[program], own, own) == 0
    assert pair_distance(PROGRAMS[program], own, shown) == pytest.approx(1.2)
    assert [pair_severity(at + 0.01) for at in (0.0, *GRADES)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_can_be_put_on_any_seam_of_any_program(fault: str) -> None:
    for index, program in enumerate(PROGRAMS):
        good = SeamPlan(index, program, "monday", 7 + index)
        bad = faulty(good, fault, 4, generator(index, "test"))
        assert good_twin(bad) == good
        assert bad.fault is not None
        assert (bad.family, bad.fault.type, bad.fault.severity) == (FAULTS[fault].family, fault, 4)
        assert bad == faulty(good, fault, 4, generator(index, "test"))


def test_what_a_fault_draws_does_not_depend_on_its_type() -> None:
    good = SeamPlan(0, next(iter(PROGRAMS)), "monday", 7)
    left = set()
    for fault in FAULTS:
        rng = generator(3, "test")
        faulty(good, fault, 1, rng)
        left.add(int(rng.integers(1 << 62)))
    assert len(left) == 1


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


def test_several_severities_and_deranged_pairs_can_be_chosen() -> None:
    plans = plan_seams(80, 6, faults=["derangement", "overlap"], severity=(1, 5))
    assert {p.family for p in plans} == {"good", "pair", "both"}
    assert Counter(p.fault.severity for p in plans if p.fault) == {1: 10, 5: 10}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "number of seams is -1"),
        ({"family": "evil"}, "family 'evil' is not known"),
        ({"programs": ["tig"]}, "program 'tig' is not known"),
        ({"faults": ["rain"]}, "fault type 'rain' is not known"),
        ({"family": "process", "faults": ["oil"]}, "has none of the chosen"),
        ({"severity": 9, "family": "both"}, "severity is 9"),
        ({"severity": (2, 0), "family": "good"}, "severity is 0"),
        ({"severity": ()}, "severity is empty"),
        ({"faults": []}, "faults is empty"),
        ({"programs": []}, "programs is empty"),
        ({"sessions": 0}, "sessions is empty"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_seams(**({"n": 4, "seed": 1} | arguments))  # type: ignore[arg-type]
