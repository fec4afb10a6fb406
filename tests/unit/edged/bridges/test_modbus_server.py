"""The Modbus port against peers that are not allowed, not polite or no Modbus at all."""

import asyncio
import contextlib
import os
import resource
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client import AsyncModbusTcpClient

from edged.bridges.modbus_map import HOLDING_COUNT, INPUT_COUNT
from edged.bridges.modbus_server import ModbusServer, Registers
from edged.bridges.settings_modbus import ModbusConfig
from tests.support.in_loop import in_loop

READ_TWO = bytes.fromhex("0001 0000 0006 01 04 0000 0002")
ANSWER_TWO = bytes.fromhex("0001 0000 0007 01 04 04 0000 0001")
GROWTH_KIB = 8 * 1024


class _Peer:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def is_closed(self) -> bool:
        """Whether the server closes it within a few seconds."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(60):
                while await self.reader.read(4096):
                    pass
        return True


class _Served:
    """A server over registers that count up from 0."""

    def __init__(self, **section: Any) -> None:
        self.image = list(range(INPUT_COUNT))
        self.holding = [0] * HOLDING_COUNT
        self.writes = 0
        registers = Registers(lambda: self.image, self.holding, self._written)
        self.server = ModbusServer(ModbusConfig(**{"port": 0} | section), registers)

    def _written(self) -> None:
        self.writes += 1

    async def __aenter__(self) -> "_Served":
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()
        assert not self.server.failed.done(), self.server.failed.exception()
        self.server.failed.cancel()

    @contextlib.asynccontextmanager
    async def peer(self) -> AsyncIterator[_Peer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            yield _Peer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncModbusTcpClient]:
        client = AsyncModbusTcpClient("127.0.0.1", port=self.server.port, timeout=60, retries=0, reconnect_delay=0)
        assert await client.connect()
        try:
            yield client
        finally:
            client.close()


@in_loop
async def test_every_area_reads_and_writes_what_it_should() -> None:
    async with _Served() as served, served.client() as client:
        assert (await client.read_input_registers(5, count=3)).registers == [5, 6, 7]
        assert (await client.read_discrete_inputs(0, count=3)).bits[:3] == [True, False, False]
        await client.write_register(0, 0b101)
        assert (await client.read_coils(0, count=4)).bits[:4] == [True, False, True, False]
        await client.write_coil(1, True)
        await client.write_coils(2, [False, True])
        assert served.holding[0] == 0b1011
        await client.write_registers(8, [0x4142, 0])
        await client.mask_write_register(address=9, and_mask=0, or_mask=0x4300)
        assert (await client.read_holding_registers(8, count=2)).registers == [0x4142, 0x4300]
        both = await client.readwrite_registers(read_address=0, read_count=2, write_address=1, values=[7])
        assert both.registers == [0b1011, 7]
        assert served.writes == 6


@pytest.mark.parametrize(("address", "count"), [(INPUT_COUNT, 1), (INPUT_COUNT - 1, 2), (65535, 1), (65535, 125)])
@in_loop
async def test_beyond_the_map_is_an_illegal_address(address: int, count: int) -> None:
    async with _Served() as served, served.client() as client:
        answer = await client.read_input_registers(address, count=count)
        assert (answer.isError(), answer.exception_code) == (True, 2)


@in_loop
async def test_a_write_beyond_the_map_changes_nothing() -> None:
    async with _Served() as served, served.client() as client:
        answer = await client.write_registers(HOLDING_COUNT - 1, [1, 2])
        assert (answer.isError(), answer.exception_code) == (True, 2)
        assert (served.holding, served.writes) == ([0] * HOLDING_COUNT, 0)


@in_loop
async def test_requests_that_come_together_or_in_pieces_are_all_answered() -> None:
    async with _Served() as served, served.peer() as peer:
        peer.writer.write(READ_TWO * 3)
        assert await asyncio.wait_for(peer.reader.readexactly(3 * len(ANSWER_TWO)), 60) == ANSWER_TWO * 3
        for byte in READ_TWO:
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert await asyncio.wait_for(peer.reader.readexactly(len(ANSWER_TWO)), 60) == ANSWER_TWO


@in_loop
async def test_a_stranger_is_refused_counted_and_named() -> None:
    with structlog.testing.capture_logs() as logs:
        async with _Served(allow=("192.0.2.0/24",)) as served:
            for _ in range(3):
                async with served.peer() as peer:
                    peer.writer.write(READ_TWO)
                    assert await peer.is_closed()
            assert served.server.counters["refused_connections"] == 3
            assert served.server.counters["requests"] == 0
    said = [line for line in logs if line["event"] == "connection refused"]
    assert [(line["peer"], line["why"]) for line in said] == [("127.0.0.1", "not in bridges.modbus.allow")]


@in_loop
async def test_beyond_the_limit_of_connections_nobody_comes_in_until_one_leaves() -> None:
    async with _Served(max_connections=2) as served:
        async with served.client() as one, served.client() as two:
            await one.read_input_registers(0, count=1)
            await two.read_input_registers(0, count=1)
            async with served.peer() as third:
                assert await third.is_closed()
            assert served.server.counters["refused_connections"] == 1
        async with asyncio.timeout(60):
            while served.server.connections:
                await asyncio.sleep(0.001)
        async with served.client() as client:
            assert not (await client.read_input_registers(0, count=1)).isError()


@in_loop
async def test_a_connection_without_requests_is_closed() -> None:
    async with _Served(idle_s=1) as served, served.peer() as peer:
        peer.writer.write(READ_TWO[:5])  # and never the rest
        assert await peer.is_closed()
        assert served.server.counters["malformed_requests"] == 0


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        ("0001 0000 0002 01 2B", "0001 0000 0003 01 AB 01"),  # a function that there is none of
        ("0001 0000 0002 01 84", "0001 0000 0003 01 84 01"),  # an answer, not a request
        ("0001 0000 0006 01 04 0000 0000", "0001 0000 0003 01 84 03"),  # no registers
        ("0001 0000 0006 01 04 0000 007E", "0001 0000 0003 01 84 03"),  # more than 125
        ("0001 0000 0003 01 04 00", "0001 0000 0003 01 84 03"),  # too short for its function
        ("0001 0000 0009 01 10 0000 0002 02 0001", "0001 0000 0003 01 90 03"),  # fewer bytes than registers
    ],
)
@in_loop
async def test_a_request_that_is_none_gets_an_exception_and_the_next_an_answer(raw: str, answer: str) -> None:
    async with _Served() as served, served.peer() as peer:
        peer.writer.write(bytes.fromhex(raw))
        wanted = bytes.fromhex(answer)
        assert await asyncio.wait_for(peer.reader.readexactly(len(wanted)), 60) == wanted
        peer.writer.write(READ_TWO)
        assert await asyncio.wait_for(peer.reader.readexactly(len(ANSWER_TWO)), 60) == ANSWER_TWO
        assert served.writes == 0


@pytest.mark.parametrize("raw", ["0001 0001 0006 01 04 0000 0002", "0001 0000 0001 01", "0001 0000 FFFF 01 04 0000"])
@in_loop
async def test_what_is_no_modbus_is_cut_off_and_counted(raw: str) -> None:
    async with _Served() as served, served.peer() as peer:
        peer.writer.write(bytes.fromhex(raw))
        assert await peer.is_closed()
        assert served.server.counters["malformed_requests"] == 1


@in_loop
async def test_a_peer_that_never_reads_its_answers_takes_no_memory() -> None:
    request = bytes.fromhex("0001 0000 0006 01 04 0000 007D")
    async with _Served(idle_s=2) as served, served.peer() as peer:
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    peer.writer.write(request * 100)
                    await peer.writer.drain()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < GROWTH_KIB
        async with served.client() as client:  # and nobody else notices
            assert not (await client.read_input_registers(0, count=1)).isError()


FUNCTION = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 17, 20, 21, 22, 23, 24, 43, 90, 128, 132, 255])
PDU = st.one_of(
    st.binary(min_size=1, max_size=253),
    st.tuples(FUNCTION, st.binary(max_size=252)).map(lambda parts: bytes([parts[0]]) + parts[1]),
)


def _framed(pdu: bytes) -> bytes:
    return b"\0\7\0\0" + (len(pdu) + 1).to_bytes(2, "big") + b"\1" + pdu


@given(pdus=st.lists(PDU, min_size=1, max_size=30), noise=st.binary(max_size=600))
@settings(max_examples=60, deadline=None)
def test_any_request_is_answered_and_any_bytes_are_survived(pdus: list[bytes], noise: bytes) -> None:
    @in_loop
    async def run() -> None:
        async with _Served() as served:
            async with served.peer() as peer:
                peer.writer.write(b"".join(_framed(pdu) for pdu in pdus))
                for _ in pdus:
                    header = await asyncio.wait_for(peer.reader.readexactly(6), 60)
                    assert header[:4] == b"\0\7\0\0"
                    await peer.reader.readexactly(int.from_bytes(header[4:], "big"))
                peer.writer.write(noise)
                peer.writer.write_eof()
                assert await peer.is_closed()
            assert all(0 <= register < 2**16 for register in served.holding)
            assert len(served.holding) == HOLDING_COUNT
            async with served.client() as client:
                assert (await client.read_input_registers(0, count=2)).registers == [0, 1]

    run()


@in_loop
async def test_a_storm_of_noise_leaves_no_connection_and_no_memory_behind() -> None:
    async with _Served(max_connections=4) as served:

        async def storm(rounds: int) -> None:
            for _ in range(rounds):
                with contextlib.suppress(ConnectionError):
                    async with served.peer() as peer:
                        peer.writer.write(os.urandom(300))
                        peer.writer.write_eof()
                        await peer.is_closed()

        await storm(100)
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await asyncio.gather(*(storm(100) for _ in range(4)))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < GROWTH_KIB
        counters = served.server.counters
        assert counters["malformed_requests"] + counters["refused_connections"] > 300
        async with asyncio.timeout(60):
            while served.server.connections:
                await asyncio.sleep(0.001)
