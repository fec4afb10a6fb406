"""The bench's own arithmetic: devices of known truth, and the peers' ways of matching."""

import numpy as np
import pytest

from drivers.base import StreamSpec
from edged.bench.align import SPECS, _chunks, _copied, _filled
from edged.bench.sync import BARS, _Others, _report
from edged.bench.sync_peers import approximate_time, nearest, nearest_within
from edged.bench.sync_run import Strike, rate_error_ppm
from edged.bench.sync_world import NOISES, T0_NS, Device, Noise
from tests.unit.edged.test_aligner_cuts import times

MIC = StreamSpec("mic", "audio", 48_000.0, (1,), "int16")


def test_nothing_arrives_before_it_was_taken_and_its_delay_is_over() -> None:
    device = Device(MIC, 480, 50.0, 12.0, 0.9)
    arrivals = device.arrivals_ns(20.0, NOISES["usual"], np.random.default_rng(1))
    true_ns = T0_NS + np.arange(1, len(arrivals) + 1) * 480 * device.item_ns + 12e6
    assert (arrivals - true_ns).min() >= -1
    assert (arrivals - true_ns).min() < 50_000
    assert device.true_ns(0) == T0_NS - 900_000
    assert device.true_ns(device.counter_at(7.0)) == pytest.approx(T0_NS + 7e9, abs=device.item_ns)


def test_a_stall_lets_nothing_through_and_loses_nothing() -> None:
    noise = Noise(stall_at_s=3.0, stall_s=5.0)
    arrivals_s = (Device(MIC, 480, 0.0, 0.0, 0.0).arrivals_ns(20.0, noise, np.random.default_rng(1)) - T0_NS) / 1e9
    assert not ((arrivals_s > 3.0) & (arrivals_s < 8.0)).any()
    assert len(arrivals_s) == 2000
    assert (np.diff(arrivals_s) >= 0).all()


def test_the_rate_is_right_to_1_ppm_after_a_minute() -> None:
    device = Device(MIC, 480, 50.0, 12.0, 0.0)
    errors = [rate_error_ppm(device, NOISES["usual"], 60.0, np.random.default_rng(seed)) for seed in range(4)]
    assert np.abs(errors).max() < 1.0


def test_peers_match_as_they_say() -> None:
    a, b = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.02, 1.2, 1.96, 2.1])
    assert [nearest(a, at) for at in (-1.0, 0.4, 0.6, 9.0)] == [0, 0, 1, 3]
    assert nearest_within(a, b) == [(0, 0), (2, 2)]
    assert approximate_time(a, b) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert approximate_time(a, a) == [(k, k) for k in range(4)]
    used = approximate_time(
        np.sort(np.random.default_rng(1).random(200)), np.sort(np.random.default_rng(2).random(300))
    )
    assert len({i for i, _ in used}) == len({j for _, j in used}) == len(used), "no message twice"
    assert used == sorted(used)


def test_only_strikes_after_the_learning_ones_are_judged() -> None:
    strikes = [Strike(k, "mic", "audio", 9.0 if k < 20 else 0.5, None, min(k, 20)) for k in range(30)]
    strikes += [Strike(k, "arccam", "video", 3.0, 3.5, min(k, 20)) for k in range(30)]
    report = _report(strikes, strikes, strikes, [("mic", -0.4), ("mic", 0.2)], _Others(), 30, 1)
    assert (report["audio_residual_ms_p50"], report["audio_residual_ms_p99"]) == (0.5, 0.5)
    assert report["rate_error_ppm"] == 0.4
    assert report["strikes_not_seen"] == 30
    assert report["n"]["audio"] == 10
    assert set(BARS) <= set(report)


def test_the_naive_cut_holds_the_same_items() -> None:
    rings, _ = _filled(_chunks())
    from_ns, to_ns = 1_002_000_000_000, 1_012_000_000_000
    for spec in SPECS:
        ring = rings[spec.name]
        assert _copied(ring, from_ns, to_ns)[1].tolist() == times(ring.slice(from_ns, to_ns))
