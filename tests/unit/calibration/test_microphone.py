"""Levels, gain and the way of the sound, from signals whose answers are known."""

import numpy as np
import pytest

from calibration.files import CalibrationError
from calibration.microphone import Heard, fit_microphone, level_db, quiet_level_db, sound_delay_ms

RATE = 48_000.0


def arc(seed: int, delay_ms: float, noise: float) -> tuple[np.ndarray, ...]:
    """Power at 10 kHz with random steps, and a sound that is its change `delay_ms` later."""
    rng = np.random.default_rng(seed)
    fine = np.repeat(rng.uniform(2000, 6000, 400), 240)  # 2 s of 48 kHz, a step each 5 ms
    times = (np.arange(len(fine)) * 1e9 / RATE).astype(np.int64)
    power_ns = (np.arange(20_000) * 100_000).astype(np.int64)
    power = np.interp(power_ns, times, fine)
    late = round(delay_ms * 1e-3 * RATE)
    sound = np.roll(np.diff(fine, prepend=fine[0]), late) + noise * rng.standard_normal(len(fine))
    return power, power_ns, sound, times


@pytest.mark.parametrize("delay_ms", [0.0, 0.75, 2.9, 31.25])
def test_the_delay_is_found(delay_ms: float) -> None:
    found = sound_delay_ms(*arc(1, delay_ms, noise=100.0))
    # The power is known each 0.1 ms: linear interpolation puts half of that before the step.
    assert found == pytest.approx(delay_ms, abs=0.06)


def test_noise_follows_nothing() -> None:
    power, power_ns, sound, times = arc(2, 1.0, noise=0.0)
    noise = np.random.default_rng(3).standard_normal(len(sound))
    assert sound_delay_ms(power, power_ns, noise, times) is None
    assert sound_delay_ms(power[::200], power_ns[::200], sound, times) is None, "50 Hz of power tell no delay"


def test_levels_are_of_full_scale() -> None:
    assert level_db(np.tile([1.0, -1.0], 500), 1.0) == pytest.approx(0.0)
    assert level_db(np.tile([1.0, -1.0], 500) + 7.0, 10.0) == pytest.approx(-20.0), "a constant is no sound"
    quiet = np.concatenate([np.tile([0.1, -0.1], 4800), np.tile([1.0, -1.0], 9600)])
    assert quiet_level_db(quiet, RATE, 1.0) == pytest.approx(-20.0, abs=0.1)
    assert quiet_level_db(quiet[:100], RATE, 1.0) is None


def seams(program: str, level: float, count: int = 20, quiet: float | None = -60.0) -> list[Heard]:
    noise = np.random.default_rng(count).normal(0, 1.0, count)
    return [Heard(f"{program}-{k}", program, level + noise[k], quiet, 1.0 + 0.01 * noise[k]) for k in range(count)]


def test_the_gain_brings_each_program_back_to_its_own_level() -> None:
    fit = fit_microphone([*seams("short", -30.0), *seams("spray", -40.0)], {"short": -24.0, "spray": -34.0, "x": 0.0})
    assert fit.gain_db == pytest.approx(6.0, abs=0.5)
    assert 0.2 < fit.gain_interval_db < 0.8
    assert fit.delay_ms == pytest.approx(1.0, abs=0.01)
    assert fit.delay_interval_ms is not None
    assert fit.delay_interval_ms[0] < 1.0 < fit.delay_interval_ms[1]
    assert fit_microphone(seams("short", -30.0), None).gain_db == 0.0


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"the reference heard spray, these seams are of short"):
        fit_microphone(seams("short", -30.0), {"spray": -30.0})
    with pytest.raises(CalibrationError, match=r"pre_roll_s"):
        fit_microphone(seams("short", -30.0, quiet=None), None)
