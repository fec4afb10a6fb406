"""How every `edged calibrate` verb ends: residuals against their limits, then the file, or why there is none.

Exit codes: 0 written (or would be, with --dry-run), 1 a residual is beyond its limit, 2 bad arguments or files.
"""

import dataclasses
import datetime
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from calibration.files import Calibration, CalibrationError, load_calibrations, write_calibration
from drivers.base import DeviceError
from drivers.mcap_codec import RecordingError
from edged.config import DEFAULT_DATA_DIR, ConfigError

__all__ = [
    "DEFAULT_DIRECTORY",
    "DirectoryOption",
    "DryRunOption",
    "JsonOption",
    "Residual",
    "ValidOption",
    "bad_input",
    "conclude",
    "measured",
    "software",
]

DirectoryOption = Annotated[
    Path, typer.Option("--directory", help="Folder of the calibration files: calibration.directory of the config.")
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write what was found, as JSON.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Measure and report; write no calibration.")]
ValidOption = Annotated[float, typer.Option(min=0, help="Days until it expires; 0: never.")]
DEFAULT_DIRECTORY = DEFAULT_DATA_DIR / "calibration"


@dataclasses.dataclass(frozen=True, slots=True)
class Residual:
    """A figure of the report. `limit` None: told, not judged; otherwise `value` must not exceed it."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def beyond(self) -> bool:
        """Whether it refuses the calibration; a figure that could not be computed does."""
        return self.limit is not None and not (math.isfinite(self.value) and self.value <= self.limit)


def software() -> str:
    """What a calibration says it was made by."""
    from edged.daemon import software_version

    return f"edged {software_version()}"


def measured(
    kind: str, device: str, values: Mapping[str, Any], residuals: Sequence[Residual], valid_days: float, notes: str
) -> Calibration:
    """The calibration made now; `valid_days` 0: for ever. Raises CalibrationError."""
    return Calibration(
        kind=kind,
        device=device,
        created_utc=datetime.datetime.now(datetime.UTC),
        values=values,
        residuals={item.name: item.value for item in residuals},
        valid_days=valid_days or None,
        software=software(),
        notes=notes,
    )


@contextmanager
def bad_input() -> Iterator[None]:
    """Turn what is wrong with arguments and files into its message and exit code 2."""
    try:
        yield
    except (CalibrationError, ConfigError, DeviceError, RecordingError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def conclude(
    calibration: Calibration,
    residuals: Sequence[Residual],
    directory: Path,
    *,
    dry_run: bool,
    json_file: Path | None,
    more: dict[str, Any] | None = None,
    show: Callable[[Console], None] | None = None,
) -> None:
    """Print the residuals, write the calibration unless one is beyond its limit; raises typer.Exit(1) then.

    Args:
        more: further figures for the JSON report.
        show: prints what the kind has to say beside its residuals.
    """
    refused = [item for item in residuals if item.beyond]
    console = Console()
    if show is not None:
        show(console)
    console.print(_table(calibration, residuals, _earlier(calibration, directory)))
    path = None if refused or dry_run else write_calibration(directory, calibration)
    if json_file is not None:
        report = {
            "calibration": calibration.content(),
            "digest": calibration.digest,
            "residuals": [{**dataclasses.asdict(item), "beyond": item.beyond} for item in residuals],
            "written": None if path is None else str(path),
            **(more or {}),
        }
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if refused:
        listed = ", ".join(f"{item.name} {item.value:.4g} > {item.limit:.4g} {item.unit}" for item in refused)
        typer.echo(f"{calibration.name}: not written: {listed}", err=True)
        raise typer.Exit(1)
    console.print(f"{calibration.name}: ok, not written (--dry-run)" if path is None else f"{path}: written")


def _earlier(calibration: Calibration, directory: Path) -> Calibration | None:
    """What the device has now; a folder that cannot be read says so when it is written to."""
    try:
        return load_calibrations(directory).get(calibration.kind, calibration.device)
    except CalibrationError:
        return None


def _table(calibration: Calibration, residuals: Sequence[Residual], earlier: Calibration | None) -> Table:
    table = Table("residual", "value", "limit", "before", "unit", title=calibration.name)
    for item in residuals:
        colour = "red" if item.beyond else "default" if item.limit is None else "green"
        before = None if earlier is None else earlier.residuals.get(item.name)
        table.add_row(
            item.name,
            f"[{colour}]{item.value:.4g}[/]",
            "" if item.limit is None else f"{item.limit:.4g}",
            "" if before is None else f"{before:.4g}",
            item.unit,
        )
    return table
