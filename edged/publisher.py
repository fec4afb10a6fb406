"""The publisher: journal entries, health and heartbeats on one XPUB socket; the end of the data path.

A verdict goes out only as a journal `Entry`. Whoever subscribes late gets the last value of each topic at once;
others with the same subscription then get it a second time, which `sequence` tells them. A subscriber that
does not keep up loses messages (never the daemon its pace) and sees that in `sequence`.
Not thread-safe: it belongs to the engine's thread.
"""

from collections.abc import Iterable
from typing import Any

import zmq

from edged.endpoints import Protector
from edged.journal import Entry
from edged.listener import Listener
from edged.wire import HealthMessage, HeartbeatMessage, LiveMessage, as_map, pack

__all__ = ["Publisher"]

SEND_QUEUE_MESSAGES = 1000
LINGER_MS = 500
MAX_SUBSCRIPTION_BYTES = 4 * 1024
"""Above this ZeroMQ drops the connection; topics are at most some hundred bytes."""
SUBSCRIBE = b"\x01"
SUBSCRIPTIONS_PER_TURN = 64


class Publisher:
    """Binds `endpoint` and publishes.

    Args:
        context: the process's ZeroMQ context.
        endpoint: tcp or ipc.
        last: the journal's last entry of every topic, so that a restart forgets nothing.
        guard: lets in those who have a key with the right `verdict`; None: whoever reaches the endpoint.
    Raises EndpointError when the endpoint cannot be bound.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        last: Iterable[Entry] = (),
        guard: Protector | None = None,
    ) -> None:
        options: dict[int, int] = {
            zmq.XPUB_VERBOSE: 1,
            zmq.SNDHWM: SEND_QUEUE_MESSAGES,
            zmq.LINGER: LINGER_MS,
            zmq.MAXMSGSIZE: MAX_SUBSCRIPTION_BYTES,
        }
        self._last: dict[bytes, bytes] = {entry.topic.encode(): entry.payload for entry in last}
        self.published = 0
        self.listener = Listener(context, zmq.XPUB, endpoint, options, guard, "verdict")
        self.endpoint = self.listener.endpoint

    @property
    def socket(self) -> "zmq.Socket[Any]":
        """To be polled; another one after connections were cut."""
        return self.listener.socket

    def publish(self, entry: Entry) -> None:
        """Send a journal entry and keep it for late joiners."""
        self._send(entry.topic.encode(), entry.payload, keep=True)
        self.published += 1

    def health(self, message: HealthMessage) -> None:
        """Send the health of the cell and keep it for late joiners."""
        self._send(b"health", pack(as_map(message)), keep=True)

    def heartbeat(self, message: HeartbeatMessage) -> None:
        """Send a proof of life; an old one proves nothing, so it is not kept."""
        self._send(b"heartbeat", pack(as_map(message)), keep=False)

    def live(self, message: LiveMessage) -> None:
        """Send a point of the live score; it is not kept, and lost to whoever does not keep up."""
        self._send(b"live", pack(as_map(message)), keep=False)

    def serve(self) -> None:
        """Give new subscribers the last values; never blocks. Call it in every turn."""
        self.listener.attend()
        prefixes = []
        for _ in range(SUBSCRIPTIONS_PER_TURN):
            if not self.socket.poll(0):
                break
            request = self.socket.recv_multipart(zmq.NOBLOCK)[0]
            if request.startswith(SUBSCRIBE):
                prefixes.append(request[1:])
        # Each topic once, however many have just subscribed to it: all of them get it.
        for topic in [topic for topic in self._last if topic.startswith(tuple(prefixes))]:
            self.socket.send_multipart([topic, self._last[topic]])

    def renew(self) -> None:
        """End all connections; who is still allowed comes back by itself, and asks the journal for what it missed."""
        self.listener.renew()

    def close(self) -> None:
        """Send what is queued, for at most half a second, and close."""
        self.listener.close()

    def _send(self, topic: bytes, payload: bytes, *, keep: bool) -> None:
        self.serve()
        if keep:
            self._last[topic] = payload
        self.socket.send_multipart([topic, payload])
