"""OPC UA clients as PLCs are: a certificate of their own, a user name, and asyncua's client to speak with."""

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.cert_gen import generate_private_key, generate_self_signed_app_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

__all__ = ["Identity", "make_identity", "secure_client"]

logging.getLogger("asyncua.client").setLevel(logging.ERROR)


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """A client's certificate (DER) and key (PEM)."""

    uri: str
    certificate: Path
    key: Path


def make_identity(folder: Path, name: str, days: int = 30) -> Identity:
    """A self-signed client."""
    key = generate_private_key()
    uri = f"urn:test:{name}"
    certificate = generate_self_signed_app_certificate(
        key, name, {}, [x509.UniformResourceIdentifier(uri)], [ExtendedKeyUsageOID.CLIENT_AUTH], days=days
    )
    made = Identity(uri, folder / f"{name}.der", folder / f"{name}.key.pem")
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


async def secure_client(
    url: str, identity: Identity, server_certificate: Path, user: tuple[str, str] | None = None, **options: Any
) -> Client:
    """A client that signs and encrypts; not connected yet."""
    client = Client(url, timeout=5, **options)
    client.application_uri = identity.uri
    client.session_timeout = 60_000
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        str(identity.certificate),
        str(identity.key),
        server_certificate=str(server_certificate),
        mode=ua.MessageSecurityMode.SignAndEncrypt,
    )
    if user is not None:
        client.set_user(user[0])
        client.set_password(user[1])
    return client


class Events:
    """A subscription's handler that keeps what comes."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        self.queue.put_nowait(event)

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        self.queue.put_nowait(data.monitored_item.Value)

    def status_change_notification(self, status: Any) -> None:
        self.queue.put_nowait(status)
