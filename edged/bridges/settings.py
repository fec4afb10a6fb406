"""`[bridges]`: which bridges there are, and how they reach the daemon. Only pydantic is imported here.

The daemon reads this section with the rest of the file and does nothing with it, so it is no part of `config_id`.
"""

from pydantic import BaseModel, ConfigDict

from edged.bridges.settings_modbus import ModbusConfig
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.settings_opcua import OpcuaConfig

__all__ = ["BridgesConfig"]


class BridgesConfig(BaseModel):
    """`[bridges]`. An endpoint that is not given is the daemon's own in `[net]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdicts: str | None = None
    journal: str | None = None
    control: str | None = None
    """A bridge runs as a user of its own and may not use the daemon's socket file: `expect` needs a tcp endpoint."""
    modbus: ModbusConfig | None = None
    mqtt: MqttConfig | None = None
    opcua: OpcuaConfig | None = None
