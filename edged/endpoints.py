"""Binding ZeroMQ sockets to places that only this machine, or only this user, can reach.

Publisher, control socket and worker link bind through here, so that the rules for socket files stand once.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import zmq

__all__ = ["EndpointError", "Protector", "bind", "close", "ipc_path", "keep_alive"]

IPC_PATH_BYTES = 107
"""sun_path of sockaddr_un(7), less the closing zero."""


HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000


class EndpointError(Exception):
    """An endpoint cannot be bound; names it and what to do."""


class Protector(Protocol):
    """Lets only those reach a socket who have a key with the right `domain`; asked before it is bound."""

    def protect(self, socket: Any, domain: str, /) -> object:
        """Set the socket up for it."""
        ...

    def release(self, socket: Any, /) -> object:
        """Forget the socket; asked before it is closed."""
        ...


def keep_alive(sock: "zmq.Socket[bytes]") -> None:
    """Without this a cable that is pulled leaves a half-open connection and a queue that fills for ever."""
    sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    sock.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)


def bind(sock: "zmq.Socket[bytes]", endpoint: str) -> str:
    """Bind and return the real endpoint (a port instead of `*`). Raises EndpointError.

    An ipc socket's file gets mode 0600 and its folder is made; a file that a dead process left is removed, one
    that somebody still listens on is an error.
    """
    path = ipc_path(endpoint)
    if path is not None:
        _prepare(path)
    try:
        with _private_files():
            sock.bind(endpoint)
    except zmq.ZMQError as error:
        raise EndpointError(f"{endpoint}: cannot be bound: {error.strerror}; is edged running already?") from error
    bound: bytes = sock.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
    return bound.rstrip(b"\0").decode()


def close(sock: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Close a bound socket (its LINGER applies) and remove its socket file."""
    sock.close()
    if (path := ipc_path(endpoint)) is not None:
        path.unlink(missing_ok=True)


def ipc_path(endpoint: str) -> Path | None:
    """The socket file of an ipc endpoint, None for tcp. Raises EndpointError for one that cannot be protected."""
    scheme, _, rest = endpoint.partition("://")
    if scheme != "ipc":
        return None
    if not rest.startswith("/"):
        raise EndpointError(f"{endpoint}: an absolute path is needed; abstract and relative ones have no file mode")
    if len(os.fsencode(rest)) > IPC_PATH_BYTES:
        raise EndpointError(f"{endpoint}: longer than the {IPC_PATH_BYTES} bytes that socket files may have")
    return Path(rest)


def _prepare(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() or path.is_symlink():
            if not path.is_socket():
                raise EndpointError(f"ipc://{path}: there is a file that is no socket; move it away")
            if _somebody_listens(path):
                raise EndpointError(f"ipc://{path}: another process listens there; is edged running already?")
            path.unlink()
    except OSError as error:
        raise EndpointError(f"ipc://{path}: {error.strerror}; check cell.data_dir and its owner") from error


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    """Files made inside are 0600 from the first instant, not only after a chmod."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
