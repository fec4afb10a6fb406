"""`edged status`: asks the running daemon over its control socket, and says so plainly when there is none."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edged.client.keys import Keys, KeysError
from edged.config import DEFAULT_DATA_DIR, ConfigError, load_config
from edged.control import ask
from edged.wire import WireError

__all__ = ["KeysOption", "endpoint_of", "keys_of", "must_be_allowed", "status"]

TIMEOUT_S = 3.0

KeysOption = Annotated[Path | None, typer.Option("--keys", help="Your keys, for a control socket that wants some.")]


def status(
    config: Annotated[Path | None, typer.Option(help="Configuration of the daemon, for its endpoint.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Control socket, instead of --config.")] = None,
    keys: KeysOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the answer here.")] = None,
) -> None:
    """Show streams, scoring process and open seams of the running daemon. Exit code 1 when it is down."""
    where = endpoint or endpoint_of(config)
    must_be_allowed(where)
    bundle = keys_of(keys)
    try:
        answer = ask(where, {"op": "status"}, TIMEOUT_S, bundle)
    except (TimeoutError, WireError) as error:
        answer = {"ok": False, "running": False, "error": str(error)}
    if json_file is not None:
        json_file.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    if not answer["ok"]:
        typer.echo(f"edged is not running: {answer['error']}", err=True)
        raise typer.Exit(1)
    _show(Console(), answer)


def endpoint_of(config: Path | None) -> str:
    """Where the daemon of a configuration listens (None: of the default one). Exits 2 for a wrong configuration."""
    if config is None:
        return f"ipc://{DEFAULT_DATA_DIR}/run/control.sock"
    try:
        return load_config(config).control_endpoint.replace("://*:", "://127.0.0.1:")
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def keys_of(path: Path | None) -> Keys | None:
    """A client's keys from their file. Exits 2 where it cannot be used."""
    if path is None:
        return None
    try:
        return Keys.read(path)
    except KeysError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def must_be_allowed(endpoint: str) -> None:
    """Exit 1 where the socket may not be used: that looks like a daemon that is down, and is not."""
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        refused = endpoint.startswith("ipc://") and path.exists() and not os.access(path, os.R_OK | os.W_OK)
    except PermissionError:
        refused = True
    if refused:
        typer.echo(f"{path}: you may not ask edged; try again as root or as the user edged", err=True)
        raise typer.Exit(1)


def _show(console: Console, answer: dict[str, Any]) -> None:
    health, worker = answer["health"], answer["health"]["worker"]
    console.print(
        f"edged {answer['version']} runs as {answer['pid']} since {answer['uptime_s']:.0f} s: {health['state']}; "
        f"{answer['last_sequence']} verdicts in journal {answer['journal_id']}"
    )
    console.print(
        f"verdicts at {answer['verdicts']}, missed ones at {answer.get('journal', 'no place of their own')}"
    )
    streams = Table("stream", "kind", "state", "Hz", "of", "lost", "gaps", "reconnects", "error")
    for name, found in health["streams"].items():
        rates = [f"{found[key] or 0:.6g}" for key in ("measured_hz", "nominal_hz")]
        counts = [str(found[key]) for key in ("lost", "gaps", "reconnects")]
        streams.add_row(name, found["kind"], found["state"], *rates, *counts, found["error"] or "")
    console.print(streams)
    clocks = Table("clock", "drift, ppm", "residual, ms", "steps", "latency, ms", "strikes late, ms", "of seams")
    for name, found in health["streams"].items():
        keys = (("drift_ppm", "+.1f"), ("clock_residual_ms", ".3f"), ("clock_steps", "d"), ("latency_ms", ".1f"))
        shown = [_number(found.get(key), form) for key, form in (*keys, ("strike_ms", "+.1f"), ("strikes", "d"))]
        clocks.add_row(name, *shown)
    console.print(clocks)
    console.print(f"scoring process {worker['pid']}: {worker['state']}, models {worker['models'] or 'none'}")
    for seam in answer["open_seams"]:
        console.print(f"open: seam {seam['seam_id']} of {seam['program'] or 'no program'}: {seam['state']}")
    for warning in health["warnings"]:
        console.print(f"[yellow]{warning}[/yellow]")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
