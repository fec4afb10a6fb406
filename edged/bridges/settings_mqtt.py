"""`[bridges.mqtt]`: which broker, under which topics, and where the bridge remembers how far it has come.

Only pydantic is imported here: the daemon reads this section with the rest of the file, and loads no MQTT library.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edged.bridges.settings_base import BridgeSection

__all__ = ["MqttConfig", "is_loopback"]

DEFAULT_TLS_PORT = 8883
DEFAULT_PLAIN_PORT = 1883

TopicLevel = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/+#\x00]+$")]
"""One level of an MQTT topic; Sparkplug's group and node are one each."""

WithoutTls = Literal["never", "on_loopback", "everywhere"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can listen in; names are not looked up, a name server may change its mind."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class MqttConfig(BridgeSection):
    """What the MQTT bridge needs to know.

    Verdicts go out as JSON under `PREFIX/CELL/`, and as Sparkplug B where `sparkplug_group` is given.
    """

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None: 8883 with TLS, 1883 without."""
    without_tls: WithoutTls = "never"
    """Whether verdicts may travel in clear text: not at all, to a broker on this machine, or to any broker."""
    ca_file: Path | None = None
    """Whom the broker's certificate must come from, PEM; None: the machine's certificate authorities."""
    cert_file: Path | None = None
    """This bridge's own certificate, PEM, where the broker asks for one."""
    key_file: Path | None = None
    """Its key, PEM, mode 0600."""
    credentials_file: Path | None = None
    """TOML with `username` and `password`, mode 0600."""
    client_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """None: `edged-CELL`. Two clients of one id throw each other out."""
    prefix: TopicLevel = "edged"
    sparkplug_group: TopicLevel | None = None
    """Sparkplug's group; None: no Sparkplug."""
    sparkplug_node: TopicLevel = "edged"
    """Sparkplug's edge node; the cell is the device below it."""
    keepalive_s: Annotated[int, Field(ge=5, le=600)] = 15
    state_every_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """State and health are told at once when they change, and this often in any case."""
    state_file: Path = Path("/var/lib/edged-bridge-mqtt/state.json")
    """How far the broker has confirmed; Sparkplug's session number lies beside it, in `sparkplug-…`."""

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.without_tls == "never"

    @property
    def broker_port(self) -> int:
        """Where the broker listens."""
        return self.port or (DEFAULT_TLS_PORT if self.uses_tls else DEFAULT_PLAIN_PORT)

    @model_validator(mode="after")
    def _words_for_clear_text(self) -> Self:
        if self.without_tls == "on_loopback" and not is_loopback(self.host):
            raise ValueError(
                f'host {self.host!r} is not this machine: give the broker TLS, or say without_tls = "everywhere" '
                "if anybody on the network may read and forge verdicts"
            )
        if not self.uses_tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError(
                f'without_tls = "{self.without_tls}" and a certificate contradict each other: remove one of them'
            )
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together: give both or none")
        return self
