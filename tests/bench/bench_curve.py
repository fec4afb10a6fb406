"""What CURVE costs from `publish` to a subscriber in another process: `python -m tests.bench.bench_curve`.

Real Publisher and Guard on loopback, payloads as long as a verdict's, one every 2 ms. Plain and protected take turns.
"""

import datetime
import multiprocessing
import struct
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq
from rich.console import Console
from rich.table import Table

from edged.client.keys import Keys
from edged.guard import Guard
from edged.journal import Entry
from edged.keys import KeyStore
from edged.publisher import Publisher

ROUNDS = 3
MESSAGES = 1500
EVERY_S = 0.002
PAYLOAD_BYTES = 2000
TOPIC = "verdict/T1"


def receive(endpoint: str, keys: Keys | None, answers: Connection) -> None:
    """The subscriber: sends back how long each message took, ns."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        if keys is not None:
            keys.protect(socket)
        socket.subscribe(TOPIC)
        socket.connect(endpoint)
        took_ns = []
        while len(took_ns) < MESSAGES:
            sent_ns = struct.unpack_from("=q", socket.recv_multipart()[1])[0]
            if sent_ns:
                took_ns.append(time.monotonic_ns() - sent_ns)
            elif not took_ns:
                answers.send(None)  # connected: the rest may come
        answers.send(took_ns)


def measure(folder: Path | None) -> list[int]:
    """Publish → receive, ns, with the keys in `folder` or without."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    keys = guard = None
    if folder is not None:
        now = datetime.datetime.now(datetime.UTC)
        bundle = KeyStore(folder).add(f"client-{time.monotonic_ns()}", ["verdict"], now)
        keys = Keys(bundle.public, bundle.secret, bundle.server_public)
        guard = Guard(context, folder)
    publisher = Publisher(context, "tcp://127.0.0.1:*", (), guard)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=receive, args=(publisher.endpoint, keys, theirs))
    child.start()
    publisher.publish(Entry("j", 1, TOPIC, bytes(PAYLOAD_BYTES)))
    while not ours.poll(0.001):
        publisher.serve()
        if guard is not None:
            guard.serve()
    ours.recv()
    next_s = time.monotonic()
    for sequence in range(MESSAGES):
        next_s += EVERY_S
        time.sleep(max(0.0, next_s - time.monotonic()))
        payload = bytearray(PAYLOAD_BYTES)
        struct.pack_into("=q", payload, 0, time.monotonic_ns())
        publisher.publish(Entry("j", sequence + 2, TOPIC, bytes(payload)))
        if guard is not None:
            guard.serve()
    took_ns: list[int] = ours.recv()
    child.join()
    publisher.close()
    if guard is not None:
        guard.close()
    context.term()
    return took_ns


def main() -> None:
    """Print the table."""
    found: dict[str, list[int]] = {"plain": [], "CURVE": []}
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        for _ in range(ROUNDS):
            found["plain"] += measure(None)
            found["CURVE"] += measure(keys)
    table = Table(
        "publish → receive, ms", "p50", "p99", "max", title=f"{PAYLOAD_BYTES} bytes, one each {EVERY_S:g} s"
    )
    for name, took_ns in found.items():
        p50, p99 = np.percentile(took_ns, [50, 99]) / 1e6
        table.add_row(name, f"{p50:.3f}", f"{p99:.3f}", f"{max(took_ns) / 1e6:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
