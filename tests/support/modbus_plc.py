"""What a PLC does on Modbus, with pymodbus' own client; and the bridge it speaks to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pymodbus.client import AsyncModbusTcpClient

from edged.bridges.daemon_link import DaemonLink
from edged.bridges.modbus import ModbusBridge
from edged.bridges.modbus_codes import STATUS
from edged.bridges.modbus_map import CONTROL_BITS, HOLDING, INPUT, INPUT_COUNT, RESULT_COUNT, get, get_text, put
from edged.bridges.settings_modbus import ModbusConfig
from edged.client import journal_endpoint
from edged.service import ServiceNotifier

__all__ = ["Plc", "a_bridge", "link_to", "values"]

PATIENCE_S = 60.0
NEVER_STALE_S = 60.0
"""On a machine that is busy for seconds a link is stale at times, rightly; a test that does not ask for it waits."""


def link_to(verdicts: str, control: str = "ipc:///nowhere/control.sock") -> DaemonLink:
    """The way to a daemon on loopback without keys."""
    return DaemonLink("cell", verdicts, journal_endpoint(verdicts), control)


def values(registers: list[int]) -> dict[str, Any]:
    """Every field of input registers that is wholly there."""
    there = [field for field in INPUT.values() if field.address + field.count <= len(registers)]
    return {
        field.name: get_text(registers, field) if field.kind == "text" else get(registers, field) for field in there
    }


@contextlib.asynccontextmanager
async def a_bridge(link: DaemonLink, tmp_path: Path, **section: Any) -> AsyncIterator[ModbusBridge]:
    """A bridge that runs beside the test and is ended as by SIGTERM; what it failed of comes out."""
    config = ModbusConfig(
        **({"port": 0, "state_file": tmp_path / "state.json", "stale_after_s": NEVER_STALE_S} | section)
    )
    bridge = ModbusBridge(config, link)
    await bridge.start()
    with contextlib.closing(ServiceNotifier(None)) as notifier:
        running = asyncio.ensure_future(bridge.run(notifier))
        try:
            yield bridge
            if running.done():
                running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await bridge.close()


class Plc:
    """One connection. `control` is what the PLC has in its control register."""

    def __init__(self, port: int) -> None:
        self.client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=60, retries=0, reconnect_delay=0)
        self.control = 0

    async def __aenter__(self) -> "Plc":
        assert await self.client.connect()
        self.control = (await self.read())["seen"]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.close()

    async def registers(self, count: int = RESULT_COUNT) -> list[int]:
        """Status and result in one request."""
        answer = await self.client.read_input_registers(0, count=count)
        assert not answer.isError(), answer
        return list(answer.registers)

    async def read(self) -> dict[str, Any]:
        """Every field, in two requests."""
        first = await self.registers()
        more = await self.client.read_input_registers(RESULT_COUNT, count=INPUT_COUNT - RESULT_COUNT)
        assert not more.isError(), more
        return values(first + list(more.registers))

    async def status(self) -> set[str]:
        """Names of the bits that are set, as discrete inputs have them."""
        answer = await self.client.read_discrete_inputs(0, count=16)
        return {name for name, (bit, _) in STATUS.items() if answer.bits[bit]}

    async def until(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The fields as soon as `found` says yes."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                fields = await self.read()
                if found(fields):
                    return fields
                await asyncio.sleep(0.005)

    async def toggle(self, name: str) -> None:
        """Change one bit of `control`."""
        self.control ^= 1 << CONTROL_BITS[name]
        answer = await self.client.write_register(HOLDING["control"].address, self.control)
        assert not answer.isError(), answer

    async def acknowledge(self) -> None:
        """ResultAck, until the bridge has seen it."""
        await self.toggle("result_ack")
        await self.until(lambda fields: fields["seen"] & 2 == self.control & 2)

    async def command(self, number: int, **fields: str | int) -> dict[str, Any]:
        """Write a command with its texts in one request, Trigger with it, and wait for the answer."""
        registers = [0] * (HOLDING["view"].address + HOLDING["view"].count)
        self.control ^= 1 << CONTROL_BITS["trigger"]
        for name, value in {"control": self.control, "command": number, **fields}.items():
            put(registers, HOLDING[name], value)
        answer = await self.client.write_registers(0, registers)
        assert not answer.isError(), answer
        return await self.until(lambda found: found["seen"] & 1 == self.control & 1)
