"""`[bridges.modbus]`: where the Modbus server listens, who may connect, and how much it holds back."""

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from edged.bridges.settings_base import BridgeSection

__all__ = ["ModbusConfig"]


class ModbusConfig(BridgeSection):
    """What the Modbus TCP bridge needs to know."""

    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    """Address of the network card toward the PLC. Modbus knows no keys: give it a network of its own."""
    port: Annotated[int, Field(ge=0, le=65535)] = 5020
    """502 is Modbus' own; the service unit allows it. 0: any free one, for tests."""
    allow: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] = ("127.0.0.1", "::1")
    """Addresses ("192.168.10.5") and networks ("192.168.10.0/29") that may connect; all others are refused."""
    max_connections: Annotated[int, Field(ge=1, le=64)] = 8
    idle_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """A connection without a request for this long is closed."""
    queue: Annotated[int, Field(ge=1, le=1000)] = 64
    """Results that wait behind the one shown; one more is a Fault, and then they wait in the daemon's journal."""
    parts: bool = True
    """Whether verdicts of whole parts are shown too."""
    expect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    state_file: Path = Path("/var/lib/edged-bridge-modbus/state.json")
    """What the PLC has acknowledged, so that a restart neither loses nor repeats a result in silence."""

    @field_validator("allow")
    @classmethod
    def _networks(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        for item in allow:
            try:
                ipaddress.ip_network(item)
            except ValueError as error:
                raise ValueError(f'{item!r}: {error}; give addresses or networks, as "192.168.10.0/29"') from error
        return allow
