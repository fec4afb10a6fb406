"""Learning program after program on a corpus: what is fitted on whom, what is kept, and what the report says."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from drivers.sim.seam import SeamPlan
from edged.bench.detection.ask_incremental import GridsOfCorpus, ask_incremental, grids_of_corpus, schedule_of
from edged.bench.detection.corpus import Corpus, Size
from edged.bench.incremental import _pair_of, incremental_report, measure_incremental
from edged.manifest import FEATURES_DATA
from edged.simulated_seam import seam_id_of
from pipelines.features.extractor import save_features
from pipelines.features.geometry import GeoMap
from pipelines.grids import Tell
from pipelines.ib_iumad import IbIumadConfig
from pipelines.incremental import Learner, MethodScores, Schedule, learners, summarise
from pipelines.loop import LoopConfig
from pipelines.window import SeamFrame
from tests.support.law_seams import law_seam

PROGRAMS = ("p2", "p1")
TINY = IbIumadConfig.preset(
    d=8, feed_forward=8, levels=1, heads=2, bottleneck=4, d_state=2, max_tokens=4, mamba=False
)
LOOP = LoopConfig(epochs=1, batch=8)
SCHEDULE = Schedule(base=1, base_loop=LOOP, step_loop=LOOP)
PARTS = ("train",) * 6 + ("fit",) * 4 + ("calibration",) * 2 + ("test",) * 6 + ("defect",) * 4
BLIND = 25
"""Row of a test seam whose scan shows nothing near the joint."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    plans = [
        SeamPlan(k, PROGRAMS[k % 2], f"{part}-{k // 2 % 3}", k)
        for k, part in enumerate(p for p in PARTS for _ in "ab")
    ]
    size = Size("tiny", 6, 4, 2, 6, 0, PROGRAMS, 9)
    return Corpus(0, size, tuple(plans), tuple(p for p in PARTS for _ in "ab"))


@pytest.fixture(scope="module")
def folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seams as a simulation leaves them; p2 is far from p1 in every number, bads are far from both."""
    place = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(3)
    for row, (plan, part) in enumerate(zip(corpus.plans, corpus.parts, strict=True)):
        seam = law_seam(rng, row, plan.program, plan.session)
        level = {"p1": 0.0, "p2": 30.0}[plan.program] + 100.0 * (part == "defect")
        shapes = {"fine": (28, 112, 40), "coarse": (14, 56, 112), "heights": (112, 112, 3)}
        maps = {n: (level + rng.standard_normal(s, np.float32)).astype(np.float16) for n, s in shapes.items()}
        geo = GeoMap(**maps, known=np.full((14, 28), row != BLIND))
        frame = SeamFrame(10.0, scan=(0.0, 1.0, 12.0))
        save_features(dataclasses.replace(seam, geo=geo, frame=frame), place / _file(plan))
    return place


@pytest.fixture(scope="module")
def grids(corpus: Corpus, folder: Path) -> GridsOfCorpus:
    torch.set_num_threads(1)
    return grids_of_corpus(corpus, folder, ("geo", "proc"), base=1)


def _file(plan: SeamPlan) -> str:
    return FEATURES_DATA.format(seam_id_of(plan))


def test_cells_are_standardised_on_the_base_programs_training_goods(grids: GridsOfCorpus) -> None:
    data = grids.data
    assert data.programs == ("p1", "p2")
    assert [len(part) for part in (data.train, data.held_out, data.test)] == [12, 8, 19]
    geo = data.train.cells["geo"]
    assert np.abs(geo[data.train.program == 0].mean((0, 1, 2))).max() < 1e-3
    assert geo[data.train.program == 1].mean() > 5  # p1 alone set the scale, so p2 lies far off


def test_a_seam_that_the_scan_does_not_show_is_left_out_and_named(corpus: Corpus, grids: GridsOfCorpus) -> None:
    assert grids.left_out == {"train": (), "held_out": (), "test": (seam_id_of(corpus.plans[BLIND]),)}


def test_bads_and_sessions_go_with_their_seams(grids: GridsOfCorpus) -> None:
    data = grids.data
    level = data.test.cells["geo"].mean((1, 2, 3))
    own = data.test.program == 0
    assert level[own & data.bad].min() > level[own & ~data.bad].max()
    assert [name.startswith("defect") for name in data.session] == data.bad.tolist()


def test_a_corpus_that_is_not_whole_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{len(corpus.plans)} of {len(corpus.plans)} seams are missing"):
        grids_of_corpus(corpus, tmp_path, ("geo", "proc"), base=1)


def test_a_method_that_is_kept_is_not_trained_again(grids: GridsOfCorpus, tmp_path: Path) -> None:
    data = grids.data
    ways = learners(TINY)[:2]
    trained: list[str] = []

    def begin(way: Learner, number: int) -> Tell:
        trained.append(f"{number} {way.name}")
        return lambda stage, done, total, loss: None

    list(ask_incremental(data, ways[:1], SCHEDULE, tmp_path, {"seed": 0}, begin))
    first = list(ask_incremental(data, ways, SCHEDULE, tmp_path, {"seed": 0}, begin))
    again = list(ask_incremental(data, ways, SCHEDULE, tmp_path, {"seed": 0}, begin))
    assert trained == ["0 ib_iumad", "1 naive"]
    for one, other in zip(first, again, strict=True):
        assert (one.name, one.seconds) == (other.name, other.seconds)
        np.testing.assert_array_equal(one.scores, other.scores)
    longer = dataclasses.replace(SCHEDULE, step_loop=dataclasses.replace(LOOP, epochs=2))
    list(ask_incremental(data, ways[:1], longer, tmp_path, {"seed": 0}, begin))
    list(ask_incremental(data, ways[:1], longer, tmp_path, {"seed": 1}, begin))
    assert trained[2:] == ["0 ib_iumad"] * 2


def test_ten_programs_are_six_and_four_and_fewer_are_halved() -> None:
    assert schedule_of([str(k) for k in range(10)]).base == 6
    assert schedule_of("abcd", epochs=3, seed=5).base == 2
    assert schedule_of("abcd", epochs=3, seed=5).step_loop.epochs == 3
    assert schedule_of("abcd", epochs=3, seed=5).base_loop.seed == 5
    assert schedule_of("ab").base == 1
    with pytest.raises(ValueError, match="two or more, got 1"):
        schedule_of("a")


def test_a_pair_is_named_in_any_order() -> None:
    assert _pair_of("proc, geo") == ("geo", "proc")
    for text in ("geo", "geo,geo", "geo,heat", "geo,proc,rgb"):
        with pytest.raises(ValueError, match="known: rgb,geo"):
            _pair_of(text)


def test_the_report_by_hand(grids: GridsOfCorpus) -> None:
    """p1 is forgotten wholly by naive and not at all by the other."""
    data = grids.data
    right = data.bad.astype(np.float64)
    first = np.where(data.test.program == 0, right, np.nan)
    lost = np.where(data.test.program == 0, -right, right)
    runs = [MethodScores("naive", (first, lost), 2.0), MethodScores("ib_iumad", (first, right), 1.0)]
    about = {"corpus": 0, "schedule": "tiny", "pair": "geo,proc"}
    report = incremental_report(summarise(data, runs, SCHEDULE), SCHEDULE, about)
    assert report["schedule"]["name"] == "1-1×1: half of the 2 programs of the tiny corpus first"
    assert report["schedule"]["stages"] == [["p1"], ["p2"]]
    figures = {(r["method"], r["step"], r["program"]): r["auroc"] for r in report["rows"]}
    assert figures == {
        ("naive", 0, "p1"): 1.0, ("naive", 0, None): 1.0,
        ("naive", 1, "p1"): 0.0, ("naive", 1, "p2"): 1.0, ("naive", 1, None): 0.5,
        ("ib_iumad", 0, "p1"): 1.0, ("ib_iumad", 0, None): 1.0,
        ("ib_iumad", 1, "p1"): 1.0, ("ib_iumad", 1, "p2"): 1.0, ("ib_iumad", 1, None): 1.0,
    }  # fmt: skip
    assert [(row["method"], row["value"]) for row in report["forgetting"]] == [("naive", 1.0), ("ib_iumad", 0.0)]
    assert {c["figure"]: c["difference"] for c in report["contrasts"]} == {"mean_auroc": 0.5, "forgetting": -1.0}
    assert all(len(row["ci"]) == 2 for row in report["rows"])
    json.dumps(report, allow_nan=False)


def test_the_whole_measurement(corpus: Corpus, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every method over both stages, in the shape that the detection report takes."""
    monkeypatch.setattr(IbIumadConfig, "preset", lambda *_: TINY)
    report = measure_incremental(corpus, folder, tmp_path, ("geo", "proc"), 1, 0, 1, Console(quiet=True))
    assert [row["method"] for row in report["forgetting"]] == [way.name for way in learners(TINY)]
    assert report["seconds"].keys() == {way.name for way in learners(TINY)}
    assert {c["name"] for c in report["contrasts"]} >= {"ib_iumad − naive"}
    assert len(list(tmp_path.glob("incremental/*/*.npz"))) == len(learners(TINY))
    json.dumps(report, allow_nan=False)
