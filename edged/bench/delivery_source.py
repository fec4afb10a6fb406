"""The daemon's half of `edged bench delivery`, in a process of its own: `python -m edged.bench.delivery_source`.

It appends made-up verdicts to the real journal (`synchronous=FULL`), publishes them and serves whoever asks, until it
is ended or killed; started again on the same journal, it goes on. Times of each verdict go into a file.
"""

import argparse
import contextlib
import signal
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from edged.plcsim.made_up import made_up_verdict
from edged.plcsim.played import PlayedDelivery

__all__ = ["COLUMNS", "PROGRAMS", "read_times"]

PROGRAMS = ("bracket", "lap", "rail", "corner")
COLUMNS = ("sequence", "decided_ns", "committed_ns", "published_ns")
"""Of the file of times: when the verdict was there, on disk, and with the publisher; ns of the monotonic clock.
`committed_ns` is read right before the publisher is called."""

IDLE_S = 0.05


def read_times(path: Path, columns: int) -> list[tuple[int, ...]]:
    """Rows of a file of times."""
    values = array("q")
    values.frombytes(path.read_bytes())
    return [tuple(values[at : at + columns]) for at in range(0, len(values), columns)]


def feed(delivery: PlayedDelivery, until: int, rate_hz: float, is_over: Callable[[], bool]) -> "array[int]":
    """Append and publish until the journal has `until` entries, at a pace (0: as fast as it goes); the times."""
    times: array[int] = array("q")
    next_ns = time.monotonic_ns()
    while delivery.journal.last_sequence < until and not is_over():
        delivery.turn(max(0.0, (next_ns - time.monotonic_ns()) / 1e9) if rate_hz else 0.0)
        if rate_hz:
            # Poll waits whole milliseconds; the rest of the time to the next verdict.
            time.sleep(max(0.0, (next_ns - time.monotonic_ns()) / 1e9))
            next_ns += round(1e9 / rate_hz)
        verdict = made_up_verdict(PROGRAMS[delivery.journal.last_sequence % len(PROGRAMS)])
        decided_ns = time.monotonic_ns()
        entry = delivery.append(verdict)
        committed_ns = time.monotonic_ns()
        delivery.publisher.publish(entry)
        times.extend((entry.sequence, decided_ns, committed_ns, time.monotonic_ns()))
    return times


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--verdicts", required=True)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--until", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--after", type=float, default=0.0, help="s before the first verdict")
    parser.add_argument("--times", type=Path)
    said = parser.parse_args()
    over = [False]

    def end(number: int, frame: FrameType | None) -> None:
        over[0] = True

    signal.signal(signal.SIGTERM, end)
    with PlayedDelivery(said.journal, said.verdicts, said.keys) as delivery:
        delivery.serve(said.after)
        times = feed(delivery, said.until, said.rate, lambda: over[0])
        if said.times is not None:
            said.times.write_bytes(times.tobytes())
        while not over[0]:
            with contextlib.suppress(InterruptedError):
                delivery.turn(IDLE_S)


if __name__ == "__main__":
    main()
