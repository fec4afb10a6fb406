"""Where verdicts of a replay leave: publisher and journal socket of their own, so that nobody takes them for welds.

Beside the live data path and never on its endpoints. Every verdict carries `is_simulated`, and the journal, which
ends with the replay, has a `journal_id` that no live verdict has.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import zmq

from edged.client.endpoints import journal_endpoint
from edged.journal import Journal
from edged.journal_desk import JournalDesk
from edged.net_rules import is_off_loopback
from edged.publisher import Publisher
from edged.types import Verdict
from edged.wire import HeartbeatMessage

__all__ = ["ReplayOutlet", "must_be_apart"]

LIVE_PORTS = (5560, 5561)
HEARTBEAT_NS = 1_000_000_000
TURN_NS = 10_000_000
RESERVE_BYTES = 64 * 1024


def must_be_apart(endpoint: str, live: Iterable[str]) -> None:
    """Raises ValueError where verdicts or journal of a replay would stand at a live endpoint, or off this machine."""
    places = {_place(endpoint), _place(journal_endpoint(endpoint))}
    if is_off_loopback(endpoint):
        raise ValueError(f"--publish {endpoint}: a replay may be published on loopback or ipc only")
    taken = {_place(there): there for there in live} | {str(port): f"port {port}" for port in LIVE_PORTS}
    taken.pop("*", None)
    if found := sorted(taken[place] for place in places & taken.keys()):
        raise ValueError(
            f"--publish {endpoint}: {found[0]} is for live verdicts; a replay needs an endpoint of its own, "
            "such as tcp://127.0.0.1:5570 (with 5571 for its journal)"
        )


def _place(endpoint: str) -> str:
    """What two endpoints share that cannot both be bound: a port, whatever the host, or a file."""
    scheme, _, rest = endpoint.partition("://")
    return rest.rpartition(":")[2] if scheme == "tcp" else endpoint


class ReplayOutlet:
    """Binds `endpoint` and its journal socket. `close` must follow.

    Args:
        endpoint: loopback tcp or ipc, see `must_be_apart`.
        software: name and version, for heartbeats.
    Raises EndpointError.
    """

    def __init__(self, endpoint: str, software: str) -> None:
        self._software, self._next_beat_ns, self._next_turn_ns = software, 0, 0
        with contextlib.ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="edged-replay-")))
            undo.callback((journal := Journal(folder / "journal.db", reserve_bytes=RESERVE_BYTES)).close)
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            undo.callback(context.term)
            undo.callback((publisher := Publisher(context, endpoint)).close)
            undo.callback(
                (desk := JournalDesk(context, journal_endpoint(endpoint), journal, software=software)).close
            )
            self._journal, self._publisher, self._desk = journal, publisher, desk
            self._undo = undo.pop_all()

    def publish(self, verdict: Verdict) -> None:
        """Journal and publish it as simulated. Raises DuplicateSeam where its seam was published already."""
        self._publisher.publish(self._journal.append(dataclasses.replace(verdict, is_simulated=True)))

    def serve(self) -> None:
        """Answer who asks, and give a sign of life each second; never blocks, and costs nothing when called often."""
        if (now_ns := time.monotonic_ns()) < self._next_turn_ns:
            return
        self._next_turn_ns = now_ns + TURN_NS
        self._publisher.serve()
        self._desk.serve()
        if now_ns >= self._next_beat_ns:
            self._next_beat_ns = now_ns + HEARTBEAT_NS
            self._beat()

    def hold(self, hold_s: float) -> None:
        """Go on answering for so long."""
        end_ns = time.monotonic_ns() + round(hold_s * 1e9)
        while (left_ns := end_ns - time.monotonic_ns()) > 0:
            sockets = [(self._publisher.socket, zmq.POLLIN), (self._desk.socket, zmq.POLLIN)]
            zmq.zmq_poll(sockets, min(100, left_ns // 1_000_000))
            self._next_turn_ns = 0
            self.serve()

    def close(self) -> None:
        """Send what is queued, close, and forget the journal."""
        self._undo.close()

    def _beat(self) -> None:
        self._publisher.heartbeat(
            HeartbeatMessage(
                journal_id=self._journal.journal_id,
                last_sequence=self._journal.last_sequence,
                state="ok",
                utc_ns=time.time_ns(),
                software=self._software,
                is_simulated=True,
            )
        )
