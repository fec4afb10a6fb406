"""The daemon's delivery alone, on a thread of its own: real journal, publisher and journal socket, fed by a test."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from edged.acknowledgements import Acknowledgements
from edged.client import journal_endpoint
from edged.guard import Guard
from edged.journal import Journal
from edged.journal_desk import JournalDesk
from edged.publisher import Publisher
from edged.types import PartVerdict, Verdict
from edged.wire import HeartbeatMessage
from tests.support.verdicts import a_verdict

__all__ = ["Source", "free_endpoint"]

BEAT_EVERY_S = 0.1


class Source:
    """What `edged run` binds for subscribers. `stop` ends it (what was queued is lost, as with kill), `start` again.

    Args:
        path: the journal.
        verdicts: endpoint with a fixed port, so that a restart comes up at the same place.
        keys: folder of the daemon's keys, where its sockets want some.
        acknowledge: names of clients that acknowledge.
    """

    def __init__(
        self, path: Path, verdicts: str, keys: Path | None = None, acknowledge: tuple[str, ...] = ()
    ) -> None:
        self.path, self.verdicts, self.journal = path, verdicts, journal_endpoint(verdicts)
        self._keys, self._acknowledge = keys, acknowledge
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.beats = True
        self.publishes = True
        """False: verdicts go into the journal only, as if the subscriber's queue were full."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bind and serve; returns when that is done."""
        self._stop.clear()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10), "the source did not come up"

    def stop(self) -> None:
        """End the thread, its sockets and the journal."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)
            self._thread = None

    def add(self, count: int = 1, program: str = "T1", **changes: Any) -> list[str]:
        """Append and publish verdicts of new seams; their ids."""
        verdicts = [a_verdict(f"S{time.monotonic_ns()}-{number}", program, **changes) for number in range(count)]
        self._call(lambda: [self._publish(verdict) for verdict in verdicts])
        return [verdict.seam.seam_id for verdict in verdicts]

    def append(self, verdict: Verdict | PartVerdict) -> str:
        """Append and publish; returns when it is in the journal and with the publisher."""
        self._call(lambda: self._publish(verdict))
        return verdict.seam.seam_id if isinstance(verdict, Verdict) else verdict.part_id

    def send(self, *frames: bytes) -> None:
        """Publish frames as they are, whatever they hold."""
        self._call(lambda: self.publisher.socket.send_multipart(list(frames)))

    def entries(self) -> list[tuple[int, bytes]]:
        """(sequence, payload) of everything in the journal."""
        found: list[tuple[int, bytes]] = []
        self._call(lambda: found.extend((entry.sequence, entry.payload) for entry in self.db.range(1, 2**62, 10**6)))
        return found

    def ask(self, what: Callable[[], Any]) -> Any:
        """What a function finds on the source's thread, which the journal belongs to."""
        found: list[Any] = []
        self._call(lambda: found.append(what()))
        return found[0]

    @contextlib.contextmanager
    def unpublished(self) -> Iterator[None]:
        """Verdicts go only into the journal."""
        self.publishes = False
        yield
        self.publishes = True

    def _publish(self, verdict: Verdict | PartVerdict) -> None:
        entry = self.db.append(verdict)
        if self.publishes:
            self.publisher.publish(entry)

    def _call(self, what: Callable[[], object]) -> None:
        done = threading.Event()
        self._calls.put(lambda: (what(), done.set())[0])
        assert done.wait(10), "the source does not work any more"

    def _run(self, ready: threading.Event) -> None:
        with contextlib.ExitStack() as undo:
            context: zmq.Context[Any] = zmq.Context()
            undo.callback(context.term)
            undo.callback((db := Journal(self.path, reserve_bytes=65536)).close)
            self.db = db
            guard = None if self._keys is None else Guard(context, self._keys)
            if guard is not None:
                undo.callback(guard.close)
            undo.callback((publisher := Publisher(context, self.verdicts, db.last_per_program(), guard)).close)
            self.publisher = publisher
            self.acknowledgements = Acknowledgements(db, self._acknowledge, 60.0)
            desk = JournalDesk(context, self.journal, db, guard, acknowledgements=self.acknowledgements)
            undo.callback(desk.close)
            ready.set()
            next_beat_s = 0.0
            while not self._stop.is_set():
                self._turn(guard, publisher, desk)
                if self.beats and time.monotonic() >= next_beat_s:
                    next_beat_s = time.monotonic() + BEAT_EVERY_S
                    publisher.heartbeat(self._heartbeat())

    def _turn(self, guard: Guard | None, publisher: Publisher, desk: JournalDesk) -> None:
        sockets = [publisher.socket, desk.socket, *([] if guard is None else guard.sockets())]
        zmq.zmq_poll([(socket, zmq.POLLIN) for socket in sockets], 5)
        if guard is not None:
            guard.serve()
            if guard.reloaded():
                publisher.renew()
                desk.renew()
        publisher.serve()
        desk.serve()
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()()

    def _heartbeat(self) -> HeartbeatMessage:
        return HeartbeatMessage(
            journal_id=self.db.journal_id,
            last_sequence=self.db.last_sequence,
            state="ok",
            utc_ns=time.time_ns(),
            cell="cell",
        )


def free_endpoint() -> str:
    """A loopback endpoint whose port and the one above are free now."""
    with zmq.Context() as context, context.socket(zmq.REP) as lower, context.socket(zmq.REP) as upper:
        for _ in range(50):
            port = lower.bind_to_random_port("tcp://127.0.0.1")
            try:
                upper.bind(f"tcp://127.0.0.1:{port + 1}")
            except zmq.ZMQError:
                lower.unbind(f"tcp://127.0.0.1:{port}")
                continue
            return f"tcp://127.0.0.1:{port}"
    raise OSError("no two free ports in a row")
