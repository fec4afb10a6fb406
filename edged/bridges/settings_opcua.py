"""`[bridges.opcua]`: where the OPC UA server listens, who is trusted, and how many results it keeps.

Only pydantic is imported here: the daemon reads this section with the rest of the file, and loads no OPC UA library.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edged.bridges.settings_base import BridgeSection
from edged.bridges.settings_mqtt import is_loopback

__all__ = ["OpcuaConfig", "Policy"]

Policy = Literal[
    "Basic256Sha256_SignAndEncrypt", "Aes128Sha256RsaOaep_SignAndEncrypt", "Aes256Sha256RsaPss_SignAndEncrypt"
]


class OpcuaConfig(BridgeSection):
    """What the OPC UA bridge needs to know."""

    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    """Address of the network card toward the PLC."""
    port: Annotated[int, Field(ge=0, le=65535)] = 4840
    """0: any free one, for tests."""
    policies: Annotated[tuple[Policy, ...], Field(min_length=1)] = ("Basic256Sha256_SignAndEncrypt",)
    """What clients may choose; all of them sign and encrypt."""
    without_security: Literal["never", "on_loopback", "everywhere"] = "never"
    """Whether clients may also connect without certificates: not at all, from this machine, or from the network."""
    anonymous: bool = False
    """Whether a client with a trusted certificate may read without a user name; it may never call `Expect`."""
    folder: Path = Path("/var/lib/edged-bridge-opcua")
    """Own certificate and key, `trusted/` and `rejected/` certificates of clients, `users.toml`."""
    application_uri: Annotated[str, Field(pattern=r"^urn:[!-~]{1,200}$")] = "urn:edged:bridge"
    """Stands in the certificate; give each box its own before the first start."""
    history: Annotated[int, Field(ge=1, le=10_000)] = 500
    """How many of the last results can be read as history; after a restart they are read from the journal again."""
    max_connections: Annotated[int, Field(ge=1, le=256)] = 32
    expect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0

    @property
    def offers_no_security(self) -> bool:
        """Whether the policy None is there."""
        return self.without_security != "never"

    @model_validator(mode="after")
    def _words_for_no_security(self) -> Self:
        if self.without_security == "on_loopback" and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is not loopback: leave without_security out, or say "
                'without_security = "everywhere" if anybody on the network may read verdicts and passwords'
            )
        return self
