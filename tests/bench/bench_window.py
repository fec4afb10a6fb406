"""How long the engine takes: to cut the window of a 10 s seam, and per second of a cell at full rates.

    python tests/bench/bench_window.py [--json FILE]

Streams as in a real cell: current and voltage at 10 kHz, sound at 48 kHz, 30 images a second. Prints what share of a
core `step` needs when fed in real time, and the time from the last process chunk to the complete window.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import structlog

from drivers.base import Chunk
from edged.aligner import Aligner
from tests.support.cell import Cell, FakeRecorder, S, audio_spec, camera_spec, config, stream_chunks, t, welder_spec

ARC_S = 10.0


class NullRecorder(FakeRecorder):
    """Keeps nothing, so that only the engine is measured."""

    def chunk(self, seam_id: str, chunk: Chunk) -> None:
        pass


def fed_cell() -> tuple[Cell, list[Chunk]]:
    """A cell and all its chunks in order of arrival."""
    cfg = config({"fillet": {"views": []}})
    specs = [welder_spec(rate_hz=10_000.0), audio_spec(rate_hz=48_000.0), camera_spec("arc_camera")]
    cell = Cell(cfg, specs, recorder=NullRecorder())
    chunks = [c for spec in specs for c in stream_chunks(spec, [(2.0, 2.0 + ARC_S)], 0.0, 4.0 + ARC_S, block_s=0.01)]
    return cell, sorted(chunks, key=lambda chunk: chunk.arrival_ns)


def bench_step() -> dict[str, float]:
    """Share of a core, and the slowest single step."""
    cell, chunks = fed_cell()
    cell.engine.control({"op": "expect", "program": "fillet"}, t(0.0))
    steps = []
    for chunk in chunks:
        held = cell.rings[chunk.stream].append(chunk)
        begin = time.perf_counter()
        cell.engine.step(held, chunk.arrival_ns)
        steps.append(time.perf_counter() - begin)
    assert [verdict.label.name for verdict in cell.verdicts] == ["OK"], cell.verdicts
    return {
        "step_us_mean": float(np.mean(steps)) * 1e6,
        "step_us_p99": float(np.quantile(steps, 0.99)) * 1e6,
        "step_ms_worst": max(steps) * 1e3,
        "core_percent": 100 * sum(steps) / (4.0 + ARC_S),
        "steps_per_s": 1 / float(np.mean(steps)),
    }


def bench_window() -> dict[str, float]:
    """Cutting a whole 10 s window from full rings at once, and its integrity with the strikes."""
    cell, chunks = fed_cell()
    last_seq = {}
    for chunk in chunks:
        cell.rings[chunk.stream].append(chunk)
        last_seq[chunk.stream] = chunk.seq
    begin = time.perf_counter()
    aligner = Aligner(cell.rings, "welder", t(2.0), S // 2, 3 * S // 10, S, 0, last_seq)
    pushed: list[Chunk] = []
    aligner.emit(t(2.0 + ARC_S), pushed.append, lambda chunk: None, final=True)
    cut = time.perf_counter()
    aligner.integrity(((t(2.0), t(2.0 + ARC_S)),), cell.config.streams)
    end = time.perf_counter()
    return {"window_cut_ms": (cut - begin) * 1e3, "integrity_ms": (end - cut) * 1e3, "chunks": float(len(pushed))}


def main() -> None:
    """Print both, and write them to `--json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    found = {**bench_step(), **bench_window()}
    for name, value in found.items():
        print(f"{name:>16} {value:10.3f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
