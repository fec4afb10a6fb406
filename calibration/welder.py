"""The welder's sensors against a reference meter: gain and offset of each channel, and what remains.

Practice: ISO 17662 wants the equipment that shows welding current and voltage calibrated where the quality of the
weld rests on them; for arc welding equipment itself there is IEC 60974-14 (before: EN 50504). One compares with an
instrument of known uncertainty at several points over the range that is used and judges the deviation against the
largest value; built-in meters are commonly held to ±2.5 % of it, the limit here for what a correction leaves.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.files import CalibrationError

__all__ = ["LIMIT_SHARE", "MIN_POINTS", "MIN_SPAN", "ChannelFit", "check_pairs", "fit_channel"]

Array = NDArray[np.float64]

LIMIT_SHARE = 0.025
"""Largest residual, as a share of the largest reference value."""
MIN_POINTS = 5
MIN_SPAN = 0.2
"""Smallest span of the references, as a share of the largest: an offset cannot be told from a gain in less."""
NEAR = (0.5, 2.0)
"""A gain outside is no sensor that is a little off, but something else: another column, another unit."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelFit:
    """`reference = gain * reading + offset`, in `unit`; intervals are half widths, 95 %."""

    channel: str
    unit: str
    gain: float
    offset: float
    gain_interval: float
    offset_interval: float
    residuals: tuple[float, ...]
    before: tuple[float, ...]
    """Reference minus reading, before the correction."""
    range: tuple[float, float]

    @property
    def rms(self) -> float:
        """Of the residuals, `unit`."""
        return float(np.sqrt(np.mean(np.square(self.residuals))))

    @property
    def worst(self) -> float:
        """The largest residual, as a share of the largest reference."""
        return float(np.abs(self.residuals).max() / np.abs(self.range).max())


def check_pairs(
    source: str,
    reference: Mapping[str, Array],
    reading: Mapping[str, Array],
    units: Mapping[str, str],
    *,
    with_offset: bool,
) -> None:
    """Refuse what is no comparison of one quantity with itself.

    `reading` also holds the stream's other channels, to recognise a column that belongs to one of those. Raises
    CalibrationError: swapped columns, wrong units, too few points, too narrow a range.
    """
    for channel, values in reference.items():
        if len(values) < MIN_POINTS:
            raise CalibrationError(
                f"{source}: {channel}: {len(values)} points, at least {MIN_POINTS} are needed; weld more set-points"
            )
        gain = _ratio(values, reading[channel])
        if NEAR[0] <= gain <= NEAR[1]:
            continue
        alike = [other for other in reading if other != channel and _is_near(values, reading[other])]
        if alike:
            raise CalibrationError(
                f"{source}: the meter's {channel} (median {np.median(values):.4g} {units[channel]}) looks like the "
                f"stream's {alike[0]} (median {np.median(reading[alike[0]]):.4g}) and not like its {channel} "
                f"(median {np.median(reading[channel]):.4g}): are its columns swapped?"
            )
        for factor in (1e3, 1e-3):
            if NEAR[0] <= gain * factor <= NEAR[1]:
                raise CalibrationError(
                    f"{source}: the meter's {channel} is {gain:.3g} times the stream's: is its unit right? Values "
                    f"a thousand times {'larger' if factor > 1 else 'smaller'} would fit"
                )
        raise CalibrationError(
            f"{source}: the meter's {channel} is {gain:.3g} times the stream's; between {NEAR[0]} and {NEAR[1]} a "
            "correction would be trusted: check the sensor's scale in the config, and that both measured one weld"
        )
    if with_offset:
        _check_spans(source, reference, units)


def _check_spans(source: str, reference: Mapping[str, Array], units: Mapping[str, str]) -> None:
    for channel, values in reference.items():
        low, high = float(values.min()), float(values.max())
        if high - low < MIN_SPAN * abs(high):
            raise CalibrationError(
                f"{source}: {channel}: from {low:.4g} to {high:.4g} {units[channel]} only; an offset needs a span of "
                f"{MIN_SPAN:.0%} of the largest: add set-points, or give --gain-only"
            )


def _ratio(reference: Array, reading: Array) -> float:
    """Reference over reading through zero; 0 where the stream shows nothing."""
    power = float(reading @ reading)
    return float(reference @ reading) / power if power > 0 else 0.0


def _is_near(reference: Array, reading: Array) -> bool:
    return NEAR[0] <= _ratio(reference, reading) <= NEAR[1]


def fit_channel(
    channel: str,
    unit: str,
    reference: Sequence[float] | Array,
    reading: Sequence[float] | Array,
    *,
    with_offset: bool,
) -> ChannelFit:
    """Least squares of the reference on the reading, both `(n,)`: what is wanted is the meter's value."""
    from scipy.stats import t as student

    y, x = np.asarray(reference, np.float64), np.asarray(reading, np.float64)
    design = np.stack([x, np.ones_like(x)], axis=1)[:, : 2 if with_offset else 1]
    found, *_ = np.linalg.lstsq(design, y, rcond=None)
    residuals = y - design @ found
    free = len(y) - design.shape[1]
    noise = float(residuals @ residuals) / free
    spread = np.sqrt(noise * np.diag(np.linalg.pinv(design.T @ design))) * float(student.ppf(0.975, free))
    return ChannelFit(
        channel=channel,
        unit=unit,
        gain=float(found[0]),
        offset=float(found[1]) if with_offset else 0.0,
        gain_interval=float(spread[0]),
        offset_interval=float(spread[1]) if with_offset else 0.0,
        residuals=tuple(residuals.tolist()),
        before=tuple((y - x).tolist()),
        range=(float(y.min()), float(y.max())),
    )
