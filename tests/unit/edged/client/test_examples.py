"""The soft PLCs of docs/clients in C, JavaScript and Python, each compiled and run against real sockets."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from edged.control import Control
from edged.keys import KeyStore, write_private
from edged.types import Label
from tests.support.guarded import NOW
from tests.support.soft_plcs import missing, soft_plcs
from tests.support.source import Source, free_endpoint
from tests.support.verdicts import a_part, a_verdict

PATIENCE_S = 60


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Language → how its example is run."""
    return soft_plcs(tmp_path_factory.mktemp("c"))


class Running:
    """An example that runs, with its lines as they come."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, line: str) -> None:
        """Wait for a line."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            if line in self.lines:
                return
            assert self.process.poll() is None, f"ended: {self.lines}"
            self._reader.join(0.02)
        raise AssertionError(f"{line!r} did not come: {self.lines}")

    def until_now(self, line: str) -> None:
        """Wait until a line is the last one that begins with its first word."""
        word, end_s = line.partition(" ")[0], time.monotonic() + PATIENCE_S
        while (now := [found for found in self.lines if found.startswith(f"{word} ")])[-1:] != [line]:
            assert time.monotonic() < end_s, now
            self._reader.join(0.02)

    def end(self) -> list[str]:
        """Wait for its end; its lines."""
        assert self.process.wait(PATIENCE_S) == 0
        self._reader.join(PATIENCE_S)
        return self.lines

    def stop(self) -> None:
        """Make sure that it has ended."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))


Run = Callable[..., dict[str, Running]]


@pytest.fixture
def run(commands: dict[str, list[str]]) -> Iterator[Run]:
    """Start the example in every language, with the same options (a function of the language for some)."""
    started: list[Running] = []

    def start(*options: Any) -> dict[str, Running]:
        made = {}
        for language, command in commands.items():
            own = [str(option(language) if callable(option) else option) for option in options]
            started.append(running := Running([*command, *own]))
            made[language] = running
        return made

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    with Source(tmp_path / "journal.db", free_endpoint()) as source:
        yield source


def entries(lines: list[str]) -> list[str]:
    return [line for line in lines if line[0].isdigit()]


@pytest.mark.parametrize("language", ["c", "mjs"])
def test_the_example_can_run_here(language: str) -> None:
    if (why := missing().get(language)) is not None:
        assert "CI" not in os.environ, why
        pytest.skip(why)


def test_every_entry_once_over_gaps_restarts_and_another_journal(run: Run, source: Source, tmp_path: Path) -> None:
    ids = source.add(3)
    position = ["--position", lambda language: tmp_path / f"position-{language}"]
    first = run("--verdicts", source.verdicts, "--start", "first", "--seams", 7, *position)
    for plc in first.values():
        plc.until("state live")
        plc.until(f"3 1 {ids[-1]}")
    with source.unpublished():
        ids += source.add(2)
    ids += [source.append(a_part())]
    for plc in first.values():
        plc.until(f"6 1 {ids[-1]}")
    source.stop()
    for plc in first.values():
        assert "ok 1" in plc.lines
        plc.until_now("state stale")
        plc.until_now("ok 0")
    source.start()
    ids += source.add(1, label=Label.NOK)
    wanted = [f"{number} {1 + (number == 7)} {name}" for number, name in enumerate(ids, 1)]
    for language, plc in first.items():
        assert entries(plc.end()) == wanted, language
        plc.until_now("ok 0")

    ids = source.add(2)
    second = run("--verdicts", source.verdicts, "--seams", 5, *position)
    for plc in second.values():
        plc.until(f"9 1 {ids[-1]}")
    source.stop()
    source.path.rename(source.path.with_suffix(".old"))
    source.start()
    new = source.add(3)
    wanted = [f"{number} 1 {name}" for number, name in [*enumerate(ids, 8), *enumerate(new, 1)]]
    for language, plc in second.items():
        assert entries(plc.end()) == wanted, language
        assert sum(line.startswith("journal ") for line in plc.lines) == 2, language


def test_only_a_fresh_ok_of_the_expected_seam_counts(run: Run, source: Source, tmp_path: Path) -> None:
    """The first seam of each is OK, the second NOK; the third gets no verdict in time, but others do."""
    labels = [Label.OK, Label.NOK, None]
    asked: dict[str, list[str]] = {}
    due: list[tuple[str, Label | None]] = []

    def expect(request: dict[str, Any]) -> dict[str, Any]:
        seams = asked.setdefault(request["part_id"], [])
        seams.append(f"{request['part_id']}-{len(seams)}")
        due.append((seams[-1], labels[len(seams) - 1]))
        return {"ok": True, "seam_id": seams[-1]}

    with zmq.Context() as context:
        control = Control(context, f"ipc://{tmp_path}/control.sock", {"expect": expect})
        options = ["--control", control.endpoint, "--program", "T1", "--seams", 3, "--within-ms", 4000]
        plcs = run("--verdicts", source.verdicts, *options, "--part", lambda language: language)
        end_s = time.monotonic() + PATIENCE_S
        while any(plc.process.poll() is None for plc in plcs.values()) and time.monotonic() < end_s:
            control.socket.poll(20)
            control.serve()
            for seam_id, label in due:
                source.append(a_verdict(f"of another seam beside {seam_id}"))
                if label is not None:
                    source.append(a_verdict(seam_id, label=label))
            due.clear()
        control.close()
    for language, plc in plcs.items():
        told = [line for line in plc.end() if line.startswith(("ok", "expect"))]
        first, second, third = (f"expect {language}-{number}" for number in range(3))
        assert told == ["ok 0", first, "ok 1", "ok 0", second, third], language


def test_keys(run: Run, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    right = store.add("plc", ["verdict"], NOW)
    wrong = right.model_copy(update={"server_public": zmq.curve_keypair()[0].decode()})
    for name, bundle in (("right", right), ("wrong", wrong)):
        write_private(tmp_path / f"{name}.toml", bundle.model_dump())
    with Source(tmp_path / "journal.db", free_endpoint(), keys=store.folder) as source:
        (name,) = source.add(1)
        follow = ["--verdicts", source.verdicts, "--start", "first", "--seams", 1, "--keys"]
        strangers = run(*follow, tmp_path / "wrong.toml")
        for language, plc in run(*follow, tmp_path / "right.toml").items():
            assert entries(plc.end()) == [f"1 1 {name}"], language
        for language, plc in strangers.items():
            assert plc.lines == ["ok 0"], language
    (tmp_path / "right.toml").chmod(0o644)
    for language, plc in run(*follow, tmp_path / "right.toml").items():
        assert plc.process.wait(PATIENCE_S) != 0, language
