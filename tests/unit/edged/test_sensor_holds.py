"""Held samples are told from what a converter, a calm signal, saturation or a slower channel does by itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edged.sensor_holds import HeldSamples
from edged.sensor_welder import HELD

Samples = NDArray[np.float64]
N = 20_000


def share(values: Samples, cuts: tuple[int, ...] = ()) -> float | None:
    held = HeldSamples()
    for part in np.split(values, sorted(cuts)):
        held.add(part)
    return held.share


def waveform(periods: float, noise: float, seed: int) -> Samples:
    """Something between a sine and a saw with short circuits in it: ±1, white noise of `noise`."""
    rng = np.random.default_rng(seed)
    phase = np.cumsum(rng.uniform(0.5, 1.5, N) * periods / N)
    saw = 2 * (phase % 1) - 1
    shape = np.where(np.arange(N) // 500 % 3 == 0, saw, np.sin(2 * np.pi * phase))
    return np.asarray(shape + noise * rng.standard_normal(N))


def held(values: Samples, level: float, seed: int) -> Samples:
    lost = np.random.default_rng(seed).random(len(values)) < level
    lost[0] = False
    return values[np.maximum.accumulate(np.where(lost, 0, np.arange(len(values))))]


@settings(max_examples=60, deadline=None)
@given(
    periods=st.floats(1, 2000),
    noise=st.floats(0, 0.5),
    step=st.floats(1e-6, 1.0),
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(1, N - 1), max_size=8).map(tuple),
)
def test_no_converter_makes_a_sound_waveform_look_held(
    periods: float, noise: float, step: float, seed: int, cuts: tuple[int, ...]
) -> None:
    """Whatever its step against signal and noise: from one that sees next to nothing to one that sees it all."""
    values = np.rint(waveform(periods, noise, seed) / step) * step
    found = share(values, cuts)
    assert found is None or found <= 0.01
    assert found == share(values)


@settings(max_examples=30, deadline=None)
@given(
    periods=st.floats(20, 1000),
    noise=st.floats(0.01, 0.3),
    finer=st.floats(50, 5000),
    level=st.floats(0.2, 0.6),
    seed=st.integers(0, 1000),
)
def test_held_samples_are_told_with_their_share(
    periods: float, noise: float, finer: float, level: float, seed: int
) -> None:
    """About their share; where white noise rules a third low, as three draws in a row rise less often than four."""
    found = share(held(np.rint(waveform(periods, noise, seed) / noise * finer), level, seed))
    assert found is not None
    assert HELD[1] < found <= level + 0.15


def test_clipped_plateaus_are_no_held_samples() -> None:
    values = np.rint(1000 * np.clip(3 * waveform(2000.0, 0.01, 1), -1, 1))
    assert np.mean(np.diff(values) == 0) > 0.3
    assert share(values) == pytest.approx(0.0, abs=0.01)


def test_square_pulses_are_no_held_samples() -> None:
    """A fast source seen by a quiet converter: exactly level at top and bottom, for two samples each."""
    values = np.where(np.arange(N) // 2 % 2 == 0, 4000.0, 500.0)
    assert share(values) is None


def test_idle_and_slow_channels_say_nothing() -> None:
    assert share(np.full(N, 7.0)) is None
    assert share(np.rint(np.random.default_rng(2).normal(0, 0.6, N))) is None
    assert share(np.repeat(np.rint(1000 * waveform(2000.0, 0.1, 3)), 2)) is None


def test_a_channel_with_every_second_value_from_a_slower_converter_is_none() -> None:
    values = np.repeat(np.rint(1000 * waveform(300.0, 0.0, 3)), 2)
    assert share(values) is None


def test_rescaled_codes_and_single_odd_ones() -> None:
    """A 10-bit converter's codes in mA: steps of 48 and 49, and now and then a step of 1."""
    codes = np.rint(np.rint(512 * waveform(400.0, 0.02, 4)) * 48.83)
    codes[::997] += 1
    assert share(codes) == pytest.approx(0.0, abs=0.01)


def test_nothing_is_told_over_a_gap() -> None:
    """Pieces of three samples hold two steps each, and no three in a row."""
    values = held(np.rint(1000 * waveform(300.0, 0.1, 5)), 0.5, 5)
    found = HeldSamples()
    for part in np.split(values, range(3, N, 3)):
        found.cut()
        found.add(part)
    assert found.share is None
    assert share(values) == pytest.approx(0.5, abs=0.05)


def test_where_no_arc_burns_nothing_counts() -> None:
    values = held(np.rint(1000 * waveform(300.0, 0.1, 6)), 0.5, 6)
    assert share(np.where(np.arange(N) < 500, values, np.nan)) is None
