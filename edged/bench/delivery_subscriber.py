"""A subscriber of `edged bench delivery`, in a process of its own: `python -m edged.bench.delivery_subscriber`.

It takes what `edged.client` hands out and keeps a chain of sha256 over (sequence, payload), saved with its position,
as an integrator's program saves what it acted on: killed and started again, it goes on from there.
"""

import argparse
import asyncio
import dataclasses
import hashlib
import json
import signal
import time
from array import array
from pathlib import Path
from typing import Literal

from edged.client import AsyncClient, Client, Entry, Event, Keys, Lost, NewJournal, Position

__all__ = ["START_OF_CHAIN", "Seen", "link"]

SAVE_EVERY = 500
ACKNOWLEDGE_EVERY = 200
LAST_WORDS_S = 1.0
WAIT_S = 0.2
START_OF_CHAIN = bytes(32)


def link(chain: bytes, sequence: int, payload: bytes) -> bytes:
    """The chain with one more entry."""
    return hashlib.sha256(chain + sequence.to_bytes(8, "big") + payload).digest()


@dataclasses.dataclass
class Seen:
    """What a subscriber has been handed so far; the whole of it stands in its file."""

    journal_id: str = ""
    sequence: int = 0
    count: int = 0
    chain: str = START_OF_CHAIN.hex()
    missing: int = 0
    duplicated: int = 0
    lost: int = 0
    new_journals: int = 0
    starts: int = 0

    def add(self, event: Event) -> bool:
        """Whether it was an entry."""
        if isinstance(event, Lost):
            self.lost += event.last - event.first + 1
        elif isinstance(event, NewJournal):
            self.new_journals += 1
        if not isinstance(event, Entry):
            return False
        if event.sequence <= self.sequence:
            self.duplicated += 1
        else:
            self.missing += event.sequence - self.sequence - 1
        self.journal_id, self.sequence = event.journal_id, event.sequence
        self.count += 1
        self.chain = link(bytes.fromhex(self.chain), event.sequence, event.payload).hex()
        return True

    @property
    def start(self) -> Position | Literal["first"]:
        """Where to go on."""
        return Position(self.journal_id, self.sequence) if self.journal_id else "first"

    def save(self, path: Path) -> None:
        """Either the old or the new file stands there whenever the process is killed."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")
        new.replace(path)


class Subscriber:
    """One run: from the file's position to `until`, or until ended."""

    def __init__(self, said: argparse.Namespace) -> None:
        self._said = said
        self._keys = None if said.keys is None else Keys.read(said.keys)
        self._times: array[int] = array("q")
        self._is_over = False
        self.seen = Seen(**json.loads(said.state.read_text())) if said.state.exists() else Seen()
        self.seen.starts += 1
        self.seen.save(said.state)

    def end(self, *_: object) -> None:
        """Stop at the next event."""
        self._is_over = True

    def run(self) -> None:
        """Blocking."""
        name = self._said.acknowledge_as
        with Client(self._said.verdicts, keys=self._keys, start=self.seen.start, acknowledge_as=name) as client:
            while not self._done():
                event = client.receive(WAIT_S)
                if event is not None and self._take(event) and name and self._must_acknowledge():
                    assert isinstance(event, Entry)
                    client.acknowledge(event)
            end_s = time.monotonic() + (LAST_WORDS_S if name else 0.0)
            while (left_s := end_s - time.monotonic()) > 0:
                client.receive(left_s)
        self._finish()

    async def run_async(self) -> None:
        """The same with asyncio."""
        async with AsyncClient(self._said.verdicts, keys=self._keys, start=self.seen.start) as client:
            while not self._done():
                event = await client.receive(WAIT_S)
                if event is not None:
                    self._take(event)
        self._finish()

    def _done(self) -> bool:
        return self._is_over or self.seen.sequence >= self._said.until

    def _take(self, event: Event) -> bool:
        now_ns = time.monotonic_ns()
        if not self.seen.add(event):
            return False
        if self._said.times is not None:
            self._times.extend((self.seen.sequence, now_ns))
        if self.seen.count % SAVE_EVERY == 0:
            self.seen.save(self._said.state)
        return True

    def _must_acknowledge(self) -> bool:
        return self.seen.sequence % ACKNOWLEDGE_EVERY == 0 or self.seen.sequence >= self._said.until

    def _finish(self) -> None:
        if self._said.times is not None:
            self._said.times.write_bytes(self._times.tobytes())
        self.seen.save(self._said.state)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--verdicts", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--until", type=int, required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--times", type=Path)
    parser.add_argument("--acknowledge-as")
    parser.add_argument("--asyncio", action="store_true")
    said = parser.parse_args()
    subscriber = Subscriber(said)
    signal.signal(signal.SIGTERM, subscriber.end)
    if said.asyncio:
        asyncio.run(subscriber.run_async())
    else:
        subscriber.run()


if __name__ == "__main__":
    main()
