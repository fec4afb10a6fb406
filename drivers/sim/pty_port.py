"""The virtual cell's serial boards: a pseudo-terminal with a stable name, which pyserial opens like a port.

A pty enforces no baud rate and blocks its writer instead of overrunning, so frames wait in a bounded backlog here
and the oldest are dropped and counted when nobody reads.
"""

import contextlib
import os
import tty
from collections import deque
from pathlib import Path

__all__ = ["PtyPort"]


class PtyPort:
    """`link` is what a driver opens. `dropped` counts frames that nobody took in time, or while unplugged."""

    def __init__(self, link: Path, backlog_frames: int) -> None:
        self.link = link
        self.dropped = 0
        self._backlog: deque[bytes] = deque()
        self._backlog_frames = backlog_frames
        self._rest = b""
        self._far = self._near = -1
        self.plug()

    def write(self, frame: bytes) -> None:
        """Send one frame as soon as the reader takes it; never blocks."""
        if self._far < 0:
            self.dropped += 1
            return
        self._backlog.append(frame)
        if len(self._backlog) > self._backlog_frames:
            self._discard_kernel_buffer(len(frame))
        self._flush()

    def plug(self) -> None:
        """Fault ends: the board is back under the same name."""
        if self._far >= 0:
            return
        self._far, self._near = os.openpty()
        # Held open, or the port would hang up whenever its reader closes.
        tty.setraw(self._near)
        os.set_blocking(self._far, False)
        os.set_blocking(self._near, False)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._near))

    def unplug(self) -> None:
        """Fault: the board is pulled; its reader sees a hang-up and the name is gone."""
        if self._far < 0:
            return
        self.link.unlink(missing_ok=True)
        os.close(self._far)
        os.close(self._near)
        self._far = self._near = -1
        self.dropped += len(self._backlog)
        self._backlog.clear()
        self._rest = b""

    def close(self) -> None:
        """Remove the port."""
        self.unplug()

    def _discard_kernel_buffer(self, frame_bytes: int) -> None:
        """Nobody reads: take the oldest out of the pty, or who opens it next would begin with the distant past."""
        discarded = 0
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._near, 65_536):
                discarded += len(data)
        self.dropped += discarded // frame_bytes
        while len(self._backlog) > self._backlog_frames:
            self._backlog.popleft()
            self.dropped += 1

    def _flush(self) -> None:
        while self._rest or self._backlog:
            self._rest = self._rest or self._backlog.popleft()
            try:
                self._rest = self._rest[os.write(self._far, self._rest) :]
            except BlockingIOError:
                return
