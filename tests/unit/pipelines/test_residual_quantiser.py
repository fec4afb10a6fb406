"""The residual quantiser: what another level, a dead code and the first level's directions do."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.residual_quantiser import ROWS_PER_CODE, QuantiserConfig, ResidualQuantiser, fit_quantiser


def rms(quantiser: ResidualQuantiser, x: np.ndarray) -> float:
    return float(np.sqrt((quantiser.error(x).astype(np.float64) ** 2).mean()))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    rows=st.integers(1, 400),
    channels=st.integers(1, 9),
    normalise_first=st.booleans(),
    offset=st.sampled_from([0.0, 3.0]),
)
def test_another_level_never_makes_the_error_of_the_goods_larger(
    seed: int, rows: int, channels: int, normalise_first: bool, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    x = (offset + rng.standard_normal((rows, channels)) * rng.gamma(1.0, size=(rows, 1))).astype(np.float32)
    config = QuantiserConfig(levels=4, codes=16, iterations=5, normalise_first=normalise_first, seed=seed)
    quantiser = fit_quantiser(x, config)
    sizes = [rms(ResidualQuantiser(quantiser.codebooks[:level]), x) for level in range(1, 5)]
    assert all(later <= earlier * (1 + 1e-5) + 1e-6 for earlier, later in itertools.pairwise(sizes)), sizes
    assert sizes[0] <= np.sqrt((x.astype(np.float64) ** 2).sum(1).mean()) * (1 + 1e-5)


def test_the_error_is_what_the_nearest_codes_leave_over() -> None:
    codebooks = (np.array([[0, 0], [10, 0]], np.float32), np.array([[0, 1], [0, -1]], np.float32))
    x = np.array([[[10, 1], [9, 1]], [[0, -3], [4, 1]]], np.float32)
    np.testing.assert_allclose(ResidualQuantiser(codebooks).error(x), [[0, 1], [2, 4]], atol=1e-6)


def test_no_code_stays_dead() -> None:
    # A random start draws almost surely only from the still plate; three rare places must get a code all the same.
    x = np.zeros((2000, 3), np.float32)
    x[:5], x[5:10], x[10:15] = (9, 0, 0), (0, 9, 0), (0, 0, 9)
    for normalise_first in (False, True):
        quantiser = fit_quantiser(x, QuantiserConfig(levels=1, codes=4, normalise_first=normalise_first))
        assert quantiser.error(x).max() < 1e-4
        assert len(np.unique(quantiser.codebooks[0].round(3), axis=0)) == 4


def test_directions_that_are_all_the_same_do_not_cost_a_code() -> None:
    x = np.zeros((400, 2), np.float32)
    x[:, 0] = np.repeat([1, 2, 30, 31], 100)
    (codes,) = fit_quantiser(x, QuantiserConfig(levels=1, codes=3)).codebooks
    assert codes[:, 0].max() > 29


def test_level_one_clusters_directions_and_its_codes_are_means_of_the_members_as_they_are() -> None:
    rng = np.random.default_rng(0)
    length = rng.uniform(1, 100, 400).astype(np.float32)
    axis = np.arange(400) % 2
    x = np.stack([np.where(axis == 0, length, 0), np.where(axis == 1, length, 0)], 1)
    by_direction = fit_quantiser(x, QuantiserConfig(levels=1, codes=2, normalise_first=True))
    means = [length[axis == 0].mean(), length[axis == 1].mean()]
    found = by_direction.codebooks[0][np.argsort(-by_direction.codebooks[0][:, 0])]
    np.testing.assert_allclose(found, np.diag(means), rtol=1e-5)
    raw = fit_quantiser(
        np.repeat([[1.0, 0.0], [90.0, 0.0], [91.0, 0.0]], 100, 0).astype(np.float32),
        QuantiserConfig(levels=1, codes=2, normalise_first=False),
    )
    assert raw.codebooks[0][:, 0].min() == pytest.approx(1.0, rel=1e-3)  # lengths part them where directions cannot


def test_the_same_seed_gives_the_same_codes_and_another_seed_others() -> None:
    x = np.random.default_rng(1).standard_normal((900, 5)).astype(np.float32)
    first, again, other = (fit_quantiser(x, QuantiserConfig(codes=8, seed=seed)) for seed in (3, 3, 4))
    for one, same in zip(first.codebooks, again.codebooks, strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first.codebooks[0], other.codebooks[0])


@pytest.mark.parametrize(("rows", "codes"), [(10, 1), (ROWS_PER_CODE * 3 + 5, 3), (ROWS_PER_CODE * 50, 8)])
def test_few_rows_get_few_codes(rows: int, codes: int) -> None:
    x = np.random.default_rng(2).standard_normal((rows, 4)).astype(np.float32)
    assert [len(c) for c in fit_quantiser(x, QuantiserConfig(levels=2, codes=8)).codebooks] == [codes, codes]


def test_at_most_so_many_rows_a_code_are_clustered() -> None:
    x = np.random.default_rng(3).standard_normal((5000, 4)).astype(np.float32)
    told: list[float] = []
    drawn = fit_quantiser(x, QuantiserConfig(codes=8, rows_per_code=50), lambda _, error: told.append(error))
    every = fit_quantiser(x, QuantiserConfig(codes=8))
    assert len(told) == 4
    assert told == sorted(told, reverse=True)
    assert rms(every, x) < rms(drawn, x) < 1.3 * rms(every, x)


def test_what_is_fitted_stays_as_it_was_and_comes_back_from_a_file() -> None:
    x = np.random.default_rng(4).standard_normal((400, 4)).astype(np.float32)
    before = x.copy()
    quantiser = fit_quantiser(x, QuantiserConfig(codes=4))
    error = quantiser.error(x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(ResidualQuantiser.from_tensors(quantiser.tensors()).error(x), error)


def test_blocks_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(5).standard_normal((500, 6)).astype(np.float32)
    quantiser = fit_quantiser(x, QuantiserConfig(codes=8))
    whole = quantiser.error(x)
    monkeypatch.setattr("pipelines.residual_quantiser.BLOCK_ROWS", 7)
    np.testing.assert_allclose(quantiser.error(x), whole, rtol=1e-4)


def test_wrong_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        fit_quantiser(np.zeros((0, 3), np.float32), QuantiserConfig())
    quantiser = fit_quantiser(np.ones((50, 3), np.float32), QuantiserConfig(codes=1))
    with pytest.raises(ValueError, match="fitted on 3 channels, got cells of 4"):
        quantiser.error(np.ones((2, 4), np.float32))
