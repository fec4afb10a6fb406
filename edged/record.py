"""`edged record`: good seams of a real cell onto disk, before there is a model.

It is the daemon itself, with every program collecting and none scored, that ends by itself: what is recorded is
cut, checked and written exactly as it will be when it is judged.
"""

import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from drivers.mcap_codec import RecordingError
from edged.config import Config, ConfigError, load_config
from edged.daemon import Daemon, end_process, run_until_stopped
from edged.endpoints import EndpointError
from edged.journal import JournalError
from edged.logs import configure_logging
from edged.manifest import read_manifest
from edged.types import PartVerdict, Verdict
from pipelines.thresholds import DEFAULT_ALPHA, goods_needed, recordings_needed

__all__ = ["collecting", "record"]


def record(
    config: Annotated[Path, typer.Option(help="Configuration, TOML.")],
    program: Annotated[str | None, typer.Option(help="Program of seams that nobody announces.")] = None,
    seams: Annotated[int, typer.Option(min=1, help="Stop after so many whole seams.")] = recordings_needed(
        DEFAULT_ALPHA
    ),
    out: Annotated[Path | None, typer.Option(help="Instead of the config's cell.data_dir.")] = None,
) -> None:
    """Record good seams of the cell, without scoring, until there are enough to train with."""
    configure_logging("record", level=logging.WARNING)
    threading.excepthook = end_process
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        tally = _Tally(seams, progress, lambda: daemon.stop(), program)
        try:
            used = collecting(load_config(config), program, out)
            daemon = Daemon(used, tally.add)
        except ConfigError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
        except (EndpointError, JournalError, RecordingError) as error:
            console.print(f"[red]cannot record:[/red] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
        try:
            run_until_stopped(daemon)
        finally:
            progress.stop()
            _say_what_comes_next(tally, used.cell.data_dir / "recordings")
    if tally.counted < seams:
        raise typer.Exit(1)


def collecting(config: Config, program: str | None, out: Path | None) -> Config:
    """The config with every program collecting and without a model. Raises ConfigError for an unknown program."""
    if program is not None and program not in config.programs:
        known = ", ".join(config.programs) or "none"
        raise ConfigError("--program", [f"programs: no program {program!r}; known: {known}"])
    programs = {
        name: section.model_copy(update={"mode": "collecting", "model": None})
        for name, section in config.programs.items()
    }
    cell = config.cell.model_copy(
        update={
            "default_program": program or config.cell.default_program,
            "data_dir": config.cell.data_dir if out is None else out.resolve(),
        }
    )
    return config.model_copy(update={"programs": programs, "cell": cell})


@dataclasses.dataclass(slots=True)
class _Tally:
    """Counts whole seams on disk; the others are named, because they lie in the same folder."""

    wanted: int
    progress: Progress
    stop: Callable[[], None]
    program: str | None
    counted: int = 0
    by_program: Counter[str] = dataclasses.field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.progress.add_task("recording", total=self.wanted)

    def add(self, verdict: Verdict | PartVerdict) -> None:
        if isinstance(verdict, PartVerdict) or self.program not in (None, verdict.seam.program):
            return
        seam = escape(f"seam {verdict.seam.seam_id} ({verdict.seam.program})")
        if verdict.reason != "collecting" or verdict.recording is None:
            self.progress.print(f"[yellow]not counted:[/yellow] {seam}: {verdict.reason}, {escape(verdict.detail)}")
            return
        self.counted += 1
        self.by_program[verdict.seam.program] += 1
        self.progress.print(f"{seam}: arc {verdict.arc_s:.1f} s, mean {verdict.mean_current_a or 0:.0f} A")
        self.progress.update(self.progress.task_ids[0], completed=self.counted)
        if self.counted >= self.wanted:
            self.stop()


def _say_what_comes_next(tally: _Tally, folder: Path) -> None:
    console = Console()
    console.print(f"{tally.counted} seams recorded in {folder}", soft_wrap=True)
    needed = recordings_needed(DEFAULT_ALPHA)
    lines = list(read_manifest(folder).values()) if folder.exists() else []
    for program in sorted(tally.by_program):
        there = sum(line.get("program") == program for line in lines)
        more = f"{needed - there} more are needed" if there < needed else "enough"
        console.print(
            f"program {escape(program)}: {there} recordings there; a threshold at {DEFAULT_ALPHA:.0%} false alarms "
            f"takes {goods_needed(DEFAULT_ALPHA)} goods for calibration, {needed} with those that train: {more}",
            soft_wrap=True,
        )
    console.print("Take bad welds and broken seams out of the folder, then:", soft_wrap=True)
    console.print(f"  edged train --recordings {folder} --out MODEL_DIR", soft_wrap=True)
