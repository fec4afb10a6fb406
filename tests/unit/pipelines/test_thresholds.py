"""Conformal thresholds keep their promise and refuse when they cannot."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, kstest

from pipelines.thresholds import ThresholdTable, TooFewGoodsError, calibrate, goods_needed


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
