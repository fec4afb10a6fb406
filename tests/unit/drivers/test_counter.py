"""Counters that wrap, jump and restart."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.counter import CounterUnwrapper

S = 1_000_000_000


def test_wraps_without_loss() -> None:
    unwrap = CounterUnwrapper(32, 200.0)
    steps = [unwrap.step(raw, 0) for raw in (2**32 - 2, 2**32 - 1, 0, 1)]
    assert [(s.counter, s.lost) for s in steps] == [(2**32 + k, 0) for k in (-2, -1, 0, 1)]
    assert unwrap.restarts == 0


def test_a_jump_ahead_is_that_much_lost() -> None:
    unwrap = CounterUnwrapper(32, 200.0)
    unwrap.step(10, 0)
    step = unwrap.step(17, 35_000_000)
    assert (step.counter, step.lost) == (17, 6)


def test_a_restart_loses_what_host_time_says_and_goes_on() -> None:
    unwrap = CounterUnwrapper(32, 200.0)
    unwrap.step(1000, 0)
    step = unwrap.step(0, 2 * S)
    assert (step.counter, step.lost, unwrap.restarts) == (1400, 399, 1)
    assert unwrap.step(1, 2 * S).counter == 1401


def test_a_restart_to_a_much_higher_value_is_no_forward_gap() -> None:
    unwrap = CounterUnwrapper(32, 200.0)
    unwrap.step(3_000_000_000, 0)
    assert unwrap.step(0, 1 * S).lost == 199
    assert unwrap.restarts == 1


def test_a_long_pause_without_missing_counts_is_no_silent_gap() -> None:
    unwrap = CounterUnwrapper(32, 200.0)
    unwrap.step(5, 0)
    assert unwrap.step(6, 60 * S).lost == 60 * 200 - 1


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 10 * S)), min_size=2))
def test_whatever_comes_it_only_grows(items: list[tuple[int, int]]) -> None:
    unwrap = CounterUnwrapper(16, 100.0)
    now, last = 0, -1
    for index, (raw, dt_ns) in enumerate(items):
        now += dt_ns
        step = unwrap.step(raw, now)
        assert step.lost >= 0
        assert index == 0 or step.counter == last + 1 + step.lost
        last = step.counter
