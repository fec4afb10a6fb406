"""Figures of different tails become alike: what is as rare gets the same z-score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.gaussian import fit_standard, standards_from_tensors, standards_to_tensors
from pipelines.tails import LEAST_EXCESSES, Tail, fit_tail

DRAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy": lambda rng, n: rng.standard_t(3, n),
    "skewed": lambda rng, n: rng.gumbel(size=n) - 0.37,
}
FIGURE = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("law", DRAWS)
@pytest.mark.parametrize(("z", "share"), [(1.6449, 0.05), (2.3263, 0.01)])
def test_one_good_in_a_hundred_exceeds_what_one_in_a_hundred_should(law: str, z: float, share: float) -> None:
    rng = np.random.default_rng(3)
    tail = fit_tail(DRAWS[law](rng, 4000))
    assert tail is not None
    fresh = tail.normal(DRAWS[law](rng, 40_000))
    assert np.mean(fresh > z) == pytest.approx(share, rel=0.2)


def test_a_heavy_tail_is_told_from_a_normal_one() -> None:
    rng = np.random.default_rng(4)
    heavy, normal = (fit_tail(DRAWS[law](rng, 4000)) for law in ("heavy", "normal"))
    assert heavy is not None
    assert normal is not None
    assert heavy.shape > 0.15
    assert normal.shape < 0.05
    assert heavy.normal(7.0) < 4 < normal.normal(7.0)


@given(FIGURE, FIGURE, st.floats(0.1, 5), st.floats(0, 0.5), st.floats(1e-3, 10))
def test_what_is_larger_stays_larger(a: float, b: float, begin: float, shape: float, scale: float) -> None:
    tail = Tail(begin, shape, scale)
    low, high = tail.normal(min(a, b)), tail.normal(max(a, b))
    assert np.isfinite([low, high]).all()
    assert high >= low - 1e-9


def test_it_is_without_a_step_where_the_tail_begins() -> None:
    tail = Tail(1.3, 0.2, 0.5)
    below, above = tail.normal(np.array([1.3 - 1e-7, 1.3 + 1e-7]))
    assert below == pytest.approx(above, abs=1e-4)
    assert tail.normal(0.0) == 0
    assert np.isnan(tail.normal(np.nan))


def test_goods_must_be_enough_and_differ() -> None:
    rng = np.random.default_rng(5)
    assert fit_tail(rng.standard_normal(10 * LEAST_EXCESSES - 10)) is None
    assert fit_tail(np.zeros(1000)) is None
    assert fit_tail(np.where(np.arange(1000) < 880, 0.0, 1.0)) is None  # all beyond the quantile alike


def test_a_standard_asks_its_tail_and_a_model_keeps_it() -> None:
    rng = np.random.default_rng(6)
    distance, program = np.exp(rng.standard_t(3, 600)), np.arange(600) % 2
    plain, mapped = (fit_standard(distance, program, 2, tail=tail) for tail in (False, True))
    assert plain.tail is None
    assert mapped.tail is not None
    assert mapped.z(np.exp(8.0), 0) < plain.z(np.exp(8.0), 0) - 1
    kept = standards_from_tensors(standards_to_tensors({"s_R": mapped, "s_P": plain}))
    assert kept["s_P"].tail is None
    assert kept["s_R"].tail == mapped.tail
    assert kept["s_R"].z(distance, program) == pytest.approx(mapped.z(distance, program))


def test_a_model_from_before_has_no_tail() -> None:
    kept = standards_from_tensors({"s_P.location": np.zeros(1), "s_P.scale": np.ones(1)})
    assert list(kept) == ["s_P"]
    assert kept["s_P"].tail is None
    assert kept["s_P"].z(np.exp(50.0), 0) == pytest.approx(50.0)
