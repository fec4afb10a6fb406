"""Device counters to host time: what `Stream` stamps chunks with, on their way into the ring.

A chunk arrives late, never early, so delays are one-sided and least squares would be biased by their mean. The
`ClockModel` therefore follows the *lower envelope* (`calibration.envelope`): a line that no arrival lies below,
fitted anew each half second and lowered at once where an arrival comes earlier. Cristian's and NTP's minimum filters
rest on the same fact.

Stamps form one continuous, strictly increasing line: each chunk starts exactly where the last one ended, and a
correction is worked in by slewing, at most SLEW of the time that passed. Chunks of one connection hence never
overlap. A stamp that lies after the arrival, or far behind the envelope, is brought back at FAST_SLEW; so in the
first two seconds after a reset items may be spaced up to 50 % too close, after a first chunk that came late. A step
(of the device's counter, or of the device's pace) begins a new line; only there a stamp jumps, and only forwards.
"""

import dataclasses
import math
from collections import deque
from itertools import islice
from typing import Protocol

from calibration.envelope import LowerEnvelope
from drivers.base import ClockParams, StreamSpec

__all__ = ["ArrivalClock", "ClockModel", "StreamClock", "clock_latency_ns", "make_clock"]

BIN_NS = 500_000_000
SETTLE_BINS = 4
"""Two seconds; before that the line is only what the least delays allow."""
DRIFT_BINS = 20
"""Ten seconds; before that no drift is told."""
LEAST_SCATTER_NS = 100_000.0
"""What half-second minima are taken to scatter at least: the prior on the rate is weighed against it."""
SCATTER_BINS = 16
SCATTER_JUMP = 4.0
"""A minimum counts at most this many times the scatter so far: a backlog says nothing about a quiet line."""
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
    _LateStep(bins=10, beyond_ns=20e6, within_ns=20e6),
)
"""A backlog is late too, but its minima rise while a starved reader falls behind and fall while it is worked off.
After a pause of the device they stay alike, more or less."""


class StreamClock(Protocol):
    """What stamps one stream."""

    @property
    def drift_ppm(self) -> float | None:
        """Device rate against nominal, ppm; positive: the device is fast. None while it is not known yet."""
        ...

    @property
    def residual_ns(self) -> float:
        """Mean height of the least delayed arrivals of each half second above the line."""
        ...

    @property
    def steps(self) -> int:
        """Steps found so far."""
        ...

    def update(self, counter_end: int, arrival_ns: int, n: int = 1) -> ClockParams:
        """Take a chunk of `n` items that ends before the item `counter_end`; returns what to stamp it with."""
        ...

    def set_latency(self, latency_ns: int) -> None:
        """From the next chunk on take this off; may be called from another thread, best while nothing is welded."""
        ...

    def reset(self) -> None:
        """Forget the line, because the device was reopened; stamps still never go back."""
        ...


class ClockModel:
    """Counter → host time for devices that count, by the lower envelope (see the module).

    An update takes amortised constant time, and the memory is bounded.

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
        """Device rate against nominal, ppm; None in the first ten seconds of a line."""
        if self._envelope is None or self._bins < DRIFT_BINS:
            return None
        return (1 / (1 + self._envelope.drift) - 1) * 1e6

    @property
    def residual_ns(self) -> float:
        """Mean height of the half seconds' least delayed arrivals above the line, the latest ones counting most."""
        return self._scatter_ns

    @property
    def steps(self) -> int:
        """Steps found so far, not counting `reset`."""
        return self._steps

    @property
    def line(self) -> ClockParams | None:
        """The envelope of the arrivals, latency not taken off; None before the first chunk."""
        return None if self._envelope is None else self._envelope.line

    def set_latency(self, latency_ns: int) -> None:
        """From the next chunk on take this off; stamps get there at FAST_SLEW, later or earlier."""
        if latency_ns != self._latency_ns:
            self._latency_ns = latency_ns
            self._is_moving = True

    def reset(self) -> None:
        """Begin a new line with the next chunk."""
        self._begin()
        self._steps -= 1

    def update(self, counter_end: int, arrival_ns: int, n: int = 1) -> ClockParams:
        """Stamp for the chunk of `n` items before `counter_end` whose last byte came at `arrival_ns`."""
        if self._has_stepped(counter_end, arrival_ns, n):
            self._begin()
        self._observe(counter_end, arrival_ns)
        self._params = self._stamp(counter_end, arrival_ns - self._latency_ns, n)
        return self._params

    def _begin(self) -> None:
        self._steps += 1
        self._envelope: LowerEnvelope | None = None
        self._late: deque[float] = deque(maxlen=max(rule.bins for rule in LATE_STEPS))
        self._bins = 0
        self._bin = -1
        self._least: tuple[float, int, int] | None = None  # lateness, counter, time: the bin's least delayed
        self._scatter_ns = 0.0
        self._is_fresh = True
        self._is_moving = False

    def _has_stepped(self, counter_end: int, arrival_ns: int, n: int) -> bool:
        if self._last is not None and not self._is_fresh and counter_end - n < self._last[0]:
            return True
        if self._envelope is None or self._bins < SETTLE_BINS:
            return False
        return arrival_ns < self._envelope.line.t_ns(counter_end) - EARLY_STEP_NS

    def _observe(self, counter: int, arrival_ns: int) -> None:
        if self._least is not None and arrival_ns // BIN_NS != self._bin:
            self._close_bin(*self._least[1:])
            self._least = None
        if self._envelope is None:
            self._envelope = LowerEnvelope(self._nominal_ns, counter, arrival_ns)
            late_ns = 0.0
        else:
            late_ns = self._envelope.add(counter, arrival_ns)
        if self._least is None or late_ns < self._least[0]:
            self._bin = arrival_ns // BIN_NS
            self._least = (late_ns, counter, arrival_ns)

    def _close_bin(self, counter: int, arrival_ns: int) -> None:
        assert self._envelope is not None
        late_ns = max(arrival_ns - self._envelope.line.t_ns(counter), 0.0)
        if self._bins >= SETTLE_BINS:
            self._late.append(late_ns)
            if self._is_late_step():
                self._begin()
                return
        self._bins += 1
        most_ns = SCATTER_JUMP * max(self._scatter_ns, LEAST_SCATTER_NS)
        self._scatter_ns += (min(late_ns, most_ns) - self._scatter_ns) / min(self._bins, SCATTER_BINS)
        self._envelope.close_bin(counter, arrival_ns, max(self._scatter_ns, LEAST_SCATTER_NS))

    def _is_late_step(self) -> bool:
        for rule in LATE_STEPS:
            late = list(islice(self._late, max(len(self._late) - rule.bins, 0), None))
            if len(late) == rule.bins and min(late) > rule.beyond_ns and max(late) - min(late) < rule.within_ns:
                return True
        return False

    def _stamp(self, counter: int, now_ns: int, n: int) -> ClockParams:
        assert self._envelope is not None
        line = self._envelope.line
        target_ns, count_ns = line.t_ns(counter) - self._latency_ns, line.ns_per_count
        if self._last is None or self._is_fresh:
            self._is_fresh = False
            return self._restart(counter, target_ns, count_ns, n)
        last_counter, last_ns = self._last
        if counter == last_counter:
            return self._params or ClockParams(counter, last_ns, count_ns, self._scatter_ns)
        passed_ns = (counter - last_counter) * count_ns
        error_ns = target_ns - last_ns - passed_ns
        is_fast = self._is_moving or self._bins < SETTLE_BINS or error_ns < -FAR_NS
        most_ns = (FAST_SLEW if self._is_moving else SLEW) * passed_ns
        slewed_ns = passed_ns + min(max(error_ns, -(FAST_SLEW if is_fast else SLEW) * passed_ns), most_ns)
        self._is_moving = self._is_moving and abs(error_ns) > most_ns
        # An item that arrived has been measured: no stamp lies after its arrival for longer than it must.
        slewed_ns = max(min(slewed_ns, now_ns - last_ns), FAST_SLEW * passed_ns)
        end_ns = last_ns + round(slewed_ns)
        self._last = (counter, end_ns)
        return ClockParams(last_counter, last_ns, (end_ns - last_ns) / (counter - last_counter), self._scatter_ns)

    def _restart(self, counter: int, target_ns: int, count_ns: float, n: int) -> ClockParams:
        """The first stamp of a line: where the envelope says, but not before the last stamp ended."""
        start_ns = target_ns - round(n * count_ns)
        if self._last is not None:
            start_ns = max(start_ns, self._last[1])
        end_ns = max(target_ns, start_ns + round(n * count_ns * FAST_SLEW))
        self._last = (counter, end_ns)
        return ClockParams(counter - n, start_ns, (end_ns - start_ns) / n if n else count_ns, self._scatter_ns)


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

    def set_latency(self, latency_ns: int) -> None:
        """From the next chunk on take this off; item times still grow."""
        self._latency_ns = latency_ns

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


def clock_latency_ns(spec: StreamSpec, latency_ns: int) -> int:
    """What a clock of this stream takes off: the configured latency, and what its items' arrival means.

    A chunk of samples arrives when its last sample is over, but an image when it begins to count as taken.
    """
    return latency_ns - round(spec.dt_ns) if spec.encoded and spec.tick == "counter" else latency_ns


def make_clock(spec: StreamSpec, latency_ns: int = 0) -> StreamClock:
    """The clock that a stream's `tick` asks for."""
    if spec.tick == "counter":
        return ClockModel(spec.rate_hz, clock_latency_ns(spec, latency_ns))
    return ArrivalClock(spec.rate_hz, latency_ns)
