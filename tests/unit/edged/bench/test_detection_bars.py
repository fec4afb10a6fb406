"""Bars: each can hold, fail and be undecided, by scores whose figures are known."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edged.bench.detection.bars import bar_rows, oracle_by_type
from edged.bench.detection.scored import Run
from tests.support.synthetic_runs import SIZES, a_run, row, seams

LEVEL = {"process": 0.93, "result": 0.8, "pair": 0.75, "both": 0.99}


def oracle(**of_type: float) -> dict:
    levels = {"tip_wear": 0.95, "scratch": 0.95, "derangement": 0.8, "gas_loss": 0.95, "undercut": 0.95} | of_type
    return {
        "oracle": [
            {"type": name, "family": "x", "severity": k, "auroc": level, "ci": [level, level], "n": 30}
            for name, level in levels.items()
            for k in range(1, 6)
        ]
    }


def named(rows: list[dict], name: str) -> dict:
    (only,) = [r for r in rows if r["name"] == name]
    return only


def test_near_the_oracle_wherever_the_oracle_sees() -> None:
    rows = bar_rows([a_run(row(pipeline="causal_hm_full"), LEVEL)], oracle(), 200)
    held = named(rows, "causal_hm_full near the oracle: tip_wear")
    assert (held["holds"], held["asked"]) == (True, "≥ 0.900")
    assert held["measured"] == pytest.approx(0.93, abs=0.03)
    assert "not paired" in held["why"]
    assert named(rows, "causal_hm_full near the oracle: scratch")["holds"] is False
    unseen = named(rows, "causal_hm_full near the oracle: derangement")
    assert (unseen["holds"], unseen["asked"]) == (None, None)
    assert "no bar" in unseen["why"]
    without = bar_rows([a_run(row(pipeline="causal_hm_full"), LEVEL)], None, 200)
    assert named(without, "causal_hm_full near the oracle: tip_wear")["holds"] is None


def test_the_oracles_severities_are_pooled_with_the_counts_of_the_runs() -> None:
    report = {
        "oracle": [{"type": "t", "severity": 1, "auroc": 0.6, "n": 9}, {"type": "t", "severity": 2, "auroc": 1.0}]
    }
    assert oracle_by_type(report, {("t", 1): 10, ("t", 2): 30})["t"].auroc == pytest.approx(0.9)
    assert oracle_by_type(report, {})["t"].auroc is None


def sized(about: dict, at: float) -> Run:
    """Finds every fault of at least `at`, and no other."""
    tested = seams()
    noise = np.random.default_rng(3).random(len(tested))
    return Run(about, tested, np.array([5.0 if (s.value or 0) >= at else 0.5 for s in tested]) + 0.1 * noise)


@pytest.mark.parametrize(("at", "holds"), [(2.0, True), (8.0, False), (99.0, False)])
def test_a90_within_twice_that_of_an_oracle_over_the_same_seams(at: float, holds: bool) -> None:
    runs = [sized(row(pipeline="causal_hm_full"), at), sized(row(pipeline="oracle"), 2.0)]
    bar = named(bar_rows(runs, None, 50), "causal_hm_full a90 within twice the oracle's: undercut")
    assert bar["holds"] is holds
    assert bar["unit"] == "mm"
    assert (bar["measured"] is None) == (at > SIZES[-1])


def test_an_oracle_of_one_type_is_judged_on_its_type_alone() -> None:
    product = sized(row(pipeline="causal_hm_full"), 4.0)
    mine = [k for k, s in enumerate(product.seams) if not s.bad or s.type == "undercut"]
    judge = sized(row(pipeline="oracle", ablation="type:undercut"), 2.0)
    judge = Run(judge.row, tuple(product.seams[k] for k in mine), judge.score[mine])
    rows = bar_rows([product, judge], None, 50)
    near = named(rows, "causal_hm_full near the oracle: undercut")
    assert near["why"].endswith("; paired with the oracle on the same seams")
    assert near["oracle"] == pytest.approx(0.8, abs=0.06)  # three severities of five are found, two at chance
    assert "no figure" in named(rows, "causal_hm_full near the oracle: gas_loss")["why"]
    assert named(rows, "causal_hm_full a90 within twice the oracle's: undercut")["asked"].startswith("≤")


def test_a90_of_a_report_is_used_where_it_is_there_and_else_nothing_is_judged() -> None:
    run = sized(row(pipeline="causal_hm_full"), 4.0)
    name = "causal_hm_full a90 within twice the oracle's: undercut"
    assert named(bar_rows([run], oracle(), 50), name)["holds"] is None
    told = oracle()
    for line in told["oracle"]:
        line["a90"] = 3.0 if line["type"] == "undercut" else None
    assert named(bar_rows([run], told, 50), name)["holds"] is True
    beyond = named(bar_rows([run], told, 50), "causal_hm_full a90 within twice the oracle's: gas_loss")
    assert beyond["holds"] is None
    assert "no bar" in beyond["why"]


def test_marginal_baselines_are_at_chance_on_pair_or_fail() -> None:
    runs = [
        a_run(row(pipeline="patchcore"), {"result": 0.9}, seed=4),
        a_run(row(pipeline="process_oneclass"), {"process": 0.9, "pair": 0.7}, seed=5),
    ]
    rows = bar_rows(runs, None, 300)
    assert named(rows, "patchcore at chance on pair")["holds"] is True
    assert named(rows, "process_oneclass at chance on pair")["holds"] is False
    assert named(rows, "patchcore at chance on process")["holds"] is True


def test_what_a_baseline_sees_goes_by_its_pair() -> None:
    levels = {"process": 0.9, "result": 0.9, "pair": 0.9}
    runs = [
        a_run(row(pipeline="memory_bank", pair="geo,proc"), levels, seed=4),
        a_run(row(pipeline="memory_bank", pair="rgb,geo"), {"result": 0.9}, seed=15),
        a_run(row(pipeline="patchcore", pair=["proc"]), {"process": 0.9}, seed=6),
    ]
    rows = [r for r in bar_rows(runs, None, 300) if "at chance" in r["name"]]
    assert {r["name"]: r["holds"] for r in rows} == {
        "patchcore (proc) at chance on pair": True,
        "memory_bank (rgb,geo) at chance on pair": True,
        "memory_bank (rgb,geo) at chance on process": True,
        "patchcore (proc) at chance on result": True,
    }


def test_a_stream_that_knows_nothing() -> None:
    clean = a_run(row(pipeline="causal_hm_full"), LEVEL, seed=1)
    same = dataclasses.replace(clean, row=row(pipeline="causal_hm_full", ablation="stream:noise"))
    worse = a_run(
        row(pipeline="causal_hm_full", ablation="stream:random_views"), {k: v - 0.1 for k, v in LEVEL.items()}, seed=1
    )
    rows = bar_rows([clean, same, worse], None, 200)
    name = "a stream that knows nothing costs little: stream:"
    assert (named(rows, name + "noise")["holds"], named(rows, name + "noise")["measured"]) == (True, 0.0)
    assert named(rows, name + "random_views")["holds"] is False
    assert named(rows, name + "random_views")["measured"] == pytest.approx(0.1, abs=0.03)
    assert named(bar_rows([clean], None, 50), name + "noise")["why"] == "no run of causal_hm_full [stream:noise]"


def test_false_alarms_pool_the_corpora_of_a_seed_and_need_600_goods() -> None:
    few = seams(300, 1)
    runs = [a_run(row(pipeline="causal_hm_full", corpus=c), {}, seed=c) for c in (1, 2)]
    bar = named(bar_rows(runs, None, 20), "causal_hm_full false alarms, seed 0")
    assert bar["holds"] is True
    assert bar["why"] == "1200 goods of corpora 1, 2"
    loud = dataclasses.replace(runs[0], score=runs[0].score * 10)
    assert named(bar_rows([loud], None, 20), "causal_hm_full false alarms, seed 0")["holds"] is False
    short = a_run(row(pipeline="causal_hm_full"), {}, few)
    assert named(bar_rows([short], None, 20), "causal_hm_full false alarms, seed 0")["holds"] is None


def test_costs_stand_beside_the_memory_banks() -> None:
    own = dataclasses.replace(a_run(row(pipeline="causal_hm_full"), {}), costs={"state_mb": 2.0, "head_ms_p50": 4.0})
    bank = dataclasses.replace(a_run(row(pipeline="memory_bank"), {}), costs={"state_mb": 30.0})
    bar = named(bar_rows([own, bank], None, 20), "causal_hm_full state_mb beside the memory bank")
    assert (bar["measured"], bar["holds"]) == (2.0, None)
    assert "30" in bar["why"]


def test_the_cells_own_report_is_read() -> None:
    report = json.loads((Path(__file__).parents[4] / "docs/virtual-cell.json").read_text(encoding="utf-8"))
    found = oracle_by_type(report, {(r["type"], r["severity"]): 30 for r in report["oracle"]})
    assert len(found) >= 18
    assert all(reference.auroc is not None and not reference.says_a90 for reference in found.values())
