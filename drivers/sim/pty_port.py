"""The virtual cell's serial boards: a pseudo-terminal with a stable name, which pyserial opens like a port.

What a board sends while nobody has its port open is gone, and so it is here. A pty enforces no baud rate and blocks
its writer instead of overrunning: while a reader has it open, frames wait in a bounded backlog for it.
"""

import os
import select
import tty
from collections import deque
from pathlib import Path

__all__ = ["PtyPort"]


class PtyPort:
    """`link` is what a driver opens.

    `unread` counts frames sent while nobody had the port open or it was unplugged; `dropped` those that a reader
    lost, because it had fallen `backlog_frames` behind.
    """

    def __init__(self, link: Path, backlog_frames: int) -> None:
        self.link = link
        self.dropped = 0
        self.unread = 0
        self._backlog: deque[bytes] = deque()
        self._backlog_frames = backlog_frames
        self._rest = b""
        self._far = -1
        self._poll = select.poll()
        self.plug()

    @property
    def is_read(self) -> bool:
        """Whether somebody has the port open."""
        return self._far >= 0 and not any(event & select.POLLHUP for _, event in self._poll.poll(0))

    def write(self, frame: bytes) -> None:
        """Send one frame as soon as the reader takes it; never blocks."""
        if not self.is_read:
            self._forget()
            self.unread += 1
            return
        self._backlog.append(frame)
        self._flush()
        while len(self._backlog) > self._backlog_frames:
            self._backlog.popleft()
            self.dropped += 1

    def plug(self) -> None:
        """Fault ends: the board is back under the same name."""
        if self._far >= 0:
            return
        self._far, near = os.openpty()
        tty.setraw(near)
        # Not kept open: a pty that nobody else has open says so (POLLHUP), and takes up again when it is opened.
        os.set_blocking(self._far, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(near))
        os.close(near)
        self._poll.register(self._far, 0)

    def unplug(self) -> None:
        """Fault: the board is pulled; its reader sees a hang-up and the name is gone."""
        if self._far < 0:
            return
        self.link.unlink(missing_ok=True)
        self._poll.unregister(self._far)
        os.close(self._far)
        self._far = -1
        self._forget()

    def close(self) -> None:
        """Remove the port."""
        self.unplug()

    def _forget(self) -> None:
        """What the reader that has gone did not take, the next one shall not get: it is of the past."""
        self.unread += len(self._backlog)
        self._backlog.clear()
        self._rest = b""

    def _flush(self) -> None:
        while self._rest or self._backlog:
            self._rest = self._rest or self._backlog.popleft()
            try:
                self._rest = self._rest[os.write(self._far, self._rest) :]
            except BlockingIOError:
                return
