"""A microphone: how loud it hears the arc, how quiet its hall is, how far away it stands.

Arc sound follows the change of the arc's power, d(U·I)/dt, so the whole weld tells the delay and not its strike
alone: the whitened cross-correlation of sound and power change peaks at it (generalised cross-correlation with phase
transform, Knapp and Carter 1976). The strike's onset is up to half a millisecond off where the current rises slowly.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError

__all__ = ["Heard", "MicrophoneFit", "fit_microphone", "level_db", "quiet_level_db", "sound_delay_ms"]

Array = NDArray[np.float64]

LONGEST_MS = 60.0
"""20 m; nobody hangs a microphone further from an arc."""
EARLIEST_MS = -10.0
"""A stamp may be this much early: what is known of the delay has been taken off, and a bit too much of it."""
HEARD_FROM = 6.0
"""Height of the peak over the spread of the correlation; noise reaches about 4.5 in so many lags."""
BAND_HZ = (100.0, 5000.0)
LONGEST_S = 3.0
"""Of a weld; more makes nothing sharper."""
BLOCK_S = 0.02
USUAL_SPREAD_DB = 2.5
"""How much one program's seams differ in loudness; the arc is no loudspeaker."""
QUIET_SHARE = 0.1
MIN_WELDER_HZ = 1000.0
SOUND_M_S = 343.2
"""At 20 °C; 0.6 m/s more for each degree."""


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What one seam tells: dB of full scale while the arc burns and without it, None where nothing can be said."""

    seam_id: str
    program: str
    level_db: float
    quiet_db: float | None
    delay_ms: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class MicrophoneFit:
    """Levels by program, dB; the gain that makes them the reference's, and what the programs disagree by."""

    levels_db: Mapping[str, float]
    quiet_db: float
    gain_db: float
    gain_interval_db: float
    """Half width, 95 %; 0 where there is no reference."""
    level_spread_db: float
    delay_ms: float | None
    delay_interval_ms: tuple[float, float] | None
    delay_spread_ms: float
    seams: int
    heard: int


def level_db(samples: Array, full_scale: float) -> float:
    """RMS of `(n,)` samples, dB of full scale (a full square wave is 0)."""
    power = float(np.mean(np.square(samples - samples.mean()))) if len(samples) else 0.0
    return 10 * float(np.log10(power / full_scale**2 + 1e-20))


def quiet_level_db(samples: Array, rate_hz: float, full_scale: float) -> float | None:
    """The lowest tenth of the 20 ms stretches of what was heard without an arc; None where there is too little."""
    size = round(BLOCK_S * rate_hz)
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    if len(blocks) < 5:
        return None
    return float(np.quantile([level_db(block, full_scale) for block in blocks], QUIET_SHARE))


def sound_delay_ms(
    power_w: Array, power_ns: NDArray[np.int64], sound: Array, sound_ns: NDArray[np.int64]
) -> float | None:
    """By how much the sound lags the change of power, ms; None where it does not follow it audibly.

    Args:
        power_w, power_ns: `(n,)` instantaneous U·I and its times.
        sound, sound_ns: `(m,)` of the same weld.
    """
    period_ns = float(np.median(np.diff(sound_ns)))
    size = min(len(sound), round(LONGEST_S * 1e9 / period_ns))
    if len(power_ns) < 2 or size < 1000 or 1e9 / float(np.median(np.diff(power_ns))) < MIN_WELDER_HZ:
        return None
    sound, sound_ns = sound[:size], sound_ns[:size]
    change = np.diff(np.interp(sound_ns, power_ns, power_w), prepend=power_w[0])
    n = 1 << int(np.ceil(np.log2(2 * size)))
    cross = np.fft.rfft(sound - sound.mean(), n) * np.conj(np.fft.rfft(change - change.mean(), n))
    hz = np.fft.rfftfreq(n, period_ns / 1e9)
    weight = np.abs(cross)
    inside = (hz > BAND_HZ[0]) & (hz < BAND_HZ[1])
    correlation = np.fft.irfft(inside * cross / (weight + 1e-3 * weight.max() + 1e-300), n)
    lags = np.arange(round(EARLIEST_MS * 1e6 / period_ns), round(LONGEST_MS * 1e6 / period_ns))
    values = correlation[lags]
    k = int(np.argmax(values[1:-1])) + 1
    spread = float(np.median(np.abs(values))) / 0.6745
    if values[k] < HEARD_FROM * spread:
        return None
    before, at, after = values[k - 1 : k + 2]
    bend = before - 2 * at + after
    part = 0.5 * (before - after) / bend if abs(bend) > 1e-300 else 0.0
    return float((lags[k] + part) * period_ns / 1e6)


def fit_microphone(heard: Sequence[Heard], reference_db: Mapping[str, float] | None) -> MicrophoneFit:
    """Medians over seams; `reference_db` are the levels, corrected, that the same programs had; None: these are it.

    Raises CalibrationError without a stretch of quiet, or without a program in common with the reference.
    """
    programs = sorted({item.program for item in heard})
    by_program = {name: np.array([item.level_db for item in heard if item.program == name]) for name in programs}
    levels = {name: float(np.median(values)) for name, values in by_program.items()}
    quiet = [item.quiet_db for item in heard if item.quiet_db is not None]
    if not quiet:
        raise CalibrationError(
            f"in none of {len(heard)} seams 0.1 s were recorded without an arc; lengthen programs.X.pre_roll_s"
        )
    gains = _gains(levels, reference_db)
    level_spread = _level_spread_db(list(by_program.values()))
    delays = np.array([item.delay_ms for item in heard if item.delay_ms is not None])
    delay = float(np.median(delays)) if len(delays) else None
    spread = float(1.4826 * np.median(np.abs(delays - delay))) if delay is not None else 0.0
    # Of a median of normal values; never better than a tenth of a sample at 48 kHz.
    half = max(1.96 * 1.2533 * spread / np.sqrt(max(len(delays), 1)), 0.002)
    return MicrophoneFit(
        levels_db=levels,
        quiet_db=float(np.median(quiet)),
        gain_db=float(np.median(gains)),
        gain_interval_db=0.0 if reference_db is None else _gain_interval_db(level_spread, len(heard)),
        level_spread_db=level_spread,
        delay_ms=delay,
        delay_interval_ms=None if delay is None else (delay - half, delay + half),
        delay_spread_ms=spread,
        seams=len(heard),
        heard=len(delays),
    )


def _level_spread_db(by_program: Sequence[Array]) -> float:
    """Standard deviation of the level from seam to seam of one program, pooled; `USUAL_SPREAD_DB` with too few."""
    free = sum(len(values) - 1 for values in by_program)
    if free < 4:
        return USUAL_SPREAD_DB
    return float(np.sqrt(sum(float(np.square(values - values.mean()).sum()) for values in by_program) / free))


def _gain_interval_db(spread_db: float, seams: int) -> float:
    """Of a difference of two medians over about as many seams."""
    return float(1.96 * 1.2533 * spread_db * np.sqrt(2 / seams))


def _gains(levels: Mapping[str, float], reference: Mapping[str, float] | None) -> Array:
    if reference is None:
        return np.zeros(1)
    common = sorted(set(levels) & set(reference))
    if not common:
        raise CalibrationError(
            f"the reference heard {', '.join(sorted(reference))}, these seams are of {', '.join(sorted(levels))}: "
            "levels can be compared within a program only; weld one of the reference's"
        )
    return np.array([reference[name] - levels[name] for name in common])
