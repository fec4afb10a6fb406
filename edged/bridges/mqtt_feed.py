"""One connection to the broker: what the client hands out goes through a session to the broker, and is confirmed.

An entry counts as delivered only when the broker has answered for it; then its position is written down. After any
break the client begins again at that position, so the daemon's journal is the one backlog, and it is bounded there.
"""

import asyncio
import contextlib
import dataclasses
import ssl
import time
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiomqtt
import structlog

from edged.backoff import Backoff, Timing
from edged.bridges.daemon_link import BridgeError, DaemonLink
from edged.bridges.mqtt_messages import Outgoing, Session
from edged.bridges.private_file import read_private
from edged.bridges.settings_mqtt import MqttConfig
from edged.bridges.state_file import position_of, read_state, write_state
from edged.client import AsyncClient, Entry, Lost, NewJournal, StateChange, Told

__all__ = ["Access", "Feed"]

log = structlog.get_logger(__name__)

PATIENCE = Timing(backoff_s=0.5, backoff_limit_s=30.0, steady_s=30.0)
ANSWER_WITHIN_S = 5.0
LOOK_EVERY_S = 0.5
LAST_WORDS_S = 2.0
MAX_WAITING_COMMANDS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """How the broker is reached: read once, so that a wrong file is told at the start."""

    tls: ssl.SSLContext | None
    username: str | None
    password: str | None

    @classmethod
    def of(cls, config: MqttConfig) -> "Access":
        """Certificates and credentials of a section. Raises BridgeError naming the file and what is wrong."""
        username = password = None
        if config.credentials_file is not None:
            try:
                found = tomllib.loads(read_private(config.credentials_file).decode())
                username, password = str(found["username"]), str(found["password"])
            except (ValueError, KeyError) as error:
                raise BridgeError(f"{config.credentials_file}: username and password are needed ({error})") from error
        return cls(_tls(config) if config.uses_tls else None, username, password)


def _tls(config: MqttConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.cert_file is not None and config.key_file is not None:
            read_private(config.key_file)
            context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        files = [str(path) for path in (config.ca_file, config.cert_file, config.key_file) if path is not None]
        raise BridgeError(f"{', '.join(files)}: no usable PEM: {error}") from error
    return context


class Feed:
    """Keeps one session going until cancelled, over as many connections as it takes.

    Args:
        make_session: the number of this connection → its session; numbers grow by one and survive restarts.
        acknowledges: whether what the broker confirmed is acknowledged to the daemon.
    """

    def __init__(
        self,
        name: str,
        config: MqttConfig,
        link: DaemonLink,
        access: Access,
        make_session: Callable[[int], Session],
        state_file: Path,
        *,
        acknowledges: bool,
    ) -> None:
        self.name, self._config, self._link, self._access = name, config, link, access
        self._make_session, self._state_file = make_session, state_file
        self._acknowledges = acknowledges
        self._state: dict[str, Any] = read_state(state_file)
        position_of(self._state)  # a damaged file is told before anything else is done
        self._disk = ThreadPoolExecutor(1)
        self.is_connected = False
        self.delivered = 0

    async def run(self) -> None:
        """Until cancelled. Raises BridgeError where the position cannot be written down."""
        backoff = Backoff(PATIENCE)
        try:
            while True:
                began_s = time.monotonic()
                try:
                    await self._connection()
                except (aiomqtt.MqttError, OSError) as error:
                    log.warning("no broker", feed=self.name, broker=self._where, error=str(error))
                finally:
                    self.is_connected = False
                await asyncio.sleep(backoff.pause_s(time.monotonic() - began_s))
        finally:
            self._disk.shutdown()

    @property
    def _where(self) -> str:
        return f"{self._config.host}:{self._config.broker_port}"

    async def _connection(self) -> None:
        number = self._state.get("connections", -1)
        number = number + 1 if isinstance(number, int) else 0
        await self._remember(connections=number)
        session = self._make_session(number)
        async with self._broker(session.will) as broker:
            self.is_connected = True
            log.info("broker", feed=self.name, broker=self._where, connection=number)
            turn = asyncio.Lock()
            for topic in session.subscriptions:
                await broker.subscribe(topic, qos=1)
            async with turn:
                await _publish(broker, session.opened())
            work = [self._follow(broker, session, turn), _commands(broker, session, turn)]
            tasks = [asyncio.ensure_future(each) for each in work]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            except asyncio.CancelledError:
                with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                    await asyncio.wait_for(_publish(broker, session.closing()), LAST_WORDS_S)
                raise
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _broker(self, will: Outgoing) -> aiomqtt.Client:
        config, access = self._config, self._access
        base = config.client_id or f"edged-{self._link.cell}"
        return aiomqtt.Client(
            config.host,
            config.broker_port,
            identifier=base if self.name == "json" else f"{base}-{self.name}",
            username=access.username,
            password=access.password,
            tls_context=access.tls,
            will=aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
            keepalive=config.keepalive_s,
            timeout=ANSWER_WITHIN_S,
            max_queued_incoming_messages=MAX_WAITING_COMMANDS,
        )

    async def _follow(self, broker: aiomqtt.Client, session: Session, turn: asyncio.Lock) -> None:
        section = self._config
        if not self._acknowledges:
            section = section.model_copy(update={"acknowledge_as": None})
        options = {"topics": ("heartbeat", "health")}
        async with self._link.client(section, position_of(self._state), **options) as client:
            while True:
                event = await client.receive(LOOK_EVERY_S)
                async with turn:
                    await _publish(broker, self._said_to(session, event))
                if isinstance(event, Entry):
                    await self._delivered(broker, session, client, event)

    def _said_to(self, session: Session, event: object) -> list[Outgoing]:
        """What the session makes of an event; None and what needs no words give nothing."""
        if isinstance(event, Entry):
            return session.entry(event.topic, event.sequence, event.journal_id, event.message)
        if isinstance(event, Told):
            return session.told(event.topic, event.message)
        if isinstance(event, StateChange):
            log.info("daemon", feed=self.name, state=event.state, detail=event.detail)
            return session.state(event.state)
        if isinstance(event, Lost):
            log.error("verdicts are lost", feed=self.name, first=event.first, last=event.last, detail=event.detail)
            return session.lost(event.first, event.last)
        if isinstance(event, NewJournal):
            log.warning("the daemon has another journal", feed=self.name, old=event.old, new=event.new)
        return []

    async def _delivered(self, broker: aiomqtt.Client, session: Session, client: AsyncClient, entry: Entry) -> None:
        """The broker has it, for certain: only now is it written down."""
        if session.fence is not None:
            await broker.unsubscribe(session.fence)
        self.delivered += 1
        await self._remember(journal_id=entry.journal_id, sequence=entry.sequence)
        if self._acknowledges and self._config.acknowledge_as is not None:
            client.acknowledge(entry)

    async def _remember(self, **changes: Any) -> None:
        self._state = {**self._state, **changes}
        await asyncio.get_running_loop().run_in_executor(self._disk, write_state, self._state_file, self._state)


async def _publish(broker: aiomqtt.Client, messages: Iterable[Outgoing]) -> None:
    for message in messages:
        await broker.publish(message.topic, message.payload, message.qos, message.retain)


async def _commands(broker: aiomqtt.Client, session: Session, turn: asyncio.Lock) -> None:
    """Also how a lost broker is noticed while edged has nothing to say: then this raises."""
    async for message in broker.messages:
        payload = message.payload if isinstance(message.payload, bytes) else b""
        async with turn:
            await _publish(broker, session.command(str(message.topic), payload))
