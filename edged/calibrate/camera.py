"""`edged calibrate camera STREAM`: what a camera's lens does, from pictures of a board; and `calibrate board`."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from calibration.board_views import BoardView, Rejection
from calibration.boards import Board, board_png, parse_board
from calibration.camera import LEAST_VIEWS, CameraResult, calibrate_camera
from calibration.files import CalibrationError
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
from edged.config import load_config
from edged.logs import configure_logging

__all__ = ["board", "camera"]

YEAR_DAYS = 365.0
LIMIT_RMS_PX, LIMIT_VIEW_PX = 0.5, 1.0
LIMIT_FOCAL, LIMIT_CENTRE_PX = 0.01, 8.0
"""Half widths of 95 % intervals, as a share of the focal length and in px: beyond them the views do not tell it."""
LIVE_PICTURES = 60
DEFAULT_BOARD = "charuco:7x5:20mm"

BoardOption = Annotated[
    str, typer.Option("--board", help="charuco:COLUMNSxROWS:SQUAREmm or chessboard:…; counts squares.")
]


def board(
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    name: BoardOption = DEFAULT_BOARD,
    dpi: Annotated[int, typer.Option(min=50, max=2400, help="Of the printer.")] = 300,
) -> None:
    """Draw a board for the printer, with a ruler to be measured after printing."""
    with bad_input():
        made = parse_board(name)
        png = board_png(made, dpi)
        try:
            out.write_bytes(png)
        except OSError as error:
            raise CalibrationError(f"{out}: cannot be written: {error.strerror}") from error
    Console().print(f"{out}: {made}; print it at 100 %, glue it onto something flat, and measure its ruler")


def camera(
    stream: Annotated[str, typer.Argument(help="Name of the camera's stream in the config.")],
    board: BoardOption,
    images: Annotated[Path | None, typer.Option(help="Folder of pictures of the board.")] = None,
    config: Annotated[Path | None, typer.Option(help="Instead: configuration whose camera is running now.")] = None,
    views: Annotated[int, typer.Option(min=4, help="Good views that are needed at least.")] = LEAST_VIEWS,
    directory: DirectoryOption = DEFAULT_DIRECTORY,
    valid_days: ValidOption = YEAR_DAYS,
    notes: Annotated[str, typer.Option(help="Lens, focus, aperture.")] = "",
    json_file: JsonOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a camera's intrinsics; pictures that cannot be used are named with the reason."""
    configure_logging("calibrate", level=logging.WARNING)
    console = Console()
    with bad_input():
        wanted = parse_board(board)
        result = calibrate_camera(
            _pictures(stream, images, config, wanted), wanted, views, lambda found: _say(console, found)
        )
        values = {
            **result.fit.values,
            "image_px": list(result.size_px),
            "interval": result.interval,
            "board": str(wanted),
            "views": len(result.views),
        }
        calibration = measured("camera", stream, values, _residuals(result), valid_days, notes)
    conclude(
        calibration,
        _residuals(result),
        directory,
        dry_run=dry_run,
        json_file=json_file,
        more={
            "views": [{"name": k, "rms_px": v} for k, v in result.fit.view_rms_px.items()],
            "rejected": [{"name": item.name, "reason": item.reason} for item in result.rejected],
            "coverage": result.coverage,
        },
        show=lambda shown: shown.print(_table(result)),
    )


def _pictures(stream: str, images: Path | None, config: Path | None, board: Board) -> Iterable[Picture]:
    if (images is None) == (config is None):
        raise CalibrationError("give either --images FOLDER or --config FILE")
    if images is not None:
        return folder_pictures(images)
    assert config is not None
    return _live(stream, config, board)


def _live(stream: str, config: Path, board: Board) -> Iterator[Picture]:
    Console().print(
        f"Move the {board} through the whole picture, near and into every corner, tilted by 20 to 40° to all sides. "
        "A picture is taken every second."
    )
    yield from camera_pictures(load_config(config), stream, LIVE_PICTURES)


def _residuals(result: CameraResult) -> list[Residual]:
    interval, values = result.interval, result.fit.values
    focal = max(interval["fx"] / values["fx"], interval["fy"] / values["fy"])
    return [
        Residual("rms_px", result.fit.rms_px, "px", LIMIT_RMS_PX),
        Residual("worst_view_px", max(result.fit.view_rms_px.values()), "px", LIMIT_VIEW_PX),
        Residual("focal_interval", focal, "share", LIMIT_FOCAL),
        Residual("centre_interval_px", max(interval["cx"], interval["cy"]), "px", LIMIT_CENTRE_PX),
    ]


def _say(console: Console, found: BoardView | Rejection) -> None:
    if isinstance(found, Rejection):
        console.print(f"[yellow]not used:[/yellow] {escape(found.name)}: {escape(found.reason)}")
    else:
        console.print(f"[green]good:[/green] {escape(found.name)}: {len(found.ids)} corners", highlight=False)


def _table(result: CameraResult) -> Table:
    title = f"{len(result.views)} views, {len(result.rejected)} not used, {result.coverage:.0%} of the picture"
    table = Table("parameter", "value", "± (95 %)", title=title)
    for name, value in result.fit.values.items():
        table.add_row(name, f"{value:.6g}", f"{result.interval[name]:.2g}")
    return table
