"""`edged calibrate profile STREAM`: a laser profiler's heights by a gauge, and where its scans lie on the seam."""

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.files import CalibrationError, load_calibrations, read_calibration
from calibration.kinds import ViewValues
from calibration.profile_height import HeightFit, fit_heights
from calibration.registration import Area, Registration, Together, register_all
from calibration.scan_rows import read_rows
from edged.calibrate.pictures import decoded
from edged.calibrate.report import (
    DEFAULT_DIRECTORY,
    DirectoryOption,
    DryRunOption,
    JsonOption,
    Residual,
    ValidOption,
    bad_input,
    conclude,
    measured,
)
from edged.calibrate.windows import recorded_windows
from edged.logs import configure_logging
from pipelines.rectify import ViewGeometry, find_and_place, rectify
from pipelines.scan_place import Scan, bead_ends, scan_place
from pipelines.window import SeamWindow

__all__ = ["profile"]

HALF_YEAR_DAYS = 180.0
LIMIT_STEP_MM = 0.05
LIMIT_REGISTRATION_MM = 0.5
"""Half width of the interval: some of a bead's width, and two rows of a scan."""
AROUND_MM = (6.0, 11.0)
"""Beyond the seam's ends and beside it."""
PX_PER_MM = 10


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Laid:
    """What photographs and scans of one program say together."""

    together: Together
    parts: list[Registration]
    bead: tuple[float, float]
    shifts_mm: NDArray[np.float64]


def profile(
    stream: Annotated[str, typer.Argument(help="Name of the profiler's stream in the config.")],
    half_width_mm: Annotated[float, typer.Option(min=0.5, help="Half of what a laser line covers across.")],
    gauge: Annotated[Path | None, typer.Option(help="CSV of rows over a step gauge or flat plate.")] = None,
    steps: Annotated[str, typer.Option(help="Heights of the gauge in their order, mm: 0,1,2,5. One: a plate.")] = "0",
    no_return: Annotated[float | None, typer.Option(help="Number that marks a point without a return.")] = None,
    counter_column: Annotated[bool, typer.Option(help="Rows begin with their number.")] = False,
    recording: Annotated[list[Path] | None, typer.Option(help="Recordings of good seams, or folders.")] = None,
    program: Annotated[str | None, typer.Option(help="Whose seams are compared.")] = None,
    view_calibration: Annotated[Path | None, typer.Option(help="views-VIEW.toml of the photographs.")] = None,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    valid_days: ValidOption = HALF_YEAR_DAYS,
    notes: Annotated[str, typer.Option(help="Head, exposure, robot path.")] = "",
    json_file: JsonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a profiler: heights with --gauge, place on the seam with --recording; either or both."""
    configure_logging("calibrate", level=logging.WARNING)
    with bad_input():
        if gauge is None and not recording:
            raise CalibrationError("give --gauge FILE, --recording FILE, or both")
        rows = None if gauge is None else read_rows(gauge, no_return, counter_column=counter_column)
        heights = None if rows is None else fit_heights(rows, half_width_mm, _steps(steps))
        laid = _lay(recording, program, view_calibration) if recording else None
        residuals = [*_height_residuals(heights), *_place_residuals(laid)]
        values, kept = _earlier(directory, stream, half_width_mm)
        values |= _height_values(heights, rows)
        if laid is not None and program is not None:
            values["programs"] = {**values.get("programs", {}), program: _place_values(laid)}
        made = measured("profile", stream, values, residuals, valid_days, notes)
        calibration = dataclasses.replace(made, residuals={**kept, **made.residuals})
    conclude(
        calibration,
        residuals,
        directory,
        dry_run=dry_run,
        json_file=json_file,
        more=_more(heights, laid),
        show=lambda console: _show(console, heights, laid),
    )


def _steps(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise CalibrationError(
            f"--steps {text!r}: give heights in mm separated by commas, for example 0,1,2,5"
        ) from None
    if not np.isfinite(found).all():
        raise CalibrationError(f"--steps {text!r}: every height must be finite")
    return found


def _lay(recording: list[Path], program: str | None, view_calibration: Path | None) -> _Laid:
    if program is None or view_calibration is None:
        raise CalibrationError("--recording needs --program NAME and --view-calibration views-VIEW.toml too")
    item = read_calibration(view_calibration)
    values = item.checked
    if not isinstance(values, ViewValues):
        raise CalibrationError(f"{view_calibration}: is no calibration of a view; 'edged calibrate views' makes one")
    parts: list[tuple[NDArray[np.uint8], NDArray[np.float32]]] = []
    scan, length_mm = (0.0, 1.0, 1.0), 0.0
    area: Area = (0.0, 1.0, 0.0, 1.0)
    for path, window in recorded_windows(recording, program):
        scan, length_mm = _nominal(path, window)
        area = (-AROUND_MM[0], length_mm + AROUND_MM[0], -AROUND_MM[1], AROUND_MM[1])
        photo = _photograph(window, item.device, values, area)
        if photo is not None and window.height_map_mm is not None:
            parts.append((photo, window.height_map_mm))
    found, together = register_all(parts, area, scan, length_mm)
    ends = np.array([e for _, heights in parts if (e := bead_ends(heights, together.scan)) is not None])
    if not len(ends):
        raise CalibrationError(f"no bead begins and ends within the scans of {program!r}; let them run longer")
    bead = (float(np.median(ends[:, 0])), float(np.median(ends[:, 1])))
    shifts = [_shift(heights, together.scan, bead) for _, heights in parts]
    return _Laid(together, found, bead, np.array([s for s in shifts if s is not None]))


def _shift(heights: NDArray[np.float32], scan: Scan, bead: tuple[float, float]) -> float | None:
    place = scan_place(heights, scan, bead)
    return None if place is None else place.shift_mm


def _nominal(path: Path, window: SeamWindow) -> tuple[Scan, float]:
    frame = window.frame
    if frame is None or frame.scan is None:
        raise CalibrationError(
            f"{path}: its configuration has no frame with a scan for program {window.seam.program!r}; give the "
            "robot's nominal values there first (docs/calibration-vision.md)"
        )
    return frame.scan, frame.length_mm


def _photograph(window: SeamWindow, view: str, values: ViewValues, area: Area) -> NDArray[np.uint8] | None:
    if view not in window.views or (image := decoded(window.views[view].jpeg)) is None or window.frame is None:
        return None
    plain = dataclasses.replace(window.frame, geometry={})
    geometry: ViewGeometry = values.of_frame(plain, view, window.seam.program).geometry[view]
    _, placed = find_and_place(image, geometry)
    if placed is None:
        return None
    shape = (round((area[3] - area[2]) * PX_PER_MM), round((area[1] - area[0]) * PX_PER_MM))
    return rectify(image, placed, area, shape, geometry.above_mm)


def _earlier(directory: Path, stream: str, half_width_mm: float) -> tuple[dict[str, Any], dict[str, float]]:
    """Values and residuals of the file that is there: what is not measured again is kept."""
    item = load_calibrations(directory).get("profile", stream)
    if item is None:
        return {"half_width_mm": half_width_mm}, {}
    if item.values["half_width_mm"] != half_width_mm:
        raise CalibrationError(
            f"{item.name}: was measured with --half-width-mm {item.values['half_width_mm']:g}, now it is "
            f"{half_width_mm:g}; give the same, or take the old file away"
        )
    return dict(item.values), dict(item.residuals)


def _height_values(fit: HeightFit | None, rows: NDArray[np.float32] | None) -> dict[str, Any]:
    if fit is None or rows is None:
        return {}
    return {"scale": fit.scale, "offset_mm": fit.offset_mm, "tilt": fit.tilt, "points": rows.shape[1]}


def _place_values(laid: _Laid) -> dict[str, Any]:
    middle = laid.together.middle
    return {
        "scan": list(laid.together.scan),
        "across_mm": middle.across_mm,
        "turn_deg": float(np.degrees(middle.turn_rad)),
        "bead": list(laid.bead),
        "seams": laid.together.parts,
    }


def _height_residuals(fit: HeightFit | None) -> list[Residual]:
    if fit is None:
        return []
    worst = max(abs(step) for step in fit.step_mm)
    return [
        Residual("height_rms_mm", fit.residual_mm, "mm", LIMIT_STEP_MM),
        Residual("worst_step_mm", worst, "mm", 2 * LIMIT_STEP_MM),
        Residual("noise_mm", fit.noise_mm, "mm"),
    ]


def _place_residuals(laid: _Laid | None) -> list[Residual]:
    if laid is None:
        return []
    along, across = laid.together.interval_mm
    return [
        Residual("along_interval_mm", along, "mm", LIMIT_REGISTRATION_MM),
        Residual("across_interval_mm", across, "mm", LIMIT_REGISTRATION_MM),
        Residual("part_along_mm", laid.together.spread_mm[0], "mm"),
        Residual("part_across_mm", laid.together.spread_mm[1], "mm"),
        Residual("scan_shift_mm", float(np.std(laid.shifts_mm)) if len(laid.shifts_mm) else float("nan"), "mm"),
    ]


def _more(heights: HeightFit | None, laid: _Laid | None) -> dict[str, Any]:
    return {
        "heights": None if heights is None else dataclasses.asdict(heights),
        "parts": [] if laid is None else [dataclasses.asdict(part) for part in laid.parts],
        "scan_shifts_mm": [] if laid is None else laid.shifts_mm.tolist(),
    }


def _show(console: Console, heights: HeightFit | None, laid: _Laid | None) -> None:
    table = Table("what", "value")
    if heights is not None:
        interval = "" if heights.scale_interval is None else f" ± {heights.scale_interval:.5f}"
        table.add_row("height scale", f"{heights.scale:.5f}{interval}")
        table.add_row("height offset", f"{heights.offset_mm:.4f} mm")
        table.add_row("tilt across", f"{heights.tilt * 1e3:.2f} µm/mm")
    if laid is not None:
        first, step, half = laid.together.scan
        table.add_row("frame.scan", f"[{first:.3f}, {step:.5f}, {half:g}]", style="bold")
        table.add_row("rows' middle", f"{laid.together.middle.across_mm:.3f} mm across")
        table.add_row("turn", f"{np.degrees(laid.together.middle.turn_rad):.3f}°")
        table.add_row("bead", f"{laid.bead[0]:.2f} to {laid.bead[1]:.2f} mm")
        table.add_row("seams", str(laid.together.parts))
    console.print(table)
