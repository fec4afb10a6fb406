"""Ring ingest rate and the time to slice a 10 s window: `python -m tests.bench.bench_ring`."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from drivers.base import Chunk, ClockParams, StreamSpec
from edged.ring import make_ring

RING_S = 30.0
WINDOW_NS = 10_000_000_000
CASES = (
    (StreamSpec("camera", "video", 30.0, (600, 960), "uint8"), 1, 120_000),
    (StreamSpec("microphone", "audio", 48_000.0, (1,), "int16"), 480, 0),
    (StreamSpec("welder", "welder", 25_000.0, (4,), "int16"), 250, 0),
)


def best_s(run: Callable[[], object], repeat: int = 5) -> float:
    """Least of `repeat` runs."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def chunks(spec: StreamSpec, n: int, image_bytes: int) -> list[Chunk]:
    """Stamped chunks for twice the ring."""
    shape = (image_bytes,) if spec.encoded else (n, *spec.shape)
    data: NDArray[np.generic] = np.ones(shape, spec.dtype)
    clock = ClockParams(0, 0, spec.dt_ns)
    count = int(2 * RING_S * spec.rate_hz / n)
    return [Chunk(spec.name, i, i * n, 0, 0, data, clock) for i in range(count)]


def main() -> None:
    """Print one row per stream kind."""
    table = Table(
        "stream", "items/s", "MB/s", "x real time", "append µs/chunk", "slice 10 s ms", "pieces", "MB in it"
    )
    for spec, n, image_bytes in CASES:
        made = chunks(spec, n, image_bytes)

        def ingest(spec: StreamSpec = spec, made: list[Chunk] = made) -> None:
            ring = make_ring(spec, RING_S)
            for chunk in made:
                ring.append(chunk)

        seconds = best_s(ingest)
        ring = make_ring(spec, RING_S)
        for chunk in made:
            ring.append(chunk)
        to_ns = made[-1].end_ns - 5_000_000_000
        found = ring.slice(to_ns - WINDOW_NS, to_ns)
        slice_s = best_s(lambda ring=ring, to_ns=to_ns: ring.slice(to_ns - WINDOW_NS, to_ns))  # type: ignore[misc]
        items, n_bytes = sum(c.n for c in made), sum(c.data.nbytes for c in made)
        table.add_row(
            f"{spec.name} {spec.rate_hz:g} Hz × {spec.shape}",
            f"{items / seconds:,.0f}",
            f"{n_bytes / seconds / 1e6:,.0f}",
            f"{items / spec.rate_hz / seconds:,.0f}",
            f"{seconds / len(made) * 1e6:.1f}",
            f"{slice_s * 1e3:.2f}",
            str(len(found)),
            f"{sum(c.data.nbytes for c in found) / 1e6:.1f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
