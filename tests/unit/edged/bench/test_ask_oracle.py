"""The oracle on a corpus' own seams: whose half each defect takes, who is whose twin, and what its runs are."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from drivers.sim.faults import FAULTS
from drivers.sim.plan import faulty
from drivers.sim.seam import SeamPlan
from edged.bench.detection.arms import ORACLE, oracle_of
from edged.bench.detection.ask_oracle import (
    Statistics,
    oracle_is_fed,
    oracle_runs,
    runs_of_statistics,
    statistics_of_test,
)
from edged.bench.detection.corpus import FULL, QUICK, Corpus, Size, plan_corpus
from edged.bench.detection.data import CorpusData
from edged.bench.detection.runner import jobs_of
from edged.bench.detection.scored import TestSeam
from edged.bench.detection.statistics import check_run
from edged.simulated_seam import seam_id_of
from pipelines.training import Split

SMALL = Size("small", 6, 3, 6, 24, 4, ("short-butt-3", "spray-lap-5"), sessions=24)

TYPES = {"gas_loss": 0.5, "scratch": 0.5, "lack_of_fusion": 1.0, "derangement": None}
"""Type → AUROC of the oracle by `told`, None: not looked at."""


def quiet(stage: str, done: int, total: int, loss: float) -> None:
    """Says nothing."""


def seam(plan: SeamPlan) -> TestSeam:
    kind = "derangement" if plan.family == "pair" else plan.fault and plan.fault.type
    severity = plan.fault.severity if plan.fault else None
    return TestSeam(seam_id_of(plan), plan.program, plan.session, plan.family, kind, severity)


@pytest.fixture(scope="module")
def data() -> CorpusData:
    corpus = plan_corpus(0, SMALL)
    kept = [not p.fault or p.fault.type in TYPES for p in corpus.plans]  # trees on every type take a minute
    test = np.flatnonzero([part in ("test", "defect") and k for part, k in zip(corpus.parts, kept, strict=True)])
    none = np.zeros(0, np.int64)
    seams = tuple(seam(corpus.plans[i]) for i in test)
    return CorpusData(corpus, [], Split(none, none, none), test, seams, [])


def told(data: CorpusData) -> list[Statistics]:
    """A process number that every *process* fault moves; else what the seam's seed gives, alike in twins."""
    out = []
    for i in data.test:
        plan = data.corpus.plans[i]
        own = np.random.default_rng(plan.seed).normal(size=(2, 3))
        own[0, 1] += 8.0 * (plan.family == "process")
        out.append((own[0], own[1]))
    return out


def test_a_quick_corpus_cannot_feed_the_oracle_and_a_full_one_can(data: CorpusData, tmp_path: Path) -> None:
    assert oracle_is_fed(FULL)
    assert not oracle_is_fed(QUICK)
    assert "oracle" in [job.kind for job in jobs_of(1, True, oracle=True)]
    assert "oracle" not in [job.kind for job in jobs_of(1)]
    with pytest.raises(ValueError, match="small corpus has 20 seams of a type; the oracle needs 100"):
        oracle_runs(data, tmp_path, 1, quiet)


def test_a_run_a_type_over_goods_and_that_types_seams(data: CorpusData) -> None:
    runs = list(runs_of_statistics(data, told(data), quiet).values())
    goods = [s.seam_id for s in data.seams if not s.bad]
    assert {run.row["ablation"] for run in runs} == {f"type:{name}" for name in TYPES}
    for run in runs:
        check_run(run)
        assert run.row["pipeline"] == ORACLE
        assert run.row["seed"] is None
        assert [s.seam_id for s in run.seams if not s.bad] == goods
        kind = run.row["ablation"].removeprefix("type:")
        assert {s.type for s in run.seams if s.bad} == {kind}
        assert (run.score > 0).all()
        good = run.score[: len(goods)]
        assert (good > 1).sum() <= 1
        bad = run.score[len(goods) :]
        area = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
        if TYPES[kind] is not None:
            assert area == pytest.approx(TYPES[kind], abs=0.2 if TYPES[kind] == 0.5 else 0.05)
    assert oracle_of(runs, "scratch")[0].row["ablation"] == "type:scratch"


def test_the_half_that_a_fault_leaves_alone_is_the_twins(tmp_path: Path) -> None:
    """Two goods, a fault of each half, and a pair; a second time nothing is rendered."""
    goods = [SeamPlan(k, "short-butt-3", "s-1", 70 + k) for k in range(2)]
    rng = np.random.default_rng(0)
    result = next(name for name, row in FAULTS.items() if row.family == "result")
    process = next(name for name, row in FAULTS.items() if row.family == "process")
    bads = [faulty(goods[0], result, 5, rng), faulty(goods[1], process, 5, rng)]
    pair = dataclasses.replace(goods[0], family="pair", pair_seed=goods[1].seed)
    plans = [dataclasses.replace(plan, index=k) for k, plan in enumerate((*goods, *bads, pair))]
    parts = ("test", "test", "defect", "defect", "defect")
    corpus = Corpus(0, SMALL, tuple(plans), parts)
    said: list[tuple[str, int, int]] = []

    def tell(stage: str, done: int, total: int, loss: float) -> None:
        said.append((stage, done, total))

    found = statistics_of_test(corpus, [0, 1, 2, 3, 4], tmp_path, 1, tell)
    assert said[-1] == ("statistics", 4, 4)  # a pair is not rendered
    (p0, r0), (p1, r1), (p2, r2), (p3, r3), (p4, r4) = found
    np.testing.assert_array_equal(p2, p0)
    assert (r2 != r0).any()
    np.testing.assert_array_equal(r3, r1)
    assert (p3 != p1).any()
    np.testing.assert_array_equal(p4, p0)
    np.testing.assert_array_equal(r4, r1)
    said.clear()
    again = statistics_of_test(corpus, [0, 1, 2, 3, 4], tmp_path, 1, tell)
    assert said == []
    np.testing.assert_array_equal(again[3][0], p3)
    with pytest.raises(ValueError, match="its good twin is not there"):
        statistics_of_test(corpus, [1, 2], tmp_path, 1, tell)
