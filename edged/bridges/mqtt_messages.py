"""What leaves for the broker: one message, the shape of a session, and plain JSON made from the wire's maps.

A *session* decides what is sent and never sends: `edged.bridges.mqtt` carries out what it returns. There are two of
them, each on a connection of its own because MQTT gives a connection one last will: `mqtt_json` and `sparkplug`.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Outgoing", "Session", "checked_label", "to_json", "topic_level"]

AT_MOST_ONCE, AT_LEAST_ONCE = 0, 1

MAX_DEPTH = 16
"""edged's own messages nest four deep; what nests deeper becomes null rather than ending the process."""

_RESERVED = {character: f"%{ord(character):02X}" for character in "%/+#\0$"}


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish. Empty `payload` with `retain` deletes what the broker keeps."""

    topic: str
    payload: bytes
    qos: int = AT_LEAST_ONCE
    retain: bool = False


class Session(Protocol):
    """One connection's conversation: what comes from edged and from the broker → what to publish."""

    @property
    def will(self) -> Outgoing:
        """What the broker says for us when we vanish."""

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """Topics whose messages go to `command`."""

    @property
    def fence(self) -> str | None:
        """A topic to unsubscribe from after each entry, None where publishing itself is confirmed.

        The broker works off a connection in order, so its answer says that everything before has arrived.
        """

    def opened(self) -> list[Outgoing]:
        """The broker accepted the connection."""

    def state(self, state: str) -> list[Outgoing]:
        """The daemon is "connecting", "live" or "stale"."""

    def told(self, topic: str, message: Mapping[str, Any]) -> list[Outgoing]:
        """A `heartbeat` or `health` came."""

    def entry(self, topic: str, sequence: int, journal_id: str, message: Mapping[str, Any]) -> list[Outgoing]:
        """A seam's or part's verdict came, live or from the journal."""

    def lost(self, first: int, last: int) -> list[Outgoing]:
        """The journal no longer has these entries."""

    def command(self, topic: str, payload: bytes) -> list[Outgoing]:
        """Somebody published to one of `subscriptions`."""

    def closing(self) -> list[Outgoing]:
        """The last words of an orderly end."""


def topic_level(text: str) -> str:
    """A name as one level of a topic: what MQTT reserves is written as in a URL ("a/b" → "a%2Fb")."""
    return "".join(_RESERVED.get(character, character) for character in text) or "%"


def checked_label(message: Mapping[str, Any]) -> int:
    """The label, 0 (not OK or unknown) for anything that is no well-formed label."""
    label = message.get("label")
    return label if type(label) is int and label in (0, 1, 2) else 0


def to_json(message: Mapping[str, Any]) -> bytes:
    """A message of the wire as JSON; what JSON cannot hold (bytes, infinite numbers, endless nesting) becomes null.

    A message that has a label gets a well-formed one.
    """
    plain = _plain(message)
    if "label" in plain:
        plain["label"] = checked_label(message)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, Mapping | list | tuple) and depth > MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # lone surrogates have no UTF-8
    return value if value is None or isinstance(value, bool | int) else None
