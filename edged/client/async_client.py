"""`AsyncClient`: the same subscriber for asyncio."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import zmq

from .client import Client
from .events import Entry, Event, Position, State
from .link import LOOK_EVERY_S

__all__ = ["AsyncClient"]


class AsyncClient:
    """`Client` with `await` and `async for`; takes the same arguments. Use it in one task of one event loop.

    `receive` may be cancelled at any time: nothing is lost by it.
    """

    def __init__(self, verdicts: str = "tcp://127.0.0.1:5560", **options: Any) -> None:
        self._client = Client(verdicts, **options)
        self._link = self._client._link
        self._is_open = True

    @property
    def position(self) -> Position | None:
        """As `Client.position`."""
        return self._client.position

    @property
    def state(self) -> State:
        """As `Client.state`."""
        return self._client.state

    @property
    def rejected(self) -> int:
        """As `Client.rejected`."""
        return self._client.rejected

    async def receive(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None when there was none within the time-out (None: wait for ever)."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._is_open:
            if (event := self._link.turn()) is not None:
                return event
            left_s = LOOK_EVERY_S if end_s is None else end_s - time.monotonic()
            if left_s <= 0:
                return None
            await self._wait(min(left_s, LOOK_EVERY_S))
        return None

    def acknowledge(self, entry: Entry) -> None:
        """As `Client.acknowledge`."""
        self._client.acknowledge(entry)

    async def close(self) -> None:
        """Close the sockets; may be called again."""
        if self._is_open:
            self._is_open = False
            await asyncio.to_thread(self._client.close)

    async def __aiter__(self) -> AsyncIterator[Entry]:
        """Verdicts and parts for ever, or until closed. Other events pass silently: `state` still tells."""
        while self._is_open:
            event = await self.receive()
            if isinstance(event, Entry):
                yield event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _wait(self, within_s: float) -> None:
        """Until something can be read, or a question be sent, or the time is over."""
        wanted = {
            self._link.published: zmq.POLLIN,
            self._link.journal: zmq.POLLIN | (zmq.POLLOUT if self._link.has_unsent else 0),
        }
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        descriptors = [int(socket.getsockopt(zmq.FD)) for socket in wanted]
        for descriptor in descriptors:
            loop.add_reader(descriptor, changed.set)
        try:
            # ZeroMQ's descriptor tells changes only: what was there before must be asked for, once it is watched.
            if not any(int(socket.getsockopt(zmq.EVENTS)) & mask for socket, mask in wanted.items()):
                async with asyncio.timeout(within_s):
                    await changed.wait()
        except TimeoutError:
            pass
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
