"""Verdicts as retained JSON: who subscribes late finds the last verdict of each program, and whether edged is there.

Topics under `PREFIX/CELL/`: `availability` ("online" or "offline", the last will), `state`, `health`,
`verdict/PROGRAM`, `part`. docs/mqtt.md explains them to integrators.
"""

from collections.abc import Callable, Mapping
from typing import Any

from edged.bridges.mqtt_messages import Outgoing, to_json, topic_level
from edged.bridges.settings_mqtt import MqttConfig

__all__ = ["JsonSession"]

HEALTH_PARTS = ("state", "warnings")
STATE_PARTS = ("state", "armed", "software", "is_simulated", "config_id", "journal_id")


class JsonSession:
    """Decides what is published as JSON.

    `now_ns` is monotonic: `state` and `health` go out on change and every so often.
    """

    fence: str | None = None
    subscriptions: tuple[str, ...] = ()

    def __init__(self, config: MqttConfig, cell: str, now_ns: Callable[[], int]) -> None:
        self._base = f"{config.prefix}/{topic_level(cell)}"
        self._every_ns = round(config.state_every_s * 1e9)
        self._now_ns = now_ns
        self._daemon = "connecting"
        self._last_told: dict[str, tuple[int, Any]] = {}
        self._heartbeat: Mapping[str, Any] = {}
        self._lost_entries = 0

    @property
    def will(self) -> Outgoing:
        """ "offline", for as long as nobody says otherwise."""
        return self._retained("availability", b"offline")

    def opened(self) -> list[Outgoing]:
        """Not online before the daemon is heard."""
        return [self._retained("availability", b"offline"), self._state()]

    def state(self, state: str) -> list[Outgoing]:
        """The daemon came or went."""
        self._daemon = state
        return [self._retained("availability", b"online" if state == "live" else b"offline"), self._state()]

    def told(self, topic: str, message: Mapping[str, Any]) -> list[Outgoing]:
        """Heartbeats make `state`, health makes `health`."""
        if topic == "heartbeat":
            self._heartbeat = message
            due = self._is_due("state", [message.get(part) for part in STATE_PARTS])
            return [self._state()] if due else []
        if topic == "health" and self._is_due("health", [message.get(part) for part in HEALTH_PARTS]):
            return [self._retained("health", to_json(message))]
        return []

    def entry(self, topic: str, sequence: int, journal_id: str, message: Mapping[str, Any]) -> list[Outgoing]:
        """A verdict, under its program or as the part's."""
        kind, _, program = topic.partition("/")
        known = {**message, "sequence": sequence, "journal_id": journal_id}
        where = "part" if kind == "part" else f"verdict/{topic_level(program)}"
        return [self._retained(where, to_json(known))]

    def lost(self, first: int, last: int) -> list[Outgoing]:
        """Counted in `state`: a gap is never passed over in silence."""
        self._lost_entries += last - first + 1
        return [self._state()]

    def command(self, topic: str, payload: bytes) -> list[Outgoing]:
        """There are no commands here; `expect` comes through Modbus and OPC UA."""
        return []

    def closing(self) -> list[Outgoing]:
        """An orderly end sends no will, so it is said here."""
        return [self._retained("availability", b"offline")]

    def _state(self) -> Outgoing:
        beat = self._heartbeat
        return self._retained(
            "state",
            to_json(
                {
                    "schema": 1,
                    "daemon": self._daemon,
                    "state": beat.get("state") if self._daemon == "live" else "fault",
                    **{part: beat.get(part) for part in STATE_PARTS if part != "state"},
                    "last_sequence": beat.get("last_sequence"),
                    "utc_ns": beat.get("utc_ns"),
                    "lost_entries": self._lost_entries,
                }
            ),
        )

    def _is_due(self, name: str, parts: Any) -> bool:
        now_ns = self._now_ns()
        told_ns, before = self._last_told.get(name, (None, None))
        if told_ns is not None and before == parts and now_ns - told_ns < self._every_ns:
            return False
        self._last_told[name] = (now_ns, parts)
        return True

    def _retained(self, where: str, payload: bytes) -> Outgoing:
        return Outgoing(f"{self._base}/{where}", payload, retain=True)
