"""Publish → Modbus register visible, ms: real publisher and bridge in processes, a PLC that reads as fast as it can.

Beside it what of that is the PLC's own round trip: a read of the same 123 registers while nothing happens. Run:
`python tests/bench/bench_modbus.py`.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from pymodbus.client import AsyncModbusTcpClient
from rich.console import Console
from rich.table import Table

from edged.bench.modbus_latency import modbus_latency_ms
from edged.bridges.modbus_map import RESULT_COUNT
from tests.support.modbus_plc import a_bridge, link_to
from tests.support.source import Source, free_endpoint
from tests.support.verdicts import a_verdict

COUNT = 500


def main() -> None:
    """Print p50 and p99."""
    with tempfile.TemporaryDirectory() as folder, Source(Path(folder) / "journal.db", free_endpoint()) as source:
        latency_ms = modbus_latency_ms(lambda: _publish(source), source.verdicts, count=COUNT)
        round_trip_ms = asyncio.run(_round_trip_ms(source.verdicts, Path(folder)))
    table = Table("what", "n", "p50 ms", "p99 ms")
    for what, found in (("publish → register read", latency_ms), ("one read of 123 registers", round_trip_ms)):
        p99 = statistics.quantiles(found, n=100)[98]
        table.add_row(what, str(len(found)), f"{statistics.median(found):.2f}", f"{p99:.2f}")
    Console().print(table)


def _publish(source: Source) -> tuple[int, int]:
    told = []

    def now() -> None:
        entry = source.db.append(a_verdict(f"S{time.monotonic_ns()}"))
        told.append((entry.sequence, time.monotonic_ns()))
        source.publisher.publish(entry)

    source._call(now)
    return told[0]


async def _round_trip_ms(verdicts: str, folder: Path) -> list[float]:
    """Server and client share a process here, so it is the upper end of a round trip."""
    found = []
    async with a_bridge(link_to(verdicts), folder) as bridge:
        client = AsyncModbusTcpClient("127.0.0.1", port=bridge.server.port)
        await client.connect()
        for _ in range(COUNT):
            began = time.perf_counter()
            answer = await client.read_input_registers(0, count=RESULT_COUNT)
            assert len(answer.registers) == RESULT_COUNT
            found.append((time.perf_counter() - began) * 1e3)
        client.close()
    return found


if __name__ == "__main__":
    main()
