"""The daemon's three sockets toward the PLC, and the guard before them: the end of the data path, in one place.

Belongs to the daemon's thread. Publishing begins at once, since what a crash left open is published first; questions
are answered only once there is an engine to answer them.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import structlog
import zmq

from edged.acknowledgements import Acknowledgements
from edged.config import Config, ConfigError
from edged.control import Control, Handler
from edged.guard import Guard
from edged.journal import Journal
from edged.journal_desk import JournalDesk
from edged.net_rules import key_problems, keys_folder, open_warnings, wants_keys
from edged.publisher import Publisher
from edged.wire import AcknowledgementMessage

__all__ = ["Delivery"]

SOCKETS = ("verdicts", "journal", "control")
WARN_EVERY_NS = 3_600_000_000_000

log = structlog.get_logger(__name__)


class Delivery:
    """Binds the publisher; `answer` must follow, and `close` in any case.

    Raises ConfigError for keys that are missing, EndpointError where the endpoint cannot be bound.
    """

    def __init__(self, config: Config, journal: Journal, software: str) -> None:
        self._config, self._journal, self._software = config, journal, software
        self._acknowledgements = Acknowledgements(journal, config.net.acknowledge, config.net.acknowledge_within_s)
        self._desks: dict[str, JournalDesk | Control] = {}
        self._warn_ns = 0
        self._undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(self._context.term)
            self._guard = self._make_guard(undo)
            last, guard = journal.last_per_program(), self._guard_of("verdicts")
            self.publisher = Publisher(self._context, config.net.verdicts, last, guard)
            undo.callback(self.publisher.close)
            self._undo = undo.pop_all()

    def answer(self, handlers: Mapping[str, Handler]) -> None:
        """Bind the control and the journal socket. Raises EndpointError."""
        context, net = self._context, self._config.net
        control = Control(context, self._config.control_endpoint, handlers, self._guard_of("control"))
        self._undo.callback(control.close)
        self._desks["control"] = control
        journal, guard = self._journal, self._guard_of("journal")
        desk = JournalDesk(context, net.journal_endpoint, journal, guard, self._software, self._acknowledgements)
        self._undo.callback(desk.close)
        self._desks["journal"] = desk

    def endpoints(self) -> dict[str, str]:
        """Where each socket really is, by its name in the config."""
        return {"verdicts": self.publisher.endpoint} | {name: desk.endpoint for name, desk in self._desks.items()}

    def sockets(self) -> list["zmq.Socket[Any]"]:
        """What to poll; other ones after connections were cut."""
        guard = [] if self._guard is None else self._guard.sockets()
        return [self.publisher.socket, *(desk.socket for desk in self._desks.values()), *guard]

    def serve(self) -> None:
        """Let in who may, answer who asks; never blocks. Call it in every turn."""
        self._warn_of_open()
        if self._guard is not None:
            self._guard.serve()
            for right in self._guard.reloaded():
                self._cut(right)
        for desk in self._desks.values():
            desk.serve()
        self.publisher.serve()

    def warnings(self, utc_ns: int) -> list[str]:
        """Sentences for health: who does not acknowledge, and what is open or wrong with the keys."""
        guard = [] if self._guard is None else self._guard.warnings()
        return [*self._acknowledgements.warnings(utc_ns), *open_warnings(self._config), *guard]

    def acknowledgements(self) -> dict[str, AcknowledgementMessage]:
        """How far each client of `net.acknowledge` is."""
        return self._acknowledgements.health()

    def counters(self) -> dict[str, int]:
        """What the sockets refused since the start, by socket and reason."""
        counted = {name: desk.counters() for name, desk in self._desks.items()}
        guard = {} if self._guard is None else self._guard.counters()
        return guard | {f"{name}_{what}": count for name, found in counted.items() for what, count in found.items()}

    def close(self) -> None:
        """Send what is queued and close everything."""
        self._undo.close()

    def _warn_of_open(self) -> None:
        """The log says each hour what anybody on the network may use, for as long as it is so."""
        if (now_ns := time.monotonic_ns()) >= self._warn_ns:
            self._warn_ns = now_ns + WARN_EVERY_NS
            for warning in open_warnings(self._config):
                log.warning("without keys", warning=warning)

    def _cut(self, right: str) -> None:
        """A right was taken from somebody: its sockets are made anew, which ends his connections too."""
        for desk in (self.publisher, *self._desks.values()):
            if desk.listener.is_protected and desk.listener.domain == right:
                desk.renew()

    def _make_guard(self, undo: contextlib.ExitStack) -> Guard | None:
        """One for all sockets that want keys; None where none does. Raises ConfigError."""
        if problems := key_problems(self._config):
            raise ConfigError("keys", problems)
        if not any(wants_keys(self._config, name) for name in SOCKETS):
            return None
        undo.callback((guard := Guard(self._context, keys_folder(self._config))).close)
        return guard

    def _guard_of(self, name: str) -> Guard | None:
        return self._guard if wants_keys(self._config, name) else None
