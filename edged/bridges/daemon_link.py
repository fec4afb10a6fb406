"""How a bridge reaches the daemon: endpoints and keys of the configuration, the client and control made of them."""

import dataclasses
from typing import Any, Protocol, Self

from edged.bridges.settings_base import BridgeSection
from edged.client import AsyncClient, Control, Keys, Position, journal_endpoint
from edged.config import Config
from edged.service import ServiceNotifier

__all__ = ["Bridge", "BridgeError", "DaemonLink", "keep", "reachable"]

ANYWHERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Hosts that a server binds and nobody can connect to → the same machine's loopback."""


class BridgeError(Exception):
    """A bridge cannot start or go on; names what is in its way and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class DaemonLink:
    """Where the daemon of a cell is, and the keys to it."""

    cell: str
    verdicts: str
    journal: str
    control: str
    keys: Keys | None = None

    @classmethod
    def of(cls, config: Config, section: BridgeSection) -> Self:
        """Out of `[bridges]`, else `[net]`. Raises BridgeError for an endpoint without a port, KeysError."""
        bridges = config.bridges
        assert bridges is not None
        keys = None if section.keys is None else Keys.read(section.keys)
        # Beside a daemon that is not the configured one the configured journal would be the wrong one.
        derived = config.net.journal_endpoint if bridges.verdicts is None else journal_endpoint(bridges.verdicts)
        return cls(
            cell=config.cell.name,
            verdicts=reachable("verdicts", bridges.verdicts or config.net.verdicts),
            journal=reachable("journal", bridges.journal or derived),
            control=reachable("control", bridges.control or config.control_endpoint),
            keys=keys,
        )

    def client(self, section: BridgeSection, start: Position | None, **options: Any) -> AsyncClient:
        """A client that goes on after `start`, or begins where the section says when there is none."""
        return AsyncClient(
            self.verdicts,
            journal=self.journal,
            keys=self.keys,
            programs=section.programs,
            start=start or section.start,
            stale_after_s=section.stale_after_s,
            acknowledge_as=section.acknowledge_as,
            **options,
        )

    def control_socket(self, timeout_s: float) -> Control:
        """For `expect`; blocks while it waits, so ask it in a thread."""
        return Control(self.control, self.keys, timeout_s)


def reachable(name: str, endpoint: str) -> str:
    """An endpoint to connect to, of one to bind. Raises BridgeError where its port is known only when it is bound."""
    scheme, _, rest = endpoint.partition("://")
    if scheme != "tcp":
        return endpoint
    host, _, port = rest.rpartition(":")
    if not port.isdigit():
        raise BridgeError(f"{name}: {endpoint!r} has no fixed port; give net.{name} or bridges.{name} one")
    return f"{scheme}://{ANYWHERE.get(host, host)}:{port}"


class Bridge(Protocol):
    """A server toward PLCs that follows a daemon."""

    async def start(self) -> None:
        """Listen. Raises BridgeError."""
        ...

    async def run(self, notifier: ServiceNotifier) -> None:
        """Follow the daemon until cancelled."""
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...


async def keep(bridge: Bridge, notifier: ServiceNotifier) -> None:
    """Start a bridge, say that it is ready, run it until cancelled and close it. Raises BridgeError."""
    await bridge.start()
    notifier.ready()
    try:
        await bridge.run(notifier)
    finally:
        await bridge.close()
