"""`python -m tests.fuzz --minutes 10`: no crash, no growth, counters that tell; exit code 1 where not."""

import argparse
import dataclasses
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from edged.bench.results_part import write_part
from tests.fuzz.attacks import ATTACKS, BROKER, Attack, Attacker
from tests.fuzz.world import WITNESS, World

__all__ = ["Found", "fuzz", "main", "play"]

EXAMPLES = 60
MAY_GROW_MB = 4.0
MARK = "fuzz"
WARM_SHARE = 0.2
"""Memory is compared with what it was after this share of the time: code and caches have been loaded by then."""


@dataclasses.dataclass
class Found:
    """What came of it."""

    seconds: float = 0.0
    sent: dict[str, int] = dataclasses.field(default_factory=dict)
    rss_mb: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """At the start, after a fifth of the time, and at the end."""
    counters: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    def problems(self) -> list[str]:
        """What grew, and what was not counted."""
        _, warm, end = self.rss_mb
        by_itself = max(0.0, end[WITNESS] - warm[WITNESS])
        found = [
            f"{name} grew from {warm[name]} to {after} MB, {WITNESS} by {by_itself:.1f}"
            for name, after in end.items()
            if after > warm[name] + MAY_GROW_MB + (by_itself if name.startswith("daemon") else 0.0)
        ]
        silent = [name for name, counters in self.counters.items() if not sum(counters.values())]
        return found + [f"{name} counted nothing" for name in silent]


def play(attack: Attack, attacker: Attacker, number: int, examples: int = EXAMPLES) -> int:
    """One round of an attack; how many were sent."""
    sent = 0

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(attack.strategy)
    def one(item: Any) -> None:
        nonlocal sent
        sent += 1
        attack.deliver(attacker, item)

    one()
    return sent


def fuzz(world: World, seconds: float, first_seed: int, examples: int = EXAMPLES) -> Found:
    """Rounds of every attack in turn for so long. Raises AssertionError where a process ended or answers no more."""
    found = Found()
    began_s = time.monotonic()
    found.rss_mb.append(world.rss_mb())
    before = world.broker.connections
    with Attacker(world) as attacker:
        for number in itertools.count(first_seed):
            for name, attack in ATTACKS.items():
                found.sent[name] = found.sent.get(name, 0) + play(attack, attacker, number, examples)
                world.rss_mb()
            took_s = time.monotonic() - began_s
            if len(found.rss_mb) == 1 and took_s >= WARM_SHARE * seconds:
                found.rss_mb.append(world.rss_mb())
            if took_s >= seconds:
                break
    # What was made up since the bridge's last visit is not said any more.
    found.sent[BROKER] = world.broker.connections - before
    found.seconds = time.monotonic() - began_s
    world.check()
    found.rss_mb.append(world.rss_mb())
    found.counters = world.counters()
    return found


def markdown(found: Found, command: str) -> str:
    """The part of docs/results.md."""
    start, warm, end = found.rss_mb
    grown = [f"| {name} | {start[name]} | {warm[name]} | {end[name]} |" for name in end]
    sent = [f"| {name} | {count} |" for name, count in found.sent.items()]
    counted = [
        f"- {name}: " + ", ".join(f"{word} {count}" for word, count in sorted(counters.items()))
        for name, counters in found.counters.items()
    ]
    return "\n".join(
        [
            f"Made by `{command}`: {sum(found.sent.values())} attacks in {found.seconds:.0f} s. Nobody ended, "
            "everybody answered afterwards as before.",
            "",
            "| process | MB at the start | after a fifth | at the end |",
            "|---|---|---|---|",
            *grown,
            "",
            "| attack | times |",
            "|---|---|",
            *sent,
            "",
            f"Grown beyond {MAY_GROW_MB:g} MB, or silent: {'; '.join(found.problems()) or 'nobody'}.",
            "",
            "What the daemons' health counted of it:",
            "",
            *counted,
        ]
    )


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--results", type=Path, help="Markdown file whose marked part is replaced.")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, World(Path(folder)) as world:
        found = fuzz(world, said.minutes * 60, said.seed)
    print(json.dumps(dataclasses.asdict(found), indent=2))
    if said.json is not None:
        said.json.write_text(json.dumps(dataclasses.asdict(found), indent=2) + "\n", encoding="utf-8")
    if said.results is not None:
        write_part(said.results, MARK, markdown(found, f"python -m tests.fuzz --minutes {said.minutes:g}"))
    for problem in found.problems():
        print(problem)
    return bool(found.problems())


if __name__ == "__main__":
    raise SystemExit(main())
