"""Passwords as they are kept: salt and scrypt, so that a copied file gives none away."""

import hashlib
import hmac
import os

__all__ = ["hash_password", "is_password"]

SALT_BYTES, HASH_BYTES = 16, 32
COST, BLOCK, LANES = 2**14, 8, 1
"""RFC 7914's interactive parameters: some 50 ms and 16 MiB a login."""


def hash_password(password: str, salt: bytes | None = None) -> str:
    """`SALT$SCRYPT`, hex."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    made = hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=LANES, dklen=HASH_BYTES)
    return f"{salt.hex()}${made.hex()}"


def is_password(given: str, stored: str | None) -> bool:
    """Whether it is the one that was stored; who is not known (None) waits as long for the answer."""
    salt, _, _ = (stored or hash_password("", b"\0" * SALT_BYTES)).partition("$")
    right = hmac.compare_digest(hash_password(given, bytes.fromhex(salt)), stored or "")
    return right and stored is not None
