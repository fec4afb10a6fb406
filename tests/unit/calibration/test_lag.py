"""The lag from seams whose bead was made of their process, a known way behind."""

import dataclasses

import numpy as np
import pytest

from calibration.files import CalibrationError
from calibration.lag import GRID_MM, SMOOTH_MM, LaidSeam, arc_lanes, bead_lanes, fit_lag

LENGTH_MM = 30.0
ROWS = round(LENGTH_MM / GRID_MM)


def seams(lag_mm: float, count: int = 24, noise: float = 1.0, seed: int = 0) -> list[LaidSeam]:
    """A process that wanders over 4 mm; a bead that averages it from 0 to twice the lag ahead, with as much noise."""
    rng = np.random.default_rng(seed)
    ahead = max(round(2 * lag_mm / GRID_MM), 1)
    found = []
    for k in range(count):
        rough = rng.standard_normal((ROWS + ahead + 32, 2))
        process = np.stack([np.convolve(column, np.hanning(32), "valid") for column in rough.T], axis=1)
        mean = np.stack([np.convolve(column, np.ones(ahead) / ahead, "valid") for column in process.T], axis=1)
        y = mean[:ROWS] @ np.array([[1.0, 0.5, 0.8], [0.3, -0.6, 0.1]])
        y += noise * y.std() * rng.standard_normal(y.shape)
        start = 5 * np.exp(-np.arange(ROWS) / 8)[:, None]  # the start is the same on all of them
        found.append(LaidSeam(f"s{k % 6}", process[:ROWS] + start, y + start))
    return found


@pytest.mark.parametrize("lag_mm", [1.0, 3.0, 5.0])
def test_the_lag_is_found_within_its_interval(lag_mm: float) -> None:
    fit = fit_lag(seams(lag_mm))
    middle_mm = lag_mm - 0.5 * GRID_MM  # of the rows that are averaged
    assert fit.lag_mm == pytest.approx(middle_mm, abs=0.15 + 0.08 * lag_mm)
    assert fit.interval_mm[0] <= fit.lag_mm <= fit.interval_mm[1]
    assert fit.interval_mm[1] - fit.interval_mm[0] < 2.0
    assert not fit.at_edge
    assert set(fit.own_mm) == {"width", "height", "area"}
    assert (fit.seams, fit.sessions) == (24, 6)


def test_a_bead_that_follows_nothing_explains_nothing() -> None:
    strangers = seams(3.0, seed=1)
    mixed = [dataclasses.replace(a, bead=b.bead) for a, b in zip(seams(3.0), strangers, strict=True)]
    fit = fit_lag(mixed)
    assert fit.explained < 0.05
    assert fit.interval_mm[1] - fit.interval_mm[0] > 3.0


def test_places_are_as_wide_as_a_grid_detectors() -> None:
    from pipelines.seam_grid import PROCESS_REACH_MM

    assert SMOOTH_MM == 2 * PROCESS_REACH_MM


def test_too_few_seams_say_how_many_more() -> None:
    with pytest.raises(CalibrationError, match=r"7 seams, at least 12 good ones are needed: 5 more"):
        fit_lag(seams(3.0, count=7))


def test_rows_without_a_scan_tell_nothing() -> None:
    gappy = [
        dataclasses.replace(seam, bead=np.where(np.arange(ROWS)[:, None] < 12, np.nan, seam.bead))
        for seam in seams(3.0)
    ]
    assert fit_lag(gappy).lag_mm == pytest.approx(3.0, abs=0.5)


def test_the_process_lies_where_the_arc_stood() -> None:
    """5 mm/s, then 10 mm/s: the current's step comes at 3 s, where the arc stands at 20 mm."""
    times = np.arange(0, 4, 1e-3)
    at_mm = np.where(times < 2, 5 * times, 10 + 10 * (times - 2))
    channels = np.stack([np.where(times < 3, 100.0, 200.0), np.full(len(times), 20.0)], axis=1)
    lanes = arc_lanes(times, channels, times, at_mm, 40.0)
    middles = (np.arange(len(lanes)) + 0.5) * GRID_MM
    np.testing.assert_allclose(lanes[middles < 9.5, 0], 100 * 20 / 5, rtol=1e-6)  # J/mm
    np.testing.assert_allclose(lanes[(middles > 10.5) & (middles < 19.5), 0], 100 * 20 / 10, rtol=1e-6)
    np.testing.assert_allclose(lanes[(middles > 20.5) & (middles < 29), 3], 200.0, rtol=1e-6)  # A
    np.testing.assert_allclose(lanes[middles < 9.5, -1], 0.2, rtol=1e-6)  # s/mm
    assert np.isnan(lanes[middles > 31]).all(), "the arc never came there"


def test_the_bead_lies_where_the_scan_says() -> None:
    rows_mm = np.arange(2.0, 20.0, 0.5)
    columns = {"width": rows_mm, "height": 2 * rows_mm, "area": np.ones(len(rows_mm))}
    lanes = bead_lanes(columns, rows_mm, LENGTH_MM)
    middles = (np.arange(ROWS) + 0.5) * GRID_MM
    inside = (middles >= 2.0) & (middles <= 19.5)
    np.testing.assert_allclose(lanes[inside, 0], middles[inside])
    assert np.isnan(lanes[~inside]).all()
