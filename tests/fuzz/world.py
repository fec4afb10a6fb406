"""What is attacked: two real daemons (one wants keys) and the bridges, each a process of its own on loopback."""

import contextlib
import datetime
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil
import tomli_w

from edged.client import Client, Control, Keys, journal_endpoint
from edged.keys import KeyStore, write_private
from edged.plcsim.places import free_endpoint
from tests.support.running import cell_config, write_weld

__all__ = ["WITNESS", "Broker", "World"]

CALLED = {"plain": "daemon", "keys": "daemon with keys", "alone": "daemon left alone"}
WITNESS = CALLED["alone"]
"""Nobody attacks it: what it grows by, with a seam and its ring of data filling, is not the attacks' doing."""

PATIENCE_S = 90.0
TAKES_S = 0.2
CONNACK = b"\x20\x02\x00\x00"
MAX_PACKET_BYTES = 64 * 1024


class World:
    """A context manager; `processes` are what must neither end nor grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, psutil.Process] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self.ports: dict[str, int] = {}
        self.endpoints: dict[str, str] = {}
        self.broker = Broker()
        self.keys: Keys | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what was started."""
        for child in self._children:
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            child.kill()
            child.wait()
        self.broker.close()

    def rss_mb(self) -> dict[str, float]:
        """Resident memory of each. Raises AssertionError naming one that has ended, with its last words."""
        found = {}
        for name, process in self.processes.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                raise AssertionError(f"{name} has ended: {self._log(name).read_text(errors='replace')[-2000:]}")
            found[name] = round(process.memory_info().rss / 1e6, 1)
        return found

    def check(self) -> None:
        """Everybody still does its work. Raises AssertionError, TimeoutError or OSError where not."""
        for name in ("daemon", "daemon with keys"):
            keys = self.keys if name == "daemon with keys" else None
            with Client(self.endpoints[f"{name} verdicts"], keys=keys) as client:
                wait_until(lambda c=client: c.receive(0.1) is None and c.state == "live", f"{name} is followed")
            with Control(self.endpoints[f"{name} control"], keys, PATIENCE_S) as control:
                assert control.ping()["ok"] is True
        for name in ("modbus", "opcua"):
            with socket.create_connection(("127.0.0.1", self.ports[name]), PATIENCE_S) as peer:
                peer.settimeout(PATIENCE_S)
                peer.sendall(HELLO[name])
                assert peer.recv(4).startswith(ANSWERS[name]), f"{name} does not answer as it should"
        seen = self.broker.connections
        wait_until(lambda: self.broker.connections > seen, "the MQTT bridge comes back to its broker")

    def counters(self) -> dict[str, dict[str, int]]:
        """What the daemons count of it, by health."""
        found = {}
        for name, keys in (("daemon", None), ("daemon with keys", self.keys)):
            with Control(self.endpoints[f"{name} control"], keys, PATIENCE_S) as control:
                found[name] = dict(control.ask("status")["health"]["net"])
        return found

    def _start(self) -> None:
        plain, guarded, alone = (self._config("plain"), self._config("keys", security="curve"), self._config("alone"))
        store = KeyStore(self.folder / "keys" / "data" / "keys")
        bundle = store.add("fuzz", ("verdict", "control"), datetime.datetime.now(datetime.UTC))
        write_private(self.folder / "fuzz.toml", bundle.model_dump())
        self.keys = Keys.read(self.folder / "fuzz.toml")
        self._run("daemon", "run", "--config", str(plain))
        self._run("daemon with keys", "run", "--config", str(guarded))
        self._run(WITNESS, "run", "--config", str(alone))
        for kind in ("modbus", "opcua", "mqtt"):
            self._run(kind, "bridge", kind, "--config", str(plain))
        for name in ("modbus", "opcua"):
            wait_until(lambda n=name: is_listening(self.ports[n]), f"{name} listens")
        self.check()

    def _config(self, name: str, **net: Any) -> Path:
        folder = self.folder / name
        folder.mkdir()
        write_weld(folder / "weld.csv", 1.0, (1.0,), 7200.0)
        path = cell_config(folder, folder / "weld.csv")
        raw = tomllib.loads(path.read_text())
        verdicts, control = free_endpoint(), free_endpoint()
        raw["net"] = {"verdicts": verdicts, "control": control, **net}
        self.ports["modbus"], self.ports["opcua"] = (port_of(free_endpoint()) for _ in range(2))
        if name == "plain":
            state = {kind: str(folder / f"{kind}.json") for kind in ("modbus", "mqtt")}
            raw["bridges"] = {
                "modbus": {"port": self.ports["modbus"], "state_file": state["modbus"]},
                "opcua": {
                    "port": self.ports["opcua"],
                    "folder": str(folder / "opcua"),
                    "without_security": "on_loopback",
                    "anonymous": True,
                },
                "mqtt": {
                    "host": "127.0.0.1",
                    "port": self.broker.port,
                    "without_tls": "on_loopback",
                    "sparkplug_group": "cells",
                    "state_file": state["mqtt"],
                },
            }
            self._bridge_ports = dict(self.ports)
        self.ports = {**self.ports, **getattr(self, "_bridge_ports", {})}
        called = CALLED[name]
        where = {"verdicts": verdicts, "journal": journal_endpoint(verdicts), "control": control}
        for which, endpoint in where.items():
            self.endpoints[f"{called} {which}"] = endpoint
            self.ports[f"{called} {which}"] = port_of(endpoint)
        path.write_text(tomli_w.dumps(raw))
        return path

    def _run(self, name: str, *arguments: str) -> None:
        with self._log(name).open("wb") as log:
            command = [sys.executable, "-m", "edged.cli", *arguments]
            child = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        self._children.append(child)
        self.processes[name] = psutil.Process(child.pid)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name.replace(' ', '-')}.log"


class Broker:
    """What an MQTT bridge connects to: it says yes, then whatever it was given to say, and hangs up."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.connections = 0
        self.say: list[bytes] = []
        """Taken by the next connection."""
        self._thread = threading.Thread(target=self._serve, name="broker", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5.0)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(TAKES_S)
                peer.recv(MAX_PACKET_BYTES)
                peer.sendall(CONNACK)
                self.connections += 1
                said, self.say = self.say, []
                for packet in said:
                    peer.sendall(packet)
                    peer.recv(MAX_PACKET_BYTES)


HELLO = {
    # Read input register 0 of unit 1; and OPC UA's hello with the smallest buffers that it allows.
    "modbus": b"\x00\x01\x00\x00\x00\x06\x01\x04\x00\x00\x00\x01",
    "opcua": b"HELF\x20\x00\x00\x00" + b"\x00" * 4 + b"\x00\x20\x00\x00" * 2 + b"\x00" * 8 + b"\xff\xff\xff\xff",
}
ANSWERS = {"modbus": b"\x00\x01\x00\x00", "opcua": b"ACKF"}


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    """Raises TimeoutError saying what did not come."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end_s:
            raise TimeoutError(f"it did not come within {PATIENCE_S:g} s that {what}")
        time.sleep(0.02)


def is_listening(port: int) -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def port_of(endpoint: str) -> int:
    """Of tcp://HOST:PORT."""
    return int(endpoint.rpartition(":")[2])
