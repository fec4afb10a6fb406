"""How often a peer may ask, on a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.base import ManualClock
from edged.buckets import PEERS_KEPT, Buckets

MS = 1_000_000


def test_a_burst_and_then_so_many_a_second() -> None:
    clock = ManualClock(0)
    buckets = Buckets(50, 3, clock.now_ns)
    assert [buckets.wait_ms(b"a") for _ in range(4)] == [0, 0, 0, 20]
    assert buckets.wait_ms(b"b") == 0
    clock.sleep_until_ns(19 * MS)
    assert buckets.wait_ms(b"a") == 1
    clock.sleep_until_ns(20 * MS)
    assert [buckets.wait_ms(b"a") for _ in range(2)] == [0, 20]
    clock.sleep_until_ns(10_000 * MS)
    assert [buckets.wait_ms(b"a") for _ in range(4)] == [0, 0, 0, 20]


@given(waits_ms=st.lists(st.integers(0, 100), max_size=200))
def test_nobody_gets_more_than_burst_and_rate_together(waits_ms: list[int]) -> None:
    clock = ManualClock(0)
    buckets = Buckets(50, 5, clock.now_ns)
    allowed = 0
    for wait_ms in waits_ms:
        clock.sleep_until_ns(clock.now_ns() + wait_ms * MS)
        allowed += buckets.wait_ms(b"a") == 0
    assert allowed <= 5 + sum(waits_ms) / 1000 * 50


def test_memory_is_bounded_and_who_asks_is_remembered() -> None:
    clock = ManualClock(0)
    buckets = Buckets(50, 1, clock.now_ns)
    for i in range(3 * PEERS_KEPT):
        assert buckets.wait_ms(f"{i}".encode()) == 0
        assert (buckets.wait_ms(b"flooder") == 0) == (i == 0)
    assert len(buckets._full_ns) == PEERS_KEPT
