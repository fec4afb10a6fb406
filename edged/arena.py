"""Bytes that a stream's data is written into, round and round: the lower half of a ring, shared with a capture child.

The writer announces what it is about to overwrite before it does, in the header of the buffer, so that a reader can
tell afterwards whether what it read was whole. The announcement reaches a guard zone further when the writer is
another process, which does not share our memory order.
"""

from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER_BYTES", "Arena", "Buffer", "fresh_buffer"]

Buffer = bytearray | mmap | memoryview

HEADER_BYTES = 64
"""One cache line; its first int64 is the offset up to which the writer has announced writes."""
GUARD_SHARE = 16
"""A shared arena's guard zone is capacity / GUARD_SHARE."""


def fresh_buffer(n_bytes: int) -> mmap:
    """Zeroed memory of this process that the kernel commits page by page as it is first written.

    A camera's ring is sized for the largest images that may come; a bytearray would hold all of that at once.
    """
    return mmap(-1, n_bytes, flags=MAP_PRIVATE | MAP_ANONYMOUS)


class Arena:
    """Bytes with a write position that only grows: offset `o` lies at byte `o % capacity_bytes`.

    Args:
        buffer: HEADER_BYTES + capacity; zeroed when fresh. A writer continues after what was last announced.
        item_bytes: every piece starts at a multiple of it, so that views are aligned.
        shared: whether reader and writer are different processes.
    """

    def __init__(self, buffer: Buffer, item_bytes: int = 1, shared: bool = False) -> None:
        raw = np.frombuffer(buffer, np.uint8)
        self.item_bytes = item_bytes
        self.capacity_bytes = (len(raw) - HEADER_BYTES) // item_bytes * item_bytes
        if self.capacity_bytes <= 0:
            raise ValueError(f"a buffer of {len(raw)} bytes holds no item of {item_bytes} bytes after its header")
        self._header = raw[:8].view(np.int64)
        self._bytes = raw[HEADER_BYTES : HEADER_BYTES + self.capacity_bytes]
        self._guard_bytes = self.capacity_bytes // GUARD_SHARE // item_bytes * item_bytes if shared else 0
        self._next = int(self._header[0])

    @property
    def oldest(self) -> int:
        """Pieces that start before this offset are overwritten or about to be."""
        return int(self._header[0]) - self.capacity_bytes

    def write(self, data: NDArray[Any]) -> int:
        """Copy `data` (C order) in and return its offset. Raises ValueError when it exceeds the arena."""
        raw = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        start = self._place(len(raw))
        at = start % self.capacity_bytes
        self._bytes[at : at + len(raw)] = raw
        return start

    def view(self, offset: int, n_bytes: int) -> NDArray[np.uint8]:
        """The bytes of the piece at `offset`, read-only. Raises ValueError when it would wrap."""
        at = offset % self.capacity_bytes
        if offset < 0 or n_bytes < 0 or at + n_bytes > self.capacity_bytes:
            raise ValueError(f"{n_bytes} bytes at {offset} do not lie inside an arena of {self.capacity_bytes} bytes")
        piece = self._bytes[at : at + n_bytes]
        piece.flags.writeable = False
        return piece

    def _place(self, n_bytes: int) -> int:
        limit = self.capacity_bytes - self._guard_bytes
        if n_bytes > limit:
            raise ValueError(f"a chunk of {n_bytes} bytes exceeds a ring of {limit} bytes; raise ring_s")
        start = self._next
        at = start % self.capacity_bytes
        if at + n_bytes > self.capacity_bytes:
            start += self.capacity_bytes - at
        self._next = start + -(-n_bytes // self.item_bytes) * self.item_bytes
        self._header[0] = self._next + self._guard_bytes
        return start
