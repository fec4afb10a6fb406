"""The verb `edged recover`: unfinished or damaged recordings made readable again, with all that is complete."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drivers.mcap_codec import RecordingError, RecordingReader, recover_recording

__all__ = ["recover"]


def recover(
    paths: Annotated[list[Path], typer.Argument(help="*.open files of a crash, or damaged *.mcap files")],
) -> None:
    """Save what is complete in unfinished or damaged recordings. Do not use it on a running daemon's folder."""
    console = Console(stderr=True)
    table = Table("file", "recovered", "messages", "damage")
    failed = False
    for path in paths:
        try:
            recovered = recover_recording(path)
            note = RecordingReader(recovered).metadata("recovered") or {}
            table.add_row(str(path), str(recovered), str(note.get("messages")), str(note.get("damage") or "none"))
        except RecordingError as error:
            failed = True
            console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
    Console().print(table)
    if failed:
        raise typer.Exit(1)
