"""The p of a relabelling: exact where all can be counted, not fooled by sessions, None where nothing can move."""

import numpy as np
import pytest

from pipelines.permutation import permutation_p


def test_p_is_the_share_of_relabellings_that_reach_the_auroc() -> None:
    # 2 bads of 6 at the top: 1 of 15 relabellings reaches it.
    assert permutation_p([False] * 4 + [True] * 2, [1, 2, 3, 4, 5, 6]) == pytest.approx(1 / 15, abs=0.012)
    assert permutation_p([True] * 2 + [False] * 4, [1, 2, 3, 4, 5, 6]) == 1.0
    assert permutation_p([True, False, False], [1.0, 1.0, 1.0]) == 1.0


def test_a_difference_of_sessions_is_no_evidence_within_them() -> None:
    rng = np.random.default_rng(0)
    session = ["a"] * 20 + ["b"] * 20
    bad = [k % 10 == 0 for k in range(20)] + [k % 10 != 0 for k in range(20)]
    score = [(5.0 if s == "b" else 0.0) + rng.normal() for s in session]
    assert (permutation_p(bad, score) or 1.0) < 0.001
    assert (permutation_p(bad, score, session) or 0.0) > 0.05


def test_nothing_to_relabel_gives_none() -> None:
    assert permutation_p([False, False], [1, 2]) is None
    assert permutation_p([False, True], [1, 2], ["a", "b"]) is None
