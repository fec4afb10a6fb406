"""The Modbus TCP server: who may connect, and one request after the other of each connection.

pymodbus decodes requests, validates them and encodes the answers. Its own server class is not used: it cannot refuse
an address, it loses the second of two requests that arrive together, and it buffers answers without limit for a
peer that does not read them.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse

from edged.bridges.daemon_link import BridgeError
from edged.bridges.modbus_map import HOLDING
from edged.bridges.settings_modbus import ModbusConfig

__all__ = ["ModbusServer", "Registers"]

log = structlog.get_logger(__name__)

HEADER_BYTES = 7
MAX_LENGTH = 254
"""Of unit and PDU, Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3."""
BUFFER_BYTES = 4096
COIL_CODES, INPUT_BIT_CODES, HOLDING_CODES, INPUT_CODES = (1, 5, 15), (2,), (3, 6, 16, 22, 23), (4,)
KNOWN_CODES = frozenset((*COIL_CODES, *INPUT_BIT_CODES, *HOLDING_CODES, *INPUT_CODES))
COILS = 16
SAID_AGAIN_AFTER_S = 10.0
SAID_AT_ONCE = 100
KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))
"""A PLC whose cable was pulled gives its place free after about 11 s."""


class Registers:
    """What pymodbus' requests read and write: four areas, of which two are the PLC's to write.

    Args:
        image: the input registers, as they are now.
        holding: the holding registers; written in place.
        on_write: called after each write.
    """

    def __init__(self, image: Callable[[], Sequence[int]], holding: list[int], on_write: Callable[[], None]) -> None:
        self._image, self._holding, self._on_write = image, holding, on_write

    async def async_getValues(
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[Any] | ExcCodes:
        """`count` values from `address` on, all of one moment."""
        area = self._area(func_code)
        if address + count > len(area):
            return ExcCodes.ILLEGAL_ADDRESS
        return list(area[address : address + count])

    async def async_setValues(
        self, device_id: int, func_code: int, address: int, values: Sequence[int] | Sequence[bool]
    ) -> ExcCodes | None:
        """Write all of `values` or none."""
        if address + len(values) > len(self._area(func_code)):
            return ExcCodes.ILLEGAL_ADDRESS
        if func_code in COIL_CODES:
            control = HOLDING["control"].address
            for bit, is_set in enumerate(values, address):
                self._holding[control] = self._holding[control] & ~(1 << bit) | bool(is_set) << bit
        else:
            self._holding[address : address + len(values)] = values
        self._on_write()
        return None

    def _area(self, func_code: int) -> Sequence[Any]:
        if func_code in INPUT_CODES:
            return self._image()
        if func_code in INPUT_BIT_CODES:
            return _bits(self._image()[1])
        if func_code in COIL_CODES:
            return _bits(self._holding[HOLDING["control"].address])
        return self._holding


class ModbusServer:
    """Listens from `start` on. `failed` gets what ends a connection unexpectedly; whoever runs it waits for that."""

    def __init__(
        self, config: ModbusConfig, registers: Registers, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._config, self._registers, self._now_s = config, registers, now_s
        self._allowed = [ipaddress.ip_network(item) for item in config.allow]
        self._framer = FramerSocket(DecodePDU(True))
        self._connections: set[asyncio.Task[None]] = set()
        self._said: dict[str, float] = {}
        self._server: asyncio.Server | None = None
        self.counters: Counter[str] = Counter()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # It logs every malformed request of any peer; those are counted here.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises BridgeError where that cannot be."""
        where = f"{self._config.host}:{self._config.port}"
        try:
            self._server = await asyncio.start_server(
                self._connected, self._config.host, self._config.port, limit=BUFFER_BYTES
            )
        except OSError as error:
            why = error.strerror or error
            raise BridgeError(
                f"bridges.modbus: cannot listen on {where}: {why}; is the address this machine's, "
                "the port free, and may the user open ports below 1024?"
            ) from error
        log.info("modbus listens", host=self._config.host, port=self.port, allow=list(self._config.allow))

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str((writer.get_extra_info("peername") or ("?",))[0])
        if not self._is_allowed(peer):
            self._refuse(writer, peer, "not in bridges.modbus.allow")
        elif len(self._connections) >= self._config.max_connections:
            self._refuse(writer, peer, "bridges.modbus.max_connections are open already")
        else:
            task = asyncio.get_running_loop().create_task(self._serve(reader, writer, peer))
            self._connections.add(task)
            task.add_done_callback(self._ended)

    def _is_allowed(self, peer: str) -> bool:
        try:
            address: Any = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._allowed)

    def _refuse(self, writer: asyncio.StreamWriter, peer: str, why: str) -> None:
        self.counters["refused_connections"] += 1
        writer.transport.abort()
        self._say("connection refused", peer, why)

    def _say(self, event: str, peer: str, why: str) -> None:
        """A line in the log: every ten seconds one of a kind and address, a hundred in all. Counters know all."""
        now_s, key = self._now_s(), f"{event} {peer}"
        self._said = {known: at_s for known, at_s in self._said.items() if now_s - at_s < SAID_AGAIN_AFTER_S}
        if key not in self._said and len(self._said) < SAID_AT_ONCE:
            self._said[key] = now_s
            log.warning(event, peer=peer, why=why, counters=dict(self.counters))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        self.counters["connections"] += 1
        try:
            _tune(writer)
            while (frame := await self._frame(reader, peer)) is not None:
                writer.write(await self._answer(frame))
                async with asyncio.timeout(self._config.idle_s):
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # idle, unread or gone: the PLC connects anew, and sees its own time-out until then
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _frame(self, reader: asyncio.StreamReader, peer: str) -> bytes | None:
        """Header and PDU of the next request; None where what comes is no Modbus."""
        async with asyncio.timeout(self._config.idle_s):
            header = await reader.readexactly(HEADER_BYTES)
            protocol, length = int.from_bytes(header[2:4], "big"), int.from_bytes(header[4:6], "big")
            if protocol or not 2 <= length <= MAX_LENGTH:
                self.counters["malformed_requests"] += 1
                self._say("connection closed", peer, f"no Modbus: protocol {protocol}, length {length}")
                return None
            return header + await reader.readexactly(length - 1)

    async def _answer(self, frame: bytes) -> bytes:
        code = frame[HEADER_BYTES]
        self.counters["requests"] += 1
        request = self._framer.decoder.decode(frame[HEADER_BYTES:]) if code in KNOWN_CODES else None
        response: Any
        if request is None:
            self.counters["malformed_requests"] += 1
            known = code in KNOWN_CODES
            response = ExceptionResponse(code & 0x7F, ExcCodes.ILLEGAL_VALUE if known else ExcCodes.ILLEGAL_FUNCTION)
        else:
            context: Any = self._registers
            response = await request.datastore_update(context, frame[6])
        response.transaction_id, response.dev_id = int.from_bytes(frame[:2], "big"), frame[6]
        return self._framer.buildFrame(response)


def _bits(register: int) -> list[bool]:
    return [bool(register >> bit & 1) for bit in range(COILS)]


def _tune(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
