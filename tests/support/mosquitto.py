"""A real MQTT broker and its own command line client, in processes of their own."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

__all__ = ["Broker", "free_port", "needs_mosquitto", "subscribed"]

BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LISTENER = shutil.which("mosquitto_sub")

needs_mosquitto = pytest.mark.skipif(
    BROKER is None or LISTENER is None, reason="needs mosquitto: apt-get install mosquitto mosquitto-clients"
)

PATIENCE_S = 15.0


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """mosquitto on a loopback port; `stop` keeps its sessions and retained messages, `start` brings them back."""

    def __init__(self, folder: Path, *lines: str, anonymous: bool = True) -> None:
        self.port = free_port()
        folder.chmod(0o777)  # as root, mosquitto becomes a user of its own
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            "\n".join(
                [
                    f"allow_anonymous {str(anonymous).lower()}",
                    "persistence true",
                    f"persistence_location {folder}/",
                    "max_queued_messages 0",
                    "user root",
                    f"listener {self.port} 127.0.0.1",
                    *lines,
                    "",
                ]
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it listens."""
        assert BROKER is not None
        self._process = subprocess.Popen(
            [BROKER, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < end_s, "mosquitto did not come up"
            assert self._process.poll() is None, "mosquitto ended"

    def stop(self) -> None:
        """SIGTERM: it writes its sessions down."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()


class Listening:
    """What mosquitto_sub prints, a line a message: topic, 1 if retained, payload in hex."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.messages: list[tuple[str, bool, bytes]] = []

    def next(self) -> tuple[str, bool, bytes]:
        """The next message; fails when mosquitto_sub ends first (its -W is the patience)."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"no further message; so far {[topic for topic, _, _ in self.messages]}"
        topic, retained, payload = line.rstrip("\n").rsplit(" ", 2)
        self.messages.append((topic, retained == "1", bytes.fromhex(payload)))
        return self.messages[-1]

    def until(self, topic: str, payload: bytes | None = None) -> bytes:
        """Messages up to one of this topic (and payload); returns its payload."""
        while True:
            found, _, said = self.next()
            if found == topic and payload in (None, said):
                return said


@contextlib.contextmanager
def subscribed(broker: Broker, pattern: str, *options: str) -> Iterator[Listening]:
    """mosquitto_sub; it subscribes a moment after this is entered."""
    assert LISTENER is not None
    command = [
        LISTENER,
        "-h",
        "127.0.0.1",
        "-p",
        str(broker.port),
        "-t",
        pattern,
        "-q",
        "1",
        "-W",
        str(int(PATIENCE_S)),
    ]
    with subprocess.Popen([*command, "-F", "%t %r %x", *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Listening(process)
        finally:
            process.kill()
