"""The likelihood ratio of pairs on a Gaussian that is known, and the held-out R²."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from edged.bench.pairs import held_out, latents_of, likelihood_ratio, pair_bayes
from edged.bench.study import plan_study


def test_ratio_is_that_of_the_true_gaussian() -> None:
    rng = np.random.default_rng(0)
    rho = 0.8
    cov = np.array([[1.0, rho], [rho, 1.0]])
    joint = rng.multivariate_normal([0, 0], cov, 200_000)
    # Scale and offset must not matter.
    ratio = likelihood_ratio(100 + 7 * joint[:, :1], -3 + 0.01 * joint[:, 1:])
    x = rng.normal(size=(50, 2))
    alone = multivariate_normal([0.0], [[1.0]])
    true = multivariate_normal([0, 0], cov).logpdf(x) - alone.logpdf(x[:, 0]) - alone.logpdf(x[:, 1])
    found = ratio(100 + 7 * x[:, :1], -3 + 0.01 * x[:, 1:])
    np.testing.assert_allclose(found, true, atol=0.15)


def test_independent_halves_have_no_ratio() -> None:
    rng = np.random.default_rng(1)
    p, r = rng.normal(size=(50_000, 2)), rng.normal(size=(50_000, 2))
    assert abs(likelihood_ratio(p, r)(p[:200], r[:200])).max() < 0.1
    with pytest.raises(ValueError, match="never varies"):
        likelihood_ratio(np.ones((10, 1)), r[:10])


def test_latents_of_pairs_can_be_told_but_not_always() -> None:
    found = pair_bayes(plan_study(96), seed=1, draws=60)
    assert found.value is not None
    assert found.ci is not None
    assert 0.6 < found.ci[0] < found.value < found.ci[1] < 1.0


def test_latents_are_finite_and_in_order() -> None:
    process, result = latents_of(plan_study(8).base[0])
    assert process.shape == (4,)
    assert result.shape == (3,)
    assert np.isfinite([*process, *result]).all()


def test_held_out_r2_is_what_the_noise_leaves() -> None:
    rng = np.random.default_rng(2)
    n = 12_000
    program, session = np.array(["a", "b"])[np.arange(n) % 2], np.array([f"s{k % 40}" for k in range(n)])
    x = rng.normal(size=(n, 3)) + 9.0 * (program == "b")[:, np.newaxis]
    # Slopes of opposite sign in the two programs; noise as strong as the signal: R² is a half.
    signal = (x[:, :1] - 9.0 * (program == "b")[:, np.newaxis]) * np.where(program == "a", 1.0, -1.0)[:, np.newaxis]
    y = 5.0 + signal + rng.normal(size=(n, 1))
    guess = held_out(x, y, program, session)
    assert 1 - ((y - guess) ** 2).sum() / ((y - y.mean()) ** 2).sum() == pytest.approx(0.5, abs=0.06)
