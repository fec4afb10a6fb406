"""The verbs `edged arm`, `edged disarm` and `edged programs`: who answers for a program, and how far each has come.

They ask the running daemon, which alone writes its journal.
"""

import datetime
import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edged.control import ask
from edged.status import KeysOption, endpoint_of, keys_of, must_be_allowed
from edged.wire import WireError

__all__ = ["arm", "disarm", "interval_text", "programs"]

TIMEOUT_S = 5.0
MODE_STYLES = {"armed": "green", "shadow": "yellow", "collecting": "cyan"}

ConfigOption = Annotated[Path | None, typer.Option(help="Configuration of the daemon, for its endpoint.")]
EndpointOption = Annotated[str | None, typer.Option(help="Control socket, instead of --config.")]
ByOption = Annotated[str | None, typer.Option(help="Who answers for it; by default the user's name.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the answer here.")]


def arm(
    program: Annotated[str, typer.Argument(help="Program of the configuration.")],
    by: ByOption = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    keys: KeysOption = None,
    json_file: JsonOption = None,
) -> None:
    """Let a program's verdicts count, for its model and thresholds of now. Recorded; survives a reboot."""
    request = {"op": "arm", "program": program, "by": by or getpass.getuser()}
    answer = _asked(request, config, endpoint, keys, json_file)
    console = Console()
    console.print(f"[green]{program} is armed[/green] with {answer['model_id']}", highlight=False)
    for row in answer["armed"]:
        console.print(f"  {_of(row)}: {row['goods']} goods of {row['sessions']} sessions, {interval_text(row)}")
    for row in answer["left_out"]:
        console.print(f"  [yellow]{_of(row)}: not armed, {row['lack']}; such seams stay in shadow[/yellow]")


def disarm(
    program: Annotated[str, typer.Argument(help="Program of the configuration.")],
    why: Annotated[str, typer.Option(help="For whoever asks later.")] = "",
    by: ByOption = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    keys: KeysOption = None,
    json_file: JsonOption = None,
) -> None:
    """Send a program back to shadow: its label goes into shadow_label, the PLC reads 0."""
    request = {"op": "disarm", "program": program, "by": by or getpass.getuser(), "why": why}
    answer = _asked(request, config, endpoint, keys, json_file)
    Console().print(f"{program} is {answer['mode']}", highlight=False)


def programs(
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    keys: KeysOption = None,
    json_file: JsonOption = None,
) -> None:
    """Show how far each program has come, and what it needs to go on."""
    answer = _asked({"op": "programs"}, config, endpoint, keys, json_file)
    console = Console()
    console.print(_table(answer["programs"]))
    for program, found in answer["programs"].items():
        if found["why"]:
            console.print(f"[yellow]{program}: {found['why']}[/yellow]", highlight=False)


def interval_text(row: Mapping[str, Any]) -> str:
    """What is known of the rate of false alarms that a threshold will really have."""
    if row["interval"] is None:
        return f"budget {row['false_alarm_budget']:.2%}, its interval is not known"
    low, high = row["interval_by_session"] or row["interval"]
    return f"budget {row['false_alarm_budget']:.2%}, really {low:.2%} to {high:.2%} (95 %)"


def _of(row: Mapping[str, Any]) -> str:
    return "+".join(row["streams"])


def _asked(
    request: Mapping[str, Any], config: Path | None, endpoint: str | None, keys: Path | None, json_file: Path | None
) -> dict[str, Any]:
    """The daemon's answer. Exits 1 where there is none, or it says no."""
    where = endpoint or endpoint_of(config)
    must_be_allowed(where)
    bundle = keys_of(keys)
    try:
        answer = ask(where, request, TIMEOUT_S, bundle)
    except (TimeoutError, WireError) as error:
        answer = {"ok": False, "error": f"edged is not running: {error}"}
    if json_file is not None:
        json_file.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    if not answer["ok"]:
        typer.echo(answer["error"], err=True)
        raise typer.Exit(1)
    return answer


def _table(found: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("program", "is", "streams", "goods", "false alarms, budget: really (95 %)", "since, by", "drift")
    for program, line in found.items():
        style = MODE_STYLES.get(line["mode"], "white")
        by = f"{_day(line['since_utc_ns'])} {line['by']}" if line["by"] else "config"
        for first, row in enumerate(line["thresholds"] or [None]):
            head = [program, f"[{style}]{line['mode']}[/{style}]"] if first == 0 else ["", ""]
            table.add_row(*head, *_cells(row, line), *([by, f"{line['drift']:.1g}"] if first == 0 else ["", ""]))
    return table


def _cells(row: Mapping[str, Any] | None, line: Mapping[str, Any]) -> Sequence[str]:
    if row is None:
        return ("–", f"0 of {line['needed']}", "–")
    low, high = row["interval_by_session"] or row["interval"] or (None, None)
    shown = "not known" if low is None else f"{low:.2%} to {high:.2%}"
    sessions = "?" if row["sessions"] is None else row["sessions"]
    goods = f"{row['goods']} of {row['needed']}, {sessions} sessions"
    return (_of(row), goods, f"{row['false_alarm_budget']:.2%}: {shown}")


def _day(utc_ns: int | None) -> str:
    if utc_ns is None:
        return "–"
    return datetime.datetime.fromtimestamp(utc_ns / 1e9, datetime.UTC).strftime("%Y-%m-%d %H:%M")
