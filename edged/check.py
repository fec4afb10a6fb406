"""`edged check`: everything that is wrong with a configuration at once, before a weld depends on it."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edged.cell_calibration import read_cell_calibration
from edged.config import Config, ConfigError, read_config
from edged.model_problems import model_problems
from edged.net_rules import key_problems, open_warnings
from edged.sound_delay import delay_warnings
from pipelines.models import model_digest, model_directory

__all__ = ["check"]


def check(config: Annotated[Path, typer.Option(help="Configuration, TOML.")]) -> None:
    """Say everything that is wrong with a configuration; opens no device."""
    loaded, problems = read_config(config)
    if loaded is not None:
        # Making streams repeats what a wrong driver or option has said already.
        problems += [*([] if problems else _stream_problems(loaded)), *model_problems(loaded), *key_problems(loaded)]
    if problems or loaded is None:
        typer.echo(str(ConfigError(str(config), problems)), err=True)
        raise typer.Exit(2)
    console = Console()
    console.print(_summary(loaded))
    calibration, now_ns = read_cell_calibration(loaded), time.time_ns()
    for item in calibration.found.ordered():
        console.print(f"calibration {item.name}: made {item.created_utc:%Y-%m-%d}", soft_wrap=True)
    for warning in [*calibration.warnings(loaded.calibration, now_ns), *delay_warnings(loaded, calibration)]:
        console.print(f"[yellow]{escape(warning)}[/yellow]", soft_wrap=True)
    for warning in open_warnings(loaded):
        console.print(f"[yellow]{escape(warning)}[/yellow]", soft_wrap=True)
    console.print(f"{config}: ok, config_id {loaded.config_id}")


def _stream_problems(config: Config) -> list[str]:
    from edged.daemon import make_streams

    try:
        streams = make_streams(config, lambda _: None)
    except ConfigError as error:
        return error.problems
    for stream in streams.values():
        stream.stop()
    return []


def _summary(config: Config) -> Table:
    table = Table("stream", "kind", "driver", title=f"cell {config.cell.name}")
    for name, stream in config.streams.items():
        table.add_row(name, stream.kind, stream.driver)
    table.add_section()
    for name, program in config.programs.items():
        model = program.model
        shown = "no model" if model is None else f"{model} ({model_digest(model_directory(model))})"
        table.add_row(f"program {name}", program.mode, shown)
    return table
