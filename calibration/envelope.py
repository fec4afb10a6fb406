"""The lower envelope of arrivals, online: the line that no arrival lies below, in constant time an update.

Below `ClockModel`. Points are (x, y): nominal time of a counter, and arrival minus that, ns. What is late lies above;
a line that touches the lower convex hull from below is later than no arrival. Points come with growing x, so the
hull is kept by Andrew's monotone chain: each point is put on once and taken off at most once, amortised constant.
Moon, Skelly and Towsley (Estimation and removal of clock skew from network delay measurements, INFOCOM 1999) choose
the line that is closest to all points; with the hull it is the edge over their mean x (Zhang, Liu and Xia, 2002).

Two hulls are half a window apart; when the older one is full, the younger takes its place. So the line always rests
on half a window to a whole one, and nothing need ever be taken off a hull's old end.
"""

from bisect import bisect_left

from drivers.base import ClockParams

__all__ = ["MAX_DRIFT", "WINDOW_NS", "Hull", "LowerEnvelope"]

WINDOW_NS = 120_000_000_000
MAX_VERTICES = 128
"""Noise leaves about twenty; a hull that is fuller forgets its oldest."""
MAX_DRIFT = 500e-6
PRIOR_DRIFT = 100e-6
"""Standard deviation of real oscillators about their nominal rate; decides while seconds of data cannot."""


class Hull:
    """Lower convex hull of points with growing x."""

    __slots__ = ("xs", "ys")

    def __init__(self) -> None:
        self.xs: list[float] = []
        self.ys: list[float] = []

    def add(self, x: float, y: float) -> None:
        """Take a point; of several at the last x the lowest counts, one before it is not taken."""
        xs, ys = self.xs, self.ys
        if xs and x <= xs[-1]:
            if x < xs[-1] or y >= ys[-1]:
                return
            xs.pop()
            ys.pop()
        while len(xs) > 1 and (y - ys[-2]) * (xs[-1] - xs[-2]) <= (ys[-1] - ys[-2]) * (x - xs[-2]):
            xs.pop()
            ys.pop()
        xs.append(x)
        ys.append(y)
        if len(xs) > MAX_VERTICES:
            del xs[0], ys[0]

    def slope(self, mean_x: float, weight: float) -> float:
        """Slope of the supporting line that is closest to the points, which lie about `mean_x`.

        It maximises `weight · line(mean_x) − slope² / (2 · PRIOR_DRIFT²)`: exponential delays, `weight` being
        their number over their mean in ns, and a normal prior on the rate.
        """
        xs, ys = self.xs, self.ys
        pull = weight * PRIOR_DRIFT**2

        def is_beyond(edge: int) -> bool:
            steepness = (ys[edge + 1] - ys[edge]) / (xs[edge + 1] - xs[edge])
            return steepness >= pull * (mean_x - xs[edge + 1])

        # Along the hull slopes grow while what the points want falls: they meet once, on an edge or in a corner.
        edge = bisect_left(range(len(xs) - 1), True, key=is_beyond)
        wanted = pull * (mean_x - xs[edge])
        if edge == len(xs) - 1:
            return wanted
        return min(wanted, (ys[edge + 1] - ys[edge]) / (xs[edge + 1] - xs[edge]))

    def offset(self, slope: float) -> float:
        """y at x = 0 of the supporting line of this slope."""
        return min(y - slope * x for x, y in zip(self.xs, self.ys, strict=True))


class _Generation:
    """One hull, from `since_ns` on."""

    __slots__ = ("bins", "hull", "since_ns", "sum_x")

    def __init__(self, since_ns: int) -> None:
        self.since_ns = since_ns
        self.hull = Hull()
        self.bins = 0
        self.sum_x = 0.0


class LowerEnvelope:
    """Counter → host time by the line under all arrivals of the last one to two minutes.

    Args:
        nominal_ns: length of a count; the true one is sought within ±MAX_DRIFT.
        counter, arrival_ns: the first arrival; only differences to it are computed with.
    """

    def __init__(self, nominal_ns: float, counter: int, arrival_ns: int) -> None:
        self._nominal_ns = nominal_ns
        self._counter0 = counter
        self._arrival0_ns = arrival_ns
        self._old = _Generation(arrival_ns)
        self._young = self._old
        self._offset_ns = 0.0
        self._drift = 0.0
        self._line = ClockParams(counter, arrival_ns, nominal_ns)
        self.add(counter, arrival_ns)

    @property
    def line(self) -> ClockParams:
        """The line. It is later than none of the arrivals added, but where the hull had to forget some."""
        return self._line

    @property
    def drift(self) -> float:
        """Length of a count against nominal, less 1."""
        return self._drift

    @property
    def vertices(self) -> int:
        """Points held: what bounds the memory."""
        return len(self._old.hull.xs) + (0 if self._young is self._old else len(self._young.hull.xs))

    def add(self, counter: int, arrival_ns: int) -> float:
        """Take an arrival; returns how much later it is than the line, ns. The line gives way to an earlier one."""
        x = (counter - self._counter0) * self._nominal_ns
        y = arrival_ns - self._arrival0_ns - x
        self._old.hull.add(x, y)
        if self._young is not self._old:
            self._young.hull.add(x, y)
        late_ns = y - self._offset_ns - self._drift * x
        if late_ns < 0:
            self._offset_ns += late_ns
            self._line = self._as_params()
        return late_ns

    def close_bin(self, counter: int, arrival_ns: int, scatter_ns: float) -> None:
        """Fit anew after a stretch of arrivals of which this one was the least delayed.

        Args:
            counter, arrival_ns: that arrival; stretches of equal time weigh alike, however many chunks they held.
            scatter_ns: mean height of such arrivals above the line.
        """
        self._rotate(arrival_ns)
        x = (counter - self._counter0) * self._nominal_ns
        for generation in {self._old, self._young}:
            generation.bins += 1
            generation.sum_x += x
        old = self._old
        drift = old.hull.slope(old.sum_x / old.bins, old.bins / scatter_ns)
        self._drift = min(max(drift, -MAX_DRIFT), MAX_DRIFT)
        self._offset_ns = old.hull.offset(self._drift)
        self._line = self._as_params()

    def _rotate(self, now_ns: int) -> None:
        if now_ns - self._old.since_ns >= WINDOW_NS and self._young.bins:
            self._old, self._young = self._young, _Generation(now_ns)
        elif self._young is self._old and now_ns - self._old.since_ns >= WINDOW_NS // 2:
            self._young = _Generation(now_ns)

    def _as_params(self) -> ClockParams:
        # Rounded down: a stamp must not lie after its arrival for the sake of half a ns.
        t0_ns = self._arrival0_ns + int(self._offset_ns // 1)
        return ClockParams(self._counter0, t0_ns, self._nominal_ns * (1 + self._drift))
