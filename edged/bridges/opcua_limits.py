"""asyncua's server with limits that it leaves to its user: memory before login, sessions, and no registration.

Only subclasses; asyncua itself is used as it is.
"""

import asyncio
import logging
from typing import Any

from asyncua import Server, ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession

__all__ = ["BoundedServer", "limit_log"]

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_CHUNK_BYTES = 65_535
MAX_UNPARSED_BYTES = 2 * MAX_CHUNK_BYTES
"""A chunk may be 64 KiB; what is not parsed by then never will be."""

LOGIN_WITHIN_S = 10.0
SESSION_TIMEOUT_MS = 120_000
MAX_SUBSCRIPTIONS = 256
LOGS_A_MINUTE = 60
NOBODY = User(role=UserRole.Anonymous)


class _BoundedProtocol(OPCUAProtocol):
    """Closes a connection that sends more than can be a message; asyncua would collect it."""

    _buffer: bytes

    def data_received(self, data: bytes) -> None:
        if len(self._buffer) + len(data) > MAX_UNPARSED_BYTES + MAX_CHUNK_BYTES:
            logging.getLogger(__name__).warning("%s sends no OPC UA: closed", self.peer_name)
            self._buffer = b""
            if self.transport is not None:
                self.transport.close()
            return
        super().data_received(data)


class _BoundedBinaryServer(BinaryServer):
    def _make_protocol(self) -> OPCUAProtocol:
        return _BoundedProtocol(self.iserver, self._policies, self.clients, self.closing_tasks, self.limits)


class _BoundedInternalServer(InternalServer):
    """Keeps a fixed number of sessions: the one that was silent longest makes room, those not logged in first."""

    def __init__(self, user_manager: Any, max_sessions: int) -> None:
        super().__init__(user_manager=user_manager)
        self._max_sessions = max_sessions
        self._closing: set[asyncio.Task[None]] = set()

    def create_session(
        self,
        name: str,
        user: User = NOBODY,
        external: bool = False,
    ) -> InternalSession:
        if external and len(self._external_sessions) >= self._max_sessions:
            victim = min(self._external_sessions.values(), key=lambda one: (one.is_activated(), one._last_activity))
            self.unregister_external_session(victim)
            task = asyncio.get_running_loop().create_task(victim.close_session(True))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return super().create_session(name, user, external)

    def lookup_external_session(self, auth_token: ua.NodeId) -> InternalSession | None:
        """None: asyncua's tokens can be guessed, so nobody takes a session over from another channel."""
        return None

    def register_server(self, server: Any, conf: Any = None) -> None:
        """This is no discovery server; unknown peers could fill its memory."""
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)


class BoundedServer(Server):
    """`asyncua.Server` with the limits above.

    Args:
        user_manager: decides who becomes a user.
        max_connections: TCP connections, and sessions too.
    """

    def __init__(self, user_manager: Any, max_connections: int) -> None:
        inner = _BoundedInternalServer(user_manager, max_connections)
        inner.allow_remote_admin = False
        inner.max_connections = max_connections
        inner.max_pending_activation_seconds = LOGIN_WITHIN_S
        inner.max_session_timeout_ms = SESSION_TIMEOUT_MS
        inner.max_subscriptions = MAX_SUBSCRIPTIONS
        inner.max_monitored_item_queue_size = 1000
        inner.max_unacked_messages_per_subscription = 100
        inner.max_pending_messages_per_connection = 100
        super().__init__(iserver=inner)
        self.limits = TransportLimits(
            max_recv_buffer=MAX_CHUNK_BYTES,
            max_send_buffer=MAX_CHUNK_BYTES,
            max_chunk_count=MAX_MESSAGE_BYTES // MAX_CHUNK_BYTES + 1,
            max_message_size=MAX_MESSAGE_BYTES,
        )

    async def start(self) -> None:
        """As asyncua's, with the bounded protocol in it. Raises OSError where the port is taken."""
        await self._setup_server_nodes()
        await self.iserver.start()
        host, port = self._get_bind_socket_info()
        self.bserver = _BoundedBinaryServer(self.iserver, host or "127.0.0.1", port or 0, self.limits)
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except OSError:
            await self.iserver.stop()
            raise


class _Limited(logging.Filter):
    """Lets so many records of asyncua through a minute, then says how many it kept back."""

    def __init__(self, per_minute: int) -> None:
        super().__init__()
        self._per_minute = per_minute
        self._minute, self._count = 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        minute = int(record.created // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count == self._per_minute:
            record.msg, record.args = f"{record.getMessage()} (and more of asyncua this minute, kept back)", ()
        return self._count <= self._per_minute


def limit_log(handlers: list[logging.Handler]) -> None:
    """asyncua's warnings go to `handlers`, a bounded number a minute: strangers cause them with a few bytes each."""
    logger = logging.getLogger("asyncua")
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    forward = _Forward(handlers)
    forward.addFilter(_Limited(LOGS_A_MINUTE))
    logger.handlers = [forward]


class _Forward(logging.Handler):
    def __init__(self, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._to = handlers

    def emit(self, record: logging.LogRecord) -> None:
        record.exc_info = record.exc_text = record.stack_info = None  # a traceback a stranger causes helps nobody
        for handler in self._to:
            handler.handle(record)
