"""The queue between threads: order, bound, and that a poll wakes up."""

import select
import threading

import numpy as np

from drivers.base import Chunk
from edged.inbox import Inbox


def _chunk(seq: int) -> Chunk:
    return Chunk("w", seq, seq, 0, 0, np.zeros((1, 1), np.int16))


def _readable(inbox: Inbox, timeout_s: float = 0.0) -> bool:
    return bool(select.select([inbox], [], [], timeout_s)[0])


def test_order_limit_and_wake() -> None:
    inbox = Inbox()
    assert not _readable(inbox)
    for seq in range(5):
        inbox.put(_chunk(seq))
    assert [chunk.seq for chunk in inbox.take(3)] == [0, 1, 2]
    assert _readable(inbox)
    assert [chunk.seq for chunk in inbox.take(3)] == [3, 4]
    assert not _readable(inbox)
    assert inbox.take(3) == []
    inbox.close()


def test_a_full_inbox_drops_and_counts() -> None:
    inbox = Inbox(max_chunks=2)
    for seq in range(5):
        inbox.put(_chunk(seq))
    assert (len(inbox), inbox.dropped) == (2, 3)
    inbox.close()


def test_a_signal_handler_can_wake_it() -> None:
    inbox = Inbox()
    inbox.wake()
    assert _readable(inbox)
    assert inbox.take(1) == []
    assert not _readable(inbox)
    inbox.close()


def test_nothing_is_lost_between_threads() -> None:
    inbox, count = Inbox(), 2000

    def produce() -> None:
        for seq in range(count):
            inbox.put(_chunk(seq))

    threads = [threading.Thread(target=produce) for _ in range(3)]
    for thread in threads:
        thread.start()
    taken = 0
    while taken < 3 * count:
        assert _readable(inbox, 20.0)
        taken += len(inbox.take(7))
    for thread in threads:
        thread.join()
    assert inbox.dropped == 0
    inbox.close()
