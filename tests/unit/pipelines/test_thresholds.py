"""Conformal thresholds keep their promise and refuse when they cannot."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, kstest

from pipelines.thresholds import ThresholdTable, TooFewGoodsError, applied, calibrate, goods_needed
from pipelines.window import Score, TimelinePoint


@pytest.mark.parametrize(("alpha", "needed"), [(0.01, 99), (0.05, 19), (0.5, 1), (0.1, 9)])
def test_goods_needed(alpha: float, needed: int) -> None:
    assert goods_needed(alpha) == needed
    calibrate("m", "p", ("welder",), [1.0] * needed, alpha)
    with pytest.raises(TooFewGoodsError, match="record 1 more"):
        calibrate("m", "p", ("welder",), [1.0] * (needed - 1), alpha)


def test_false_alarms_keep_the_budget_on_average() -> None:
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        threshold = calibrate("m", "p", (), np.exp(rng.standard_normal(120)).tolist(), 0.05)
        rates.append(float(np.mean(np.exp(rng.standard_normal(500)) > threshold.value)))
    assert 0.03 < np.mean(rates) <= 0.052


@pytest.mark.parametrize(("goods", "alpha"), [(99, 0.01), (120, 0.05), (30, 0.1)])
def test_the_realised_rate_is_the_beta_that_conformal_theory_gives(goods: int, alpha: float) -> None:
    """Beta(k, n + 1 − k), k = ⌊α (n + 1)⌋. On uniform scores the rate beyond a limit is 1 − limit."""
    rng = np.random.default_rng(2)
    rates = [1.0 - calibrate("m", "p", (), rng.random(goods).tolist(), alpha).value for _ in range(3000)]
    k = int(alpha * (goods + 1) + 1e-9)
    theory = beta(k, goods + 1 - k)
    assert np.mean(rates) == pytest.approx(theory.mean(), rel=0.06)
    assert theory.mean() <= alpha
    assert kstest(rates, theory.cdf).pvalue > 0.01
    if goods == 99:  # what a budget of 1 % may turn out to be, 19 times of 20
        assert np.quantile(rates, 0.95) == pytest.approx(0.03, abs=0.003)


def test_flagged_exactly_when_p_is_within_the_budget() -> None:
    rng = np.random.default_rng(1)
    threshold = calibrate("m", "p", (), rng.exponential(size=150).tolist(), 0.05)
    for raw in [*threshold.scores, *rng.exponential(size=50).tolist(), 100.0]:
        assert (raw > threshold.value) == (threshold.p_value(raw) <= 0.05)


def test_refuses_scores_that_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="positive"):
        calibrate("m", "p", (), [0.0] * 99)


def test_table_is_keyed_by_model_program_and_streams(tmp_path: Path) -> None:
    table = ThresholdTable([calibrate("m", "p", ("welder", "audio"), [float(i + 1) for i in range(99)])])
    table.save(tmp_path / "thresholds.json")
    found = ThresholdTable.load(tmp_path / "thresholds.json")
    hit = found.find("m", "p", ("audio", "welder"))
    assert hit is not None
    assert (hit.value, hit.p_value(1000.0), hit.p_value(0.5)) == (99.0, 0.01, 1.0)
    assert hit.threshold_id == next(iter(table)).threshold_id
    assert found.find("m", "p", ("welder",)) is None
    assert found.find("other", "p", ("audio", "welder")) is None
    assert ThresholdTable.load(tmp_path / "absent.json").find("m", "p", ()) is None


def test_coverage_holds_for_each_set_of_streams_and_for_a_share_of_a_parts_budget() -> None:
    """Per-set limits from one and the same goods, at α and at α / m: a new good exceeds each that often at most."""
    rng = np.random.default_rng(2)
    hits = {("all", 0.05): 0, ("all", 0.01): 0, ("less", 0.05): 0, ("less", 0.01): 0}
    part_of_five_flagged, runs = 0, 1500
    for _ in range(runs):
        both = rng.exponential(size=(105, 2))
        scores = {"all": both.max(1), "less": both[:, 0]}
        for name, raw in scores.items():
            threshold = calibrate("m", "p", (name,), raw[:100].tolist(), 0.05)
            for alpha in (0.05, 0.01):
                hits[name, alpha] += bool(raw[100] > threshold.limit(alpha))
        whole = calibrate("m", "p", ("all",), scores["all"][:100].tolist(), 0.05)
        part_of_five_flagged += bool((scores["all"][100:] > whole.limit(0.05 / 5)).any())
    for (_, alpha), count in hits.items():
        assert count / runs == pytest.approx(
            alpha * (0.99 if alpha == 0.01 else 1.0), abs=3.5 * (alpha / runs) ** 0.5
        )
    assert part_of_five_flagged / runs <= 0.05 + 2.5 * (0.05 / runs) ** 0.5


def test_the_limit_of_another_budget_comes_from_the_same_goods_or_is_refused() -> None:
    threshold = calibrate("m", "p", (), [float(i + 1) for i in range(199)], 0.01)
    assert (threshold.value, threshold.limit(), threshold.limit(0.01)) == (198.0, 198.0, 198.0)
    assert (threshold.limit(0.005), threshold.limit(0.1)) == (199.0, 180.0)
    with pytest.raises(TooFewGoodsError, match="record 1 more"):
        threshold.limit(1 / 201)


def test_ids_of_older_thresholds_stay_and_every_new_word_makes_another() -> None:
    plain = calibrate("m", "p", ("welder",), [float(i + 1) for i in range(99)])
    said = json.dumps(["m", "p", ["welder"], 0.01, 99.0, [float(i + 1) for i in range(99)]])
    assert plain.threshold_id == f"p-{hashlib.sha256(said.encode()).hexdigest()[:12]}"
    changes = ({"calibration_id": "c"}, {"signal": "live"}, {"sessions": 3}, {"learned_utc": "2026"})
    others = [dataclasses.replace(plain, **change).threshold_id for change in changes]  # type: ignore[arg-type]
    assert len({plain.threshold_id, *others}) == 5


def test_rows_of_other_calibrations_and_signals_are_apart(tmp_path: Path) -> None:
    plain = calibrate("m", "p", ("welder",), [float(i + 1) for i in range(99)], sessions=4)
    rows = [plain, dataclasses.replace(plain, calibration_id="c"), dataclasses.replace(plain, signal="live")]
    rows[1] = dataclasses.replace(rows[1], interval=(0.0, 0.04), interval_by_session=(0.0, 0.1), learned_utc="2026")
    ThresholdTable(rows).save(tmp_path / "t.json")
    found = ThresholdTable.load(tmp_path / "t.json")
    assert sorted(found, key=repr) == sorted(rows, key=repr)
    assert found.find("m", "p", ("welder",), "c") == rows[1]
    assert found.find("m", "p", ("welder",), signal="live") == rows[2]
    assert found.find("m", "p", ("welder",), "other") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "version"),
        ('{"version": 2}', "version 2"),
        ('{"version": 1, "thresholds": [{}]}', "no threshold"),
        ('{"version": 1, "thresholds": [{"colour": 1, "streams": [], "scores": []}]}', "no threshold"),
        ('{"version": 1}', "no threshold"),
        ("{", "Expecting"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        ThresholdTable.load(tmp_path / "t.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0, "7"])
def test_a_limit_that_limits_nothing_is_refused(tmp_path: Path, value: object) -> None:
    row = {"model_id": "m", "program": "p", "streams": [], "alpha": 0.01, "value": value, "scores": [1.0]}
    (tmp_path / "t.json").write_text(json.dumps({"version": 1, "thresholds": [row]}))
    with pytest.raises(ValueError, match="finite numbers above 0"):
        ThresholdTable.load(tmp_path / "t.json")


def test_a_score_seen_by_another_threshold() -> None:
    threshold = calibrate("m", "p", ("welder",), [float(i + 1) for i in range(99)])
    score = Score(50.0, 25.0, None, 2.0, "t", "m", {}, timeline=(TimelinePoint(1.0, None, 25.0),))
    found = applied(score, threshold)
    assert (found.score, found.threshold, found.threshold_id) == (50 / 99, 99.0, threshold.threshold_id)
    assert found.timeline[0].score == pytest.approx(50 / 99)
    bare = applied(found, None)
    assert (bare.score, bare.p_value, bare.threshold, bare.threshold_id) == (None, None, None, None)
    assert bare.timeline[0].score == pytest.approx(50.0)
