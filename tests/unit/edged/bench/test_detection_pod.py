"""POD curves: a known curve comes back, and what lies beyond the grid is null."""

import numpy as np
import pytest
from scipy.special import expit

from edged.bench.detection.pod import fit_pod, limit_of_goods

B0, B1 = -3.0, 4.0
A50, A90 = float(np.exp(-B0 / B1)), float(np.exp((np.log(9) - B0) / B1))


def drawn(
    n: int, seed: int, sizes: tuple[float, ...] = (0.5, 1, 2, 4, 8)
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    value = np.repeat(sizes, n)
    chance = 0.01 + 0.99 * expit(B0 + B1 * np.log(value))
    return value, rng.random(len(value)) < chance, [f"s{k % 16}" for k in range(len(value))]


def test_a_known_curve_comes_back() -> None:
    pod = fit_pod(*drawn(4000, 1))
    assert (pod.b0, pod.b1) == (pytest.approx(B0, abs=0.15), pytest.approx(B1, abs=0.2))
    assert pod.a50 == pytest.approx(A50, rel=0.03)
    assert pod.a90 == pytest.approx(A90, rel=0.03)
    assert pod.a90_95 == pytest.approx(A90, rel=0.06)
    assert pod.a90_95 > pod.a90


@pytest.mark.parametrize("hits", [(8, 13, 27, 30, 30), (6, 17, 24, 30, 30), (2, 16, 26, 30, 30), (4, 12, 30, 30, 30)])
def test_every_fit_arrives(hits: tuple[int, ...]) -> None:
    value = np.repeat([0.4, 0.8, 1.6, 3.3, 7.0], 30)
    found = np.concatenate([np.arange(30) < n for n in hits])
    pod = fit_pod(value, found, [f"s{k % 16}" for k in range(150)])
    fitted = 0.01 + 0.99 * expit(pod.b0 + pod.b1 * np.log([0.4, 0.8, 1.6, 3.3, 7.0]))
    assert fitted == pytest.approx(np.array(hits) / 30, abs=0.15)


def test_the_bound_covers_the_true_a90_about_as_often_as_it_says() -> None:
    bounds = [fit_pod(*drawn(30, seed)).a90_95 for seed in range(100)]
    covered = np.mean([bound is None or bound >= A90 for bound in bounds])
    assert 0.91 <= covered <= 1.0


def test_seams_of_a_session_that_fail_together_widen_the_bound() -> None:
    value = np.repeat([0.5, 1.0, 2.0, 4.0, 8.0], 160)
    session = [f"s{k % 16}" for k in range(800)]
    rng = np.random.default_rng(0)
    mood = {f"s{k}": m for k, m in enumerate(rng.normal(0, 1.5, 16))}
    together = expit(B0 + B1 * np.log(value) + [mood[s] for s in session]) > 0.5
    mixed = session.copy()
    rng.shuffle(mixed)
    apart = fit_pod(value, together, mixed)
    assert apart.a90 == pytest.approx(fit_pod(value, together, session).a90)
    assert fit_pod(value, together, session).a90_95 > 1.1 * apart.a90_95


def test_everything_found_is_at_the_lowest_size_or_below() -> None:
    value, _, session = drawn(30, 0)
    pod = fit_pod(value, np.ones(len(value), bool), session)
    assert (pod.a50, pod.a90) == (0.5, 0.5)
    assert 0.5 <= pod.a90_95 < 2.0


def test_nothing_found_is_beyond_the_grid() -> None:
    value, _, session = drawn(30, 0)
    pod = fit_pod(value, np.zeros(len(value), bool), session)
    assert (pod.a50, pod.a90, pod.a90_95) == (None, None, None)
    assert pod.why == "POD stays below 90 % up to 8"


def test_chance_hits_among_small_faults_do_not_flatten_the_curve() -> None:
    value, _, session = drawn(30, 0)
    hit = value >= 4
    clean = fit_pod(value, hit, session)
    hit[[3, 40]] = True  # of 90 below
    assert fit_pod(value, hit, session).a90 == pytest.approx(clean.a90, rel=0.1)


def test_half_found_at_the_last_size_has_an_a50_alone() -> None:
    value, _, session = drawn(40, 0)
    hit = (value == 8) & (np.arange(len(value)) % 10 < 6)
    pod = fit_pod(value, hit, session)
    assert 4 < pod.a50 < 8
    assert pod.a90 is None


def test_separated_faults_have_a_finite_curve_between_the_sizes() -> None:
    value, _, session = drawn(30, 0)
    pod = fit_pod(value, value >= 2, session)
    assert 1.0 < pod.a50 < 2.0
    assert pod.a50 < pod.a90 <= 2.0
    assert pod.a90_95 >= pod.a90


def test_larger_faults_found_less_often_have_no_a90() -> None:
    value, _, session = drawn(30, 0)
    assert fit_pod(value, value <= 1, session).a90 is None


def test_one_size_is_no_curve_and_a_size_of_nought_is_refused() -> None:
    assert fit_pod(np.ones(4), np.ones(4, bool), ["a"] * 4).why == "one size only; a curve needs several"
    with pytest.raises(ValueError, match="above 0"):
        fit_pod(np.array([0.0, 1.0]), np.ones(2, bool), ["a", "b"])
    with pytest.raises(ValueError, match="no fault"):
        fit_pod(np.empty(0), np.empty(0, bool), [])


def test_the_limit_is_the_conformal_rank() -> None:
    assert limit_of_goods(np.arange(1.0, 100.0)) == 99.0
    assert limit_of_goods(np.arange(1.0, 99.0)) is None
    assert limit_of_goods(np.arange(1.0, 600.0)) == 594.0
