"""A profiler's heights against gauges whose steps are known."""

from pathlib import Path

import numpy as np
import pytest

from calibration.files import CalibrationError
from calibration.profile_height import HeightFit, fit_heights
from calibration.scan_rows import read_rows

HALF_MM = 12.0
STEPS = (0.0, 1.0, 2.0, 5.0, 3.0)


def gauge(
    steps: tuple[float, ...] = STEPS, *, along: bool = False, noise_mm: float = 0.02, scale: float = 0.98,
    offset_mm: float = 0.3, tilt: float = 0.01, points: int = 120, rows: int = 80,
) -> np.ndarray:  # fmt: skip
    """Raw heights such that true = scale · raw + offset + tilt · y; shadows at the steps' edges."""
    y = np.linspace(-HALF_MM, HALF_MM, points)
    n = rows if along else points
    line = np.asarray(steps)[(np.arange(n) * len(steps)) // n]
    true = np.broadcast_to(line[:, None], (rows, points)) if along else np.broadcast_to(line, (rows, points))
    rng = np.random.default_rng(1)
    raw = (true - offset_mm - tilt * y) / scale + noise_mm * rng.standard_normal((rows, points))
    raw[rng.random(raw.shape) < 0.01] = np.nan
    return raw.astype(np.float32)


def check(fit: HeightFit, scale: float = 0.98, offset_mm: float = 0.3, tilt: float = 0.01) -> None:
    assert fit.scale == pytest.approx(scale, abs=0.003)
    assert fit.offset_mm == pytest.approx(offset_mm, abs=0.01)
    assert fit.tilt == pytest.approx(tilt, abs=0.001)
    assert fit.residual_mm < 0.01
    assert fit.noise_mm == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("along", [False, True])
def test_scale_offset_and_tilt_are_found(along: bool) -> None:
    fit = fit_heights(gauge(along=along), HALF_MM, STEPS)
    check(fit)
    assert fit.scale_interval is not None
    assert fit.scale_interval < 0.01


@pytest.mark.parametrize("tilt", [-0.08, 0.08])
def test_a_steep_tilt_hides_no_step(tilt: float) -> None:
    check(fit_heights(gauge(tilt=tilt), HALF_MM, STEPS), tilt=tilt)


def test_a_flat_plate_tells_offset_and_tilt_only() -> None:
    fit = fit_heights(gauge((0.0,), scale=1.0), HALF_MM)
    assert (fit.scale, fit.scale_interval) == (1.0, None)
    assert fit.offset_mm == pytest.approx(0.3, abs=0.01)
    assert fit.tilt == pytest.approx(0.01, abs=0.001)


def test_a_line_without_any_return_does_not_matter() -> None:
    raw = gauge()
    raw[:, 7] = np.nan
    raw[3] = np.nan
    check(fit_heights(raw, HALF_MM, STEPS))


def test_a_wrong_height_shows_in_the_residual() -> None:
    fit = fit_heights(gauge(), HALF_MM, (0.0, 1.0, 2.3, 5.0, 3.0))
    assert fit.residual_mm > 0.05
    assert np.argmax(np.abs(fit.step_mm)) == 2


@pytest.mark.parametrize(
    ("raw", "steps", "told"),
    [
        (gauge(), STEPS[::-1], "give --steps 0,1,2,5,3"),
        (gauge(), (0.0, 25.4, 50.8, 127.0, 76.2), "are --steps in mm"),
        (np.full((80, 120), np.nan, np.float32), STEPS, "0% of the gauge's points have a return"),
        (gauge(points=20), STEPS, "20 points are too few"),
    ],
)
def test_a_gauge_that_does_not_fit_is_named(raw: np.ndarray, steps: tuple[float, ...], told: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        fit_heights(raw, HALF_MM, steps)
    assert told in str(caught.value)


def test_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gauge.csv"
    line = ",".join(["0.5"] * 9 + ["-999", "nan", ""])
    path.write_text("".join(f"{k},{line}\n" for k in range(6)), encoding="utf-8")
    rows = read_rows(path, -999.0, counter_column=True)
    assert rows.shape == (6, 12)
    assert np.isnan(rows[:, 9:]).all()
    assert (rows[:, :9] == 0.5).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2\n" * 9, "9 rows of 2 points, 5 of 10 are needed"),
        ("", "0 rows of 0 points"),
        (",".join("0" * 12) + "\n" + ",".join("0" * 11), "line 2: has 11 points, the first row has 12"),
        ("height,mm\n", "line 1: 'height,mm' holds a field that is no number"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "gauge.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"gauge\.csv") as caught:
        read_rows(path)
    assert told in str(caught.value)
