"""`edged convert-checkpoint`: a published pickle of weights → safetensors, once, before a backbone is put in
place."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["convert_checkpoint"]


def convert_checkpoint(
    source: Annotated[Path, typer.Argument(help="The pickle: .pth, .pt or .bin.")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    sha256: Annotated[str, typer.Option(help="The digest that the pickle's publisher gives.")],
) -> None:
    """Convert a backbone's published weights to safetensors, without running what a pickle could hold."""
    from pipelines.features.checkpoints import CheckpointError, convert

    try:
        tensors = convert(source, target, sha256)
    except CheckpointError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{target}: {tensors} tensors")
