"""`edged calibrate show`: which calibrations a folder holds, from when, and for how long."""

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from calibration.files import CalibrationSet, load_calibrations
from edged.calibrate.report import JsonOption, bad_input

__all__ = ["show"]


def show(
    directory: Annotated[Path, typer.Argument(help="Folder of the calibration files.")],
    json_file: JsonOption = None,
) -> None:
    """List the calibrations of a folder; one that was edited is named and nothing else is shown."""
    with bad_input():
        found = load_calibrations(directory)
    now = datetime.datetime.now(datetime.UTC)
    Console().print(_table(found, now))
    if json_file is not None:
        report = {"calibration_id": found.calibration_id, "calibrations": found.content()}
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _table(found: CalibrationSet, now: datetime.datetime) -> Table:
    table = Table("kind", "device", "made (UTC)", "age, days", "holds, days", "residuals", title=found.calibration_id)
    expired = found.expired(now)
    for item in found.ordered():
        colour = "red" if item in expired else "default"
        table.add_row(
            item.kind,
            item.device,
            f"{item.created_utc:%Y-%m-%d %H:%M:%S}",
            f"[{colour}]{item.age_days(now):.1f}[/]",
            "for ever" if item.valid_days is None else f"{item.valid_days:g}",
            "  ".join(f"{name} {value:.3g}" for name, value in item.residuals.items()),
        )
    return table
