"""The processes of `edged bench delivery`, and what befalls them while verdicts flow."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edged.bench.delivery_subscriber import START_OF_CHAIN, Seen, link
from edged.keys import KeyStore, write_private
from edged.plcsim.places import free_endpoint

__all__ = ["Cell", "DeliveryError", "Plan", "deliver"]

LOOK_S = 0.02
KILLED_AWAY_S = 1.0
NAMES = ("plain", "asyncio", "acknowledging", "stopped", "killed", "late", "plain-7", "plain-8")
ACKNOWLEDGES = "acknowledging"


class DeliveryError(Exception):
    """A process of the bench ended, or did not come to an end in time; names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much, and how hard. `rate_hz` 0: as fast as the journal's disk allows."""

    verdicts: int = 100_000
    rate_hz: float = 0.0
    stop_s: float = 10.0
    kills: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of `verdicts` after which the daemon's half is killed."""

    stop_at: float = 0.1
    kill_subscriber_at: float = 0.35
    late_at: float = 0.6
    within_s: float = 1800.0


class Cell:
    """One journal with its source and subscribers, all of them processes; a context manager that ends them."""

    def __init__(self, folder: Path, curve: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.verdicts = folder, free_endpoint()
        self.journal = folder / "journal.db"
        self.keys = folder / "keys" if curve else None
        self.source: subprocess.Popen[bytes] | None = None
        self.subscribers: dict[str, subprocess.Popen[bytes]] = {}
        self._log = (folder / "processes.log").open("ab")

    def __enter__(self) -> "Cell":
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.subscribers.values(), *([self.source] if self.source else [])]:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self._log.close()

    def start_source(self, until: int, rate_hz: float, *, after_s: float = 0.0, times: Path | None = None) -> None:
        """Start it, or start it again on the same journal."""
        options = [f"--journal={self.journal}", f"--verdicts={self.verdicts}", f"--until={until}"]
        options += [f"--rate={rate_hz}", f"--after={after_s}"]
        options += [f"--times={times}"] if times else []
        options += [f"--keys={self.keys}"] if self.keys else []
        self.source = self._start("edged.bench.delivery_source", options)

    def start_subscriber(self, name: str, until: int, *, times: Path | None = None) -> None:
        """Start it, or start it again from what it saved."""
        options = [f"--verdicts={self.verdicts}", f"--until={until}", f"--state={self._state(name)}"]
        options += [f"--times={times}"] if times else []
        options += [f"--keys={self.key_of(name)}"] if self.keys else []
        options += [f"--acknowledge-as={name}"] if name == ACKNOWLEDGES else []
        options += ["--asyncio"] if name == "asyncio" else []
        self.subscribers[name] = self._start("edged.bench.delivery_subscriber", options)

    def key_of(self, name: str) -> Path:
        """A client's file of keys, made now where there is none."""
        assert self.keys is not None
        path = self.folder / f"{name}.toml"
        if not path.exists():
            bundle = KeyStore(self.keys).add(name, ("verdict",), datetime.datetime.now(datetime.UTC))
            write_private(path, bundle.model_dump())
        return path

    def kill_source(self) -> None:
        """As a power cut would, seen from outside."""
        assert self.source is not None
        self.source.kill()
        self.source.wait()

    def end_source(self) -> None:
        """SIGTERM; it writes its times."""
        assert self.source is not None
        self.source.terminate()
        if self.source.wait(30):
            raise DeliveryError(f"the source ended with {self.source.returncode}: {self.folder}/processes.log")

    def last_sequence(self) -> int:
        """Of the journal's file, 0 while there is none."""
        if not self.journal.exists():
            return 0
        with contextlib.closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as db:
            try:
                return int(db.execute("SELECT max(sequence) FROM entries").fetchone()[0] or 0)
            except sqlite3.OperationalError:
                return 0  # no tables yet

    def seen(self, name: str) -> Seen:
        """What a subscriber saved last."""
        return Seen(**json.loads(self._state(name).read_text(encoding="utf-8")))

    def truth(self) -> tuple[int, str, int]:
        """Entries of the journal, their chain, and what the acknowledging subscriber has acknowledged."""
        chain, count = START_OF_CHAIN, 0
        with contextlib.closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as db:
            for sequence, payload in db.execute("SELECT sequence, payload FROM entries ORDER BY sequence"):
                chain, count = link(chain, sequence, payload), count + 1
            row = db.execute("SELECT sequence FROM acks WHERE client = ?", (ACKNOWLEDGES,)).fetchone()
        return count, chain.hex(), int(row[0]) if row else 0

    def alive(self) -> None:
        """Raises DeliveryError naming who ended badly."""
        found = {"source": self.source, **self.subscribers}
        for name, process in found.items():
            if process is not None and process.poll() not in (None, 0):
                raise DeliveryError(f"{name} ended with {process.returncode}: see {self.folder}/processes.log")

    def _state(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _start(self, module: str, options: Sequence[str]) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", module, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=self._log, stderr=self._log, env=environment)


def deliver(cell: Cell, plan: Plan) -> dict[str, Any]:
    """Verdicts to eight subscribers of whom one is stopped, one killed, one late, by a source that is killed."""
    until, began_s = plan.verdicts, time.monotonic()
    stopped_s: list[float] = []
    for name in NAMES:
        if name != "late":
            cell.start_subscriber(name, until)
    cell.start_source(until, plan.rate_hz)
    events = sorted(_events(cell, plan, stopped_s), key=lambda event: event[0])
    while events or any(process.poll() is None for process in cell.subscribers.values()):
        if stopped_s and time.monotonic() - stopped_s[0] >= plan.stop_s:
            cell.subscribers["stopped"].send_signal(signal.SIGCONT)
            stopped_s.clear()
        last = cell.last_sequence()
        while events and last >= events[0][0] * until:
            events.pop(0)[1]()
        cell.alive()
        if time.monotonic() - began_s > plan.within_s:
            raise DeliveryError(f"not everybody has {until} entries within {plan.within_s:g} s: see {cell.folder}")
        time.sleep(LOOK_S)
    took_s = time.monotonic() - began_s
    cell.end_source()
    return _compared(cell, plan, took_s)


def _events(cell: Cell, plan: Plan, stopped_s: list[float]) -> Iterator[tuple[float, Callable[[], None]]]:
    """(share of the verdicts, what happens then)."""

    def kill_source() -> None:
        cell.kill_source()
        cell.start_source(plan.verdicts, plan.rate_hz)

    def stop() -> None:
        cell.subscribers["stopped"].send_signal(signal.SIGSTOP)
        stopped_s.append(time.monotonic())

    def kill_subscriber() -> None:
        cell.subscribers["killed"].kill()
        cell.subscribers["killed"].wait()
        time.sleep(KILLED_AWAY_S)
        cell.start_subscriber("killed", plan.verdicts)

    yield from ((share, kill_source) for share in plan.kills)
    yield plan.stop_at, stop
    yield plan.kill_subscriber_at, kill_subscriber
    yield plan.late_at, lambda: cell.start_subscriber("late", plan.verdicts)


def _compared(cell: Cell, plan: Plan, took_s: float) -> dict[str, Any]:
    """Every subscriber against the journal."""
    sent, chain, acknowledged = cell.truth()
    rows = {name: cell.seen(name) for name in NAMES}
    return {
        "sent": sent,
        "subscribers": len(rows),
        "missing": sum(seen.missing + seen.lost + (sent - seen.sequence) for seen in rows.values()),
        "duplicated": sum(seen.duplicated for seen in rows.values()),
        "identical": sum(seen.chain == chain and seen.count == sent for seen in rows.values()),
        "acknowledged": acknowledged,
        "daemon_kills": len(plan.kills),
        "starts": {name: seen.starts for name, seen in rows.items()},
        "chain": hashlib.sha256(chain.encode()).hexdigest()[:16],
        "delivery_s": round(took_s, 1),
        "per_s": round(sent / took_s),
    }
