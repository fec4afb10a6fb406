"""What strikes of earlier seams say of a stream's delay."""

import numpy as np
import pytest

from calibration.acoustics import sound_delay_ns, speed_of_sound_m_s
from calibration.latency import MAX_FOLLOWED_NS, STRIKES_KEPT, LatencyTrend

MS = 1_000_000
SECOND = 1_000 * MS


def test_without_a_strike_nothing_is_known_and_nothing_taken_off() -> None:
    trend = LatencyTrend()
    assert (trend.latency_ns, trend.remaining_ns, trend.strikes) == (None, None, 0)
    assert trend.apply(SECOND) == 0


def test_the_first_strike_sets_the_offset_and_what_is_taken_off_does_not_count_again() -> None:
    trend = LatencyTrend()
    trend.add(30 * MS, SECOND)
    assert trend.apply(2 * SECOND) == 30 * MS
    trend.add(0, 3 * SECOND)  # nothing is left
    assert (trend.latency_ns, trend.remaining_ns) == (30 * MS, 0)
    trend.add(30 * MS, SECOND + 1)  # a seam struck before it was taken off, told late
    assert trend.latency_ns == 30 * MS


def test_twenty_strikes_of_a_camera_are_right_to_5_ms() -> None:
    rng = np.random.default_rng(4)
    off = []
    for _ in range(300):
        trend = LatencyTrend()
        for k in range(20):
            trend.add(round(40 * MS + rng.uniform(-13.7, 13.7) * MS), k * SECOND)
        off.append(abs((trend.latency_ns or 0) - 40 * MS))
    assert np.quantile(off, 0.99) < 5 * MS


def test_a_wrong_strike_now_and_then_does_not_move_it() -> None:
    trend = LatencyTrend()
    for k in range(STRIKES_KEPT):
        trend.add(200 * MS if k in (7, 13) else 5 * MS, k * SECOND)
    assert trend.latency_ns == 5 * MS


def test_old_strikes_are_forgotten_and_no_more_is_followed_than_can_be_seen() -> None:
    trend = LatencyTrend()
    for k in range(3 * STRIKES_KEPT):
        trend.add((10 if k < STRIKES_KEPT else 400) * MS, k * SECOND)
    assert (trend.strikes, trend.latency_ns) == (STRIKES_KEPT, 400 * MS)
    assert trend.apply(100 * SECOND) == trend.apply(101 * SECOND) == MAX_FOLLOWED_NS


def test_sound_takes_2_9_ms_a_metre_and_less_when_it_is_warm() -> None:
    assert sound_delay_ns(1.0) == pytest.approx(2.9 * MS, abs=0.05 * MS)
    assert speed_of_sound_m_s(0.0) == pytest.approx(331.3)
    assert speed_of_sound_m_s(40.0) == pytest.approx(354.9, abs=0.5)
    assert sound_delay_ns(0.0) == 0
