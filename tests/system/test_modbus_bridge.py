"""Daemon and Modbus bridge as processes, and a PLC that speaks Modbus alone."""

import asyncio
import contextlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import tomli_w

from edged.bench.modbus_latency import modbus_latency_ms
from tests.support.in_loop import in_loop
from tests.support.modbus_plc import Plc
from tests.support.running import PATIENCE_S, cell_config, running_daemon, wait_for_status, write_weld
from tests.support.source import Source, free_endpoint
from tests.support.verdicts import a_verdict

MEMORY_MIB = 160
VALID_AND_OK = 0b11000
FAULT_AND_TRIGGER = 0b1000010


@pytest.fixture
def folder() -> Iterator[Path]:
    """Socket paths must be short, pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="edged-") as path:
        yield Path(path)


@contextlib.contextmanager
def _bridge(config: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "edged.cli", "bridge", "modbus", "--config", str(config)]
    with (config.parent / "bridge.log").open("ab") as log, subprocess.Popen(command, stderr=log) as child:
        try:
            yield child
        finally:
            child.kill()


def _with_bridge(config: Path) -> int:
    """Add the section; the port."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    raw = tomllib.loads(config.read_text())
    raw["bridges"] = {"modbus": {"port": port, "state_file": str(config.parent / "state.json")}}
    config.write_text(tomli_w.dumps(raw))
    return port


async def _listening(config: Path, port: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)
    raise AssertionError((config.parent / "bridge.log").read_text())


@in_loop
async def test_a_plc_announces_a_seam_gets_its_verdict_and_loses_nothing_to_kill_9(folder: Path) -> None:
    write_weld(folder / "weld.csv", 8.0, (1.0,), 2.0)
    config = cell_config(folder, folder / "weld.csv")
    port = _with_bridge(config)
    with running_daemon(config) as daemon:
        await asyncio.to_thread(wait_for_status, config)
        with _bridge(config) as bridge:
            await _listening(config, port)
            async with Plc(port) as plc:
                await plc.until(lambda found: found["status"] & 1)
                answer = await plc.command(0, program="T1", part_id="P-1", seam_ref="a")
                assert answer["answer"] == 1, answer["answer_text"]
                refused = await plc.command(1, view="top", seam_ref="a")
                assert refused["answer"] == 2
                assert refused["answer_text"] == "no open seam 'a'"
                assert (await plc.command(7))["answer"] == 5
                async with asyncio.timeout(PATIENCE_S):
                    while (shown := await plc.read())["status"] & VALID_AND_OK != VALID_AND_OK:
                        await asyncio.sleep(0.05)
                assert (shown["seam_id"], shown["part_id"], shown["label"]) == (answer["answer_seam_id"], "P-1", 1)
                assert (shown["mode"], shown["program"]) == (3, "T1")
            memory = psutil.Process(bridge.pid).memory_info().rss / 2**20
            assert memory < MEMORY_MIB, f"{memory:.0f} MiB"
            bridge.kill()
            bridge.wait()
        with _bridge(config) as bridge:
            await _listening(config, port)
            async with Plc(port) as plc:
                again = await plc.until(lambda found: found["status"] & 8)
                assert (again["sequence"], again["seam_id"]) == (shown["sequence"], shown["seam_id"])
                assert plc.control == 1  # Trigger as it was left
                await plc.acknowledge()
                daemon.kill()
                gone = await plc.until(lambda found: found["faults"] & 1)
                assert (gone["status"], gone["label"], gone["sequence"]) == (FAULT_AND_TRIGGER, 0, 0)
            bridge.send_signal(signal.SIGTERM)
            assert bridge.wait(PATIENCE_S) == 0


def test_publish_to_register_is_measured(tmp_path: Path) -> None:
    with Source(tmp_path / "journal.db", free_endpoint()) as source:
        told: list[tuple[int, int]] = []

        def publish() -> tuple[int, int]:
            def now() -> None:
                entry = source.db.append(a_verdict(f"S{time.monotonic_ns()}"))
                told.append((entry.sequence, time.monotonic_ns()))
                source.publisher.publish(entry)

            source._call(now)
            return told[-1]

        found_ms = modbus_latency_ms(publish, source.verdicts, count=20, pause_s=0.0)
    assert len(found_ms) == 20
    assert 0 < statistics.median(found_ms) < 100
