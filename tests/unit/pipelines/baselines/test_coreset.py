"""Coresets and the banks made of them."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pipelines.baselines.bank import LEAST, Bank, BankConfig, fit_bank
from pipelines.baselines.coreset import greedy_k_centre


def _clustered(n: int) -> np.ndarray:
    """Nearly all rows in one place, few far away: what random drawing misses."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, 24)) * 0.1
    rows[::50] += rng.standard_normal((len(rows[::50]), 24)) * 4
    return rows.astype(np.float32)


@pytest.mark.parametrize("dims", [16, 64])
def test_it_covers_better_than_random(dims: int) -> None:
    rows = _clustered(2000)
    chosen = greedy_k_centre(rows, 60, seed=1, dims=dims)
    radius = cdist(rows, rows[chosen]).min(1).max()
    rng = np.random.default_rng(2)
    drawn = [cdist(rows, rows[rng.choice(2000, 60, replace=False)]).min(1).max() for _ in range(5)]
    assert radius < 0.5 * min(drawn)


def test_members_are_distinct_even_among_equal_rows() -> None:
    assert sorted(greedy_k_centre(np.ones((9, 3), np.float32), 9, seed=0, dims=8)) == list(range(9))


def test_the_first_members_are_the_smaller_coreset() -> None:
    rows = _clustered(500)
    assert greedy_k_centre(rows, 40, 3, 16)[:15].tolist() == greedy_k_centre(rows, 15, 3, 16).tolist()


def test_it_is_the_greedy_choice_without_projection() -> None:
    rows = _clustered(200)
    chosen = greedy_k_centre(rows, 12, seed=5, dims=24)
    for i in range(1, 12):
        nearest = cdist(rows, rows[chosen[:i]]).min(1)
        assert nearest[chosen[i]] == pytest.approx(nearest.max(), rel=1e-3)


def test_more_members_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5 members out of 4 rows"):
        greedy_k_centre(np.zeros((4, 2), np.float32), 5, 0, 8)


def test_a_bank_finds_what_brute_force_finds() -> None:
    rows = _clustered(400)
    group = np.arange(400) % 2
    bank = fit_bank(rows, group, BankConfig(share=0.2), seed=0)
    assert len(bank.members) == 80
    cells = rows[:7] + 0.3
    distance, at = bank.nearest(cells, 1, 3)
    own = cdist(cells, bank.members)
    own[:, bank.owner != 1] = np.inf
    np.testing.assert_allclose(distance, np.sort(own, 1)[:, :3], rtol=1e-4)
    assert (bank.owner[at] == 1).all()


def test_a_truncated_bank_is_a_smaller_share() -> None:
    rows, group = _clustered(1000), np.arange(1000) % 2
    large = fit_bank(rows, group, BankConfig(share=0.4), seed=0)
    small = fit_bank(rows, group, BankConfig(share=0.1), seed=0)
    np.testing.assert_array_equal(large.truncated(0.25).members, small.members)
    assert large.state_mb == pytest.approx(4 * small.state_mb)


def test_few_cells_still_give_neighbours() -> None:
    bank = fit_bank(_clustered(100), np.zeros(100, np.int64), BankConfig(share=0.01), seed=0)
    assert len(bank.members) == LEAST


def test_what_the_bank_does_not_know_is_named() -> None:
    bank = Bank(np.zeros((3, 2), np.float32), np.array([0, 0, 4]))
    with pytest.raises(ValueError, match=r"program 1; it knows \[0, 4\]"):
        bank.nearest(np.zeros((1, 2), np.float32), 1, 1)
    with pytest.raises(ValueError, match="2 neighbours asked of program 4"):
        bank.nearest(np.zeros((1, 2), np.float32), 4, 2)


def test_a_share_beyond_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 1\.5"):
        fit_bank(_clustered(50), np.zeros(50, np.int64), BankConfig(share=1.5), 0)


def test_candidates_bound_the_choice() -> None:
    rows = _clustered(1000)
    bank = fit_bank(rows, np.zeros(1000, np.int64), BankConfig(share=0.05, candidates=60), seed=0)
    everyone = fit_bank(rows, np.zeros(1000, np.int64), BankConfig(share=0.05), seed=0)
    assert len(bank.members) == len(everyone.members) == 50
    assert not np.array_equal(bank.members, everyone.members)
