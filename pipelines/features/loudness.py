"""How loud and how rough the sound of one token is, at the microphone's own rate: what a picture of 8 kHz leaves out.

Shielding gas hisses above 12 kHz between the arc's own clicks, spatter ticks, and a microphone that was moved hears
everything louder or fainter. Levels are in dB of full scale; bands that a microphone's rate cannot hold stand at the
floor.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOUDNESS", "loudness"]

FLOOR_DB = -100.0
BANDS_HZ = (8_000, 12_000, 16_000, 20_000, 24_000)
HISS_HZ = 12_000
PIECES = 4
"""Of a token: the quietest one tells the hiss that no click hides."""
TICK_S = 1e-3
TICK = 4.0
"""Times the RMS value."""
LOUDNESS: tuple[str, ...] = (
    "level_db", "crest_db", "tail", "ticks_hz", "hiss_db", *(f"band_{low}_db" for low in BANDS_HZ[:-1])
)  # fmt: skip


def loudness(sound: NDArray[np.float32], rate_hz: float) -> NDArray[np.float32]:
    """`LOUDNESS` of a token's samples `(n,)`, full scale ±1; `tail` is the logarithm of the kurtosis."""
    wave = sound.astype(np.float64)
    rms = np.sqrt(np.mean(wave**2) + 10.0 ** (FLOOR_DB / 10))
    size = np.abs(wave)
    per = max(round(TICK_S * rate_hz), 1)
    loud = size[: len(size) // per * per].reshape(-1, per).max(1) > TICK * rms
    ticks = np.count_nonzero(loud[1:] & ~loud[:-1]) / (len(wave) / rate_hz)
    pieces = wave[: len(wave) // PIECES * PIECES].reshape(PIECES, -1)
    window = np.hanning(pieces.shape[1])
    power = np.abs(np.fft.rfft(pieces * window, axis=1)) ** 2 / np.sum(window) ** 2
    hz = np.fft.rfftfreq(pieces.shape[1], 1 / rate_hz)
    hiss = power[:, hz >= HISS_HZ]
    bands = [power[:, (hz >= low) & (hz < high)] for low, high in itertools.pairwise(BANDS_HZ)]
    levels = [hiss.mean(1).min() if hiss.size else 0.0, *(band.mean() if band.size else 0.0 for band in bands)]
    found = [
        20 * np.log10(rms),
        20 * np.log10(np.quantile(size, 0.999) / rms + 1e-3),
        np.log(np.mean(wave**4) / rms**4 + 1e-3),
        ticks,
        *10 * np.log10(np.array(levels) + 10.0 ** (FLOOR_DB / 10)),
    ]
    return np.array(found, np.float32)
