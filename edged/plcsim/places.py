"""Free places for sockets that are bound, left and bound again."""

import random

import zmq

__all__ = ["free_endpoint"]

PORTS = range(20_000, 32_000)
"""Below Linux's ephemeral ports: a client that tries again and again would else get its own port from the kernel and
be connected to itself, and nobody could bind it any more."""

TRIES = 100


def free_endpoint() -> str:
    """A loopback tcp endpoint whose port and the one above it are free. Raises OSError where none is found."""
    with zmq.Context() as context:
        for _ in range(TRIES):
            port = random.choice(PORTS)
            with context.socket(zmq.REP) as lower, context.socket(zmq.REP) as upper:
                try:
                    lower.bind(f"tcp://127.0.0.1:{port}")
                    upper.bind(f"tcp://127.0.0.1:{port + 1}")
                except zmq.ZMQError:
                    continue
                return f"tcp://127.0.0.1:{port}"
    raise OSError(f"no two free ports in a row among {PORTS.start}–{PORTS.stop}; see ss -lnt")
