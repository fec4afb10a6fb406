"""What the log says of those who are refused, and how often; and how failed handshakes are told apart."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from drivers.base import ManualClock
from edged.refusals import CASES_KEPT, LINES_AT_ONCE, Refusal, Refusals

S = 1_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000 * S)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def _refusal(address: str = "10.0.0.9", reason: str = "no_keys") -> Refusal:
    return Refusal(reason, "verdict", address, "it has no keys")


def test_one_who_knocks_for_ever_is_logged_once_a_minute(clock: ManualClock, logged: list[Any]) -> None:
    refusals = Refusals(clock.now_ns)
    for _ in range(1210):
        refusals.note(_refusal())
        clock.advance_ns(S // 10)
    assert [line["times"] for line in logged] == [1, 600, 600]
    assert refusals.counters() == {"refused_no_keys": 1210}
    assert logged[0] == {
        "event": "client refused",
        "log_level": "warning",
        "reason": "no_keys",
        "domain": "verdict",
        "address": "10.0.0.9",
        "detail": "it has no keys",
        "times": 1,
    }


def test_another_reason_is_another_line(clock: ManualClock, logged: list[Any]) -> None:
    refusals = Refusals(clock.now_ns)
    for reason in ("no_keys", "revoked", "no_keys"):
        refusals.note(_refusal(reason=reason))
    assert [line["reason"] for line in logged] == ["no_keys", "revoked"]
    assert refusals.counters() == {"refused_no_keys": 2, "refused_revoked": 1}


def test_a_flood_of_strangers_floods_neither_log_nor_memory(clock: ManualClock, logged: list[Any]) -> None:
    refusals = Refusals(clock.now_ns)
    for i in range(3 * CASES_KEPT):
        refusals.note(_refusal(f"10.0.{i // 256}.{i % 256}"))
    assert len(logged) == LINES_AT_ONCE
    assert refusals.counters() == {
        "refused_no_keys": 3 * CASES_KEPT,
        "refused_not_logged": 3 * CASES_KEPT - LINES_AT_ONCE,
    }
    for i in range(2 * CASES_KEPT):
        clock.advance_ns(2 * S)
        refusals.note(_refusal(f"10.1.{i // 256}.{i % 256}"))
    assert len(refusals._cases) == CASES_KEPT
