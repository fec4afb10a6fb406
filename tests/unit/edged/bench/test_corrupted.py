"""Corrupted twins scored by a pipeline that was trained clean: as the corpus' own runs are, kept, and paired."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from edged.bench.corruption import _publish, _write
from edged.bench.detection.answers import ask, run_of
from edged.bench.detection.ask_grid import Grids, ask_grid
from edged.bench.detection.ask_seam import ask_seam
from edged.bench.detection.bank_size import SHARES, add_bank_sizes
from edged.bench.detection.contrasts import contrast_rows
from edged.bench.detection.corpus import FULL, QUICK, Size, plan_corpus
from edged.bench.detection.corrupted import (
    CLEAN,
    NOISE,
    chosen_seams,
    corruption_jobs,
    corruption_rows,
    corruption_runs,
    only_seams,
)
from edged.bench.detection.data import CorpusData
from edged.bench.detection.fitted import fit_scorer, row_of
from edged.bench.detection.runner import Job, load_runs
from edged.bench.detection.scored import Run, TestSeam, save_run
from edged.manifest import FEATURES_DATA
from edged.simulated_seam import seam_id_of
from pipelines.features.extractor import SeamFeatures, save_features
from pipelines.features.geometry import HEIGHT_SHAPE, KNOWN_SHAPE, GeoMap
from pipelines.features.result import LEVELS
from pipelines.training import Split
from pipelines.window import SeamFrame
from tests.support.grid_law import quiet
from tests.support.law_seams import law_seam
from tests.support.synthetic_runs import a_run, row, seams

TINY = Size("tiny", 10, 5, 9, 6, 1, ("short-butt-3", "spray-lap-5"), sessions=18)
MAHALANOBIS = Job("seam", "sensor_mahalanobis")


def features_of(rng: np.random.Generator, program: str, shift: float) -> SeamFeatures:
    found = law_seam(rng, 0, "p1", process_shift=shift)
    shapes = (LEVELS["fine"], LEVELS["coarse"], HEIGHT_SHAPE)
    fine, coarse, heights = (rng.standard_normal(shape).astype(np.float16) for shape in shapes)
    geo = GeoMap(fine, coarse, heights, np.ones(KNOWN_SHAPE, np.bool_))
    frame = SeamFrame(40.0, 5.0, {}, (0.0, 0.25, 12.0))
    return dataclasses.replace(found, program=program, geo=geo, frame=frame)


@pytest.fixture(scope="module")
def data() -> CorpusData:
    """A corpus whose defects move the process."""
    corpus = plan_corpus(1, TINY)
    rng = np.random.default_rng(3)
    features = [
        dataclasses.replace(
            features_of(rng, plan.program, 1.5 * (part == "defect")), seam_id=seam_id_of(plan), session=plan.session
        )
        for plan, part in zip(corpus.plans, corpus.parts, strict=True)
    ]
    parts = np.array(corpus.parts)
    test = np.flatnonzero((parts == "test") | (parts == "defect"))
    split = Split(*(np.flatnonzero(parts == part) for part in ("train", "fit", "calibration")))
    tested = tuple(
        TestSeam(features[i].seam_id, features[i].program, features[i].session,
                 "process" if parts[i] == "defect" else "good")
        for i in test
    )  # fmt: skip
    whole = CorpusData(corpus, features, split, test, tested, [{}] * len(features))
    return only_seams(whole, chosen_seams(corpus, 8))


def twins(data: CorpusData, folder: Path, noise: float) -> Path:
    rng = np.random.default_rng(5)
    for seam in data.testing():
        sensor = seam.sensor + noise * rng.standard_normal(seam.sensor.shape).astype(np.float32)
        save_features(dataclasses.replace(seam, sensor=sensor), folder / FEATURES_DATA.format(seam.seam_id))
    return folder


def test_fewer_seams_are_among_more_and_both_halves_have_them() -> None:
    for size in (QUICK, FULL):
        corpus = plan_corpus(1, size)
        parts = np.array(corpus.parts)
        few, many = chosen_seams(corpus, 20), chosen_seams(corpus, 60)
        assert set(few) < set(many)
        assert [np.sum(parts[few] == part) for part in ("test", "defect")] == [20, 20]
        assert len({corpus.plans[i].program for i in few}) > 2
        assert set(chosen_seams(corpus, 10**6)) == set(np.flatnonzero((parts == "test") | (parts == "defect")))


def test_twins_are_scored_by_what_was_trained_clean_and_kept(data: CorpusData, tmp_path: Path) -> None:
    made = twins(data, tmp_path / "twins", 3.0)

    def runs(levels: list[tuple[str, float]]) -> dict[tuple[str, float], Run]:
        found = corruption_runs([MAHALANOBIS], levels, data, lambda _: made, tmp_path / "kept", 1, lambda *_: quiet)
        return {level: run for _, level, run in found}

    found = runs([NOISE])
    own = run_of(data, row_of(MAHALANOBIS), ask_seam(data, "sensor_mahalanobis", 0, quiet))
    np.testing.assert_array_equal(found[CLEAN].score, own.score)
    assert found[CLEAN].row == own.row
    assert found[NOISE].row == {**own.row, "ablation": "sensor_noise:0.3"}
    assert found[NOISE].seams == found[CLEAN].seams == data.seams
    good = np.array([not seam.bad for seam in data.seams])
    assert found[NOISE].score[good].min() > found[CLEAN].score[good].max()

    for path in (made / "features").iterdir():
        path.unlink()
    np.testing.assert_array_equal(runs([NOISE])[NOISE].score, found[NOISE].score)  # kept: nothing is made again
    with pytest.raises(ValueError, match="are missing"):
        runs([NOISE, ("sensor_noise", 0.1)])


def test_a_grid_method_scores_a_single_seam_as_it_does_the_whole_corpus(data: CorpusData) -> None:
    grids, job = Grids(data), Job("grid", "memory_bank", pair=("geo", "proc"))
    scorer = fit_scorer(job, data, grids, 1, quiet)
    alone = ask(data, scorer)
    whole = ask_grid(grids, data, "memory_bank", ("geo", "proc"), ("minp",), "cell", 0, 1, quiet)["minp"]
    for part in ("calibration", "test"):
        one, many = ([answer.raw for answer in getattr(answers, part)] for answers in (alone, whole))
        assert len(set(one)) > 1
        np.testing.assert_allclose(one, many, rtol=1e-4)
    assert row_of(job)["pair"] == "geo,proc"
    with pytest.raises(ValueError, match="profile"):
        scorer(dataclasses.replace(data.features[0], geo=None))


def test_a_bank_is_measured_at_every_size_and_the_smallest_that_suffices_is_said(
    data: CorpusData, tmp_path: Path
) -> None:
    path = tmp_path / "bank.json"
    path.write_text(json.dumps([{"corpus": "corpus-2-tiny"}, {"corpus": data.corpus.name}]), encoding="utf-8")
    add_bank_sizes(path, data, quiet)
    other, *rows = json.loads(path.read_text(encoding="utf-8"))
    assert other == {"corpus": "corpus-2-tiny"}
    for name, modalities in (("memory_bank", 2), ("memory_bank_concat", 1)):
        own = [row for row in rows if row["pipeline"] == name]
        assert [row["share"] for row in own] == list(SHARES)
        sizes = [row["size"] for row in own]
        assert sizes == sorted(sizes, reverse=True)
        cells = sum(len(data.split.train) * [14 * 14])
        assert sizes[0] == pytest.approx(modalities * SHARES[0] * cells, rel=0.01)
        best = max(row["auroc"] for row in own)
        chosen = [row for row in own if row["plateau"]]
        assert chosen[0]["auroc"] >= best - 0.005
        assert all(row["auroc"] < best - 0.005 for row in own if row["size"] < chosen[0]["size"])
        assert own[0]["state_mb"] > own[-1]["state_mb"]


def test_one_training_of_each_pipeline_over_the_main_pair() -> None:
    jobs = corruption_jobs(["memory_bank", "causal_hm_full", "cfm"])
    assert [(job.pipeline, job.pair) for job in jobs] == [
        ("memory_bank", ("geo", "proc")), ("causal_hm_full", None), ("cfm", ("geo", "proc")),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="setpoint_knn"):
        corruption_jobs(["setpoint_knn"])


def test_rows_have_the_clean_test_as_level_0_and_count_refused_seams() -> None:
    tested = seams(100, 5)
    clean, noisy = (a_run(row(pipeline="a"), {"both": auroc}, tested) for auroc in (0.9, 0.7))
    short = Run({**noisy.row, "ablation": "photo_blur:2"}, tested[:-3], noisy.score[:-3])
    job = Job("grid", "a")
    found = [(job, CLEAN, clean), (job, NOISE, noisy), (job, ("photo_blur", 2.0), short)]
    rows = corruption_rows(found, {1: len(tested)})
    said = [(r["corruption"], r["level"], r["refused"]) for r in rows]
    assert said == [
        ("sensor noise, training spreads", 0.0, 0), ("sensor noise, training spreads", 0.3, 0),
        ("photo blur, px", 0.0, 0), ("photo blur, px", 2.0, 3),
    ]  # fmt: skip
    assert rows[0]["auroc"] == rows[2]["auroc"] > rows[1]["auroc"]
    assert rows[0]["ci"][0] < rows[0]["auroc"] < rows[0]["ci"][1]


def test_the_sixth_contrast_is_computed_over_the_seams_that_were_rendered_again(tmp_path: Path) -> None:
    tested = seams(200, 10)
    pairs = {"causal_hm_full": None, "memory_bank": "geo,proc"}
    aurocs = {"causal_hm_full": (0.9, 0.88), "memory_bank": (0.85, 0.6)}
    found = []
    for k, (name, pair) in enumerate(pairs.items()):
        job = Job("product" if pair is None else "grid", name, pair=None if pair is None else ("geo", "proc"))
        clean, noisy = (a_run(row(pipeline=name, pair=pair), dict.fromkeys(("process", "result", "pair", "both"), a),
                              tested, seed=k) for a in aurocs[name])  # fmt: skip
        place = tmp_path / "runs" / "corpus-1-cpu-60" / job.name
        save_run(clean, place / f"{name}.npz")
        (place / "done.json").write_text("{}")
        half = Run({**noisy.row, "ablation": "sensor_noise:0.3"}, tested[::2], noisy.score[::2])
        found += [(job, CLEAN, clean), (job, NOISE, half)]
    assert _publish(found, tmp_path) == []
    runs = load_runs(tmp_path / "runs")
    assert len(runs) == 4
    (sixth,) = [r for r in contrast_rows(runs, 200) if r["name"].startswith("6 ")]
    assert sixth["reason"] is None
    assert sixth["n_good"] + sixth["n_bad"] == len(tested[::2])
    assert sixth["difference"] == pytest.approx(0.23, abs=0.06)
    # Another training than that of the runs beside: what is subtracted would not belong together.
    job, level, clean = found[0]
    other = Run(clean.row, clean.seams, clean.score * 1.1)
    (said,) = _publish([(job, level, other)], tmp_path)
    assert "10.0%" in said


def test_a_later_run_keeps_the_rows_of_other_corruptions_of_its_schedule(tmp_path: Path) -> None:
    path = tmp_path / "corruption.json"
    old = [{"corruption": c, "schedule": s, "level": 1} for c, s in (("a", "x"), ("b", "x"), ("c", "y"))]
    _write(old, path, None)
    _write([{"corruption": "b", "schedule": "x", "level": 2}], path, tmp_path / "also.json")
    kept = [(r["corruption"], r["level"]) for r in json.loads(path.read_text())]
    assert kept == [("a", 1), ("b", 2)]
    assert (tmp_path / "also.json").read_text() == path.read_text()
