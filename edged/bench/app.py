"""`edged bench WHAT`: the table of reporting verbs that measure edged itself."""

import typer

from edged.bench.scan import bench_scan

__all__ = ["bench_app"]

bench_app = typer.Typer(name="bench", no_args_is_help=True, help="Measure edged itself.")


@bench_app.callback()
def _main() -> None:
    """Keep verbs as sub-commands even while there is only one."""


bench_app.command("scan")(bench_scan)
