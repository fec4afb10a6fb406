"""Notification over a real datagram socket that checks the sender as systemd does."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.service import ServiceNotifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@edged-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.bind(address.replace("@", "\0"))
        sock.settimeout(10)
        yield address, sock


def _receive(sock: socket.socket) -> tuple[str, int]:
    data, ancillary, _, _ = sock.recvmsg(4096, socket.CMSG_SPACE(12))
    ((_, kind, credentials),) = ancillary
    assert kind == socket.SCM_CREDENTIALS
    return data.decode(), struct.unpack("3i", credentials)[0]


def test_messages_arrive_from_this_process(manager: tuple[str, socket.socket]) -> None:
    address, sock = manager
    notifier = ServiceNotifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.watchdog("3 seams\nREADY=0")
    notifier.stopping()
    notifier.close()
    expected = ["READY=1", "WATCHDOG=1\nSTATUS=3 seams READY=0", "STOPPING=1"]
    assert [_receive(sock) for _ in expected] == [(text, os.getpid()) for text in expected]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_systemd_nothing_is_sent(environment: dict[str, str]) -> None:
    notifier = ServiceNotifier.from_environment(environment)
    notifier.ready()
    notifier.close()


def test_a_dead_manager_is_an_error(tmp_path: Path) -> None:
    notifier = ServiceNotifier(str(tmp_path / "nobody"))
    with pytest.raises(OSError, match="No such file"):
        notifier.ready()
    notifier.close()
