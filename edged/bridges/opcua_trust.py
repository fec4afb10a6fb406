"""Who may speak to the OPC UA server: its own certificate, the clients' certificates, users and what they may do.

Files in one folder: `own.pem` and `own.der` (made at the first start), `trusted/` (clients' certificates, DER or PEM,
one a file), `rejected/` (certificates that were refused; move one to `trusted/` to let it in), `users.toml`.

asyncua asks for a client's certificate only where the client sends one along when it creates its session, and lets
the policy None open channels that nobody configured. So every session is checked here once more, when it becomes
active, by the certificate that its secure channel has proven.
"""

import datetime
import hashlib
import socket
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.cert_gen import generate_private_key, generate_self_signed_app_certificate
from asyncua.crypto.permission_rules import USER_TYPES, User, UserRole
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from edged.bridges.daemon_link import BridgeError
from edged.bridges.passwords import is_password
from edged.bridges.private_file import read_private, write_private

__all__ = ["Rights", "Trust", "own_certificate"]

log = structlog.get_logger(__name__)

VALID_DAYS = 3650
"""A box in a plant is not visited to renew a certificate; revoking is removing it from the clients' trust lists."""

MAX_CERTIFICATES = 256
MAX_REJECTED = 32
MAX_CERTIFICATE_BYTES = 16 * 1024
RIGHTS = ("verdict", "control")
VERDICT, CONTROL = RIGHTS


def own_certificate(folder: Path, uri: str) -> tuple[Path, Path]:
    """Certificate (DER) and key (PEM, 0600) of the server; made where they are missing. Raises BridgeError."""
    certificate_file, key_file = folder / "own.der", folder / "own.pem"
    if not key_file.exists() or not certificate_file.exists():
        key = generate_private_key()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName(socket.gethostname())]
        certificate = generate_self_signed_app_certificate(
            key, "edged", {"organizationName": "edged"}, names, [ExtendedKeyUsageOID.SERVER_AUTH], days=VALID_DAYS
        )
        write_private(
            key_file,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        write_private(certificate_file, certificate.public_bytes(serialization.Encoding.DER))
        log.info("made a certificate", file=str(certificate_file), sha256=_digest_of(certificate))
    read_private(key_file)
    _must_name(certificate_file, uri)
    return certificate_file, key_file


def _must_name(file: Path, uri: str) -> None:
    """A client compares the certificate's name with the server's, and would refuse without a word that helps."""
    certificate = _parse(file.read_bytes())
    if certificate is None:
        raise BridgeError(f"{file}: no certificate; remove it and own.pem, and a new one is made")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise BridgeError(f"{file}: names no application URI; OPC UA needs {uri!r} in it") from None
    if uri not in (found := names.get_values_for_type(x509.UniformResourceIdentifier)):
        raise BridgeError(
            f"{file}: is for {found}, and bridges.opcua.application_uri says {uri!r}: correct that, "
            "or remove own.der and own.pem for a new certificate, which clients must then trust anew"
        )


class Trust:
    """asyncua's user manager and certificate validator in one; everything refused is logged and counted.

    Args:
        folder: see the module; `trusted/` and `rejected/` are made where they are missing.
        anonymous: whether a trusted certificate is enough to read.
        without_security: whether clients without a certificate may log in.
    """

    def __init__(self, folder: Path, *, anonymous: bool, without_security: bool) -> None:
        self._trusted, self._rejected, self._users = folder / "trusted", folder / "rejected", folder / "users.toml"
        self._anonymous, self._without_security = anonymous, without_security
        self.refused: Counter[str] = Counter()
        for made in (self._trusted, self._rejected):
            try:
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise BridgeError(f"{made}: cannot be made: {error.strerror}; check bridges.opcua.folder") from error
        self._read_users()  # a wrong file is told at the start

    async def validate(self, certificate: x509.Certificate, description: ua.ApplicationDescription) -> None:
        """asyncua's hook when a session is made: an answer that says what is wrong. `get_user` is what protects."""
        if (problem := self._problem(certificate)) is not None:
            self._refuse(problem, certificate, getattr(description, "ApplicationUri", None))
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    def get_user(
        self, iserver: Any, username: str | None = None, password: Any = None, certificate: bytes | None = None
    ) -> User | None:
        """asyncua's hook when a session becomes active; `certificate` is the secure channel's. None refuses."""
        found = _parse(certificate) if certificate else None
        if (problem := self._channel_problem(certificate, found)) is not None:
            self._refuse(problem, found, username)
            return None
        rights, problem = self._rights(username, password)
        if problem is not None:
            self._refuse(problem, None, username)
            return None
        return _user(username or "anonymous", rights)

    def _channel_problem(self, proven: bytes | None, certificate: x509.Certificate | None) -> str | None:
        if not proven:
            return None if self._without_security else "no_certificate"
        return "unreadable_certificate" if certificate is None else self._problem(certificate)

    def _rights(self, username: str | None, password: Any) -> tuple[tuple[str, ...], str | None]:
        """Rights, and what is in the way of having them."""
        if username is None:
            return (VERDICT,), None if self._anonymous else "no_user"
        try:
            rights = self._rights_of(username, password)
        except BridgeError as error:
            log.error("users", error=str(error))
            return (), "no_users"
        return ((), "wrong_user_or_password") if rights is None else (rights, None)

    def _problem(self, certificate: x509.Certificate) -> str | None:
        now = datetime.datetime.now(datetime.UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return "certificate_out_of_date"
        return None if _digest_of(certificate) in self._trusted_digests() else "untrusted_certificate"

    def _trusted_digests(self) -> set[str]:
        """Read at each login: who adds or removes a file need not restart anything."""
        found = set()
        for path in sorted(self._trusted.iterdir())[:MAX_CERTIFICATES]:
            with path.open("rb") as file:
                certificate = _parse(file.read(MAX_CERTIFICATE_BYTES))
            if certificate is None:
                log.warning("not a certificate", file=str(path))
            else:
                found.add(_digest_of(certificate))
        return found

    def _refuse(self, why: str, certificate: x509.Certificate | None, who: str | None) -> None:
        self.refused[why] += 1
        digest = None if certificate is None else _digest_of(certificate)
        name = None if certificate is None else certificate.subject.rfc4514_string()[:200]
        log.warning("refused", why=why, who=None if who is None else who[:200], certificate=name, sha256=digest)
        if why == "untrusted_certificate" and certificate is not None and digest is not None:
            self._keep_rejected(certificate, digest)

    def _keep_rejected(self, certificate: x509.Certificate, digest: str) -> None:
        """For the technician to move to `trusted/`; the oldest go, so that strangers cannot fill the disk."""
        path = self._rejected / f"{digest[:32]}.der"
        if not path.exists():
            path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
            oldest_first = sorted(self._rejected.iterdir(), key=lambda file: file.stat().st_mtime_ns)
            for old in oldest_first[:-MAX_REJECTED]:
                old.unlink()

    def _rights_of(self, username: str, password: Any) -> tuple[str, ...] | None:
        users = self._read_users()
        known = users.get(username)
        stored = None if known is None else known["password"]
        is_right = is_password(password if isinstance(password, str) else "", stored)
        return tuple(known["rights"]) if known is not None and is_right else None

    def _read_users(self) -> dict[str, dict[str, Any]]:
        if not self._users.exists():
            return {}
        try:
            users: dict[str, Any] = tomllib.loads(read_private(self._users).decode())
            for name, user in users.items():
                salt, _, digest = user["password"].partition("$")
                bytes.fromhex(salt), bytes.fromhex(digest)
                if not salt or not digest or not set(user["rights"]) <= set(RIGHTS):
                    raise ValueError(f"{name}: password must come from `edged opcua-user`, rights be of {RIGHTS}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BridgeError(f"{self._users}: {error}; make its lines with: edged opcua-user") from error
        return users


class Rights:
    """asyncua's permission rules: reading for everybody who is in, calling `Expect` for those with "control".

    Nothing can be written, added or deleted through OPC UA, whatever a node's attributes say.
    """

    _READ = frozenset(ua.NodeId(kind) for kind in USER_TYPES) - {
        ua.NodeId(ua.ObjectIds.WriteRequest_Encoding_DefaultBinary),
        ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary),
    }
    _CALL = ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary)

    def check_validity(self, user: User, action_type_id: ua.NodeId, body: Any) -> bool:
        """Whether this user may ask this service."""
        if action_type_id == self._CALL:
            return CONTROL in getattr(user, "rights", ())
        return action_type_id in self._READ


class _Client(User):
    """A user with edged's rights; asyncua's own roles give nothing beyond reading."""

    rights: tuple[str, ...] = ()


def _user(name: str, rights: tuple[str, ...]) -> User:
    user = _Client(role=UserRole.User, name=name)
    user.rights = rights
    return user


def _parse(content: bytes) -> x509.Certificate | None:
    """A certificate, DER or PEM; None for anything else."""
    try:
        is_pem = content.startswith(b"-----BEGIN")
        return x509.load_pem_x509_certificate(content) if is_pem else x509.load_der_x509_certificate(content)
    except ValueError:
        return None


def _digest_of(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
