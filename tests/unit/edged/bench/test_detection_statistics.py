"""Rows of a run: figures that are known by construction, and what is null."""

import dataclasses

import numpy as np
import pytest

from edged.bench.detection.along import stretches
from edged.bench.detection.clusters import Clusters, draws, interval, two_sided_p
from edged.bench.detection.scored import Run, TestSeam
from edged.bench.detection.statistics import FIELDS, check_run, run_rows
from pipelines.metrics import auroc
from tests.support.synthetic_runs import a_run, row, seams, with_part


def found(rows: list[dict], **asked: object) -> dict:
    wanted = {"family": None, "type": None, "severity": None, "ablation": None} | asked
    (only,) = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return only


def test_area_and_interval_are_those_of_the_metrics_module() -> None:
    tested = seams(200, 4)
    run = a_run(row(pipeline="x"), {"both": 0.8}, tested)
    bad, session = [s.bad for s in tested], [s.session for s in tested]
    clusters = Clusters.of(bad, np.round(run.score, 1), session)  # rounding makes ties
    expected = auroc(bad, np.round(run.score, 1).tolist(), session)
    assert clusters.area() == pytest.approx(expected.value)
    ours = interval(clusters.areas(draws(len(clusters.sessions))), len(clusters.sessions))
    assert ours == pytest.approx(expected.ci)


def test_a_session_that_lacks_goods_or_bads_counts_for_what_it_has() -> None:
    clusters = Clusters.of([True, False, False], np.array([2.0, 1.0, 3.0]), ["a", "b", "b"])
    assert clusters.area() == 0.5
    areas = clusters.areas(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    assert areas[0] == 0.5
    assert np.isnan(areas[1:]).all()


def test_p_is_two_sided_and_never_nought() -> None:
    assert two_sided_p(np.full(999, 0.3)) == pytest.approx(2 / 1000)
    assert two_sided_p(np.full(999, -0.3)) == pytest.approx(2 / 1000)
    assert two_sided_p(np.concatenate([np.full(500, 1.0), np.full(499, -1.0)])) == 1.0


def test_known_aurocs_come_back_in_every_row() -> None:
    run = a_run(row(pipeline="causal_hm_full"), {"process": 0.9, "both": 0.75}, seams(3000, 200))
    rows = run_rows(run, 200)
    assert [list(r) for r in rows] == [list(FIELDS)] * (1 + 4 + 5 + 25)
    assert found(rows, family="process")["auroc"] == pytest.approx(0.9, abs=0.015)
    assert found(rows, family="both")["auroc"] == pytest.approx(0.75, abs=0.015)
    assert found(rows, family="pair")["auroc"] == pytest.approx(0.5, abs=0.025)
    assert found(rows)["auroc"] == pytest.approx((0.9 + 2 * 0.75 + 0.5 + 0.5) / 5, abs=0.015)
    low, high = found(rows, family="both")["ci"]
    assert low < 0.75 < high
    assert high - low < 0.06
    assert found(rows)["far"] == pytest.approx(0.01, abs=0.006)
    assert (found(rows)["n_good"], found(rows, family="both", type="undercut", severity=2)["n_bad"]) == (3000, 200)


def test_partial_area_is_standardised() -> None:
    tested = [TestSeam(str(k), "p", f"s{k % 4}", "good" if k < 100 else "pair", None if k < 100 else "d", 1)
              for k in range(200)]  # fmt: skip
    perfect = Run(row(pipeline="x"), tuple(tested), np.array([0.0] * 100 + [1.0] * 100))
    useless = Run(row(pipeline="x"), tuple(tested), np.arange(200) % 100 * 1.0)
    late = Run(row(pipeline="x"), tuple(tested), np.array([0.0] * 80 + [2.0] * 20 + [1.0] * 100))
    assert run_rows(perfect, 50)[0]["auroc_fpr10"] == 1.0
    assert run_rows(useless, 50)[0]["auroc_fpr10"] == pytest.approx(0.5, abs=0.01)
    assert run_rows(late, 50)[0]["auroc"] == 0.8
    assert run_rows(late, 50)[0]["auroc_fpr10"] < 0.5  # nothing is found before 20 % false alarms


def test_f1_at_the_limit_by_hand() -> None:
    tested = tuple(
        TestSeam(str(k), "p", "s", "good" if k < 4 else "both", None if k < 4 else "t", 1) for k in range(8)
    )
    run = Run(
        row(pipeline="x"), tested, np.array([0.5, 0.5, 0.5, 1.5, 0.9, 1.0, 1.1, 2.0])
    )  # 1.0 itself is not flagged
    first = run_rows(run, 50)[0]
    assert first["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert first["far"] == 0.25
    assert first["ci"] is None  # one session


def test_tau_says_whether_the_score_grows_with_severity() -> None:
    tested = seams(100, 10)
    up = Run(row(pipeline="x"), tested, np.array([1.0 + (s.severity or 0) for s in tested]))
    down = Run(row(pipeline="x"), tested, np.array([9.0 - (s.severity or 0) for s in tested]))
    flat = Run(row(pipeline="x"), tested, np.ones(len(tested)))
    assert found(run_rows(up, 50), family="both", type="undercut")["severity_tau"] == pytest.approx(1.0)
    assert found(run_rows(down, 50), family="both", type="undercut")["severity_tau"] == pytest.approx(-1.0)
    assert found(run_rows(flat, 50), family="both", type="undercut")["severity_tau"] is None
    assert found(run_rows(up, 50), family="both")["severity_tau"] is None  # of one type only


def test_parts_are_rows_without_limit_or_severities() -> None:
    plain = a_run(row(pipeline="causal_hm_full"), {"pair": 0.6}, seams(400, 10))
    run = with_part(plain, "s_RP", {"pair": 0.95}, 5)
    rows = run_rows(run, 100)
    part = found(rows, ablation="part:s_RP", family="pair")
    assert part["auroc"] == pytest.approx(0.95, abs=0.04)
    assert (part["f1"], part["far"], part["latency_ms_p50"]) == (None, None, None)
    assert not [r for r in rows if r["ablation"] == "part:s_RP" and r["severity"] is not None]
    ablated = run_rows(dataclasses.replace(run, row=row(pipeline="x", ablation="sensor:off")), 20)
    assert {r["ablation"] for r in ablated} == {"sensor:off", "sensor:off+part:s_RP"}


def test_place_along_the_seam() -> None:
    tested = (
        TestSeam("g", "p", "a", "good"),
        TestSeam("b", "p", "b", "both", "undercut", 1, 1.0, "mm", 20.0, 40.0),
        TestSeam("short", "p", "b", "both", "undercut", 1, 1.0, "mm", 62.0, 63.0),
        TestSeam("nowhere", "p", "b", "both", "undercut", 1, 1.0, "mm"),
        TestSeam("beyond", "p", "b", "both", "undercut", 1, 1.0, "mm", 120.0, 130.0),
    )
    rows = np.zeros((5, 10))
    rows[1, 2:4] = rows[2, 6] = 1.0
    rows[0, 9] = np.nan
    about = row(pipeline="x")
    run = Run(about, tested, np.arange(5.0), rows=rows, rows_mm=np.tile([0.0, 100.0], (5, 1)))
    mask = stretches(run)
    assert [np.flatnonzero(m).tolist() for m in mask] == [[], [2, 3], [6], [], []]
    first = run_rows(run, 20)[0]
    assert (first["pixel_auroc"], first["aupro"]) == (1.0, 1.0)
    blind = dataclasses.replace(run, rows=np.zeros((5, 10)))
    first = run_rows(blind, 20)[0]
    assert first["pixel_auroc"] == pytest.approx(0.5)
    assert first["aupro"] == pytest.approx(0.15)
    assert found(run_rows(run, 20), family="both", type="undercut", severity=1)["aupro"] is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": np.array([1.0, np.nan])}, "score of seam b is NaN"),
        ({"score": np.ones(3)}, r"score is \(3,\) for 2 seams"),
        ({"parts": {"s_P": np.ones(1)}}, r"s_P is \(1,\)"),
        ({"seams": (TestSeam("a", "p", "s", "good"),) * 2}, "1 seams stand twice"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(change: dict, says: str) -> None:
    run = Run(row(pipeline="x"), (TestSeam("a", "p", "s", "good"), TestSeam("b", "p", "s", "pair", "d")), np.ones(2))
    check_run(run)
    with pytest.raises(ValueError, match=says):
        check_run(dataclasses.replace(run, **change))
