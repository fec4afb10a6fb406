"""Figures of evaluation, their intervals and the set-point baseline."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.metrics import auroc, false_alarm_rate
from pipelines.setpoint_knn import SetpointKnn


def test_auroc_of_a_perfect_a_useless_and_an_inverted_score() -> None:
    bad, session = [False] * 20 + [True] * 20, [f"s{i % 5}" for i in range(40)]
    perfect = auroc(bad, [float(b) for b in bad], session)
    assert (perfect.value, perfect.ci, perfect.n) == (1.0, (1.0, 1.0), 20)
    assert auroc(bad, [1.0] * 40, session).value == 0.5
    assert auroc(bad, [-float(b) for b in bad], session).value == 0.0  # never flipped


def test_interval_is_wider_where_sessions_differ() -> None:
    rng = np.random.default_rng(0)
    bad = [i % 2 == 1 for i in range(400)]
    session = [f"s{i // 40}" for i in range(400)]
    noise = rng.standard_normal(400)
    per_session = np.repeat(rng.standard_normal(10) * 3, 40)
    signal = np.array(bad, float)
    alone = auroc(bad, (signal + noise).tolist(), [str(i) for i in range(400)])
    together = auroc(bad, (signal * (1 + per_session) + noise).tolist(), session)
    assert alone.ci is not None
    assert together.ci is not None
    assert together.ci[1] - together.ci[0] > 1.5 * (alone.ci[1] - alone.ci[0])


def test_one_side_or_one_session_gives_no_figure() -> None:
    assert auroc([False] * 5, [1.0] * 5, list("abcde")).value is None
    assert auroc([False, True], [0.0, 1.0], ["a", "a"]).ci is None


def test_false_alarm_rate() -> None:
    session = [f"s{i % 30}" for i in range(300)]
    none = false_alarm_rate([False] * 300, session)
    assert none.value == 0.0
    assert none.ci is not None
    assert none.ci[0] == 0.0
    assert 0.003 < none.ci[1] < 0.02
    spread = false_alarm_rate([i % 30 == 0 for i in range(300)], session)  # all in one session
    even = false_alarm_rate([i < 10 for i in range(300)], session)
    assert spread.value == even.value == pytest.approx(1 / 30)
    assert spread.ci is not None
    assert even.ci is not None
    assert spread.ci[1] > 2 * even.ci[1]
    assert false_alarm_rate([], []).value is None


def test_setpoints_of_goods_are_near_and_others_far(tmp_path: Path) -> None:
    goods = [("p1", {"current_a": 150.0 + i % 3, "voltage_v": 18.0}) for i in range(12)]
    SetpointKnn.fit(goods).save(tmp_path / "s.json")
    knn = SetpointKnn.load(tmp_path / "s.json")
    same = knn.score("p1", {"current_a": 151.0, "voltage_v": 18.0})
    assert same < 0.6
    assert knn.score("p1", {"current_a": 151.0, "voltage_v": 25.0}) > same + 0.2
    assert knn.score("p1", {"current_a": 190.0, "voltage_v": 18.0}) > 10
    assert SetpointKnn.fit([]).score("p1", {}) == 0.0
