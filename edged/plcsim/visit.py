"""A visit to a daemon: what the checks of `edged plc-sim daemon` work with, and how they say what is wrong."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgpack
import zmq

from edged.client import Keys
from edged.plcsim.peer import Asker, Listener, Place

__all__ = ["Failed", "Skipped", "Visit", "as_map", "has_fields", "must", "ok", "refused_with", "some_of"]

MAX_ENTRIES = 1000


class Failed(Exception):
    """The daemon does not do what the clause says; the text is what it did."""


class Skipped(Exception):
    """The clause cannot be tried here; the text is why."""


@dataclasses.dataclass
class Visit:
    """What one visit works with: the daemon's place, a subscriber since the beginning, and the first snapshot.

    Attributes:
        program: name of a program to announce a part of; None: D18 is left out, because it writes two verdicts.
        verdict_keys: keys without the right "control", for D16.
    """

    context: "zmq.Context[zmq.Socket[bytes]]"
    place: Place
    listener: Listener
    program: str | None = None
    verdict_keys: Keys | None = None

    def journal(self, kind: int = zmq.DEALER) -> Asker:
        """A new peer of the journal socket; a new one has its own limits."""
        return Asker(self.context, self.place.journal, self.place.keys, kind)

    def control(self, keys: Keys | None = None) -> Asker:
        """A new peer of the control socket. Raises Skipped where no endpoint was given."""
        if self.place.control is None:
            raise Skipped("no --control")
        return Asker(self.context, self.place.control, keys or self.place.keys)

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """One request to the journal socket that must be followed. Raises Failed, NoAnswer."""
        with self.journal() as asker:
            return ok(asker.ask(op, **fields), op)

    def beats(self) -> list[tuple[float, dict[str, Any]]]:
        """Heartbeats so far: (seconds of the monotonic clock, message)."""
        return [(at_s, as_map(payload, "a heartbeat")) for at_s, _, payload in self.listener.of("heartbeat")]


def ok(answer: dict[str, Any], what: str) -> dict[str, Any]:
    """The answer, if the request was followed. Raises Failed."""
    if answer.get("ok") is not True:
        raise Failed(f"{what} → {answer!r:.200}")
    return answer


def refused_with(answer: Mapping[str, Any], code: str, what: str) -> None:
    """Raises Failed unless the answer is a refusal with this code."""
    if answer.get("ok") is not False or answer.get("code") != code or not isinstance(answer.get("error"), str):
        raise Failed(f"{what} → {dict(answer)!r:.200}, code {code} is due")


def must(is_so: bool, otherwise: str) -> None:
    """Raises Failed unless it is so."""
    if not is_so:
        raise Failed(otherwise)


def has_fields(message: Mapping[str, Any], what: str, **kinds: type) -> None:
    """Raises Failed unless the fields are there and of exactly these types."""
    wrong = [name for name, kind in kinds.items() if type(message.get(name)) is not kind]
    if wrong:
        raise Failed(f"{what}: {', '.join(f'{name} is {message.get(name)!r:.60}' for name in wrong)}")


def as_map(payload: bytes, what: str) -> dict[str, Any]:
    """What the payload holds. Raises Failed, ValueError."""
    found = msgpack.unpackb(payload)
    if not isinstance(found, dict):
        raise Failed(f"{what} is no map: {found!r:.60}")
    return found


def some_of(snapshot: Mapping[str, Any]) -> tuple[int, int]:
    """First and last sequence of the last few thousand entries. Raises Skipped where there are none."""
    if not snapshot["last_sequence"]:
        raise Skipped("the journal is empty")
    return max(snapshot["first_sequence"], snapshot["last_sequence"] - 3 * MAX_ENTRIES), snapshot["last_sequence"]
