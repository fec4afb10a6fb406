"""`edged calibrate views VIEW`: where a result camera stands before the seam, from pictures of its markers."""

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from calibration.files import CalibrationError, read_calibration
from calibration.kinds import CameraValues
from calibration.view_layout import read_layout
from calibration.views import LEAST_PX_PER_MM, ViewResult, calibrate_view
from edged.calibrate.pictures import Picture, camera_pictures, folder_pictures
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
from edged.calibrate.windows import recorded_photographs
from edged.config import load_config
from edged.logs import configure_logging
from pipelines.rectify import ViewGeometry

__all__ = ["views"]

HALF_YEAR_DAYS = 180.0
LIMIT_RESIDUAL_MM = 0.15
"""RMS of the markers' corners against the layout: a millimetre rule is read to a tenth or two."""
LIVE_PICTURES = 10


def views(
    view: Annotated[str, typer.Argument(help="Name of the view in the config.")],
    layout: Annotated[Path, typer.Option(help="TOML that says where the markers stand, mm.")],
    seam_mm: Annotated[float, typer.Option(min=1.0, help="Length of the seam; 0 is where the arc begins.")],
    images: Annotated[Path | None, typer.Option(help="Folder of pictures of the view.")] = None,
    recording: Annotated[list[Path] | None, typer.Option(help="Instead: recordings, or folders of them.")] = None,
    config: Annotated[Path | None, typer.Option(help="Instead: configuration whose camera is running now.")] = None,
    camera: Annotated[Path | None, typer.Option(help="The camera's own calibration, camera-STREAM.toml.")] = None,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    valid_days: ValidOption = HALF_YEAR_DAYS,
    notes: Annotated[str, typer.Option(help="Fixture, lens, working distance.")] = "",
    json_file: JsonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a view: its pose, how it keeps it, and its scale on the bead."""
    configure_logging("calibrate", level=logging.WARNING)
    console = Console()

    def say(name: str, reason: str | None) -> None:
        told = "[green]good[/green]" if reason is None else f"[yellow]not used:[/yellow] {escape(reason)}"
        console.print(f"{escape(name)}: {told}", highlight=False)

    with bad_input():
        pictures = _pictures(view, images, recording or [], config)
        known = _with_camera(read_layout(layout), camera)
        result = calibrate_view(pictures, known, seam_mm, say)
        calibration = measured("views", view, _values(result), _residuals(result), valid_days, notes)
    conclude(
        calibration,
        _residuals(result),
        directory,
        dry_run=dry_run,
        json_file=json_file,
        more={
            "pictures": [{"name": p.name, "residual_mm": p.placed.residual_mm} for p in result.pictures],
            "rejected": [{"name": item.name, "reason": item.reason} for item in result.rejected],
            "extent_mm": list(result.geometry.extent),
        },
        show=lambda shown: _show(shown, result),
    )


def _pictures(view: str, images: Path | None, recording: list[Path], config: Path | None) -> Iterable[Picture]:
    if (images is not None) + bool(recording) + (config is not None) != 1:
        raise CalibrationError("give one of --images FOLDER, --recording FILE and --config FILE")
    if images is not None:
        return folder_pictures(images)
    if recording:
        return recorded_photographs(recording, view)
    assert config is not None
    loaded = load_config(config)
    if view not in loaded.views:
        raise CalibrationError(f"{config}: has no view {view!r}; it has {', '.join(loaded.views) or 'none'}")
    return camera_pictures(loaded, loaded.views[view].stream, LIVE_PICTURES)


def _camera_values(path: Path) -> CameraValues:
    values = read_calibration(path).checked
    if not isinstance(values, CameraValues):
        raise CalibrationError(f"{path}: is no calibration of a camera; 'edged calibrate camera' makes one")
    return values


def _with_camera(layout: ViewGeometry, path: Path | None) -> ViewGeometry:
    if path is None:
        return layout
    values = _camera_values(path)
    return dataclasses.replace(layout, camera=values.intrinsics, size_px=values.image_px)


def _values(result: ViewResult) -> dict[str, object]:
    geometry = result.geometry
    return {
        "markers": [list(marker) for marker in geometry.markers],
        "marker_mm": geometry.marker_mm,
        "dictionary": geometry.dictionary,
        "above_mm": geometry.above_mm,
        "camera": geometry.camera,
        "steady": geometry.steady,
        "image_px": list(result.size_px),
        "px_per_mm": result.px_per_mm,
        "camera_mm": result.camera_mm,
        "pictures": len(result.pictures),
    }


def _residuals(result: ViewResult) -> list[Residual]:
    return [
        Residual("residual_mm", result.residual_mm, "mm", LIMIT_RESIDUAL_MM),
        Residual("worst_picture_mm", max(p.placed.residual_mm for p in result.pictures), "mm", 2 * LIMIT_RESIDUAL_MM),
        Residual("repeat_mm", result.repeat_mm, "mm"),
    ]


def _show(console: Console, result: ViewResult) -> None:
    table = Table("what", "value", title=f"{len(result.pictures)} pictures, {len(result.rejected)} not used")
    x0, x1, y0, y1 = result.geometry.extent
    table.add_row("markers' rectangle, mm", f"{x0:g} to {x1:g} along, {y0:g} to {y1:g} across")
    table.add_row("on the bead", f"{result.px_per_mm:.1f} px/mm")
    if result.camera_mm is not None:
        along, across, above = result.camera_mm
        table.add_row("camera, mm", f"{along:.1f} along, {across:.1f} across, {above:.1f} above")
        table.add_row("tilt", f"{result.tilt_deg:.1f}°")
    steady = result.geometry.steady is not None
    table.add_row(
        "keeps its place", "yes: places pictures by itself" if steady else "no: every picture by its markers"
    )
    console.print(table)
    if result.px_per_mm < LEAST_PX_PER_MM:
        console.print(
            f"[yellow]{result.px_per_mm:.1f} px/mm on the bead; {LEAST_PX_PER_MM:g} are needed to see pores and "
            "cracks: bring the camera nearer, or take a longer lens[/yellow]"
        )
