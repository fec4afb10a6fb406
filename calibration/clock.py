"""Device counters to host time: what `Stream` stamps chunks with, on their way into the ring.

A chunk arrives late, never early, so delays are one-sided and least squares would be biased by their mean. The
`ClockModel` therefore fits the *lower envelope*: the least delayed arrival of every half second, and a robust line
through a minute of those. Cristian's and NTP's minimum filters rest on the same fact.

Stamps form one continuous, strictly increasing line: each chunk starts exactly where the last one ended, and a
correction is worked in by slewing, at most SLEW of the time that passed. Chunks of one connection hence never
overlap. In the first SETTLE_S after a reset the offset is the least delay seen so far; it only moves earlier and is
worked in at up to FAST_SLEW, so the first two seconds may be spaced up to 50 % too close after a first chunk that
came late. A step (of the device's counter, or of the device's pace) begins a new line; only there a stamp jumps,
and only forwards.
"""

import dataclasses
import math
from collections import deque
from typing import Protocol

import numpy as np

from drivers.base import ClockParams, StreamSpec

__all__ = ["ArrivalClock", "ClockModel", "StreamClock", "make_clock"]

BIN_NS = 500_000_000
WINDOW_BINS = 120
SETTLE_BINS = 4
"""Two seconds; before that there is no line, only the least delay."""
MAX_DRIFT = 500e-6
PRIOR_DRIFT = 100e-6
"""Standard deviation of real oscillators about their nominal rate; decides while seconds of data cannot."""
BIN_NOISE_NS = 100_000.0
"""Scatter of half-second minima that the prior is weighed against."""
SLEW = 200e-6
FAST_SLEW = 0.5
FAR_NS = 2_000_000
"""A stamp further behind the envelope than this is brought back at FAST_SLEW."""
EARLY_STEP_NS = 20_000_000
"""An item cannot arrive before it was measured; this much earlier than the line, the counter has stepped."""


@dataclasses.dataclass(frozen=True, slots=True)
class _LateStep:
    """`bins` minima in a row later than the line by `beyond_ns` and alike within `within_ns` are a step."""

    bins: int
    beyond_ns: float
    within_ns: float


LATE_STEPS = (
    _LateStep(bins=2, beyond_ns=20e6, within_ns=5e6),
    _LateStep(bins=6, beyond_ns=3e6, within_ns=1e6),
    _LateStep(bins=10, beyond_ns=20e6, within_ns=float("inf")),
)
"""A backlog is late too, but it is worked off: its minima fall. After a pause of the device they stay alike."""


class StreamClock(Protocol):
    """What stamps one stream."""

    @property
    def drift_ppm(self) -> float | None:
        """Device rate against nominal; positive: the device is fast. None before a line is fitted."""
        ...

    @property
    def residual_ns(self) -> float:
        """How far the minima scatter about the line."""
        ...

    @property
    def steps(self) -> int:
        """Steps found so far."""
        ...

    def update(self, counter_end: int, arrival_ns: int, n: int = 1) -> ClockParams:
        """Take a chunk of `n` items that ends before the item `counter_end`; returns what to stamp it with."""
        ...

    def reset(self) -> None:
        """Forget the line, because the device was reopened; stamps still never go back."""
        ...


class ClockModel:
    """Counter → host time for devices that count, by the lower envelope (see the module).

    Args:
        rate_hz: nominal rate; the true one is sought within ±500 ppm.
        latency_ns: constant delay from the world to `arrival_ns`, subtracted from every stamp.
    """

    def __init__(self, rate_hz: float, latency_ns: int = 0) -> None:
        if rate_hz <= 0:
            raise ValueError(f"a clock needs a positive rate, not {rate_hz} Hz")
        self._nominal_ns = 1e9 / rate_hz
        self._latency_ns = latency_ns
        self._last: tuple[int, int] | None = None  # counter and time where the last stamp ended
        self._params: ClockParams | None = None
        self._steps = -1
        self._begin()

    @property
    def drift_ppm(self) -> float | None:
        """Device rate against nominal, ppm; None before a line is fitted."""
        return (self._nominal_ns / self._line.ns_per_count - 1) * 1e6 if self._line is not None else None

    @property
    def residual_ns(self) -> float:
        """Scatter of the minima about the line (1.48 MAD); before that the spread of the delays so far."""
        return self._residual_ns

    @property
    def steps(self) -> int:
        """Steps found so far, not counting `reset`."""
        return self._steps

    def reset(self) -> None:
        """Begin a new line with the next chunk."""
        self._begin()
        self._steps -= 1

    def update(self, counter_end: int, arrival_ns: int, n: int = 1) -> ClockParams:
        """Stamp for the chunk of `n` items before `counter_end` whose last byte came at `arrival_ns`."""
        now_ns = arrival_ns - self._latency_ns
        has_stepped = self._last is not None and not self._is_fresh and counter_end - n < self._last[0]
        if self._line is not None and now_ns < self._line.t_ns(counter_end) - EARLY_STEP_NS:
            has_stepped = True
        if has_stepped:
            self._begin()
        self._observe(counter_end, now_ns)
        self._params = self._stamp(counter_end, now_ns, n)
        return self._params

    def _begin(self) -> None:
        self._steps += 1
        self._line: ClockParams | None = None
        self._bins: deque[tuple[int, int]] = deque(maxlen=WINDOW_BINS)
        self._late: deque[float] = deque(maxlen=max(rule.bins for rule in LATE_STEPS))
        self._bin = -1
        self._least: tuple[int, int] | None = None  # least delayed (counter, time) of the bin being filled
        self._residual_ns = 0.0
        self._is_fresh = True

    def _observe(self, counter: int, now_ns: int) -> None:
        if self._least is None or now_ns // BIN_NS != self._bin:
            self._close_bin()
            self._bin = now_ns // BIN_NS
            self._least = (counter, now_ns)
        elif self._delay(counter, now_ns) < self._delay(*self._least):
            self._least = (counter, now_ns)
        if self._line is None:
            self._residual_ns = max(
                self._residual_ns, self._delay(counter, now_ns) - self._delay(*self._first_line())
            )

    def _delay(self, counter: int, now_ns: int) -> float:
        """Arrival against a line of nominal rate through the bin's first minimum; only differences count."""
        base = self._bins[0] if self._bins else self._least
        return 0.0 if base is None else now_ns - base[1] - (counter - base[0]) * self._nominal_ns

    def _first_line(self) -> tuple[int, int]:
        """The least delayed point so far."""
        points = [*self._bins, *([] if self._least is None else [self._least])]
        return min(points, key=lambda point: self._delay(*point))

    def _close_bin(self) -> None:
        if self._least is None:
            return
        if self._line is not None:
            self._late.append(self._least[1] - self._line.t_ns(self._least[0]))
            if self._is_late_step():
                self._begin()
                return
        self._bins.append(self._least)
        if len(self._bins) >= SETTLE_BINS:
            self._fit()

    def _is_late_step(self) -> bool:
        for rule in LATE_STEPS:
            late = list(self._late)[-rule.bins :]
            if len(late) == rule.bins and min(late) > rule.beyond_ns and max(late) - min(late) < rule.within_ns:
                return True
        return False

    def _fit(self) -> None:
        """Robust line through the minima, with a prior on the rate; bins that were late as a whole lose weight."""
        pivot_counter, pivot_ns = self._bins[-1]
        count = np.array([counter - pivot_counter for counter, _ in self._bins], np.float64)
        span_ns = count * self._nominal_ns
        delay_ns = np.array([t_ns - pivot_ns for _, t_ns in self._bins], np.float64) - span_ns
        weight = np.ones_like(count)
        for _ in range(8):
            offset_ns, drift = _ridge_line(span_ns, delay_ns, weight)
            residual = delay_ns - offset_ns - drift * span_ns
            scale = max(1.4826 * float(np.median(np.abs(residual))), 1_000.0)
            weight = np.minimum(1.0, scale / np.maximum(residual, 1.0))
        drift = min(max(drift, -MAX_DRIFT), MAX_DRIFT)
        self._residual_ns = scale
        self._line = ClockParams(pivot_counter, pivot_ns + round(offset_ns), self._nominal_ns * (1 + drift), scale)

    def _target(self, counter: int) -> tuple[int, float]:
        """Where the envelope puts `counter`, and the length of a count."""
        if self._line is not None:
            return self._line.t_ns(counter), self._line.ns_per_count
        least_counter, least_ns = self._first_line()
        return least_ns + round((counter - least_counter) * self._nominal_ns), self._nominal_ns

    def _stamp(self, counter: int, now_ns: int, n: int) -> ClockParams:
        target_ns, count_ns = self._target(counter)
        if self._last is None or self._is_fresh:
            self._is_fresh = False
            return self._restart(counter, target_ns, count_ns, n)
        last_counter, last_ns = self._last
        if counter == last_counter:
            return self._params or ClockParams(counter, last_ns, count_ns, self._residual_ns)
        passed_ns = (counter - last_counter) * count_ns
        error_ns = target_ns - last_ns - passed_ns
        fast = self._line is None or error_ns < -FAR_NS
        earliest = (FAST_SLEW if fast else SLEW) * passed_ns
        end_ns = last_ns + round(passed_ns + min(max(error_ns, -earliest), SLEW * passed_ns))
        self._last = (counter, end_ns)
        return ClockParams(last_counter, last_ns, (end_ns - last_ns) / (counter - last_counter), self._residual_ns)

    def _restart(self, counter: int, target_ns: int, count_ns: float, n: int) -> ClockParams:
        """The first stamp of a line: where the envelope says, but not before the last stamp ended."""
        start_ns = target_ns - round(n * count_ns)
        if self._last is not None:
            start_ns = max(start_ns, self._last[1])
        end_ns = max(target_ns, start_ns + round(n * count_ns * FAST_SLEW))
        self._last = (counter, end_ns)
        return ClockParams(counter - n, start_ns, (end_ns - start_ns) / n if n else count_ns, self._residual_ns)


def _ridge_line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Offset and slope of the weighted least-squares line whose slope has the prior N(0, PRIOR_DRIFT)."""
    total = float(weight.sum())
    mean_x, mean_y = float(weight @ x) / total, float(weight @ y) / total
    spread = float(weight @ (x - mean_x) ** 2) + (BIN_NOISE_NS / PRIOR_DRIFT) ** 2
    slope = float(weight @ ((x - mean_x) * (y - mean_y))) / spread
    return mean_y - slope * mean_x, slope


class ArrivalClock:
    """For devices that do not count: the last item of a chunk lies at its arrival less the latency.

    Item times grow strictly: items that arrive in one burst are spaced by what is left since the last one, at
    least 1 ns.
    """

    def __init__(self, rate_hz: float, latency_ns: int = 0) -> None:
        self._nominal_ns = 1e9 / rate_hz
        self._latency_ns = latency_ns
        self._last_ns: int | None = None

    @property
    def drift_ppm(self) -> None:
        """Unknown."""
        return None

    @property
    def residual_ns(self) -> float:
        """Unknown, hence 0."""
        return 0.0

    @property
    def steps(self) -> int:
        """An arrival clock cannot see any."""
        return 0

    def reset(self) -> None:
        """Nothing to forget."""

    def update(self, counter_end: int, arrival_ns: int, n: int = 1) -> ClockParams:
        """Stamp for the chunk of `n` items before `counter_end`."""
        t_ns = arrival_ns - self._latency_ns
        dt_ns = self._nominal_ns
        if self._last_ns is not None:
            t_ns = max(t_ns, self._last_ns + max(n, 1))
            if n > 1:
                dt_ns = min(dt_ns, (t_ns - self._last_ns) / n)
        self._last_ns = t_ns
        first_ns = t_ns - math.ceil((n - 1) * dt_ns) if n > 1 else t_ns
        return ClockParams(counter_end - n, first_ns, dt_ns)


def make_clock(spec: StreamSpec, latency_ns: int = 0) -> StreamClock:
    """The clock that a stream's `tick` asks for."""
    if spec.tick == "counter":
        return ClockModel(spec.rate_hz, latency_ns)
    return ArrivalClock(spec.rate_hz, latency_ns)
