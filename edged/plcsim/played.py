"""A daemon's delivery without its cell: the real journal, publisher and journal socket, fed by whoever owns it."""

import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from edged.client.endpoints import journal_endpoint
from edged.guard import Guard
from edged.journal import Entry, Journal
from edged.journal_desk import JournalDesk
from edged.publisher import Publisher
from edged.types import PartVerdict, Verdict
from edged.wire import HealthMessage, HeartbeatMessage

__all__ = ["PlayedDelivery"]

BEAT_EVERY_NS = 1_000_000_000
RESERVE_BYTES = 64 * 1024
SOFTWARE = "edged plc-sim"


class PlayedDelivery:
    """Binds `verdicts` and the journal socket beside it; a context manager. Not thread-safe.

    Args:
        path: the journal.
        verdicts: where to publish.
        keys: folder of `edged keys`; None: whoever reaches the endpoint.
        journal: the journal socket's endpoint; None: derived from `verdicts`.
    Raises EndpointError, JournalError, KeysError.
    """

    def __init__(self, path: Path, verdicts: str, keys: Path | None = None, journal: str | None = None) -> None:
        self.beats = True
        """False: no heartbeats, as of a daemon that hangs."""
        self._next_beat_ns = 0
        with ExitStack() as undo:
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(context.term)
            self._guard: Guard | None = None
            if keys is not None:
                undo.callback((guard := Guard(context, keys)).close)
                self._guard = guard
            undo.callback((opened := Journal(path, reserve_bytes=RESERVE_BYTES)).close)
            self.journal = opened
            last = opened.last_per_program()
            undo.callback((publisher := Publisher(context, verdicts, last, self._guard)).close)
            self.publisher = publisher
            where = journal or journal_endpoint(publisher.endpoint)
            undo.callback((desk := JournalDesk(context, where, opened, self._guard, SOFTWARE)).close)
            self.desk = desk
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def append(self, verdict: Verdict | PartVerdict) -> Entry:
        """Write it into the journal only, as if the publisher's queue to everybody were full."""
        return self.journal.append(verdict)

    def publish(self, verdict: Verdict | PartVerdict) -> Entry:
        """Write it into the journal and publish it."""
        entry = self.journal.append(verdict)
        self.publisher.publish(entry)
        return entry

    def send(self, topic: bytes, payload: bytes) -> None:
        """Publish what no journal holds."""
        self.publisher.socket.send_multipart([topic, payload])

    def turn(self, within_s: float = 0.0) -> None:
        """Serve whoever asks, and send a heartbeat when it is time; waits for requests, at most `within_s`."""
        end_ns = time.monotonic_ns() + round(within_s * 1e9)
        sockets = [self.publisher.socket, self.desk.socket]
        if self._guard is not None:
            sockets += self._guard.sockets()
        wait_ns = max(0, min(end_ns, self._next_beat_ns if self.beats else end_ns) - time.monotonic_ns())
        zmq.zmq_poll([(socket, zmq.POLLIN) for socket in sockets], wait_ns // 1_000_000)
        if self._guard is not None:
            self._guard.serve()
            if self._guard.reloaded():
                self.publisher.renew()
                self.desk.renew()
        self.publisher.serve()
        self.desk.serve()
        if self.beats and time.monotonic_ns() >= self._next_beat_ns:
            self.beat()

    def serve(self, for_s: float) -> None:
        """Turns for so long."""
        end_s = time.monotonic() + for_s
        while (left_s := end_s - time.monotonic()) > 0:
            self.turn(left_s)

    def beat(self) -> None:
        """Health and a heartbeat now; the next ones a second later."""
        self._next_beat_ns = time.monotonic_ns() + BEAT_EVERY_NS
        self.publisher.health(
            HealthMessage(
                journal_id=self.journal.journal_id,
                cell="made-up",
                state="ok",
                warnings=["nothing of this is real"],
                streams={},
                worker={},
                programs={},
                config_id="made-up",
                utc_ns=time.time_ns(),
            )
        )
        self.publisher.heartbeat(
            HeartbeatMessage(
                journal_id=self.journal.journal_id,
                last_sequence=self.journal.last_sequence,
                state="ok",
                utc_ns=time.time_ns(),
                cell="made-up",
                software=SOFTWARE,
                armed=["bracket"],
                is_simulated=True,
                config_id="made-up",
            )
        )

    def close(self) -> None:
        """Close everything; the journal stays on disk."""
        self._undo.close()
