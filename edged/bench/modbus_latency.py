"""From publish to the register: a real bridge in a process of its own, and a PLC that reads as fast as it can.

What is measured is an upper bound: it ends when the PLC *has* the registers, so half a reading cycle and the answer's
way back are in it. `edged bench delivery` calls it with its own daemon.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from edged.bridges.modbus_map import CONTROL_BITS, HOLDING, INPUT, RESULT_COUNT, get

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient

__all__ = ["modbus_latency_ms"]

PATIENCE_S = 30.0
READY = 1


def modbus_latency_ms(
    publish: Callable[[], tuple[int, int]],
    verdicts: str,
    journal: str | None = None,
    *,
    count: int = 200,
    pause_s: float = 0.02,
    keys: Path | None = None,
) -> list[float]:
    """Milliseconds from each of `count` publications to its being read from the registers.

    Args:
        publish: publishes the next verdict; its sequence and the `time.monotonic_ns` just before.
        verdicts: where the daemon publishes; it must serve its sockets and send heartbeats all the while.
        journal: None: derived from `verdicts`.
        pause_s: between an acknowledged result and the next publication.
        keys: the bridge's bundle, where the daemon wants keys.
    Raises RuntimeError where the bridge ends, TimeoutError where a verdict never arrives.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        config = Path(folder) / "bridge.toml"
        config.write_text(tomli_w.dumps(_config(Path(folder), port, verdicts, journal, keys)), encoding="utf-8")
        command = [sys.executable, "-m", "edged.cli", "bridge", "modbus", "--config", str(config)]
        with (Path(folder) / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as bridge:
            try:
                asyncio.run(_listening(port, bridge, Path(log.name)))
                return asyncio.run(_measure(publish, port, count, pause_s))
            finally:
                bridge.send_signal(signal.SIGTERM)


def _config(
    folder: Path, port: int, verdicts: str, journal: str | None, keys: Path | None
) -> dict[str, dict[str, object]]:
    section: dict[str, object] = {"port": port, "start": "now", "state_file": str(folder / "state.json")}
    if keys is not None:
        section["keys"] = str(keys)
    bridges: dict[str, object] = {"verdicts": verdicts, "modbus": section}
    if journal is not None:
        bridges["journal"] = journal
    welder = {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/null"}}  # a cell has one
    return {"cell": {"data_dir": str(folder)}, "streams": {"welder": welder}, "bridges": bridges}


async def _listening(port: int, bridge: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for the bridge's port."""
    async with asyncio.timeout(PATIENCE_S):
        while bridge.poll() is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the bridge ended: {log.read_text(encoding='utf-8', errors='replace')[-500:]}")


async def _measure(publish: Callable[[], tuple[int, int]], port: int, count: int, pause_s: float) -> list[float]:
    from pymodbus.client import AsyncModbusTcpClient

    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=3, retries=0, reconnect_delay=0)
    found = []
    async with asyncio.timeout(PATIENCE_S):
        await client.connect()
        while not (await _read(client))[INPUT["status"].address] & READY:
            await asyncio.sleep(0.01)
    try:
        control = 0
        for _ in range(count):
            sequence, published_ns = publish()
            async with asyncio.timeout(PATIENCE_S):
                while get(await _read(client), INPUT["sequence"]) != sequence:
                    pass
            found.append((time.monotonic_ns() - published_ns) / 1e6)
            control ^= 1 << CONTROL_BITS["result_ack"]
            await client.write_register(HOLDING["control"].address, control)
            await asyncio.sleep(pause_s)
    finally:
        client.close()
    return found


async def _read(client: "AsyncModbusTcpClient") -> list[int]:
    answer = await client.read_input_registers(0, count=RESULT_COUNT)
    if answer.isError():
        raise TimeoutError(f"the bridge does not give its registers: {answer}")
    return list(answer.registers)


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
