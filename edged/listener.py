"""A bound ZeroMQ socket that can be made anew at the same place, which is how connections are cut.

ZeroMQ closes in the background: for some milliseconds the old socket still holds the port, or the socket file. The
new one is bound as soon as that is free, in a later turn if need be; until then it sends to nobody.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
import zmq

from edged.endpoints import EndpointError, Protector, bind, close, keep_alive

__all__ = ["Listener"]

BIND_WITHIN_NS = 5_000_000_000

log = structlog.get_logger(__name__)


class Listener:
    """Binds at once; `renew` ends all connections and listens again, `attend` belongs into every turn.

    Args:
        context: the process's ZeroMQ context.
        kind: XPUB, ROUTER, …
        endpoint: ipc or tcp.
        options: of the socket, beside those that keep connections alive; LINGER is that of `close`.
        guard: lets in those whose key has the right `domain`; None: whoever reaches the endpoint.
        now_ns: a monotonic clock.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        kind: int,
        endpoint: str,
        options: Mapping[int, int],
        guard: Protector | None,
        domain: str,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._context, self._kind, self._options = context, kind, dict(options)
        self._guard, self.domain, self._now_ns = guard, domain, now_ns
        self._bind_before_ns: int | None = None
        """While the new socket is not bound."""
        self._is_ipv6 = endpoint.startswith("tcp://[")
        self.socket = self._make()
        try:
            self.endpoint = bind(self.socket, endpoint)
        except BaseException:
            self._release()
            self.socket.close(linger=0)
            raise

    @property
    def is_protected(self) -> bool:
        """Whether a guard decides who is let in."""
        return self._guard is not None

    def renew(self, linger_ms: int = 0) -> None:
        """End all connections; who is still allowed comes back by itself. `linger_ms`: for what is queued."""
        self._release()
        self.socket.close(linger=linger_ms)
        self.socket = self._make()
        self._bind_before_ns = self._now_ns() + BIND_WITHIN_NS
        self.attend()

    def attend(self) -> None:
        """Bind the new socket if its place is free by now. Raises EndpointError when that takes too long."""
        if self._bind_before_ns is None:
            return
        try:
            bind(self.socket, self.endpoint)
        except EndpointError:
            if self._now_ns() >= self._bind_before_ns:
                raise
            return
        self._bind_before_ns = None
        log.info("listening again", endpoint=self.endpoint)

    def close(self) -> None:
        """Send what is queued, as long as LINGER says, and close."""
        self._release()
        close(self.socket, self.endpoint)

    def _make(self) -> "zmq.Socket[Any]":
        made = self._context.socket(self._kind)
        try:
            for option, value in self._options.items():
                made.setsockopt(option, value)
            keep_alive(made)
            made.setsockopt(zmq.IPV6, int(self._is_ipv6))
            if self._guard is not None:
                self._guard.protect(made, self.domain)
        except BaseException:
            made.close(linger=0)
            raise
        return made

    def _release(self) -> None:
        if self._guard is not None:
            self._guard.release(self.socket)
