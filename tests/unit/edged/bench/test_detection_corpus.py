"""The corpus that detection is measured on: sessions of one part only, twins, pairs, prefixes."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from drivers.sim.faults import FAULTS
from drivers.sim.plan import good_twin
from drivers.sim.programs import PROGRAMS
from drivers.sim.seam import SeamPlan
from edged.bench.detection.corpus import FULL, QUICK, Corpus, Size, plan_corpus
from edged.bench.detection.data import load_corpus
from edged.manifest import FEATURES_DATA, TRUTH, append_manifest
from edged.simulated_seam import seam_id_of
from pipelines.features.extractor import save_features
from tests.support.law_seams import law_seam


@pytest.fixture(scope="module", params=[QUICK, FULL], ids=lambda size: size.name)
def corpus(request: pytest.FixtureRequest) -> Corpus:
    return plan_corpus(1, request.param)


def of(corpus: Corpus, *parts: str) -> list[SeamPlan]:
    return [plan for plan, part in zip(corpus.plans, corpus.parts, strict=True) if part in parts]


def bare(plan: SeamPlan) -> SeamPlan:
    """Its good twin, wherever that stands in the plan."""
    return dataclasses.replace(good_twin(plan), index=0)


def test_no_session_is_in_two_parts_and_the_parts_follow_in_time(corpus: Corpus) -> None:
    sessions = {part: {plan.session for plan in of(corpus, part)} for part in set(corpus.parts)}
    assert sessions["defect"] <= sessions["test"]
    for one in ("train", "fit", "calibration", "test"):
        for other in ("train", "fit", "calibration", "test"):
            assert one == other or not sessions[one] & sessions[other], (one, other)
    assert max(sessions["train"] | sessions["fit"]) < min(sessions["calibration"])
    assert max(sessions["calibration"]) < min(sessions["test"])


def test_every_program_has_the_goods_that_were_asked_for(corpus: Corpus) -> None:
    size = corpus.size
    counts = {part: Counter(plan.program for plan in of(corpus, part)) for part in ("calibration", "test")}
    assert counts["calibration"] == dict.fromkeys(size.programs, size.calibration)
    assert counts["test"] == dict.fromkeys(size.programs, size.test)
    taught = Counter(plan.program for plan in of(corpus, "train", "fit"))
    assert taught == dict.fromkeys(size.programs, size.train + size.fit)
    share = len(of(corpus, "fit")) / len(of(corpus, "train", "fit"))
    assert share == pytest.approx(1 / 3, abs=0.05)  # whole sessions, every third
    assert set(size.programs) <= set(PROGRAMS)


def test_goods_are_good_and_no_seam_is_twice(corpus: Corpus) -> None:
    assert {plan.family for plan in of(corpus, "train", "fit", "calibration", "test")} == {"good"}
    assert len({plan.seed for plan in corpus.plans if plan.family == "good"}) == len(
        of(corpus, "train", "fit", "calibration", "test")
    )
    assert len({seam_id_of(plan) for plan in corpus.plans}) == len(corpus.plans)
    assert [plan.index for plan in corpus.plans] == list(range(len(corpus.plans)))


def test_every_type_has_every_severity_as_often(corpus: Corpus) -> None:
    cells = Counter((plan.fault.type, plan.fault.severity) for plan in of(corpus, "defect") if plan.fault is not None)
    wanted = {(name, severity) for name in FAULTS for severity in range(1, 6)}
    assert cells == dict.fromkeys(wanted, corpus.size.per_cell)


def test_every_defect_has_its_good_twin_among_the_test_goods(corpus: Corpus) -> None:
    twins = {bare(plan) for plan in of(corpus, "test")}
    for plan in of(corpus, "defect"):
        assert bare(plan) in twins


def test_pairs_swap_beads_within_a_program_and_session(corpus: Corpus) -> None:
    place = {plan.seed: (plan.program, plan.session) for plan in of(corpus, "test")}
    pairs = [plan for plan in of(corpus, "defect") if plan.family == "pair"]
    assert pairs
    for plan in pairs:
        assert plan.pair_seed is not None
        assert plan.pair_seed != plan.seed
        assert place[plan.pair_seed] == place[plan.seed] == (plan.program, plan.session)
        assert plan.fault is None
    assert len({plan.pair_seed for plan in pairs}) == len(pairs) == len({plan.seed for plan in pairs})


def test_fewer_rounds_are_a_prefix_of_more(corpus: Corpus) -> None:
    some = plan_corpus(1, dataclasses.replace(corpus.size, per_cell=2))
    assert some.plans == corpus.plans[: len(some.plans)]
    assert some.parts == corpus.parts[: len(some.parts)]


def test_a_corpus_is_the_same_again_and_another_number_another(corpus: Corpus) -> None:
    assert plan_corpus(1, corpus.size) == corpus
    other = plan_corpus(2, corpus.size)
    assert not {plan.seed for plan in other.plans} & {plan.seed for plan in corpus.plans}
    assert not {plan.session for plan in other.plans} & {plan.session for plan in corpus.plans}
    with pytest.raises(ValueError, match="there is no corpus 7; known: 0, 1, 2"):
        plan_corpus(7, corpus.size)


SMALL = Size("small", 2, 1, 1, 2, 1, ("short-butt-3",), sessions=6)


@pytest.fixture
def rendered(tmp_path: Path) -> tuple[Corpus, Path]:
    """A corpus of two seams a part, with made-up features and a truth."""
    whole = plan_corpus(0, SMALL)
    rows = sorted(k for part in set(whole.parts) for k in [i for i, p in enumerate(whole.parts) if p == part][:2])
    corpus = Corpus(0, SMALL, tuple(whole.plans[k] for k in rows), tuple(whole.parts[k] for k in rows))
    rng, lines = np.random.default_rng(0), []
    for i, plan in enumerate(corpus.plans):
        save_features(law_seam(rng, i, session="s-of-the-file"), tmp_path / FEATURES_DATA.format(seam_id_of(plan)))
        fault = plan.fault
        truth = {
            "family": plan.family,
            "type": None if fault is None else fault.type,
            "severity": None if fault is None else fault.severity,
            "value": None if fault is None else fault.value,
            "unit": None if fault is None else fault.unit,
            "onset_mm": None if fault is None else 3.0,
            "end_mm": None if fault is None else 9.0,
            "onset_s": 1.0,
            "bead": {"width_mm": 6.0},
        }
        lines.append(json.dumps({"seam_id": seam_id_of(plan), "truth": truth}))
        known = {"program": "p1", "session": plan.session, "set_points": {"current_a": float(i)}}
        append_manifest(tmp_path, {"seam_id": seam_id_of(plan), **known})
    (tmp_path / TRUTH).write_text("\n".join(reversed(lines)) + "\n")  # in no order
    return corpus, tmp_path


def test_a_rendered_corpus_is_read_by_its_plan(rendered: tuple[Corpus, Path]) -> None:
    corpus, folder = rendered
    data = load_corpus(corpus, folder)
    assert [f.session for f in data.features] == [plan.session for plan in corpus.plans]
    assert [f.seam_id for f in data.features] == [seam_id_of(plan) for plan in corpus.plans]
    for rows, part in ((data.split.train, "train"), (data.split.fit, "fit"), (data.split.calibration, "calibration")):
        assert {corpus.parts[k] for k in rows} == {part}
    assert {corpus.parts[k] for k in data.test} == {"test", "defect"}
    split = [*data.split.train, *data.split.fit, *data.split.calibration, *data.test]
    assert sorted(split) == list(range(len(corpus.plans)))
    assert data.programs == ("p1",)
    assert [points["current_a"] for points in data.set_points] == list(range(len(corpus.plans)))
    assert [f.seam_id for f in data.testing()] == [seam.seam_id for seam in data.seams]
    for row, seam in zip(data.test, data.seams, strict=True):
        plan = corpus.plans[row]
        assert (seam.family, seam.session, seam.bad) == (plan.family, plan.session, corpus.parts[row] == "defect")
        if plan.fault is not None:
            assert (seam.type, seam.severity, seam.onset_mm, seam.end_mm) == (
                plan.fault.type,
                plan.fault.severity,
                3,
                9,
            )


def test_a_corpus_that_is_not_whole_is_refused(rendered: tuple[Corpus, Path]) -> None:
    corpus, folder = rendered
    (folder / FEATURES_DATA.format(seam_id_of(corpus.plans[1]))).unlink()
    with pytest.raises(ValueError, match=f"1 of {len(corpus.plans)} seams are missing; render the corpus to its end"):
        load_corpus(corpus, folder)
