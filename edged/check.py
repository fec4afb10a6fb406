"""`edged check`: everything that is wrong with a configuration at once, before a weld depends on it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from edged.config import Config, ConfigError, read_config
from pipelines.models import DEMO_MODEL, ModelError, model_toml, verify_manifest
from pipelines.table import DETECTORS

__all__ = ["check", "model_problems"]


def check(config: Annotated[Path, typer.Option(help="Configuration, TOML.")]) -> None:
    """Say everything that is wrong with a configuration; opens no device."""
    loaded, problems = read_config(config)
    if loaded is not None:
        # Making streams repeats what a wrong driver or option has said already.
        problems += [*([] if problems else _stream_problems(loaded)), *model_problems(loaded)]
    if problems or loaded is None:
        typer.echo(str(ConfigError(str(config), problems)), err=True)
        raise typer.Exit(2)
    console = Console()
    console.print(_summary(loaded))
    console.print(f"{config}: ok, config_id {loaded.config_id}")


def model_problems(config: Config) -> list[str]:
    """Models that are damaged, of unknown detectors, or that need streams which the cell lacks."""
    kinds = {stream.kind for stream in config.streams.values()}
    problems = []
    for name, program in config.programs.items():
        if program.model is None:
            continue
        directory = DEMO_MODEL if program.model == "demo" else Path(program.model)
        try:
            verify_manifest(directory)
            values = model_toml(directory)
        except ModelError as error:
            problems.append(f"programs.{name}.model: {error}")
            continue
        if (detector := values.get("detector")) not in DETECTORS:
            problems.append(f"programs.{name}.model: no detector {detector!r}; known: {', '.join(sorted(DETECTORS))}")
        problems += [
            f"programs.{name}.model: {directory} requires a stream of kind {kind!r}, none is configured"
            for kind in values.get("requires", [])
            if kind not in kinds
        ]
    return problems


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
        table.add_row(f"program {name}", program.mode, program.model or "no model")
    return table
