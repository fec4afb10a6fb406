"""The demo's plan: half goods, the listed faults, seeds and sessions of its own."""

import json
from collections import Counter
from pathlib import Path

from drivers.sim import FROZEN_DIGEST
from drivers.sim.demo_plan import DEMO_FAULTS, DEMO_PROGRAMS, DEMO_SEVERITY, demo_plan
from drivers.sim.render import check_plan


def test_24_seams_are_12_goods_and_each_listed_fault_once() -> None:
    plan = demo_plan(24, 7)
    faults = [seam.fault.type for seam in plan if seam.fault is not None]
    assert Counter(faults) == Counter(DEMO_FAULTS)
    assert sum(seam.family == "good" for seam in plan) == 12
    assert {seam.program for seam in plan} == set(DEMO_PROGRAMS)
    assert [seam.index for seam in plan] == list(range(24))
    for seam in plan:
        check_plan(seam)


def test_the_plan_is_a_function_of_its_seed_and_every_seam_differs() -> None:
    assert demo_plan(24, 7) == demo_plan(24, 7)
    assert demo_plan(24, 7) != demo_plan(24, 8)
    assert len({seam.seed for seam in demo_plan(24, 7)}) == 24


def test_faults_and_goods_come_mixed() -> None:
    kinds = [seam.family == "good" for seam in demo_plan(24, 7)]
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)


def test_the_oracle_finds_every_listed_fault() -> None:
    report = json.loads((Path(__file__).parents[4] / "docs" / "virtual-cell.json").read_text(encoding="utf-8"))
    oracle = {(row["type"], row["severity"]): row["auroc"] for row in report["oracle"]}
    assert report["digest"] == FROZEN_DIGEST
    assert not report["quick"]
    assert {name: oracle[name, DEMO_SEVERITY] for name in DEMO_FAULTS if oracle[name, DEMO_SEVERITY] < 0.98} == {}
