"""State of a stream is arithmetic on rate and silence."""

import pytest

from drivers.base import StreamSpec
from edged.backoff import Backoff, Timing, patient_with
from edged.stream_health import RateMeter, stream_state
from edged.types import StreamState

SECOND = 1_000_000_000
WELDER = StreamSpec("welder", "welder", 1_000.0, (1,), "int16")
SLOW = StreamSpec("log", "motion", 1.0, (1,), "float32")
VIEW = StreamSpec("view", "result", 1.0, (4, 4), "uint8")


@pytest.mark.parametrize(
    ("spec", "is_open", "rate_hz", "silent_s", "since_lost_s", "state"),
    [
        (WELDER, False, 1_000.0, 0.0, None, "down"),
        (WELDER, True, None, None, None, "down"),
        (WELDER, True, None, 0.1, None, "starting"),
        (WELDER, True, 1_000.0, 0.1, None, "ok"),
        (WELDER, True, 955.0, 0.1, None, "ok"),
        (WELDER, True, 940.0, 0.1, None, "degraded"),
        (WELDER, True, 1_000.0, 0.1, 3.0, "degraded"),
        (WELDER, True, 1_000.0, 0.1, 11.0, "ok"),
        (WELDER, True, 1_000.0, 1.1, None, "down"),
        (SLOW, True, 1.0, 4.0, None, "ok"),
        (SLOW, True, 1.0, 5.1, None, "down"),
        (VIEW, True, None, None, None, "ok"),
        (VIEW, True, 0.0, 3600.0, None, "ok"),
        (VIEW, True, 0.0, 3600.0, 1.0, "degraded"),
        (VIEW, False, None, None, None, "down"),
    ],
)
def test_state(
    spec: StreamSpec,
    is_open: bool,
    rate_hz: float | None,
    silent_s: float | None,
    since_lost_s: float | None,
    state: StreamState,
) -> None:
    silent_ns, since_lost_ns = (None if s is None else round(s * SECOND) for s in (silent_s, since_lost_s))
    assert stream_state(spec, is_open, rate_hz, silent_ns, since_lost_ns) == state


def test_the_rate_is_that_of_the_last_five_seconds() -> None:
    meter = RateMeter()
    assert meter.rate_hz(0) is None
    for i in range(2_000):  # 20 s of 10 ms chunks: first 1000 Hz, then 500 Hz
        items = 10 * min(i, 1_000) + 5 * max(0, i - 1_000)
        meter.add(i * SECOND // 100, items)
        if i == 50:
            assert meter.rate_hz(i * SECOND // 100) is None
        if i == 999:
            assert meter.rate_hz(i * SECOND // 100) == pytest.approx(1_000.0, rel=0.01)
    assert meter.rate_hz(20 * SECOND) == pytest.approx(500.0, rel=0.01)


def test_the_rate_falls_to_nothing_in_silence() -> None:
    meter = RateMeter()
    for i in range(500):
        meter.add(i * SECOND // 100, 10 * i)
    assert meter.rate_hz(7 * SECOND) == pytest.approx(600.0, abs=120.0)
    assert meter.rate_hz(60 * SECOND) == 0.0
    meter.reset()
    assert meter.rate_hz(60 * SECOND) is None


def test_pauses_double_to_the_limit_and_begin_anew_after_a_steady_connection() -> None:
    backoff = Backoff(Timing())
    assert [backoff.pause_s(0.0) for _ in range(8)] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.pause_s(9.9) == 10.0, "one that flaps is not worth hurrying for"
    assert backoff.pause_s(10.0) == 0.25


def test_stall_limits_leave_room_for_the_drivers_own_time_outs() -> None:
    assert patient_with(Timing(), {"read_timeout_ms": 2_000, "source": "x"}) == Timing()
    slow = patient_with(Timing(), {"read_timeout_ms": 10_000, "open_timeout_ms": 30_000})
    assert (slow.read_stall_s, slow.open_stall_s) == (13.0, 33.0)
    assert patient_with(Timing(), {"stall_timeout_s": 4.0}).read_stall_s == 7.0
