"""The intervals of the realised false-alarm rate contain it as often as they say, also where sessions differ."""

import numpy as np
import pytest
from scipy.stats import norm

from pipelines.false_alarms import (
    across_sessions,
    clustered_interval,
    effective_goods,
    exchangeable_interval,
    with_intervals,
)
from pipelines.thresholds import calibrate


def test_ninety_nine_goods_promise_one_percent_and_bound_it_by_four() -> None:
    low, high = exchangeable_interval(99, 0.01)
    assert low == pytest.approx(1 - 0.975 ** (1 / 99))
    assert high == pytest.approx(1 - 0.025 ** (1 / 99))


def realised(
    rng: np.random.Generator, sessions: int, each: int, between: float
) -> tuple[float, list[float], list[str]]:
    """The true rate of a limit at 10 % from such goods: log-normal scores, whose sessions differ by `between`."""
    offsets = np.repeat(rng.normal(0, between, sessions), each)
    raw = np.exp(offsets + rng.normal(0, np.sqrt(1 - between**2), sessions * each))
    names = [f"s{i // each}" for i in range(sessions * each)]
    limit = calibrate("m", "p", (), raw.tolist(), 0.1, sessions=sessions).value
    return float(norm.sf(np.log(limit))), raw.tolist(), names


def covered(between: float, clustered: bool) -> float:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(200):
        rate, raw, names = realised(rng, 12, 20, between)
        low, high = clustered_interval(raw, names, 0.1) if clustered else exchangeable_interval(240, 0.1)
        hits.append(low <= rate <= high)
    return float(np.mean(hits))


def test_coverage_of_both_intervals() -> None:
    assert covered(0.0, clustered=False) >= 0.92
    assert covered(0.0, clustered=True) >= 0.92
    assert covered(0.5, clustered=False) < 0.85, "sessions that differ must show, or this test shows nothing"
    assert covered(0.5, clustered=True) >= 0.92


def test_goods_of_one_session_and_single_goods_count_as_they_are() -> None:
    assert effective_goods([1.0, 2.0, 3.0], ["a", "a", "a"]) == 3.0
    assert effective_goods([1.0, 2.0, 3.0], ["a", "b", "c"]) == 3.0
    same = [1.0] * 5 + [2.0] * 5 + [3.0] * 5
    assert effective_goods(same, ["a"] * 5 + ["b"] * 5 + ["c"] * 5) == pytest.approx(3.0)


def test_a_session_unlike_the_others_shows_when_it_is_left_out() -> None:
    raw = [*(float(i + 1) for i in range(40)), *(100.0 + i for i in range(10))]
    sessions = [f"s{i // 10}" for i in range(50)]
    rate = across_sessions(raw, sessions, 0.1)
    assert rate.value == pytest.approx(10 / 50)
    assert rate.n == 50
    assert across_sessions(raw[:10], sessions[:10], 0.1).value == 0.0, "one session alone has no others"


def test_a_threshold_gets_both_intervals() -> None:
    raw, sessions = [float(i + 1) for i in range(40)], [f"s{i // 10}" for i in range(40)]
    found = with_intervals(calibrate("m", "p", (), raw, 0.1), raw, sessions)
    assert found.sessions == 4
    assert found.interval == exchangeable_interval(40, 0.1)
    assert found.interval_by_session is not None
    assert found.interval_by_session[1] > found.interval[1], "these sessions are as unlike as can be"
