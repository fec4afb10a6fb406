"""Whether samples of a channel were lost and made up by repeating the one before: told from the waveform alone.

Any converter repeats values where the signal moves less than its step. Where the signal runs up or down by many steps
a sample, it does not: there the middle of three steps in a row that lead the same way is exactly 0 about as often as
it is exactly one converter's step up, because a signal and its noise know nothing of the converter's grid. Held
samples break that: their steps of 0 have no neighbours. So on such slopes (`SLOPE_STEPS` and more on both sides)
the steps of 0, less those of the converter's next steps, over all steps is the share of samples that are held.

This tells nothing, and so accuses nobody, where there is no such slope: at rest, in a clipped plateau (it ends with a
step the other way), on logs of a few Hz, and of a channel that moves by a few converter's steps only. A channel that
repeats every second value without exception is a slower converter's, and no loss.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeldSamples"]

SLOPE_STEPS = 8.0
"""A slope that runs by so many converter's steps a sample cannot stand still for one by itself."""
LEAST_SLOPES = 200
"""On so many slopes 2 % are known to ±1 %."""
ALL_OF_THEM = 0.98
LOWEST_EXPONENT, OCTAVES = -30, 60
"""Sizes of steps by octave: 1e-9 to 1e9 of whatever unit."""
COMMON = 0.01
"""The converter's step is the octave that a hundredth of all steps do not exceed: single odd codes are none."""

Samples = NDArray[np.float64]


class HeldSamples:
    """One channel while the arc burns; sums only, so they do not depend on how the stream was cut."""

    def __init__(self) -> None:
        self._tail: Samples = np.zeros(0)
        # [slope's octave, octave of the step in its middle + 1]; in column 0 the middle stood still.
        self._slopes = np.zeros((OCTAVES, OCTAVES + 1), np.int64)
        self._steps = np.zeros(OCTAVES, np.int64)

    def cut(self) -> None:
        """Data is missing: no slope leads over it."""
        self._tail = np.zeros(0)

    def add(self, values: Samples) -> None:
        """The next values, (n,), NaN where they do not count."""
        joined = np.concatenate([self._tail, values])
        self._tail = joined[-3:]
        fresh = np.diff(joined[max(len(joined) - len(values) - 1, 0) :])
        fresh = fresh[np.isfinite(fresh) & (fresh != 0)]
        self._steps += np.bincount(_octaves(fresh), minlength=OCTAVES)
        steps = np.diff(joined)
        if len(steps) < 3:
            return
        before, middle, after = steps[:-2], steps[1:-1], steps[2:]
        # Comparisons with NaN are false.
        same = (before * after > 0) & np.isfinite(middle)
        before, middle, after = before[same], middle[same], after[same]
        rows = _octaves(np.minimum(np.abs(before), np.abs(after)))
        columns = np.where(middle == 0, 0, _octaves(middle) + 1)
        width = OCTAVES + 1
        self._slopes += np.bincount(rows * width + columns, minlength=OCTAVES * width).reshape(OCTAVES, width)

    @property
    def share(self) -> float | None:
        """Share of samples that are held, 0…1; None where too few slopes tell."""
        total = int(self._steps.sum())
        if not total:
            return None
        step = int(np.searchsorted(np.cumsum(self._steps), COMMON * total))
        first = step + 1 + int(np.log2(SLOPE_STEPS))
        slopes = self._slopes[first:]
        n = int(slopes.sum())
        if n < LEAST_SLOPES:
            return None
        still = int(slopes[:, 0].sum())
        if still >= ALL_OF_THEM * n:
            return None
        return max(still - int(slopes[:, 1 : step + 2].sum()), 0) / n


def _octaves(steps: Samples) -> NDArray[np.intp]:
    """Octave of each step's size; the lowest for 0."""
    exponents = np.frexp(steps)[1].astype(np.intp) - 1 - LOWEST_EXPONENT
    return np.where(steps == 0, 0, np.clip(exponents, 0, OCTAVES - 1))
