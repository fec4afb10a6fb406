"""What current and voltage were like while an arc burned, in one pass: energy, levels, short circuits, transfer mode.

One `WaveMeter` an arc, fed by the arc detector with the samples that are certain to belong to it; it keeps sums, a
histogram and the state of two hysteresis switches, so its memory does not grow and its figures do not depend on how
the stream was cut. `ArcStats` are those sums, which may be added over the arcs of a seam.

Energy is the sum of instantaneous products u·i·dt (ISO/TR 18491:2015, 7.4, instantaneous energy): for
waveform-controlled welding the product of means is wrong. A data gap contributes nothing.

A *short circuit* begins where the voltage falls below `SHORT_BEGINS_V` while current flows and ends above
`SHORT_ENDS_V`; a bridge of melt has 2 to 6 V, a burning MAG arc 14 V and more. A *pulse* is a swing of the current
from below `PULSE_LOW` to above `PULSE_HIGH` times its own running mean.

Transfer mode, the first rule that applies; only from waveforms of `WAVEFORM_HZ` and more:

=============  ====================================================================================================
pulsed         at least `LEAST_PULSES_HZ` pulses a second at regular intervals (their standard deviation at most
               `PULSE_IRREGULARITY` of the mean), peak at least twice the base, and fewer than half of them shorts
short_circuit  at least `SHORT_CIRCUIT_HZ` shorts a second: dip transfer shorts 20 to 200 times a second
               (AWS/CWB descriptions of GMAW transfer modes; weldguru.com, cwbgroup.org)
globular       at least `OCCASIONAL_HZ` shorts a second (drops larger than the wire short at irregular intervals),
               or fewer, with a voltage between them that varies by more than `FLAT_VOLTAGE`
spray          hardly any short and a flat voltage ("as flat as a billiard table": R. D. Smith, weldsmith.co.uk,
               10 kHz records of spray transfer)
=============  ====================================================================================================
"""

import dataclasses
import math
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["TRANSFER_MODES", "WAVEFORM_HZ", "ArcStats", "TransferMode", "WaveMeter", "transfer_mode"]

TransferMode = Literal["short_circuit", "globular", "spray", "pulsed"]
TRANSFER_MODES: tuple[TransferMode, ...] = ("short_circuit", "globular", "spray", "pulsed")

WAVEFORM_HZ = 2_000.0
"""Below this a log holds averages and no waveform: a short circuit of 1 ms would be missed."""
SHORT_BEGINS_V, SHORT_ENDS_V = 8.0, 12.0
FLOWING_A = 20.0
PULSE_HIGH, PULSE_LOW = 1.25, 0.75
PULSE_MEAN_S = 0.05
"""Time constant of the running mean: some periods of the slowest pulses, short against a seam's changes."""

LEAST_PULSES_HZ = 20.0
PULSE_IRREGULARITY = 0.3
PEAK_TO_BASE = 2.0
SHORT_CIRCUIT_HZ = 20.0
OCCASIONAL_HZ = 2.0
FLAT_VOLTAGE = 0.04
PEAK, BASE = 0.95, 0.05
"""Quantiles of the arc's current: single samples would be the noise's."""

BIN_A = 1.0
HISTOGRAM_A = 2_000
"""Currents beyond count in the last bin."""

_Counts = tuple[int, ...]
Samples = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Moments:
    """Number, sum and sum of squares of something."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Samples) -> "Moments":
        """Those of `values`, any shape."""
        flat = values.ravel()
        return cls(flat.size, float(flat.sum()), float(flat @ flat))

    def __add__(self, other: "Moments") -> "Moments":
        """Those of both together."""
        return Moments(self.n + other.n, self.total + other.total, self.squares + other.squares)

    @property
    def mean(self) -> float | None:
        """None of nothing."""
        return self.total / self.n if self.n else None

    @property
    def rms(self) -> float | None:
        """Root of the mean square; None of nothing."""
        return math.sqrt(self.squares / self.n) if self.n else None

    @property
    def variation(self) -> float | None:
        """Standard deviation over mean; None of nothing or where the mean is 0."""
        if not self.n or not self.total:
            return None
        mean = self.total / self.n
        return math.sqrt(max(self.squares / self.n - mean * mean, 0.0)) / abs(mean)


@dataclasses.dataclass(frozen=True, slots=True)
class ArcStats:
    """Sums over the samples of one or more arcs; a data gap inside contributes nothing.

    `sampled_s` is the time that the samples cover. `voltage`, `energy_j` and what follows from them are None where
    the stream has no voltage; shorts and pulses too where it is no waveform. `calm` is the voltage outside short
    circuits. `dips`: how often the current fell below the arc detector's limit and came back within `hold_ms`.
    `histogram` counts samples by current in bins of `BIN_A`.
    """

    sampled_s: float = 0.0
    current: Moments = Moments()
    voltage: Moments | None = None
    energy_j: float | None = None
    dips: int = 0
    shorts: int | None = None
    short_s: float = 0.0
    calm: Moments = Moments()
    pulses: int | None = None
    pulse_intervals_s: Moments = Moments()
    histogram: _Counts = ()

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.current.n

    @property
    def mean_current_a(self) -> float | None:
        """Mean of the current's samples, A; None without samples."""
        return self.current.mean

    @property
    def mean_voltage_v(self) -> float | None:
        """Mean of the voltage's samples, V; None without samples or voltage."""
        return None if self.voltage is None else self.voltage.mean

    @property
    def mean_power_w(self) -> float | None:
        """Mean of the instantaneous power, W; None without samples or voltage."""
        return None if self.energy_j is None or not self.sampled_s else self.energy_j / self.sampled_s

    @property
    def short_circuit_hz(self) -> float | None:
        """Short circuits a second; None where they cannot be seen."""
        return None if self.shorts is None or not self.sampled_s else self.shorts / self.sampled_s

    @property
    def short_circuit_ms(self) -> float | None:
        """Mean duration of a short circuit, ms; None without any."""
        return self.short_s / self.shorts * 1e3 if self.shorts else None

    @property
    def pulse_hz(self) -> float | None:
        """Swings of the current a second; None where they cannot be seen."""
        return None if self.pulses is None or not self.sampled_s else self.pulses / self.sampled_s

    def current_quantile_a(self, share: float) -> float | None:
        """Current that `share` of the samples do not exceed, A, to half a bin; None without samples."""
        if not self.samples:
            return None
        reached = np.cumsum(self.histogram)
        return (int(np.searchsorted(reached, share * reached[-1])) + 0.5) * BIN_A

    def __add__(self, other: "ArcStats") -> "ArcStats":
        return ArcStats(
            self.sampled_s + other.sampled_s,
            self.current + other.current,
            _sum(self.voltage, other.voltage),
            _sum(self.energy_j, other.energy_j),
            self.dips + other.dips,
            _sum(self.shorts, other.shorts),
            self.short_s + other.short_s,
            self.calm + other.calm,
            _sum(self.pulses, other.pulses),
            self.pulse_intervals_s + other.pulse_intervals_s,
            _counts(self.histogram, other.histogram),
        )


def transfer_mode(stats: ArcStats) -> TransferMode | None:
    """How the metal crossed the arc, by the rules of this module; None where the waveform is not known."""
    shorts_hz, pulses_hz = stats.short_circuit_hz, stats.pulse_hz
    peak_a, base_a = stats.current_quantile_a(PEAK), stats.current_quantile_a(BASE)
    if shorts_hz is None or pulses_hz is None or peak_a is None or base_a is None:
        return None
    irregularity = stats.pulse_intervals_s.variation
    if (
        pulses_hz >= LEAST_PULSES_HZ
        and irregularity is not None
        and irregularity <= PULSE_IRREGULARITY
        and peak_a >= PEAK_TO_BASE * base_a
        and 2 * shorts_hz < pulses_hz
    ):
        return "pulsed"
    if shorts_hz >= SHORT_CIRCUIT_HZ:
        return "short_circuit"
    is_flat = (stats.calm.variation or 0.0) <= FLAT_VOLTAGE
    return "spray" if shorts_hz < OCCASIONAL_HZ and is_flat else "globular"


class _Switch:
    """On above one level, off below another, unchanged between them: its state goes on over chunks."""

    def __init__(self) -> None:
        self.is_on = False

    def push(self, turns_on: NDArray[np.bool_], turns_off: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The state after each sample, shape (n,); the state before the first is kept in `is_on` until the end."""
        decided = turns_on | turns_off
        last = np.maximum.accumulate(np.where(decided, np.arange(len(decided)), -1))
        state = np.where(last >= 0, turns_on[last], self.is_on)
        self.is_on = bool(state[-1]) if len(state) else self.is_on
        return np.asarray(state, np.bool_)


def _rises(before: bool, state: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices at which `state` turns on."""
    previous = np.concatenate(([before], state[:-1]))
    return np.flatnonzero(state & ~previous)


def _running_mean(values: Samples, start: float, dt: float) -> Samples:
    """First-order low pass of `values` (n,) that stood at `start`; `dt`: from sample to sample in time constants."""
    means = []
    for at in range(0, len(values), stride := max(int(20 / dt), 1)):  # e^20 loses no digits that matter
        piece = values[at : at + stride]
        decay = np.exp(-dt * np.arange(1, len(piece) + 1))
        mean = decay * (start - math.expm1(-dt) * np.cumsum(piece / decay))
        start = float(mean[-1])
        means.append(mean)
    return np.concatenate(means)


class WaveMeter:
    """The statistics of one arc so far. `off_current_a`: below it a sample is a dip."""

    def __init__(self, rate_hz: float, off_current_a: float, *, has_voltage: bool) -> None:
        self._off_a = off_current_a
        self._is_waveform = has_voltage and rate_hz >= WAVEFORM_HZ
        self._has_voltage = has_voltage
        self._short, self._pulse = _Switch(), _Switch()
        self._was_dip = True  # an arc begins above the limit
        self._mean_a: float | None = None
        self._since_pulse_s: float | None = None
        self._histogram = np.zeros(HISTOGRAM_A, np.int64)
        self._sums = ArcStats()

    def push(self, current_a: Samples, voltage_v: Samples | None, dt_ns: float, *, after_gap: bool = False) -> None:
        """The arc's next samples, shape (n,) each; `after_gap`: data is missing before them. NaN is missing data."""
        known = np.isfinite(current_a) if voltage_v is None else np.isfinite(current_a) & np.isfinite(voltage_v)
        if after_gap or not known.all():
            self._since_pulse_s = None
            current_a, voltage_v = current_a[known], None if voltage_v is None else voltage_v[known]
        if not len(current_a):
            return
        dt_s = dt_ns / 1e9
        bins = np.clip(current_a / BIN_A, 0, HISTOGRAM_A - 1).astype(np.intp)
        self._histogram += np.bincount(bins, minlength=HISTOGRAM_A)
        is_dip = current_a < self._off_a
        dips = len(_rises(self._was_dip, is_dip))
        self._was_dip = bool(is_dip[-1])
        more = ArcStats(len(current_a) * dt_s, Moments.of(current_a), dips=dips)
        if voltage_v is not None and self._has_voltage:
            energy_j = float(current_a @ voltage_v) * dt_s
            more = dataclasses.replace(more, voltage=Moments.of(voltage_v), energy_j=energy_j)
            if self._is_waveform:
                more = self._add_shorts(more, current_a, voltage_v, dt_s)
                more = self._add_pulses(more, current_a, dt_s)
        self._sums = self._sums + more

    def stats(self) -> ArcStats:
        """What has been pushed."""
        return dataclasses.replace(self._sums, histogram=tuple(self._histogram.tolist()))

    def _add_shorts(self, more: ArcStats, current_a: Samples, voltage_v: Samples, dt_s: float) -> ArcStats:
        before = self._short.is_on
        state = self._short.push(
            (voltage_v < SHORT_BEGINS_V) & (current_a > FLOWING_A), np.asarray(voltage_v > SHORT_ENDS_V)
        )
        return dataclasses.replace(
            more,
            shorts=len(_rises(before, state)),
            short_s=float(np.count_nonzero(state)) * dt_s,
            calm=Moments.of(voltage_v[~state]),
        )

    def _add_pulses(self, more: ArcStats, current_a: Samples, dt_s: float) -> ArcStats:
        start = float(current_a[0]) if self._mean_a is None else self._mean_a
        mean_a = _running_mean(current_a, start, dt_s / PULSE_MEAN_S)
        self._mean_a = float(mean_a[-1])
        before = self._pulse.is_on
        state = self._pulse.push(current_a > PULSE_HIGH * mean_a, current_a < PULSE_LOW * mean_a)
        at_s = _rises(before, state) * dt_s
        intervals = np.diff(at_s)
        if len(at_s):
            if self._since_pulse_s is not None:
                intervals = np.append(self._since_pulse_s + at_s[0], intervals)
            self._since_pulse_s = len(state) * dt_s - float(at_s[-1])
        elif self._since_pulse_s is not None:
            self._since_pulse_s += len(state) * dt_s
        return dataclasses.replace(more, pulses=len(at_s), pulse_intervals_s=Moments.of(intervals))


_T = TypeVar("_T", int, float, Moments)


def _sum(a: _T | None, b: _T | None) -> _T | None:
    if a is None:
        return b
    return a if b is None else a + b


def _counts(a: _Counts, b: _Counts) -> _Counts:
    return tuple((np.array(a) + np.array(b)).tolist()) if a and b else a or b
