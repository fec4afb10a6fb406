"""Current and voltage per token of 100 ms, as fine as the waveform is sampled, and how much of them is noise.

The steps of `sensor.py` are made of means over half a millisecond, and less what noise adds to them. What
lives below that (a flickering contact tip, the ripple of a source, how droplets let go) needs the samples
themselves; it is kept apart here, with the noise floor beside it, so that a model can tell a noisy sensor from a bad
weld. Noise is told from the waveform by third differences: their median is that of the noise, since bridges and
ruptures are rare among ten thousand samples a second.

Only logs of `WAVEFORM_HZ` and more have waveforms; bands above a log's own are unknown.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.features.grid import TOKEN_NS, cells

__all__ = ["FLOWING_A", "WAVEFORM_HZ", "WAVE_FEATURES", "WaveTokens", "block_means", "noise_std", "shorted"]

Array = NDArray[np.float64]
WAVEFORM_HZ = 2_000.0
"""Below this a log holds averages and no waveform."""
FLOWING_A = 20.0
SHORT_V, ARC_V = 8.0, 11.0
"""A short circuit begins below the one and ends above the other: noise must not make two of one."""
BANDS_HZ = (10, 40, 90, 160, 300, 600, 1200, 2500, 4000, 5000)
FINE_HZ, SLOW_HZ = 2_000.0, 1_000.0
RESTRIKE_V = 6.0
"""Above the token's usual voltage: the arc goes out and lights again."""
IDLE_NS = TOKEN_NS
"""Before arc-on: nothing flows, so what is measured is the sensor."""
WAVES = ("current", "voltage")
WAVE_FEATURES: tuple[str, ...] = (
    *(f"{wave}_band_{low}" for wave in WAVES for low in BANDS_HZ[:-1]),
    *(f"{wave}_{what}" for wave in WAVES for what in ("p05", "p50", "p95", "slow_step", "slow_rms", "fine_step")),
    "arc_voltage", "arc_current", "arc_voltage_spread", "short_share", "short_rate_hz", "short_ms", "restrike_hz",
    "slope_mohm", "current_peak_hz", "current_noise", "voltage_noise",
)  # fmt: skip
"""Bands in log10 of units²/Hz, steps, spreads and noise in log10 of units; quantiles in A and V."""


def noise_std(samples: Array) -> float:
    """Standard deviation of white noise on `(n,)` samples, from the median of their third differences; 0 of < 8."""
    if len(samples) < 8:
        return 0.0
    third = np.diff(samples, 3)
    return float(1.4826 * np.median(np.abs(third)) / np.sqrt(20.0))


def block_means(samples: Array, rate_hz: float, to_hz: float) -> Array:
    """Means over stretches of 1 / to_hz; the samples themselves where they are no finer."""
    per = min(max(round(rate_hz / to_hz), 1), max(len(samples), 1))
    n = len(samples) // per
    found: Array = samples[: n * per].reshape(n, per, *samples.shape[1:]).mean(1)
    return found


def shorted(current: Array, voltage: Array, before: bool) -> NDArray[np.bool_]:
    """Which samples are of a short circuit; `before`: whether the sample ahead of the first one was."""
    clear = (voltage > ARC_V) | (current <= FLOWING_A)
    said = clear | (voltage < SHORT_V)
    at = np.maximum.accumulate(np.where(said, np.arange(len(voltage)), -1))
    found: NDArray[np.bool_] = np.where(at < 0, before, ~clear[at])
    return found


class WaveTokens:
    """The waveform tokens of one seam, from the first stream that has current and voltage fast enough."""

    def __init__(self, arc_on_ns: int, streams: tuple[StreamSpec, ...]) -> None:
        self._spec = next(
            (s for s in streams if s.kind == "welder" and set(WAVES) <= set(s.channels) and s.rate_hz >= WAVEFORM_HZ),
            None,
        )
        self._arc_on_ns = arc_on_ns
        self._tokens: dict[int, NDArray[np.float32]] = {}
        self._open: list[Array] = []
        self._open_token = 0
        self._short = False
        self._idle: list[Array] = []

    def push(self, chunk: Chunk) -> None:
        """Take a chunk of any stream; others than the welder's are ignored."""
        if self._spec is None or chunk.stream != self._spec.name:
            return
        times = chunk.times_ns()
        samples = self._spec.physical(chunk.data)[:, [self._spec.channel(name) for name in WAVES]].astype(np.float64)
        finite = np.isfinite(samples).all(1)
        times, samples = times[finite], samples[finite]
        idle = (times >= self._arc_on_ns - IDLE_NS) & (times < self._arc_on_ns)
        if idle.any():
            self._idle.append(samples[idle])
        token = cells(times, self._arc_on_ns, TOKEN_NS)
        first = int(np.searchsorted(token, 0))
        bounds = [first, *(np.flatnonzero(np.diff(token[first:])) + 1 + first).tolist(), len(token)]
        for start, stop in itertools.pairwise(bounds):
            if stop > start:
                self._add(int(token[start]), samples[start:stop])

    def get(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Tokens `start..stop`: `(n, features)` and which numbers are known; the others are 0.

        A token of which more than half was lost is unknown.
        """
        values = np.full((stop - start, len(WAVE_FEATURES)), np.nan, np.float32)
        for k in range(start, stop):
            if k in self._tokens:
                values[k - start] = self._tokens[k]
            elif k == self._open_token and self._open:
                values[k - start] = self._figures(np.concatenate(self._open))[0]
        known = np.isfinite(values)
        return np.where(known, values, 0.0).astype(np.float32), known

    def idle(self) -> dict[str, float]:
        """`current_idle_a` and `current_idle_std_a` of the 100 ms before arc-on; empty where nothing came then."""
        if not self._idle:
            return {}
        current = np.concatenate(self._idle)[:, 0]
        return {"current_idle_a": float(np.median(current)), "current_idle_std_a": noise_std(current)}

    def _add(self, token: int, samples: Array) -> None:
        if token > self._open_token:
            if self._open:
                self._tokens[self._open_token], self._short = self._figures(np.concatenate(self._open))
            self._open, self._open_token = [], token
        self._open.append(samples)

    def _figures(self, samples: Array) -> tuple[NDArray[np.float32], bool]:
        """The figures of a token's samples `(n, 2)`, and whether its last one is of a short circuit."""
        assert self._spec is not None  # nothing is added without
        rate_hz = self._spec.rate_hz
        short = shorted(samples[:, 0], samples[:, 1], self._short)
        if 2 * len(samples) < rate_hz * TOKEN_NS / 1e9:
            return np.full(len(WAVE_FEATURES), np.nan, np.float32), bool(short[-1])
        fine, slow = (block_means(samples, rate_hz, hz) for hz in (FINE_HZ, SLOW_HZ))
        found = [x for k in range(len(WAVES)) for x in _bands(samples[:, k], rate_hz)]
        for k in range(len(WAVES)):
            steps = np.abs(np.diff(slow[:, k]))
            rough = np.log10(np.array([np.median(steps), np.sqrt(np.mean(steps**2))]) + 1e-3)
            found += [*np.quantile(fine[:, k], (0.05, 0.5, 0.95)), *rough]
            found.append(np.log10(np.mean(np.abs(np.diff(fine[:, k]))) + 1e-3))
        found += _arc(samples, fine, short, self._short, rate_hz)
        found += [np.log10(noise_std(samples[:, k]) + 1e-3) for k in range(len(WAVES))]
        return np.array(found, np.float32), bool(short[-1])


def _bands(samples: Array, rate_hz: float) -> list[float]:
    """log10 of the mean power density of every band; NaN above what the rate can show."""
    n = len(samples)
    window = np.hanning(n)
    density = 2 * np.abs(np.fft.rfft((samples - samples.mean()) * window)) ** 2 / (rate_hz * np.sum(window**2))
    hz = np.fft.rfftfreq(n, 1 / rate_hz)
    at = np.searchsorted(hz, BANDS_HZ)
    found = []
    for low, high, edge in zip(at[:-1], at[1:], BANDS_HZ[1:], strict=True):
        there = high > low and edge <= rate_hz / 2 * 1.001
        found.append(float(np.log10(density[low:high].mean() + 1e-9)) if there else float("nan"))
    return found


def _arc(samples: Array, fine: Array, short: NDArray[np.bool_], before: bool, rate_hz: float) -> list[float]:
    """From arc voltage to the current's strongest frequency, as `WAVE_FEATURES` has them."""
    current = samples[:, 0]
    burning = ~short & (current > FLOWING_A)
    arc = samples[burning] if burning.any() else samples
    begins = np.diff(np.concatenate([[before], short]).astype(np.int8)) == 1
    seconds = len(samples) / rate_hz
    per = min(max(round(rate_hz / FINE_HZ), 1), len(samples))
    lit = burning[: len(fine) * per].reshape(len(fine), per).all(1)
    own = fine[lit] if lit.sum() > 8 else fine
    centred = own - own.mean(0)
    over = fine[:, 1] - np.median(fine[:, 1]) > RESTRIKE_V
    spectrum = np.abs(np.fft.rfft((current - current.mean()) * np.hanning(len(current)))) ** 2
    hz = np.fft.rfftfreq(len(current), 1 / rate_hz)
    return [
        float(arc[:, 1].mean()),
        float(arc[:, 0].mean()),
        float(np.log10(own[:, 1].std() + 1e-3)),
        float(short.mean()),
        float(begins.sum() / seconds),
        float(short.sum() / rate_hz * 1e3 / max(begins.sum(), 1)),
        float(np.count_nonzero(over[1:] & ~over[:-1]) / seconds),
        float((centred[:, 0] @ centred[:, 1]) / max(float(centred[:, 0] @ centred[:, 0]), 1.0) * 1e3),
        float(hz[spectrum[: max(int(np.searchsorted(hz, 800)), 2)].argmax()]),
    ]
