"""`edged bench …`: the benchmark verbs."""

import typer

from edged.bench.cell import cell

__all__ = ["bench_app"]

bench_app = typer.Typer(name="bench", no_args_is_help=True, help="Benchmarks of the virtual cell and the detectors.")


@bench_app.callback()
def _main() -> None:
    """Keep verbs as sub-commands even while there is only one."""


bench_app.command("cell")(cell)
