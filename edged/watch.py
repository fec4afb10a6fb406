"""`edged watch`: what the client library receives, in a live table and as JSON; `edged.client` does the following."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edged.client import Client, Entry, Keys, KeysError, Lost, NewJournal, StateChange, Told
from edged.client.events import Event, State
from edged.live_view import LiveView
from edged.types import Label
from edged.wire import HealthMessage, LiveMessage, Message, PartMessage, VerdictMessage, WireError, as_map, decode

__all__ = ["received", "watch", "worst_place"]

ROWS = 24
TOPICS = ("health", "heartbeat")
LABEL_STYLES = {Label.OK: "green", Label.NOK: "bold red", Label.INDETERMINATE: "yellow"}
LINK_STYLES: dict[State, str] = {"connecting": "yellow", "live": "green", "stale": "bold white on red"}
LINK_WORDS: dict[State, str] = {
    "connecting": "connecting: the daemon has not been seen yet",
    "live": "live",
    "stale": "STALE: nothing shown here is fresh",
}
Begin = Literal["last", "now", "first"]
LOOK_EVERY_S = 0.2


class View:
    """What is on the screen: the link, verdicts, health, and seams that burn."""

    def __init__(self, live: bool) -> None:
        self.verdicts: list[VerdictMessage | PartMessage] = []
        self.count = 0
        self._health: HealthMessage | None = None
        self._burning = LiveView() if live else None
        self._link = StateChange("connecting", "")
        self._notes: list[Text] = []

    def add(self, message: Message) -> None:
        """A decoded message."""
        if isinstance(message, VerdictMessage | PartMessage):
            self.verdicts = [*self.verdicts[-ROWS + 1 :], message]
            self.count += 1
            if self._burning is not None and isinstance(message, VerdictMessage):
                self._burning.end(message.seam_id)
        elif isinstance(message, LiveMessage) and self._burning is not None:
            self._burning.add(as_map(message))
        elif isinstance(message, HealthMessage):
            self._health = message

    def tell(self, event: Event) -> None:
        """What became of the link, for a person."""
        if isinstance(event, StateChange):
            self._link = event
        elif isinstance(event, Lost):
            self._notes.append(Text(f"lost: {event.first} to {event.last}: {event.detail}", "bold red"))
        elif isinstance(event, NewJournal):
            self._notes.append(Text(f"another journal: {event.new} after {event.old}", "yellow"))

    def shown(self) -> Group:
        """Everything, to be printed."""
        line = Text(LINK_WORDS[self._link.state], LINK_STYLES[self._link.state])
        line.append(f" {self._link.detail}", "default on default not bold")
        burning = [] if self._burning is None else [self._burning.table()]
        return Group(line, *self._notes[-3:], *burning, _table(self.verdicts, self._health))


def watch(
    endpoint: Annotated[str, typer.Option(help="Where verdicts are published.")] = "tcp://127.0.0.1:5560",
    journal: Annotated[str | None, typer.Option(help="The journal socket, where it is not the usual one.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Your keys, from `edged keys new`.")] = None,
    start: Annotated[str, typer.Option(help="last (of every program), now, or first (the whole journal).")] = "last",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the decoded messages here.")] = None,
    count: Annotated[int | None, typer.Option(help="End after this many verdicts (of seams and parts).")] = None,
    timeout: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Also show the live score of seams that burn.")] = False,
) -> None:
    """Show verdicts as they come. Exit code 1 when fewer than --count came within --timeout."""
    messages: list[dict[str, Any]] = []
    view = View(live)
    try:
        with (
            _client(endpoint, journal, keys, start, TOPICS + ("live",) * live) as client,
            Live(view.shown(), console=Console(), refresh_per_second=10 if live else 4) as display,
        ):
            for event in _events(client, timeout):
                view.tell(event)
                if (found := _decoded(event)) is not None:
                    view.add(found[1])
                    if json_file is not None:
                        messages.append({"topic": found[0], **as_map(found[1])})
                display.update(view.shown())
                if count is not None and view.count >= count:
                    break
    finally:
        if json_file is not None:
            json_file.write_text(json.dumps(messages, indent=1) + "\n", encoding="utf-8")
    if count is not None and view.count < count:
        typer.echo(f"{view.count} of {count} verdicts within {timeout:g} s from {endpoint}", err=True)
        raise typer.Exit(1)


def received(
    endpoint: str, timeout_s: float | None, topics: tuple[str, ...] = ("health", "heartbeat", "live")
) -> Iterator[tuple[str, Message]]:
    """Decoded messages until the time-out (None: for ever). Messages that cannot be decoded are told and left out."""
    with Client(endpoint, topics=topics) as client:
        for event in _events(client, timeout_s):
            if (found := _decoded(event)) is not None:
                yield found


def _client(endpoint: str, journal: str | None, keys: Path | None, start: str, topics: tuple[str, ...]) -> Client:
    begin: Begin | None = next((word for word in get_args(Begin) if word == start), None)
    if begin is None:
        typer.echo(f"--start {start}: last, now or first is needed", err=True)
        raise typer.Exit(2)
    try:
        own = None if keys is None else Keys.read(keys)
        return Client(endpoint, journal=journal, keys=own, topics=topics, start=begin)
    except (KeysError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def _events(client: Client, timeout_s: float | None) -> Iterator[Event]:
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    while end_s is None or time.monotonic() < end_s:
        left_s = LOOK_EVERY_S if end_s is None else min(LOOK_EVERY_S, end_s - time.monotonic())
        if (event := client.receive(max(0.0, left_s))) is not None:
            yield event


def _decoded(event: Event) -> tuple[str, Message] | None:
    """Topic and message of an event that has them. An entry's label is the client's: 0 where it cannot be trusted."""
    try:
        if isinstance(event, Entry):
            message = decode(event.topic, event.payload)
            if getattr(message, "label", Label.INDETERMINATE) != event.message["label"]:
                raise WireError(f"topic {event.topic}: topic, kind and label do not fit together")
            return event.topic, message
        if isinstance(event, Told):
            return event.topic, decode(event.topic, event.payload)
    except WireError as error:
        typer.echo(str(error), err=True)
    return None


def worst_place(along: Sequence[Sequence[float]], score: float | None) -> str:
    """Where the result looks worst, for a person: "12 mm"; "" within the limit, or where no place is known.

    `along`: (mm, score) as on the wire. Below the limit the worst place is chance.
    """
    if score is None or score < 1.0 or not along:
        return ""
    mm, there = max(along, key=lambda point: point[1])
    return f"{mm:.0f} mm" if there >= 1.0 else ""


def _table(verdicts: list[VerdictMessage | PartMessage], health: HealthMessage | None) -> Table:
    caption = None if health is None else f"{health.state}: {'; '.join(health.warnings) or 'all streams ok'}"
    table = Table(
        "#", "program", "part / seam", "verdict", "score", "worst at", "reason", "latency ms", caption=caption
    )
    for verdict in verdicts[-ROWS:]:
        label = f"[{LABEL_STYLES[verdict.label]}]{verdict.label.name}[/]"
        if isinstance(verdict, PartMessage):
            table.add_row(str(verdict.sequence), "part", verdict.part_id, label, "", "", verdict.reason, "")
            continue
        where = " / ".join(name for name in (verdict.part_id, verdict.seam_ref or verdict.seam_id) if name)
        latency = verdict.latency_from_last_input_ms
        score, shown = verdict.score, "" if latency is None else f"{latency:.0f}"
        number = "" if score is None else f"{score:.2f}"
        worst = worst_place(verdict.along, verdict.score)
        table.add_row(str(verdict.sequence), verdict.program, where, label, number, worst, verdict.reason, shown)
    return table
