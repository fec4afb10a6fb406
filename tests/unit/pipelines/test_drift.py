"""The alarm rings for a shift before false alarms pile up, hardly ever without one, and the same when shown again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.drift import ALARM, LAG, DriftTest


def run(seed: int, shift: float, goods: int = 199, seams: int = 600) -> tuple[DriftTest, int]:
    """A cell with normal scores whose good seams shift after arming; its test, and flags before the alarm."""
    rng = np.random.default_rng(seed)
    calibration = np.sort(rng.normal(size=goods))
    limit = float(calibration[round((goods + 1) * 0.99) - 1])
    test = DriftTest.of(calibration.tolist(), limit)
    flags = 0
    for i, raw in enumerate(rng.normal(shift, 1, seams)):
        flags += test.alarm_at is None and raw >= limit
        test.add(float(raw), str(i))
    return test, flags


def test_a_shift_from_one_to_three_percent_is_seen_within_few_false_alarms() -> None:
    """2.326 − 1.881 standard deviations; nobody could tell 3 % from 1 % by so few flags."""
    found = [run(seed, 0.446) for seed in range(12)]
    assert all(test.alarm_at is not None for test, _ in found)
    assert np.median([test.alarm_at for test, _ in found]) < 200
    assert np.mean([flags for _, flags in found]) < 8


def test_without_a_shift_it_is_silent() -> None:
    assert [run(100 + seed, 0.0, seams=1500)[0].alarm_at for seed in range(8)] == [None] * 8


def test_a_drop_is_no_alarm() -> None:
    assert run(7, -0.6)[0].alarm_at is None


def test_once_rung_it_stays_and_rings_once() -> None:
    test = DriftTest.of([float(i) for i in range(100)], 100.0)
    rung = [test.add(98.5, str(i)) for i in range(60)]
    assert sum(rung) == 1
    assert test.alarm_at == rung.index(True) + 1
    for i in range(2000):
        test.add(1.0, f"low {i}")
    assert test.evidence < ALARM
    assert test.alarm_at == rung.index(True) + 1


def test_scores_beyond_the_limit_are_not_accepted_ones() -> None:
    test = DriftTest.of([1.0] * 20, 2.0)
    assert not test.add(2.0, "a")
    assert test.seams == 0


def test_a_seam_joins_the_reference_only_later() -> None:
    test = DriftTest.of([float(i) for i in range(10)], 100.0)
    for i in range(LAG):
        test.add(50.0, str(i))
    assert len(test.reference) == 10
    test.add(50.0, "next")
    assert len(test.reference) == 11


@given(raws=st.lists(st.floats(0.0, 9.0), max_size=60), ties=st.booleans())
def test_shown_again_it_is_the_same(raws: list[float], ties: bool) -> None:
    """What the daemon does after a restart."""
    scores = [float(i // 3 if ties else i) for i in range(30)]
    tests = [DriftTest.of(scores, 10.0) for _ in range(2)]
    for test in tests:
        for i, raw in enumerate(raws):
            test.add(raw, str(i))
    assert tests[0] == tests[1]
    assert np.isfinite(tests[0].evidence)


def test_the_expectation_of_its_evidence_is_the_number_of_seams() -> None:
    """P(alarm within n) ≤ n / c rests on this: exact before the first seam joins the reference."""
    rng = np.random.default_rng(3)
    means = []
    for run_index in range(3000):
        test = DriftTest.of(np.sort(rng.normal(size=60)).tolist(), 1e9)
        test.add(float(rng.normal()), f"{run_index}")
        means.append(test.evidence)
    assert np.mean(means) == pytest.approx(1.0, abs=0.1)


def rings(sessions_differ: bool, rho: float) -> int:
    """In how many of ten cells the alarm rings, whose sessions of 50 differ by 0.4 standard deviations or not."""
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        between = 0.4 if sessions_differ else 0.0
        within = np.sqrt(1 - between**2)
        goods = np.concatenate([rng.normal(rng.normal(0, between), within, 10) for _ in range(30)])
        seams = np.concatenate([rng.normal(rng.normal(0, between), within, 50) for _ in range(20)])
        test = DriftTest.of(goods.tolist(), 9.0, rho)
        found += any(test.add(float(raw), str(i), str(i // 50)) for i, raw in enumerate(seams))
    return found


def test_sessions_that_are_known_to_differ_are_no_drift() -> None:
    assert rings(sessions_differ=True, rho=0.0) >= 7, "or this test shows nothing"
    assert rings(sessions_differ=True, rho=0.16) <= 2


def test_within_a_session_the_bet_is_the_ratio_of_two_normal_random_effects() -> None:
    """The chain of predictive ratios is the joint ratio: N(δ1, Σ) against N(0, Σ), Σ = (1 − ρ)I + ρ11ᵀ."""
    from scipy.stats import multivariate_normal

    z, rho = np.array([0.4, -1.1, 2.0, 0.7]), 0.3
    cov = (1 - rho) * np.eye(4) + rho
    test = DriftTest([0.0] * 10, 1.0, rho)
    whole = 0.0
    for value in z:
        before = list(test.sums)
        test._bet(float(value), "one")
        whole += np.log(test.sums[1] / (1 + before[1]))
    wanted = multivariate_normal.logpdf(z, np.full(4, 0.6), cov) - multivariate_normal.logpdf(z, np.zeros(4), cov)
    assert whole == pytest.approx(wanted)
