"""What a client hands out: journal entries in order, messages of the moment, and what became of the link."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal, Self

__all__ = ["Entry", "Event", "Lost", "NewJournal", "Position", "Start", "State", "StateChange", "Told"]

State = Literal["connecting", "live", "stale"]
"""Only "live" says that the daemon is there now; "connecting": it has not been seen yet."""

OK = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """How far somebody has come: everything up to `sequence` of journal `journal_id`."""

    journal_id: str
    sequence: int

    def save(self, path: Path | str) -> None:
        """Write it so that either the old or the new one stands in `path`, also after a power cut."""
        path = Path(path)
        new = path.with_name(f"{path.name}.new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    @classmethod
    def load(cls, path: Path | str) -> Self | None:
        """What `save` wrote, None where there is no file. Raises ValueError when it is damaged."""
        path = Path(path)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            journal_id, sequence = found["journal_id"], found["sequence"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no position of a client ({error}); remove it to begin anew") from error
        if not isinstance(journal_id, str) or type(sequence) is not int or sequence < 0:
            raise ValueError(f"{path}: journal {journal_id!r}, sequence {sequence!r}: no position; remove the file")
        return cls(journal_id, sequence)


Start = Position | Literal["last", "now", "first"]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A verdict of a seam or a part. `message` is the map of `payload`, with a `label` that can be trusted.

    A label that is not 0, 1 or 2, or that stands in a message of another schema or kind, is 0 in `message`.
    """

    journal_id: str
    sequence: int
    topic: str
    message: dict[str, Any]
    payload: bytes

    @property
    def is_ok(self) -> bool:
        """Whether the daemon said OK, in a well-formed message. Whether it is *your* seam and fresh, you must see."""
        return bool(self.message["label"] == OK)

    @property
    def is_simulated(self) -> bool:
        """Whether the weld was not real, or the message does not say."""
        return self.message.get("is_simulated") is not False


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """A message of the moment (health, heartbeat, live): not in the journal, and not sent again when missed."""

    topic: str
    message: dict[str, Any]
    payload: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class StateChange:
    """The link became live or stale, or `detail` says something new about it."""

    state: State
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class NewJournal:
    """The daemon writes another journal than before: sequences begin anew, the entries of the new one follow."""

    old: str
    new: str


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """Entries `first` to `last` cannot be had any more; `detail` says why. Treat their seams as not OK."""

    first: int
    last: int
    detail: str


Event = Entry | Told | StateChange | NewJournal | Lost
