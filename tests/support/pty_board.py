"""A board at the far end of a real pseudo-terminal: what tests of serial drivers write to."""

import os
import threading
import tty
from types import TracebackType
from typing import Self


class PtyBoard:
    """A raw pty; `port` is what pyserial opens. Writes run in a thread, because a pty holds only 4 KiB."""

    def __init__(self) -> None:
        self.far, self._near = os.openpty()
        tty.setraw(self._near)
        self.port = os.ttyname(self._near)
        self._threads: list[threading.Thread] = []

    def send(self, data: bytes) -> None:
        """Write all of `data` as fast as the reader takes it; returns at once."""
        thread = threading.Thread(target=self._write, args=(data,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        """Wait until everything sent was taken."""
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), "the driver under test did not read what was sent"
        self._threads.clear()

    def unplug(self) -> None:
        """Close both ends of the pty that are ours; the driver's end sees a hang-up."""
        for fd in (self.far, self._near):
            if fd >= 0:
                os.close(fd)
        self.far = self._near = -1

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left and self.far >= 0:
            try:
                left = left[os.write(self.far, left) :]
            except OSError:
                return  # unplugged under way, which is what the test wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.unplug()
