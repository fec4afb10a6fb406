"""`edged watch`: the published messages as any subscriber receives them, in a live table and as JSON."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import zmq
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from edged.live_view import LiveView
from edged.types import Label
from edged.wire import HealthMessage, LiveMessage, Message, PartMessage, VerdictMessage, WireError, as_map, decode

__all__ = ["received", "watch"]

ROWS = 24
TOPICS = ("verdict/", "part", "health", "heartbeat")
LABEL_STYLES = {Label.OK: "green", Label.NOK: "bold red", Label.INDETERMINATE: "yellow"}


def watch(
    endpoint: Annotated[str, typer.Option(help="Where verdicts are published.")] = "tcp://127.0.0.1:5560",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the decoded messages here.")] = None,
    count: Annotated[int | None, typer.Option(help="End after this many verdicts (of seams and parts).")] = None,
    timeout: Annotated[float | None, typer.Option(help="End after this many seconds.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Also show the live score of seams that burn.")] = False,
) -> None:
    """Show verdicts as they come. Exit code 1 when fewer than --count came within --timeout."""
    messages: list[dict[str, Any]] = []
    verdicts: list[VerdictMessage | PartMessage] = []
    seen: set[tuple[str, int]] = set()
    health: HealthMessage | None = None
    burning = LiveView()
    topics = TOPICS + ("live",) * live
    try:
        with Live(_table([], None), console=Console(), refresh_per_second=10 if live else 4) as display:
            for topic, message in received(endpoint, timeout, topics):
                if isinstance(message, VerdictMessage | PartMessage):
                    if (key := (message.journal_id, message.sequence)) in seen:
                        continue
                    seen.add(key)
                    verdicts.append(message)
                    if isinstance(message, VerdictMessage):
                        burning.end(message.seam_id)
                elif isinstance(message, LiveMessage):
                    burning.add(as_map(message))
                elif isinstance(message, HealthMessage):
                    health = message
                messages.append({"topic": topic, **as_map(message)})
                shown = _table(verdicts, health)
                display.update(Group(burning.table(), shown) if live else shown)
                if count is not None and len(verdicts) >= count:
                    break
    finally:
        if json_file is not None:
            json_file.write_text(json.dumps(messages, indent=1) + "\n", encoding="utf-8")
    if count is not None and len(verdicts) < count:
        typer.echo(f"{len(verdicts)} of {count} verdicts within {timeout:g} s from {endpoint}", err=True)
        raise typer.Exit(1)


def received(
    endpoint: str, timeout_s: float | None, topics: tuple[str, ...] = ("",)
) -> Iterator[tuple[str, Message]]:
    """Decoded messages until the time-out (None: for ever). Messages that cannot be decoded are told and left out."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        for topic in topics:
            socket.subscribe(topic)
        while end is None or time.monotonic() < end:
            if not socket.poll(200 if end is None else max(0, min(200, round((end - time.monotonic()) * 1e3)))):
                continue
            frames = socket.recv_multipart()
            try:
                yield frames[0].decode(errors="replace"), decode(frames[0], frames[-1])
            except WireError as error:
                typer.echo(str(error), err=True)


def _table(verdicts: list[VerdictMessage | PartMessage], health: HealthMessage | None) -> Table:
    caption = None if health is None else f"{health.state}: {'; '.join(health.warnings) or 'all streams ok'}"
    table = Table("#", "program", "part / seam", "verdict", "score", "reason", "latency ms", caption=caption)
    for verdict in verdicts[-ROWS:]:
        label = f"[{LABEL_STYLES[verdict.label]}]{verdict.label.name}[/]"
        if isinstance(verdict, PartMessage):
            table.add_row(str(verdict.sequence), "part", verdict.part_id, label, "", verdict.reason, "")
            continue
        where = " / ".join(name for name in (verdict.part_id, verdict.seam_ref or verdict.seam_id) if name)
        latency = verdict.latency_from_last_input_ms
        score, shown = verdict.score, "" if latency is None else f"{latency:.0f}"
        number = "" if score is None else f"{score:.2f}"
        table.add_row(str(verdict.sequence), verdict.program, where, label, number, verdict.reason, shown)
    return table
