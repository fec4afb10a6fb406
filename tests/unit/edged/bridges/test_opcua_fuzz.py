"""Mutated OPC UA traffic from a stranger: the server answers PLCs on, takes no memory, and logs within bounds."""

import asyncio
import contextlib
import gc
import logging
import os
import random
from pathlib import Path
from typing import Any

import psutil
import pytest
from asyncua import Client, ua

from edged.bridges.daemon_link import DaemonLink
from edged.bridges.opcua import OpcuaBridge
from edged.bridges.opcua_limits import LOGS_A_MINUTE, limit_log
from edged.bridges.settings_opcua import OpcuaConfig

CONVERSATIONS = int(os.environ.get("EDGED_FUZZ_CONVERSATIONS", "200"))
MAX_GROWTH_BYTES = 64 * 1024 * 1024


class Counting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.records += 1
        record.getMessage()


async def _recorded(url: str, port: int) -> list[bytes]:
    """What a client without security sends until it is refused, chunk by chunk, through a proxy."""
    sent: list[bytes] = []

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, keep: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if keep:
                    sent.append(data)
                sink.write(data)
        sink.close()

    async def proxied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back, keep=True), pass_on(there, writer, keep=False))

    async with await asyncio.start_server(proxied, "127.0.0.1", 0) as proxy:
        client = Client(url.replace(str(port), str(proxy.sockets[0].getsockname()[1])), timeout=5)
        client.set_user("plc")
        client.set_password("x")
        with pytest.raises(ua.UaStatusCodeError, match="BadUserAccessDenied"):
            await client.connect()
    return sent


def _mutated(chance: random.Random, messages: list[bytes]) -> bytes:
    """A conversation with a few bytes changed, cut out or repeated."""
    data = bytearray(b"".join(messages[: chance.randint(1, len(messages))]))
    for _ in range(chance.randint(0, 8)):
        at = chance.randrange(len(data))
        what = chance.randrange(4)
        if what == 0:
            data[at] = chance.randrange(256)
        elif what == 1:
            data[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\x01\0\0\0"])
        elif what == 2 and len(data) > 64:
            del data[at : at + chance.randint(1, 32)]
        else:
            data[at:at] = data[at : at + chance.randint(1, 64)]
    return bytes(data)


async def _thrown(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(data)
            await asyncio.wait_for(reader.read(65536), 0.02)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.timeout(900)
def test_strangers_with_mutated_messages(tmp_path: Path) -> None:
    counting, logger = Counting(), logging.getLogger("asyncua")
    before: dict[str, Any] = {"handlers": logger.handlers, "level": logger.level, "propagate": logger.propagate}

    async def scene() -> None:
        config = OpcuaConfig(port=0, folder=tmp_path, anonymous=True, without_security="on_loopback")
        bridge = OpcuaBridge(config, DaemonLink("cell", "ipc:///nowhere", "ipc:///nowhere", "ipc:///nowhere"))
        await bridge.start()
        limit_log([counting])
        try:
            port = bridge.server.bserver.port  # type: ignore[union-attr]
            messages = await _recorded(bridge.url, port)
            chance = random.Random(6)
            resident = 0
            for number in range(CONVERSATIONS):
                await _thrown(port, _mutated(chance, messages))
                if number == CONVERSATIONS // 5:
                    gc.collect()
                    resident = psutil.Process().memory_info().rss
            gc.collect()
            grown = psutil.Process().memory_info().rss - resident
            print(f"{CONVERSATIONS} conversations, {grown / 2**20:.1f} MiB more, {counting.records} log records")
            assert grown < MAX_GROWTH_BYTES
            assert len(bridge.server.iserver._external_sessions) <= config.max_connections
            async with Client(bridge.url, timeout=10) as reader:
                index = await reader.get_namespace_index("urn:edged:verdicts")
                assert await reader.get_node(ua.NodeId("edged/Fault", index)).read_value() is True
        finally:
            await bridge.close()

    try:
        asyncio.run(scene())
    finally:
        logger.handlers, logger.propagate = before["handlers"], before["propagate"]
        logger.setLevel(before["level"])
    assert 0 < counting.records <= 3 * LOGS_A_MINUTE * max(1, CONVERSATIONS // 200)
