"""`edged bench align`: what it costs to cut a seam's window out of the rings, and to take a cell's streams in.

Streams of the upper design point: 30 images a second, sound at 48 kHz, four channels of the welder at 25 kHz, in the
chunks that the drivers give. CPU time stands beside wall time, since a busy machine makes only the latter longer; the
naive peer, which copies the window together, runs in turn with the real one.
"""

import json
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import structlog
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from drivers.base import Chunk, StreamSpec
from edged.aligner import Aligner
from edged.config import Config
from edged.engine import Engine
from edged.null_scorer import NullScorer
from edged.ring import Ring, make_ring
from edged.stamping import Stamper
from edged.types import Verdict

__all__ = ["BARS", "bench_align", "measure"]

WINDOW_S = 10.0
ARC_FROM_S, ARC_TO_S = 2.0, 12.0
SECONDS = 14.0
IMAGE_BYTES = 60_000
T0_NS = 1_000_000_000_000
BARS: dict[str, float] = {"cut_cpu_ms_p50": 1.0, "ingest_core_percent": 15.0, "bytes_allocated_per_sample": 1.0}

SPECS = (
    StreamSpec(
        "welder",
        "welder",
        25_000.0,
        (4,),
        "int16",
        ("current", "voltage", "wire_feed_speed", "gas"),
        scale=(0.1,) * 4,
    ),
    StreamSpec("mic", "audio", 48_000.0, (1,), "int16", ("mono",)),
    StreamSpec("arccam", "video", 30.0, (0, 0), "uint8", tick="arrival"),
)
BLOCKS = {"welder": 50, "mic": 480, "arccam": 1}
"""Items a chunk: a block of the serial frame, ten ms of sound, one image."""


def bench_align(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Times that the window is cut.")] = 50,
    results: Annotated[Path | None, typer.Option(help="Markdown file whose part `align` is replaced.")] = None,
) -> None:
    """Cut a 10 s window, and take all streams in. Exits with 1 where a bar is missed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    report = measure(rounds)
    report["command"] = f"edged bench align --rounds {rounds}"
    console = Console(stderr=True)
    table = Table("figure", "value", "bar", title=f"align, load {report['load_1min']:.1f}")
    for key, value, bar in _rows(report):
        table.add_row(key, value, bar)
    console.print(table)
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if results is not None:
        from edged.bench.results_part import write_part

        lines = [
            "| figure | value | bar |",
            "|---|---|---|",
            *("| " + " | ".join(row) + " |" for row in _rows(report)),
        ]
        write_part(results, "align", "\n".join(lines) + f"\n\nMade by `{report['command']}`.\n")
    if missed := [f"{key} is {report[key]:.3f}, limit {bar:g}" for key, bar in BARS.items() if report[key] > bar]:
        console.print("\n".join(missed))
        raise typer.Exit(1)


def measure(rounds: int) -> dict[str, Any]:
    """The figures of `edged bench align --json`."""
    chunks = _chunks()
    ingest = _ingest(chunks)
    rings, last_seq = _filled(chunks)
    from_ns, to_ns = (T0_NS + round(s * 1e9) for s in (ARC_FROM_S, ARC_TO_S))
    cut, naive, handed = [], [], []
    for _ in range(rounds):
        cut.append(_timed(lambda: [ring.slice(from_ns, to_ns) for ring in rings.values()]))
        naive.append(_timed(lambda: [_copied(ring, from_ns, to_ns) for ring in rings.values()]))
        handed.append(_timed(lambda: _hand_out(rings, last_seq, from_ns, to_ns)))
    window = [chunk for ring in rings.values() for chunk in ring.slice(from_ns, to_ns)]
    return {
        "window_s": WINDOW_S,
        "window_chunks": len(window),
        "window_mb": sum(chunk.data.nbytes for chunk in window) / 1e6,
        **_percentiles("cut", cut),
        "naive_cpu_ms_p50": statistics.median(cpu for cpu, _ in naive),
        "naive_over_cut": statistics.median(b[0] / a[0] for a, b in zip(cut, naive, strict=True)),
        **_percentiles("handed_out", handed),
        **ingest,
        **_allocations(),
        "n": rounds,
        "load_1min": os.getloadavg()[0],
    }


def _percentiles(name: str, times: Sequence[tuple[float, float]]) -> dict[str, float]:
    cpu, wall = zip(*times, strict=True)
    return {
        f"{name}_cpu_ms_p50": statistics.median(cpu),
        f"{name}_cpu_ms_p99": float(np.quantile(cpu, 0.99)),
        f"{name}_wall_ms_p50": statistics.median(wall),
        f"{name}_wall_ms_min": min(wall),
    }


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall time, ms."""
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    work()
    return (time.thread_time_ns() - cpu) / 1e6, (time.perf_counter_ns() - wall) / 1e6


def _copied(ring: Ring, from_ns: int, to_ns: int) -> list[NDArray[Any]]:
    """What a cut without an index does: look at every chunk held, and copy the window together with its times."""
    data, times = [], []
    for chunk in ring.slice(0, 2**62):
        at_ns = chunk.times_ns()
        inside = (at_ns >= from_ns) & (at_ns < to_ns)
        if inside.any():
            data.append(chunk.data[inside] if chunk.data.ndim > 1 else chunk.data)
            times.append(at_ns[inside])
    return [np.concatenate(data), np.concatenate(times)]


def _hand_out(rings: Mapping[str, Ring], last_seq: Mapping[str, int], from_ns: int, to_ns: int) -> list[Chunk]:
    """The whole window through an aligner at once: metered, checked, handed out chunk by chunk."""
    aligner = Aligner(rings, "welder", from_ns, 0, 0, 0, 0, last_seq)
    pushed: list[Chunk] = []
    aligner.emit(to_ns, pushed.append, lambda chunk: None, final=True)
    return pushed


def _chunks() -> list[Chunk]:
    """All chunks in order of arrival, as drivers give them: ten ms late with a little jitter."""
    rng = np.random.default_rng(1)
    found = [chunk for spec in SPECS for chunk in _of_stream(spec, BLOCKS[spec.name], SECONDS, rng)]
    return sorted(found, key=lambda chunk: chunk.arrival_ns)


def _of_stream(spec: StreamSpec, block: int, seconds: float, rng: np.random.Generator) -> list[Chunk]:
    count = int(seconds * spec.rate_hz / block)
    due_ns = T0_NS + np.rint(np.arange(1, count + 1) * block * spec.dt_ns).astype(np.int64)
    arrival_ns = np.maximum.accumulate(due_ns + rng.exponential(500_000, count).astype(np.int64))
    items = np.arange(count * block)
    arc = (items >= ARC_FROM_S * spec.rate_hz) & (items < ARC_TO_S * spec.rate_hz)
    noise = rng.integers(-20, 20, (count * block, *spec.shape)) if not spec.encoded else np.zeros(0)
    samples = (np.where(arc[:, None], 2000, 0) + noise).astype(spec.dtype) if not spec.encoded else noise
    image = rng.integers(0, 256, IMAGE_BYTES, dtype=np.uint8)
    return [
        Chunk(
            spec.name,
            k,
            k * block,
            int(arrival_ns[k]),
            0,
            image if spec.encoded else samples[k * block : (k + 1) * block],
        )
        for k in range(count)
    ]


def _filled(chunks: Sequence[Chunk]) -> tuple[dict[str, Ring], dict[str, int]]:
    rings = {spec.name: make_ring(spec, 30.0) for spec in SPECS}
    stampers = {spec.name: Stamper(spec) for spec in SPECS}
    last_seq = {}
    for chunk in chunks:
        held = rings[chunk.stream].append(stampers[chunk.stream].stamp(chunk))
        last_seq[chunk.stream] = held.seq
    return rings, last_seq


def _ingest(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """CPU per second of streams, from the driver's chunk to the engine's step, while a seam is welded mostly."""
    raw = {
        "streams": {spec.name: {"driver": "welder.serial", "kind": spec.kind} for spec in SPECS},
        "programs": {"seam": {"model": "none", "mode": "shadow"}},
        "cell": {"default_program": "seam"},
    }
    rings = {spec.name: make_ring(spec, 30.0) for spec in SPECS}
    stampers = {spec.name: Stamper(spec) for spec in SPECS}
    verdicts: list[Verdict] = []
    engine = Engine(
        Config.model_validate(raw),
        {spec.name: spec for spec in SPECS},
        rings,
        NullScorer(),
        None,
        verdicts.append,
        lambda part: None,
        lambda now_ns: now_ns,
    )
    taken, stepped, wall = 0, 0, time.perf_counter_ns()
    for chunk in chunks:
        begin = time.thread_time_ns()
        held = rings[chunk.stream].append(stampers[chunk.stream].stamp(chunk))
        middle = time.thread_time_ns()
        engine.step(held, held.arrival_ns)
        taken += middle - begin
        stepped += time.thread_time_ns() - middle
    if len(verdicts) != 1:
        raise RuntimeError(f"one seam was fed, {len(verdicts)} verdicts came")
    return {
        "ingest_cpu_seconds": (taken + stepped) / 1e9,
        "ingest_wall_seconds": (time.perf_counter_ns() - wall) / 1e9,
        "ingest_core_percent": (taken + stepped) / 1e7 / SECONDS,
        "stamp_and_ring_core_percent": taken / 1e7 / SECONDS,
        "engine_core_percent": stepped / 1e7 / SECONDS,
        "us_per_chunk": (taken + stepped) / 1e3 / len(chunks),
        "chunks_per_s": len(chunks) / SECONDS,
    }


def _allocations() -> dict[str, float]:
    """What a sample more in a chunk costs in memory, beside its place in the ring."""
    peaks = {}
    for block in (250, 5000):
        ring, stamper = make_ring(SPECS[0], 30.0), Stamper(SPECS[0])
        chunks = _of_stream(SPECS[0], block, 40 * block / SPECS[0].rate_hz, np.random.default_rng(2))
        for chunk in chunks[:20]:
            ring.append(stamper.stamp(chunk))
        tracemalloc.start()
        for chunk in chunks[20:]:
            ring.append(stamper.stamp(chunk))
        peaks[block] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return {"bytes_allocated_per_sample": max(peaks[5000] - peaks[250], 0) / (20 * (5000 - 250))}


def _rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    hidden = ("command", "n", "load_1min", "window_s")
    return [(k, f"{v:.3f}", f"≤ {BARS[k]:g}" if k in BARS else "") for k, v in report.items() if k not in hidden]
