"""Secrets on disk: files that only their owner may read, or they are refused."""

import os
import stat
from pathlib import Path

from edged.bridges.daemon_link import BridgeError

__all__ = ["read_private", "write_private"]

MAX_SECRET_BYTES = 64 * 1024


def read_private(path: Path) -> bytes:
    """A secret's bytes. Raises BridgeError where others may read it, or it cannot be read."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise BridgeError(f"{path}: mode {mode:04o} lets others read a secret: chmod 600 {path}")
            return file.read(MAX_SECRET_BYTES)
    except OSError as error:
        raise BridgeError(f"{path}: cannot be read: {error.strerror}; check the path and its owner") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a secret, 0600 from its first instant, old or new after a power cut. Raises BridgeError."""
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise BridgeError(f"{path}: cannot be written: {error.strerror}; check owner and room there") from error
