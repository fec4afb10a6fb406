"""`edged watch` on real sockets: what it shows, its JSON, its exit codes."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edged.cli import app
from edged.client import Lost, StateChange
from edged.types import Label
from edged.watch import View
from tests.support.source import Source, free_endpoint


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(tmp_path / "journal.db", free_endpoint()) as source:
        yield source


def shown(view: View) -> str:
    console = Console(width=120, force_terminal=True, color_system="standard", record=True, file=io.StringIO())
    console.print(view.shown())
    return console.export_text(styles=True)


def test_the_whole_journal_as_json(source: Source, tmp_path: Path) -> None:
    source.add(2, "T1", label=Label.NOK)
    source.add(1, "T2")
    out = tmp_path / "out.json"
    found = CliRunner().invoke(
        app, ["watch", "--endpoint", source.verdicts, "--start", "first", "--count", "3", "--json", str(out)]
    )
    assert found.exit_code == 0, found.output
    messages = [message for message in json.loads(out.read_text()) if message["kind"] == "verdict"]
    assert [(message["sequence"], message["topic"], message["label"]) for message in messages] == [
        (1, "verdict/T1", 2),
        (2, "verdict/T1", 2),
        (3, "verdict/T2", 1),
    ]


def test_too_few_within_the_timeout(source: Source) -> None:
    source.add(1)
    found = CliRunner().invoke(app, ["watch", "--endpoint", source.verdicts, "--count", "2", "--timeout", "0.5"])
    assert found.exit_code == 1
    assert "1 of 2 verdicts within 0.5 s" in found.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start", "middle"], "last, now or first"),
        (["--endpoint", "tcp://127.0.0.1"], "journal socket"),
        (["--keys", "/nowhere/plc.toml"], "/nowhere/plc.toml"),
    ],
)
def test_arguments_that_cannot_be_followed(arguments: list[str], said: str) -> None:
    found = CliRunner().invoke(app, ["watch", *arguments])
    assert found.exit_code == 2
    assert said in found.output


def test_a_stale_link_is_shown_in_red() -> None:
    view = View(live=False)
    assert "connecting" in shown(view)
    view.tell(StateChange("stale", "no heartbeat for more than 3 s"))
    text = shown(view)
    assert "STALE" in text
    assert "\x1b[1;37;41m" in text, "white on red"
    view.tell(Lost(3, 4, "gone"))
    assert "lost: 3 to 4: gone" in shown(view)
