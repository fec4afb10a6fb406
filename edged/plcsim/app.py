"""`edged plc-sim daemon|client`: the conformance kit of docs/verdict.md. Exit code 1 where a clause fails."""

import contextlib
import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edged.client import Keys, journal_endpoint
from edged.client import KeysError as ClientKeysError
from edged.endpoints import EndpointError
from edged.keys import KeysError, KeyStore, write_private
from edged.plcsim.clauses import CLIENT, DAEMON, Outcome, as_report
from edged.plcsim.client_checks import check_client
from edged.plcsim.daemon_checks import check_daemon
from edged.plcsim.peer import Place
from edged.plcsim.reports import Reports
from edged.plcsim.stage import Stage

__all__ = ["plcsim_app"]

plcsim_app = typer.Typer(
    name="plc-sim", no_args_is_help=True, help="Try a daemon as a PLC would, or a client as a daemon would."
)

VERDICTS = "tcp://127.0.0.1:5560"
STYLES = {"pass": "[green]pass[/green]", "fail": "[red]FAIL[/red]", "skip": "[dim]skip[/dim]"}
MEMORY = Path("/dev/shm")
"""Journals of a daemon that is only played need not survive a power cut."""

END_S = 5.0

JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the outcome of every clause here.")]
JournalOption = Annotated[str | None, typer.Option(help="The journal socket; by default beside the verdicts.")]


@plcsim_app.command("daemon")
def daemon(
    verdicts: Annotated[str, typer.Option(help="Where the daemon publishes.")] = VERDICTS,
    journal: JournalOption = None,
    control: Annotated[str | None, typer.Option(help="Its control socket, for D16 to D18.")] = None,
    keys: Annotated[Path | None, typer.Option(help="A client's keys, where the daemon asks for some.")] = None,
    verdict_keys: Annotated[Path | None, typer.Option(help="Keys without the right control, for D16.")] = None,
    program: Annotated[
        str | None, typer.Option(help="Announce a part of this program, for D18: writes two verdicts.")
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Play a PLC against a running daemon. It acknowledges one verdict as "plc-sim", or as its key's name."""
    try:
        own, others = (None if path is None else Keys.read(path) for path in (keys, verdict_keys))
        place = Place(verdicts, journal or journal_endpoint(verdicts), control, own)
    except (ClientKeysError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    _finish("daemon", verdicts, check_daemon(place, program, others), json_out)


@plcsim_app.command("client", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def client(
    command: Annotated[
        list[str] | None, typer.Argument(help="The client, after --; without one its lines are read from stdin.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Where the client looks for the daemon.")] = VERDICTS,
    journal: JournalOption = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder of keys, made where missing; FOLDER/client.toml for the client."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Clauses to play, such as C3; all by default.")] = None,
    json_out: JsonOption = None,
) -> None:
    """Play a daemon against a client, which says line by line what it accepted: docs/plc-sim.md."""
    try:
        if unknown := set(only or []) - CLIENT.keys():
            raise ValueError(f"--only {', '.join(sorted(unknown))}: there are {', '.join(CLIENT)}")
        if keys is not None:
            make_keys(keys)
        place = MEMORY if os.access(MEMORY, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="plc-sim-", dir=place) as folder, _started(command or []) as started:
            reports, process = started
            with Stage(Path(folder), listen, reports, keys, process, journal) as stage:
                outcomes = check_client(stage, only or [])
    except (EndpointError, KeysError, OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    _finish("client", shlex.join(command) if command else "stdin", outcomes, json_out)


def make_keys(folder: Path) -> Path:
    """A daemon's folder of keys with one client; that client's file. Raises KeysError."""
    path = folder / "client.toml"
    if not path.exists():
        store = KeyStore(folder)
        bundle = store.add("client", ("verdict",), datetime.datetime.now(datetime.UTC))
        write_private(path, bundle.model_dump())
    return path


@contextlib.contextmanager
def _started(command: Sequence[str]) -> "Iterator[tuple[Reports, subprocess.Popen[str] | None]]":
    """The client's lines, and its process where there is a command; ended with everything it started."""
    if not command:
        yield Reports(sys.stdin), None
        return
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace", start_new_session=True)
    assert process.stdout is not None
    reports = Reports(process.stdout)
    try:
        yield reports, process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        reports.close()
        process.stdout.close()


def _finish(role: str, where: str, outcomes: Sequence[Outcome], json_out: Path | None) -> None:
    clauses = DAEMON if role == "daemon" else CLIENT
    table = Table("", "", "rules", "what must hold (docs/verdict.md)", "what was seen")
    for outcome in outcomes:
        clause = clauses[outcome.clause]
        style = STYLES[outcome.result]
        table.add_row(outcome.clause, style, ", ".join(clause.rules), clause.text, escape(outcome.detail))
    Console().print(table)
    report = as_report(role, where, outcomes)
    typer.echo(f"{report['pass']} passed, {report['fail']} failed, {report['skip']} not tried")
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if report["fail"]:
        raise typer.Exit(1)
