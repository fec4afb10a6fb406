"""`edged calibrate lag PROGRAM`: how far the bead lags the arc, from recordings of good seams with a laser scan."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from calibration.files import CalibrationError
from calibration.lag import LagFit, LaidSeam, arc_lanes, bead_lanes, check_enough, fit_lag
from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import RecordingReader
from edged.calibrate.readings import recording_files
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
from edged.logs import configure_logging
from edged.null_scorer import NullScorer
from edged.progress import progress_bars
from edged.recorded import rescore
from edged.recording import recorded_seam
from pipelines.bead_rows import bead_columns
from pipelines.features.geometry import flat_heights
from pipelines.window import SeamFrame, SeamWindow

__all__ = ["lag", "laid_seam"]

Array = NDArray[np.float64]

LIMIT_HALF_MM = 1.5
"""Half of the interval: a lag that is known no better is no better than none."""
LEAST_EXPLAINED = 0.05
NEVER = 0.0


def lag(
    program: Annotated[str, typer.Argument(help="Name of the program in the config.")],
    recording: Annotated[list[Path], typer.Option(help="Recordings of good seams with scans, or folders of them.")],
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    valid_days: ValidOption = NEVER,
    notes: Annotated[str, typer.Option(help="Anything worth keeping.")] = "",
    json_file: JsonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Estimate a program's process-to-result lag along the seam."""
    configure_logging("calibrate", level=logging.WARNING)
    with bad_input():
        files = [
            path for path in recording_files(recording) if recorded_seam(RecordingReader(path)).program == program
        ]
        if not files:
            raise CalibrationError(f"{recording[0]} …: holds no seam of program {program!r}")
        check_enough(len(files))
        with progress_bars(Console(stderr=True)) as bars:
            seams = [_laid(path) for path in bars.track(files, description="laying seams")]
        fit = fit_lag(seams)
        values = {"lag_mm": max(fit.lag_mm, 0.0), "interval_mm": list(fit.interval_mm), "seams": fit.seams}
        calibration = measured("lag", program, values, _residuals(fit), valid_days, notes)
    conclude(
        calibration,
        _residuals(fit),
        directory,
        dry_run=dry_run,
        json_file=json_file,
        more={"own_mm": dict(fit.own_mm), "own_explained": dict(fit.own_explained), "curve": fit.curve},
        show=lambda console: _show(console, fit),
    )


class _Kept(NullScorer):
    """Keeps of one seam what the lag is told by: its window, and what the welder and the robot said."""

    def __init__(self) -> None:
        super().__init__()
        self.window: SeamWindow | None = None
        self.chunks: dict[str, list[Chunk]] = {}

    def push(self, seam_id: str, chunk: Chunk) -> None:
        """Keep it; images are not wanted."""
        if chunk.data.ndim == 2:
            kept = chunk.data.copy()
            self.chunks.setdefault(chunk.stream, []).append(Chunk(**{**_fields(chunk), "data": kept}))

    def finish(self, window: SeamWindow) -> None:
        """Keep the window."""
        self.window = window
        super().finish(window)


def _fields(chunk: Chunk) -> dict[str, Any]:
    return {name: getattr(chunk, name) for name in ("stream", "seq", "counter", "arrival_ns", "lost_before", "clock")}


def _laid(path: Path) -> LaidSeam:
    kept = _Kept()
    rescore(path, kept, "none")
    if kept.window is None:
        raise CalibrationError(f"{path}: its seam was not completed; take it out")
    try:
        return laid_seam(kept.window, kept.chunks)
    except ValueError as error:
        raise CalibrationError(f"{path}: {error}") from error


def laid_seam(window: SeamWindow, chunks: Mapping[str, Sequence[Chunk]]) -> LaidSeam:
    """Process and bead of a seam on the same millimetres. Raises ValueError naming what is missing."""
    frame, seam = window.frame, window.seam
    if frame is None or frame.scan is None or window.height_map_mm is None:
        raise ValueError(
            f"needs programs.{seam.program}.frame with length_mm and scan, and a complete scan of the seam"
        )
    if len(seam.arcs) != 1:
        raise ValueError(f"{len(seam.arcs)} arcs; the lag is told by seams of one")
    specs = {spec.name: spec for spec in window.streams}
    welder = next(
        (s for s in specs.values() if s.kind == "welder" and {"current", "voltage"} <= set(s.channels)), None
    )
    if welder is None or welder.name not in chunks:
        raise ValueError("no welder stream with current and voltage")
    times_s, values = _samples(welder, chunks[welder.name], seam.arc_on_ns)
    order = [welder.channel("current"), welder.channel("voltage")]
    order += [i for i in range(len(welder.channels)) if i not in order]
    burning = (times_s >= 0) & (times_s < (seam.arc_off_ns - seam.arc_on_ns) / 1e9)
    at_s, at_mm = _arc_way(window, specs, chunks, times_s[burning])
    return LaidSeam(
        session=seam.session or "none",
        process=arc_lanes(times_s[burning], values[burning][:, order], at_s, at_mm, frame.length_mm),
        bead=_bead(window.height_map_mm, frame, frame.scan),
    )


def _samples(spec: StreamSpec, chunks: Sequence[Chunk], from_ns: int) -> tuple[Array, Array]:
    times = np.concatenate([chunk.times_ns() for chunk in chunks])
    data = np.concatenate([spec.physical(chunk.data) for chunk in chunks]).astype(np.float64)
    return (times - from_ns) / 1e9, data


def _arc_way(
    window: SeamWindow, specs: Mapping[str, StreamSpec], chunks: Mapping[str, Sequence[Chunk]], times_s: Array
) -> tuple[Array, Array]:
    """When the arc stood where, mm from arc-on: as the robot says, else by the programmed speed."""
    for spec in specs.values():
        if spec.kind != "motion" or spec.name not in chunks:
            continue
        at_s, values = _samples(spec, chunks[spec.name], window.seam.arc_on_ns)
        if "tcp_position" in spec.channels:
            way = values[:, spec.channel("tcp_position")]
            return at_s, np.maximum.accumulate(way - np.interp(0.0, at_s, way))
        if "tcp_speed" in spec.channels:
            speed = np.clip(values[:, spec.channel("tcp_speed")], 0.0, None) * (at_s >= 0)
            return at_s, np.cumsum(speed) / spec.rate_hz
    if window.seam.travel_speed_mm_s is None:
        raise ValueError(f"no motion stream, and no programs.{window.seam.program}.travel_speed_mm_s")
    return times_s, times_s * window.seam.travel_speed_mm_s


def _bead(height_map_mm: NDArray[np.float32], frame: SeamFrame, scan: tuple[float, float, float]) -> Array:
    flat, y, _ = flat_heights(height_map_mm, scan, frame.length_mm)
    first_mm, step_mm, _ = scan
    skipped = max(int(np.ceil(-first_mm / step_mm - 0.5)), 0)
    rows_mm = (np.arange(flat.shape[1]) + skipped) * step_mm + first_mm
    return bead_lanes(bead_columns(flat.T, y, float(y[1] - y[0])), rows_mm, frame.length_mm)


def _residuals(fit: LagFit) -> list[Residual]:
    half = 0.5 * (fit.interval_mm[1] - fit.interval_mm[0])
    return [
        Residual("interval_half_mm", half, "mm", LIMIT_HALF_MM),
        Residual("unexplained_share", 1 - fit.explained, "of the bead's variance", 1 - LEAST_EXPLAINED),
        Residual("beyond_tried", float(fit.at_edge or fit.lag_mm < 0), "1: no peak within what was tried", 0.0),
        Residual("sessions", fit.sessions, ""),
    ]


def _show(console: Console, fit: LagFit) -> None:
    table = Table("told by", "lag", "explained")
    low, high = fit.interval_mm
    table.add_row("all together", f"{fit.lag_mm:.2f} mm ({low:.2f} to {high:.2f})", f"{fit.explained:.0%}")
    for name, own in fit.own_mm.items():
        table.add_row(f"{name} alone", f"{own:.2f} mm", f"{fit.own_explained[name]:.0%}")
    console.print(table)
