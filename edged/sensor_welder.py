"""Whether current and voltage can be believed: stuck, clipped, offset, mains pickup, noise, gain.

At rest, before the arc and after it, there is no current; a transducer that shows some has an offset, a voltage lead
that shows some floats or has an earth fault, and what swings with the mains is pickup. While the arc burns a channel
that does not move is stuck. White noise of the sensor is told from the arc by the fourth difference of the samples:
the source's inductance keeps the current smooth from sample to sample, so the median of its size is the noise's alone
(the idea of DER_SNR, Stoehr et al. 2008, one order higher).
"""

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from edged.arc_stats import WAVEFORM_HZ, Moments
from edged.sensor_holds import HeldSamples
from edged.sensor_report import ArcSpan, Batch, Figure, Lead, Problem, SensorReport, Stretch, problem

__all__ = ["WelderMeter"]

EDGE_NS = 100_000_000
"""So near to an arc the source may be on already, or its inductor still empties."""
REST_NS = 1_000_000_000
"""At most so much of either side is kept."""
AT_ONCE = 2_500
LEAST_REST = 3
STUCK_S, STUCK_SAMPLES = 0.25, 20
"""No arc holds one and the same number of a converter for so long."""
CLIPPED_SHARE = 1e-3
HELD = (0.01, 0.05)
"""(warning, fault) shares of samples held; beyond the fault a stream lacks more than it may by default."""
MAINS_HZ = (50.0, 60.0, 100.0, 120.0)
MAINS_CYCLES = 5.0
OFFSET = {"current": (0.02, 0.05), "voltage": (0.05, 0.15)}
PICKUP = (0.02, 0.10)
NOISE_OF_MEAN, NOISE_OF_SPREAD = (0.005, 0.01), (0.05, 0.12)
"""(warning, fault) as shares: of the arc's mean; of the waveform's own spread, which noise must not rival."""
FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
FOURTH_GAIN = math.sqrt(float(FOURTH @ FOURTH)) * 0.6745
"""Median of the fourth difference's size for white noise of standard deviation 1."""
BINS_A_DECADE, LOWEST, DECADES = 48, 1e-6, 12
UNITS = {"current": "A", "voltage": "V"}


class WelderMeter:
    """The sensors of one welder stream during one seam.

    `off_current_a`: below it no arc burns. `pre_roll_ns`: how long before the arc it begins unless an arc before
    this one ended later.
    """

    def __init__(self, spec: StreamSpec, arc_on_ns: int, off_current_a: float, pre_roll_ns: int = 0) -> None:
        self._spec = spec
        self._lead = Lead(spec, arc_on_ns - pre_roll_ns)
        self._arc_on_ns = arc_on_ns
        self._off_a = off_current_a
        self._channels = [name for name in ("current", "voltage", "wire_feed_speed") if name in spec.channels]
        self._current = spec.channel("current") if "current" in spec.channels else None
        self._before: deque[NDArray[np.float32]] = deque()
        self._after: deque[tuple[NDArray[np.int64], NDArray[np.float32]]] = deque()
        self._channel = {name: _Channel(spec, name) for name in self._channels}
        self._batch = Batch(AT_ONCE)

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk."""
        for stretch in self._batch.add(chunk):
            self._take(stretch)

    def _take(self, stretch: Stretch) -> None:
        times, values = stretch.times, self._spec.physical(stretch.data)
        if stretch.after_gap:
            for channel in self._channel.values():
                channel.cut()
        self._lead.see(times)
        edges_ns = (self._lead.calm_from_ns(EDGE_NS), self._arc_on_ns - EDGE_NS)
        calm = slice(*np.searchsorted(times, edges_ns).tolist())
        if calm.start < calm.stop:
            self._before.append(values[calm])
        first = int(np.searchsorted(times, self._arc_on_ns))
        if first == len(times):
            return
        self._keep(times[first:], values[first:])
        for channel in self._channel.values():
            # Without a current of its own the stream shows what burns by not being zero.
            shown, least = (channel.index, 1e-9) if self._current is None else (self._current, self._off_a)
            burns = np.abs(values[first:, shown]) >= least
            channel.add(stretch.data[first:, channel.index], values[first:, channel.index], burns)

    def _keep(self, times: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """The last stretch, of which some may turn out to lie after the arc."""
        self._after.append((times, values))
        while len(self._after) > 1 and self._after[1][0][0] < times[-1] - REST_NS:
            self._after.popleft()

    def report(self, arcs: tuple[ArcSpan, ...]) -> SensorReport:
        """What the sensors showed at rest and in the arc."""
        for stretch in self._batch.rest():
            self._take(stretch)
        problems: list[Problem] = []
        figures: dict[str, Figure] = {}
        rests = self._rests(arcs[-1][1])
        for name, channel in self._channel.items():
            problems += channel.problems()
            figures |= channel.figures()
            mean = channel.moments.mean
            if name in OFFSET and mean:
                problems += _at_rest(name, [rest[:, channel.index] for rest in rests], abs(mean), self._spec.rate_hz)
        figures |= self._levels()
        return SensorReport(tuple(problems), figures)

    def _rests(self, arc_off_ns: int) -> list[NDArray[np.float64]]:
        """Samples before and after the arcs, (n, channels) each, finite only; sides without enough are left out."""
        after = [values[times >= arc_off_ns + EDGE_NS] for times, values in self._after]
        sides = [np.concatenate(side) for side in (list(self._before), after) if side]
        limit = max(int(REST_NS / self._spec.dt_ns), LEAST_REST)
        finite = [side[np.isfinite(side).all(1)][:limit].astype(np.float64) for side in sides]
        return [side for side in finite if len(side) >= LEAST_REST]

    def _levels(self) -> dict[str, Figure]:
        """Gain of the current: against the wire's encoder where there is one, because the wire sets the current."""
        means = {name: channel.moments.mean for name, channel in self._channel.items()}
        current, voltage, feed = (means.get(name) for name in ("current", "voltage", "wire_feed_speed"))
        figures = {}
        if current and current > 0:
            per = f" at {feed:.2f} m/min of wire" if feed else ""
            level = math.log(current / feed) if feed and feed > 0 else math.log(current)
            figures["current_level"] = Figure(
                "current_level", 100 * level, 2.0, "%", f"mean current {current:.1f} A{per}"
            )
        if voltage and voltage > 0:
            figures["voltage_level"] = Figure(
                "voltage_level", 100 * math.log(voltage), 2.0, "%", f"mean voltage {voltage:.2f} V"
            )
        return figures


class _Channel:
    """One channel while the arc burns: runs of one number, values at the converter's ends, noise."""

    def __init__(self, spec: StreamSpec, name: str) -> None:
        self.name, self.index = name, spec.channel(name)
        self.moments = Moments()
        self._spec = spec
        self._is_waveform = spec.rate_hz >= WAVEFORM_HZ
        self._ends = (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max) if spec.dtype.startswith("int") else None
        self._run = self._longest = self._repeats = self._clipped = 0
        self._last: float | None = None
        self._tail = np.zeros(0)
        self._sizes = np.zeros(BINS_A_DECADE * DECADES, np.int64)
        self._held = HeldSamples()

    def cut(self) -> None:
        """Data is missing: nothing goes on over it."""
        self._run, self._last, self._tail = 0, None, np.zeros(0)
        self._held.cut()

    def add(self, raw: NDArray[Any], values: NDArray[np.float32], burns: NDArray[np.bool_]) -> None:
        """The next samples from arc-on on; only those with `burns` are looked at."""
        finite = np.isfinite(values)
        self.moments = self.moments + Moments.of(values[burns & finite].astype(np.float64))
        if self._ends is not None:
            self._clipped += int(np.count_nonzero(burns & ((raw <= self._ends[0]) | (raw >= self._ends[1]))))
        self._count_runs(np.asarray(values, np.float64), burns)
        if self._is_waveform and self.name in UNITS:
            self._count_sizes(np.where(burns & finite, values, np.nan).astype(np.float64))
            self._held.add(np.where(burns & finite, raw, np.nan).astype(np.float64))

    def _count_runs(self, values: NDArray[np.float64], burns: NDArray[np.bool_]) -> None:
        before = np.nan if self._last is None else self._last
        same = (np.diff(values, prepend=before) == 0) & burns
        self._last = float(values[-1])
        self._repeats += int(np.count_nonzero(same))
        ends = np.flatnonzero(~same)
        if not len(ends):
            self._run += len(same)
            self._longest = max(self._longest, self._run)
            return
        lengths = np.diff(ends) - 1
        self._longest = max(self._longest, self._run + int(ends[0]), int(lengths.max(initial=0)))
        self._run = len(same) - 1 - int(ends[-1])
        self._longest = max(self._longest, self._run)

    def _count_sizes(self, values: NDArray[np.float64]) -> None:
        joined = np.concatenate([self._tail, values])
        self._tail = joined[-(len(FOURTH) - 1) :]
        if len(joined) < len(FOURTH):
            return
        sizes = np.abs(np.convolve(joined, FOURTH, "valid"))
        sizes = sizes[np.isfinite(sizes)]
        places = np.log10(np.maximum(sizes, LOWEST) / LOWEST) * BINS_A_DECADE
        self._sizes += np.bincount(
            np.minimum(places.astype(np.intp), len(self._sizes) - 1), minlength=len(self._sizes)
        )

    @property
    def noise(self) -> float | None:
        """Standard deviation of the sensor's white noise; None below waveform rates."""
        total = int(self._sizes.sum())
        if total < STUCK_SAMPLES:
            return None
        middle = int(np.searchsorted(np.cumsum(self._sizes), total / 2))
        return LOWEST * 10 ** ((middle + 0.5) / BINS_A_DECADE) / FOURTH_GAIN

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong whatever other seams were like."""
        n, mean = self.moments.n, self.moments.mean
        if n < STUCK_SAMPLES or mean is None:
            return ()
        found: tuple[Problem, ...] = ()
        same_s = (self._longest + 1) / self._spec.rate_hz if self._longest else 0.0
        if self._longest + 1 >= STUCK_SAMPLES:
            # A wire feeder may well hold its speed to the last digit.
            warning, fault = (None, STUCK_S) if self.name in UNITS else (STUCK_S, None)
            detail = f"{self.name} stood at one value for {same_s * 1e3:.0f} ms while the arc burned"
            found += problem(f"{self.name}_stuck", same_s, warning, fault, "s", detail)
        share = self._clipped / n
        detail = f"{self.name} was at the end of its range for {share:.1%} of the arc"
        found += problem(f"{self.name}_clipped", share, None, CLIPPED_SHARE, "share", detail)
        return found + self._holds() + self._noisy(abs(mean))

    def _holds(self) -> tuple[Problem, ...]:
        """Samples that are none: told where the waveform is steep, so a calm or coarse channel is not accused."""
        share = self._held.share
        if share is None:
            return ()
        detail = f"{share:.0%} of the samples of {self.name} were lost and made up by repeating the one before"
        return problem(f"{self.name}_held", share, *HELD, "share", detail)

    def _noisy(self, mean: float) -> tuple[Problem, ...]:
        """Noise counts where it is large against the mean and rivals what the arc itself does."""
        noise, squares = self.noise, self.moments.squares / self.moments.n
        if noise is None:
            return ()
        spread = math.sqrt(max(squares - mean * mean, 0.0))
        warning, fault = (max(a * mean, b * spread) for a, b in zip(NOISE_OF_MEAN, NOISE_OF_SPREAD, strict=True))
        unit = UNITS[self.name]
        detail = (
            f"{self.name} carries white noise of {noise:.2g} {unit}; the arc itself moves it by {spread:.2g} {unit}"
        )
        return problem(f"{self.name}_noise", noise, warning, fault, unit, detail)

    def figures(self) -> dict[str, Figure]:
        """What hardly changes from seam to seam."""
        if self.moments.n < STUCK_SAMPLES or self.name not in UNITS:
            return {}
        found = {}
        if self.noise is not None:
            level_db = 20 * math.log10(self.noise)
            detail = f"{self.name} carries white noise of {self.noise:.2g} {UNITS[self.name]}"
            found[f"{self.name}_noise"] = Figure(f"{self.name}_noise", level_db, 6.0, "dB", detail, rises_only=True)
        share = 100 * self._repeats / self.moments.n
        detail = f"{share:.0f} % of the samples of {self.name} repeat the one before"
        found[f"{self.name}_held"] = Figure(f"{self.name}_held", share, 5.0, "%", detail, rises_only=True)
        return found


def _at_rest(name: str, rests: list[NDArray[np.float64]], mean: float, rate_hz: float) -> tuple[Problem, ...]:
    """Offset and mains pickup of a channel where no arc burns.

    The calmer side counts: the other may hold the source's open-circuit voltage or its decay.
    """
    if not rests:
        return ()
    offset = min((float(np.median(rest)) for rest in rests), key=abs)
    if name == "voltage" and abs(offset) >= mean:
        return ()  # a source that stays on between welds
    unit, (warning, fault) = UNITS[name], OFFSET[name]
    detail = f"{name} shows {offset:.2g} {unit} where no arc burns"
    found = problem(f"{name}_offset", abs(offset), warning * mean, fault * mean, unit, detail)
    swings = [swing for rest in rests if (swing := _mains(rest, rate_hz)) is not None]
    if swings:
        swing = min(swings)
        detail = f"{name} swings by {swing:.2g} {unit} with the mains where no arc burns"
        found += problem(f"{name}_pickup", swing, PICKUP[0] * mean, PICKUP[1] * mean, unit, detail)
    return found


def _mains(rest: NDArray[np.float64], rate_hz: float) -> float | None:
    """Largest amplitude at the mains' frequency or twice that; None where the stretch is too short or too slow."""
    if rate_hz < 4 * max(MAINS_HZ) or len(rest) / rate_hz * min(MAINS_HZ) < MAINS_CYCLES:
        return None
    t_s = np.arange(len(rest)) / rate_hz
    window = np.hanning(len(rest))
    calm = (rest - np.median(rest)) * window
    waves = np.exp(-2j * np.pi * np.outer(MAINS_HZ, t_s))
    return float(np.abs(waves @ calm).max() * 2 / window.sum())
