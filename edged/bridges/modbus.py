"""`edged bridge modbus`: verdicts in Modbus registers, and a PLC's commands back. docs/modbus.md has the map.

`Handshake` decides, `ModbusServer` speaks Modbus, the client follows the journal; here they meet on one event loop.
Whatever fails unexpectedly ends the process; systemd starts it again, and it goes on behind the last acknowledged
result.
"""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from edged.bridges.daemon_link import DaemonLink, keep
from edged.bridges.modbus_commands import Answer, Command, ask
from edged.bridges.modbus_handshake import Handshake
from edged.bridges.modbus_server import ModbusServer, Registers
from edged.bridges.settings_modbus import ModbusConfig
from edged.bridges.state_file import position_of, read_state, write_state
from edged.client import AsyncClient, Control, Entry, Lost, NewJournal, StateChange, Told
from edged.service import ServiceNotifier

__all__ = ["ModbusBridge", "serve"]

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.2
"""How often staleness and the counters are looked at while nothing comes."""

TELL_EVERY_S = 1.0


async def serve(config: ModbusConfig, link: DaemonLink, notifier: ServiceNotifier) -> None:
    """Run until cancelled. Raises BridgeError where it cannot listen, or cannot remember what was acknowledged."""
    await keep(ModbusBridge(config, link), notifier)


class ModbusBridge:
    """Server, handshake and client of one daemon. `start`, then `run`, then `close`."""

    def __init__(self, config: ModbusConfig, link: DaemonLink) -> None:
        self._config, self._link = config, link
        state = read_state(config.state_file)
        toggles = state.get("toggles", 0)
        self._changed, self._wanted = asyncio.Event(), asyncio.Event()
        self._disk = ThreadPoolExecutor(1)
        """One thread, so that an older state is never written over a newer one."""
        self._client: AsyncClient | None = None
        self._control: Control | None = None
        self._command: Command | None = None
        self._tell_at_s = 0.0
        self.handshake = Handshake(
            queue=config.queue,
            position=position_of(state),
            toggles=toggles if isinstance(toggles, int) else 0,
            parts=config.parts,
            programs=config.programs,
            on_change=self._changed.set,
            on_command=self._want,
            on_acknowledged=self._acknowledged,
        )
        shake = self.handshake
        self.server = ModbusServer(config, Registers(lambda: shake.image, shake.holding, shake.written))
        shake.counters = self.server.counters

    async def start(self) -> None:
        """Listen; the registers say Fault until the daemon is heard. Raises BridgeError."""
        await self.server.start()

    async def run(self, notifier: ServiceNotifier) -> None:
        """Until cancelled, or something fails: that comes out."""
        work = [self._follow(notifier), self._commands(), self._remember()]
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(each) for each in work]
        try:
            done, _ = await asyncio.wait([*tasks, self.server.failed], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the port and write down what the PLC acknowledged last."""
        await self.server.close()
        self.server.failed.cancel()
        if self._control is not None:
            await asyncio.to_thread(self._control.close)
        if self._changed.is_set():
            await self._write_down()
        await asyncio.to_thread(self._disk.shutdown)

    async def _follow(self, notifier: ServiceNotifier) -> None:
        shake = self.handshake
        start = shake.position
        while True:
            async with self._link.client(self._config, start, topics=("heartbeat",)) as self._client:
                while not shake.read_again:
                    event = await self._client.receive(LOOK_EVERY_S)
                    self._take(event)
                    if self._client.position is not None:
                        shake.begin(self._client.position)
                    shake.daemon_is(self._client.state)
                    self._tell(notifier)
            shake.read_again = False
            start = shake.last_taken
            log.info("reads on in the journal", after=start)

    def _tell(self, notifier: ServiceNotifier) -> None:
        """The watchdog's proof: the journal is followed, and this loop turns."""
        if (now_s := time.monotonic()) >= self._tell_at_s:
            self._tell_at_s = now_s + TELL_EVERY_S
            notifier.watchdog(self._summary())

    def _take(self, event: object) -> None:
        shake = self.handshake
        if isinstance(event, Entry):
            shake.entry(event)
        elif isinstance(event, Told):
            shake.heartbeat(event.message)
        elif isinstance(event, Lost):
            log.error("results are lost", first=event.first, last=event.last, detail=event.detail)
            shake.lost()
        elif isinstance(event, NewJournal):
            log.warning("the daemon has another journal", old=event.old, new=event.new)
            shake.new_journal()
        else:
            if isinstance(event, StateChange):
                log.info("daemon", state=event.state, detail=event.detail)
            shake.render()  # counters

    async def _commands(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            answer = await asyncio.to_thread(self._ask)
            log.info("command", command=self._command, code=answer.code, seam_id=answer.seam_id, text=answer.text)
            self.handshake.answered(answer)

    def _want(self, command: Command) -> None:
        self._command = command
        self._wanted.set()

    def _ask(self) -> Answer:
        """In a thread of its own: it waits for the daemon."""
        assert self._command is not None
        if self._control is None:
            self._control = self._link.control_socket(self._config.expect_timeout_s)
        return ask(self._control, self._command)

    async def _remember(self) -> None:
        """On disk soon, not before the PLC goes on: after a crash a result may come again, with its sequence."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write_down()

    def _state(self) -> dict[str, Any]:
        position = self.handshake.position
        known = {} if position is None else {"journal_id": position.journal_id, "sequence": position.sequence}
        return {**known, "toggles": self.handshake.toggles}

    def _write_down(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._disk, write_state, self._config.state_file, self._state())

    def _acknowledged(self, entry: Entry) -> None:
        if self._client is not None and self._config.acknowledge_as is not None:
            with contextlib.suppress(ValueError):
                self._client.acknowledge(entry)

    def _summary(self) -> str:
        counters = self.server.counters
        return (
            f"daemon {'unknown' if self._client is None else self._client.state}, "
            f"{self.server.connections} connections, {counters['refused_connections']} refused"
        )
