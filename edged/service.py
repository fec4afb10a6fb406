"""Telling systemd how the daemon is: readiness, the watchdog, a line of status (sd_notify(3)).

A ping says that the engine took a turn, the journal could be read and the publisher has sent; it never says that a
device is there. Outside systemd there is no NOTIFY_SOCKET, and nothing is sent.
"""

import os
import socket
from collections.abc import Mapping
from typing import Self

__all__ = ["ServiceNotifier"]


class ServiceNotifier:
    """Sends datagrams to the service manager.

    Args:
        address: NOTIFY_SOCKET: a path, or a name in the abstract namespace that starts with `@`; None sends nothing.
    """

    def __init__(self, address: str | None) -> None:
        self._address = None if address is None else "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """As systemd asks for it; the one thing that edged reads from its environment."""
        return cls(environment.get("NOTIFY_SOCKET") or None)

    def ready(self) -> None:
        """Devices may be missing, but requests are answered and seams judged."""
        self._send("READY=1")

    def watchdog(self, status: str) -> None:
        """The data path has made progress; `status` is one line for `systemctl status`."""
        self._send(f"WATCHDOG=1\nSTATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """The daemon has begun to end."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Nothing more to say."""
        self._socket.close()

    def _send(self, message: str) -> None:
        """Raises OSError when a manager gave us a socket that nobody reads; then it will not help us either."""
        if self._address is not None:
            self._socket.sendto(message.encode(), self._address)
