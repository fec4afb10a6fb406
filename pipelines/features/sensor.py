"""Waveform statistics each 10 ms: the steps that Mamba takes.

Fast channels (current, voltage and their product, the instantaneous power) give mean, standard deviation,
minimum and maximum; slow ones (wire feed, travel speed, gas flow) their mean. The short-circuit fraction is
the share of samples of a short circuit while current flows. What only raw waveforms of `WAVEFORM_HZ`
and more show: how often short circuits begin, peak and base current, RMS values, and how steeply current and voltage
change. Energy per mm joins power with the travel speed of the motion stream. A step without a sample, as in a 9 Hz
log, holds the last one, and waveform features are unknown there.

Spreads, extremes and slopes of a waveform are those of means over half a millisecond, less what the noise on single
samples adds to them (`_Quiet`): a noisy transducer must not look like a rough arc. The noise itself is told by
`waves.py`.
Samples that are NaN or infinite count as none (`finite.py` says how many may be).
"""

import abc
import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.features.grid import STEP_NS, cells
from pipelines.features.waves import FINE_HZ, WAVEFORM_HZ, block_means, noise_std, shorted

__all__ = ["FAST", "SENSOR_FEATURES", "SLOW", "SensorSteps"]

FAST = ("current", "voltage", "power")
SLOW = ("wire_feed_speed", "tcp_speed", "gas_flow")
STATISTICS = ("mean", "std", "min", "max")
WAVEFORM = (
    "current_rms",
    "voltage_rms",
    "short_rate_hz",
    "current_peak",
    "current_base",
    "current_slope",
    "voltage_slope",
)
SENSOR_FEATURES: tuple[str, ...] = (
    *(f"{channel}_{statistic}" for channel in FAST for statistic in STATISTICS),
    "short_circuit",
    *SLOW,
    *WAVEFORM,
    "energy_j_mm",
)
PEAK, BASE = 0.95, 0.05
"""Quantiles of a step's current: those of single samples would be the noise's."""
LEAST_SPEED_MM_S = 0.5


class SensorSteps:
    """The 10 ms steps of one seam, from its welder stream and, where there is one, its motion stream."""

    def __init__(self, arc_on_ns: int, streams: tuple[StreamSpec, ...]) -> None:
        self._tracks: dict[str, list[_Track]] = {}
        for spec in streams:
            tracks = _tracks(spec, arc_on_ns)
            if tracks:
                self._tracks[spec.name] = tracks

    def push(self, chunk: Chunk) -> None:
        """Take a chunk of any stream; others than welder and motion are ignored."""
        for track in self._tracks.get(chunk.stream, ()):
            track.push(chunk)

    def ready(self) -> int:
        """Number of steps that can no longer change."""
        return min((t.done for tracks in self._tracks.values() for t in tracks), default=0)

    def get(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Steps `start..stop`: values `(n, features)` and which are measured; the others are 0.

        Steps beyond the last sample hold the last one.
        """
        values = np.zeros((stop - start, len(SENSOR_FEATURES)), np.float32)
        known = np.zeros(values.shape, np.bool_)
        for track in (t for tracks in self._tracks.values() for t in tracks):
            rows = track.get(start, stop)
            if rows is not None:
                values[:, track.columns] = rows
                known[:, track.columns] = True
        _add_energy(values, known)
        return values, known


def _add_energy(values: NDArray[np.float32], known: NDArray[np.bool_]) -> None:
    """Arc energy per length where power and travel speed are measured; while the robot stands there is none."""
    power, speed, energy = (SENSOR_FEATURES.index(name) for name in ("power_mean", "tcp_speed", "energy_j_mm"))
    moving = known[:, power] & known[:, speed] & (values[:, speed] > LEAST_SPEED_MM_S)
    values[moving, energy] = values[moving, power] / values[moving, speed]
    known[moving, energy] = True


def _tracks(spec: StreamSpec, arc_on_ns: int) -> list["_Track"]:
    if spec.kind not in ("welder", "motion"):
        return []
    found: list[_Track] = []
    if {"current", "voltage"} <= set(spec.channels):
        found.append(_Levels(spec, arc_on_ns))
        if spec.rate_hz >= WAVEFORM_HZ:
            found.append(_Waveforms(spec, arc_on_ns))
    found += [_Mean(spec, arc_on_ns, channel) for channel in SLOW if channel in spec.channels]
    return found


class _Track(abc.ABC):
    """Accumulates one group of features; the open step's samples wait until a later sample closes it."""

    columns: tuple[int, ...]

    def __init__(self, spec: StreamSpec, arc_on_ns: int, used: tuple[str, ...]) -> None:
        self._spec, self._arc_on_ns = spec, arc_on_ns
        self._used = [spec.channel(name) for name in used]
        self._rows: list[NDArray[np.float32]] = []
        self._open: list[NDArray[np.float32]] = []
        self._open_step = 0
        self._before: NDArray[np.float32] | None = None

    @property
    def done(self) -> int:
        return len(self._rows)

    def push(self, chunk: Chunk) -> None:
        steps = cells(chunk.times_ns(), self._arc_on_ns, STEP_NS)
        samples = self._spec.physical(chunk.data)
        finite = np.isfinite(samples[:, self._used]).all(1)
        if not finite.all():
            steps, samples = steps[finite], samples[finite]
        before = int(np.searchsorted(steps, 0))
        if before:
            self._before = samples[before - 1 : before]
        bounds = np.flatnonzero(np.diff(steps[before:])) + 1 + before
        edges = [before, *bounds.tolist(), len(steps)]
        for start, stop in itertools.pairwise(edges):
            if stop > start:
                self._add(int(steps[start]), samples[start:stop])

    def _add(self, step: int, samples: NDArray[np.float32]) -> None:
        if step > self._open_step:
            self._close()
            while len(self._rows) < step:  # no sample in these: hold
                self._rows.append(self._held())
            self._open_step = step
        self._open.append(samples)

    def _close(self) -> None:
        if self._open:
            samples = np.concatenate(self._open)
            self._rows.append(self._statistics(samples))
            self._before, self._open = samples[-1:], []
        elif len(self._rows) == self._open_step:
            self._rows.append(self._held())

    def _held(self) -> NDArray[np.float32]:
        if self._before is not None:
            return self._statistics(self._before)
        return np.full(len(self.columns), np.nan, np.float32)

    def get(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """Rows `start..stop`; None where the channel never gave a sample."""
        rows = self._rows[start:stop]
        if len(rows) < stop - start and self._open:
            rows = [*rows, self._statistics(np.concatenate(self._open))]
        if not rows and not self._rows:
            return None
        last = rows[-1] if rows else self._rows[-1]
        table = np.stack([*rows, *([last] * (stop - start - len(rows)))]) if stop > start else None
        if table is None or np.isnan(table).all():
            return None
        # Before the first sample of a slow log there is nothing to hold: take the first one.
        first = table[np.flatnonzero(~np.isnan(table[:, 0]))[0]]
        return np.where(np.isnan(table), first, table).astype(np.float32)

    @abc.abstractmethod
    def _statistics(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """One row of features from the samples `(n, channels)` of a step."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Quiet:
    """A step's waves as means over half a millisecond `(m, k)`, drawn to their mean so far as noise spreads them."""

    waves: NDArray[np.float64]
    noise: NDArray[np.float64]
    """Variance that noise gives each mean, `(k,)`."""

    @classmethod
    def of(cls, samples: NDArray[np.float64], rate_hz: float) -> "_Quiet":
        means = block_means(samples, rate_hz, FINE_HZ)
        if rate_hz < WAVEFORM_HZ or len(means) < 2:
            return cls(means, np.zeros(samples.shape[1]))
        noise = np.array([noise_std(wave) ** 2 for wave in samples.T]) / (len(samples) // len(means))
        middle, spread = means.mean(0), means.var(0)
        share = np.sqrt(np.clip(1.0 - noise / np.maximum(spread, 1e-12), 0.0, 1.0))
        return cls(middle + (means - middle) * share, noise)

    def slopes(self, means: NDArray[np.float64], per_ms: float) -> list[float]:
        """RMS change per millisecond of means that no noise was taken from, `(k,)`."""
        if len(means) < 2:
            return [0.0] * means.shape[1]
        square = np.mean(np.diff(means, axis=0) ** 2, axis=0) - 2 * self.noise
        return list(np.sqrt(np.maximum(square, 0.0)) * per_ms)


class _Pair(_Track):
    """Current and voltage, and whether the step before the open one ended within a short circuit."""

    def __init__(self, spec: StreamSpec, arc_on_ns: int) -> None:
        super().__init__(spec, arc_on_ns, ("current", "voltage"))
        self._pair, self._rate_hz = [spec.channel(name) for name in ("current", "voltage")], spec.rate_hz
        self._short = False

    def _close(self) -> None:
        open_ = [piece[:, self._pair].astype(np.float64) for piece in self._open]
        super()._close()
        if open_:
            pair = np.concatenate(open_)
            self._short = bool(shorted(pair[:, 0], pair[:, 1], self._short)[-1])


class _Levels(_Pair):
    columns = tuple(range(len(FAST) * len(STATISTICS) + 1))

    def _statistics(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        pair = samples[:, self._pair].astype(np.float64)
        # Instantaneous power: the product of means is not the mean of the product (ISO/TR 18491).
        waves = np.concatenate([pair, pair.prod(1, keepdims=True)], axis=1)
        quiet = _Quiet.of(waves, self._rate_hz).waves
        table = np.stack([waves.mean(0), quiet.std(0), quiet.min(0), quiet.max(0)], axis=1)
        short = float(shorted(pair[:, 0], pair[:, 1], self._short).mean())
        return np.append(table.ravel(), short).astype(np.float32)


class _Waveforms(_Pair):
    columns = tuple(SENSOR_FEATURES.index(name) for name in WAVEFORM)

    def _statistics(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        pair = samples[:, self._pair].astype(np.float64)
        short = shorted(pair[:, 0], pair[:, 1], self._short)
        # With the sample before the step's first one: a short circuit may begin exactly on the border.
        begins = np.count_nonzero(short & ~np.concatenate([[self._short], short[:-1]]))
        quiet = _Quiet.of(pair, self._rate_hz)
        base, peak = np.quantile(quiet.waves[:, 0], (BASE, PEAK))
        rms = np.sqrt(np.mean(pair**2, axis=0))
        fine = block_means(pair, self._rate_hz, FINE_HZ)
        per_ms = self._rate_hz / max(len(pair) // max(len(fine), 1), 1) / 1e3
        rate = begins / len(samples) * self._rate_hz
        return np.array([*rms, rate, peak, base, *quiet.slopes(fine, per_ms)], np.float32)


class _Mean(_Track):
    def __init__(self, spec: StreamSpec, arc_on_ns: int, channel: str) -> None:
        super().__init__(spec, arc_on_ns, (channel,))
        self._index = spec.channel(channel)
        self.columns = (SENSOR_FEATURES.index(channel),)

    def _statistics(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array([samples[:, self._index].astype(np.float64).mean()], np.float32)
