"""`edged bridge opcua`: verdicts as nodes, events and history of an OPC UA server; `Expect` back. See docs/opcua.md.

It serves what the client hands out, and begins at the last results that history holds. It cannot arm a program.
"""

import asyncio
import logging
import time
from typing import Any

import structlog
from asyncua import ua

from edged.bridges.daemon_link import BridgeError, DaemonLink, keep
from edged.bridges.opcua_limits import BoundedServer, limit_log
from edged.bridges.opcua_space import Space
from edged.bridges.opcua_trust import Rights, Trust, own_certificate
from edged.bridges.settings_mqtt import is_loopback
from edged.bridges.settings_opcua import OpcuaConfig
from edged.client import Control, Entry, Lost, NewJournal, Position, Refused, StateChange, Told
from edged.service import ServiceNotifier

__all__ = ["OpcuaBridge", "serve"]

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.2
TELL_EVERY_S = 1.0


async def serve(config: OpcuaConfig, link: DaemonLink, notifier: ServiceNotifier) -> None:
    """Run until cancelled. Raises BridgeError for unusable files, or where it cannot listen."""
    limit_log(logging.getLogger().handlers)
    await keep(OpcuaBridge(config, link), notifier)


class OpcuaBridge:
    """Server and client of one daemon. `start`, then `run`, then `close`."""

    def __init__(self, config: OpcuaConfig, link: DaemonLink) -> None:
        self._config, self._link = config, link
        self.trust = Trust(config.folder, anonymous=config.anonymous, without_security=config.offers_no_security)
        self.server = BoundedServer(self.trust, config.max_connections)
        self.space = Space(self.server, link.cell, config.history, self._expect)
        self._control: Control | None = None
        self._lost = 0

    @property
    def url(self) -> str:
        """Where clients connect, once started."""
        assert self.server.bserver is not None
        return f"opc.tcp://{self._config.host}:{self.server.bserver.port}/edged"

    async def start(self) -> None:
        """Listen; every result is bad until the daemon is heard. Raises BridgeError."""
        config, server = self._config, self.server
        certificate, key = own_certificate(config.folder, config.application_uri)
        await server.init()
        await server.set_application_uri(config.application_uri)
        server.set_server_name(f"edged {self._link.cell}")
        server.set_endpoint(f"opc.tcp://{config.host}:{config.port}/edged")
        await server.load_certificate(certificate)
        await server.load_private_key(key)
        server.set_certificate_validator(self.trust.validate)
        policies = [ua.SecurityPolicyType[name] for name in config.policies]
        if config.offers_no_security:
            policies.insert(0, ua.SecurityPolicyType.NoSecurity)
            if not is_loopback(config.host):
                log.warning("anybody on the network may read verdicts", without_security=config.without_security)
        server.set_security_policy(policies, Rights())
        tokens: list[type] = [ua.UserNameIdentityToken, *([ua.AnonymousIdentityToken] if config.anonymous else [])]
        server.set_identity_tokens(tokens)
        await self.space.build()
        try:
            await server.start()
        except OSError as error:
            raise BridgeError(
                f"bridges.opcua: {config.host}:{config.port} cannot be listened at: {error.strerror}"
            ) from error
        log.info("listening", url=self.url, policies=[policy.name for policy in policies])

    async def run(self, notifier: ServiceNotifier) -> None:
        """Until cancelled, or something fails: that comes out."""
        tell_at_s = 0.0
        start = await self._where_history_begins(notifier)
        async with self._link.client(self._config, start, topics=("heartbeat",)) as client:
            while True:
                event = await client.receive(LOOK_EVERY_S)
                await self._take(event)
                if (now_s := time.monotonic()) >= tell_at_s:
                    tell_at_s = now_s + TELL_EVERY_S
                    refused = self.trust.refused.total()
                    await self.space.say(RefusedClients=refused)
                    clients = 0 if self.server.bserver is None else len(self.server.bserver.clients)
                    notifier.watchdog(f"daemon {client.state}, {clients} connections, {refused} refused")

    async def _where_history_begins(self, notifier: ServiceNotifier) -> Position | None:
        """So many entries before the journal's end as history holds; None where the section begins elsewhere."""
        if self._config.start != "last":
            return None
        section = self._config.model_copy(update={"start": "now", "acknowledge_as": None})
        async with self._link.client(section, None) as client:
            while client.position is None:
                await client.receive(LOOK_EVERY_S)
                notifier.watchdog("waits for the daemon")
            return Position(client.position.journal_id, max(0, client.position.sequence - self._config.history))

    async def close(self) -> None:
        """Close the port."""
        await self.server.stop()
        if self._control is not None:
            await asyncio.to_thread(self._control.close)

    async def _take(self, event: object) -> None:
        if isinstance(event, Entry):
            await self.space.show(event.topic, event.sequence, event.journal_id, event.message)
        elif isinstance(event, Told):
            await self.space.say(**_status_of(event.message))
        elif isinstance(event, StateChange):
            log.info("daemon", state=event.state, detail=event.detail)
            await self._state(event.state)
        elif isinstance(event, Lost):
            log.error("results are lost", first=event.first, last=event.last, detail=event.detail)
            self._lost += event.last - event.first + 1
            await self.space.say(LostResults=self._lost)
        elif isinstance(event, NewJournal):
            log.warning("the daemon has another journal", old=event.old, new=event.new)

    async def _state(self, state: str) -> None:
        if state == "live":
            await self.space.usable()
            return
        await self.space.say(Ready=False, Fault=True, Armed=False, ArmedPrograms=[], DaemonState=state)
        await self.space.unusable()

    async def _expect(self, program: str, part_id: str, seam_ref: str) -> tuple[bool, str, str]:
        """In a thread: it waits for the daemon. Raises TimeoutError."""
        log.info("expect", program=program, part_id=part_id, seam_ref=seam_ref)
        try:
            seam_id = await asyncio.to_thread(self._ask, program, part_id or None, seam_ref or None)
        except Refused as error:
            return False, "", str(error)
        return True, seam_id, ""

    def _ask(self, program: str, part_id: str | None, seam_ref: str | None) -> str:
        if self._control is None:
            self._control = self._link.control_socket(self._config.expect_timeout_s)
        return self._control.expect(program, part_id=part_id, seam_ref=seam_ref)


def _status_of(beat: dict[str, Any]) -> dict[str, Any]:
    """What a heartbeat says, as nodes; nonsense says Fault."""
    armed, last, state = beat.get("armed"), beat.get("last_sequence"), beat.get("state")
    programs = [name for name in armed if isinstance(name, str)] if isinstance(armed, list) else []
    works = state in ("ok", "degraded")
    return {
        "Ready": works,
        "Fault": not works,
        "Armed": works and bool(programs),
        "ArmedPrograms": programs,
        "DaemonState": state if isinstance(state, str) else "",
        "IsSimulated": beat.get("is_simulated") is not False,
        "Software": beat["software"] if isinstance(beat.get("software"), str) else "",
        "LastSequenceNumber": last if type(last) is int and 0 <= last < 2**64 else 0,
    }
