"""The capture child: `python -m edged.capture SOCKET_FD MEMORY_FD`, a process of its own around one driver.

Data path: device → Driver → **this process** → the ring's memory; `edged.capture_client` is the parent's end.
OpenCV can hang for ever in `read()` and PortAudio in `close()`: a process can be killed, a thread cannot. Chunks are
written straight into the parent's ring; only a notice of a few bytes is sent. Notices never block: when the parent
does not keep up they are dropped and their items counted into the next one's `lost_before`.

Exec'd, never forked, and light: it imports numpy, pydantic and its driver. It dies with its parent: by the kernel's
parent death signal, and by the closed socket.
"""

import ctypes
import mmap
import os
import signal
import socket
import sys

from drivers.base import Chunk, DeviceError, Driver, StreamEnded
from drivers.table import create_driver
from edged.arena import Arena
from edged.capture_wire import CHUNK, ENDED, FAILED, IDLE, MAX_PACKET, OPENED, ChildTask, Notice, pack
from edged.ring import check_data, item_bytes

__all__ = ["Notifier", "capture", "main"]

PR_SET_PDEATHSIG = 1


class Notifier:
    """The child's end of the pair; never blocks, remembers what it had to drop."""

    def __init__(self, pair: socket.socket) -> None:
        self._pair = pair
        self._pair.setblocking(False)
        self._dropped_items = 0

    def chunk(self, chunk: Chunk, offset: int) -> None:
        """Tell of a chunk. Raises OSError when the parent is gone."""
        lost = chunk.lost_before + self._dropped_items
        notice = Notice(chunk.seq, chunk.counter, chunk.arrival_ns, lost, offset, chunk.n, chunk.data.nbytes)
        self._dropped_items = 0 if self.tell(CHUNK, notice) else lost + chunk.n

    def tell(self, kind: bytes, body: Notice | str | None = None) -> bool:
        """Send a packet; False when the parent does not keep up."""
        try:
            self._pair.send(pack(kind, body))
        except BlockingIOError:
            return False
        return True

    def tell_last(self, kind: bytes, text: str) -> None:
        """Send the last packet, waiting a second for room."""
        self._pair.settimeout(1.0)
        self._pair.send(pack(kind, text))


def capture(driver: Driver, arena: Arena, notifier: Notifier) -> None:
    """Open the driver and write what it reads into the arena until it fails or ends."""
    try:
        driver.open()
        notifier.tell(OPENED)
        while True:
            chunk = driver.read()
            if chunk is None:
                notifier.tell(IDLE)
                continue
            check_data(driver.spec, chunk.data)
            notifier.chunk(chunk, arena.write(chunk.data))
    except StreamEnded as error:
        notifier.tell_last(ENDED, str(error))
    except (DeviceError, ValueError) as error:
        notifier.tell_last(FAILED, str(error))
    finally:
        driver.close()


def main(socket_fd: int, memory_fd: int) -> None:
    """Receive the task, run it, exit."""
    _die_with_parent()
    pair = socket.socket(fileno=socket_fd)
    memory = mmap.mmap(memory_fd, 0)
    os.close(memory_fd)
    task = ChildTask.model_validate_json(pair.recv(MAX_PACKET))
    notifier = Notifier(pair)
    try:
        driver = create_driver(task.driver, task.name, task.options)
    except DeviceError as error:
        notifier.tell_last(FAILED, str(error))
        return
    try:
        capture(driver, Arena(memory, item_bytes(driver.spec), shared=True), notifier)
    except BrokenPipeError:
        sys.exit(f"capture of {task.name}: the daemon is gone")


def _die_with_parent() -> None:
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent or parent == 1:
        sys.exit("capture: the daemon is gone")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
