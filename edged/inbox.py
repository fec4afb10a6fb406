"""The bounded queue between the streams' threads and the engine's: the only thing they share besides the rings."""

import os
from collections import deque

from drivers.base import Chunk

__all__ = ["Inbox"]

MAX_CHUNKS = 16_384
"""Well above half a minute of five busy streams; an engine that far behind has other troubles."""


class Inbox:
    """Many threads put, one takes; `fileno` becomes readable when there is something, so it fits into a poll.

    A chunk beyond the limit is dropped and counted: the seam it belongs to then has a gap, and says so.
    """

    def __init__(self, max_chunks: int = MAX_CHUNKS) -> None:
        self._chunks: deque[Chunk] = deque()
        self._max_chunks = max_chunks
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.dropped = 0

    def put(self, chunk: Chunk) -> None:
        """Never blocks."""
        if len(self._chunks) >= self._max_chunks:
            self.dropped += 1
            return
        self._chunks.append(chunk)
        self.wake()

    def take(self, limit: int) -> list[Chunk]:
        """Up to `limit` chunks in the order in which they came."""
        if len(self._chunks) <= limit:
            self._clear()
        # The flag is cleared before the queue is read, so what comes in between is found on the next turn.
        return [self._chunks.popleft() for _ in range(min(limit, len(self._chunks)))]

    def wake(self) -> None:
        """Make the poll return; safe in a signal handler."""
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """What to poll."""
        return self._event

    def __len__(self) -> int:
        return len(self._chunks)

    def close(self) -> None:
        """Release the descriptor; no thread may `put` any more."""
        os.close(self._event)

    def _clear(self) -> None:
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
