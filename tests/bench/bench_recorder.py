"""What recording costs: MB/s and how many times faster than the cell, with a sync each second of the recording.

    python tests/bench/bench_recorder.py [--seconds 20] [--folder DIR] [--json FILE]

The load is a cell with one 30 fps camera (JPEG of a textured 960 × 600 image), 48 kHz sound and 10 kHz welder data
of three channels with noise, as it is written while an arc burns. Compressions are compared on the same load.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType

import drivers.mcap_file
from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import RecordingHeader, RecordingReader
from edged.recording import SeamRecorder
from pipelines.window import Seam

S = 1_000_000_000
CAMERA = StreamSpec("arc", "video", 30.0, (600, 960), "uint8", tick="arrival")
SOUND = StreamSpec("mic", "audio", 48_000.0, (1,), "int16", ("mono",))
WELDER = StreamSpec("welder", "welder", 10_000.0, (3,), "int16", ("current", "voltage", "wire_feed_speed"))
LOADS = {"camera, sound, welder": (CAMERA, SOUND, WELDER), "sound, welder": (SOUND, WELDER)}
PER_S = {"arc": 30, "mic": 50, "welder": 100}
"""Chunks per second of each stream."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    rows = []
    for load, specs in LOADS.items():
        for compression in CompressionType:
            drivers.mcap_file.COMPRESSION = compression
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                rows.append(
                    {"load": load, "compression": compression.name.lower()}
                    | measure(Path(folder), specs, options.seconds)
                )
            print(
                ", ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else str(value)
                    for key, value in rows[-1].items()
                )
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def measure(folder: Path, specs: tuple[StreamSpec, ...], seconds: int) -> dict[str, float]:
    """Write `seconds` of the cell once, then read it back."""
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "bench", True, "cell")
    chunks = list(load_chunks(specs, seconds))
    raw_mb = sum(chunk.data.nbytes for chunk in chunks) / 1e6
    recorder = SeamRecorder(folder, lambda: header)
    seam = Seam("bench", "cell", "1", "P1", 0, ((0, seconds * S),))
    worst = 0.0
    cpu = time.process_time()
    start = time.perf_counter()
    recorder.begin(seam, specs, 0)
    for chunk in chunks:
        before = time.perf_counter()
        recorder.chunk("bench", chunk)
        recorder.tick(chunk.arrival_ns)
        worst = max(worst, time.perf_counter() - before)
    path = recorder.finish(seam, {"label": "OK"}, seconds * S)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    count = sum(1 for _ in RecordingReader(path).events())
    assert count == len(chunks)
    return {
        "MB_per_s": raw_mb / took,
        "real_time_factor": seconds / took,
        "core_percent": 100 * cpu / seconds,
        "worst_step_ms": 1e3 * worst,
        "file_to_raw": path.stat().st_size / 1e6 / raw_mb,
        "read_MB_per_s": raw_mb / (time.perf_counter() - start),
    }


def load_chunks(specs: tuple[StreamSpec, ...], seconds: int) -> Iterator[Chunk]:
    """All streams' chunks in the order of their arrival."""
    import cv2

    random = np.random.default_rng(1)
    noise = random.integers(0, 255, (60, 96), np.uint8)
    texture = cv2.resize(noise, (960, 600), interpolation=cv2.INTER_CUBIC)
    jpegs = [cv2.imencode(".jpg", np.roll(texture, shift, 1))[1].reshape(-1) for shift in range(7)]
    found = []
    for spec in specs:
        per_s = PER_S[spec.name]
        n = 1 if spec.encoded else round(spec.rate_hz / per_s)
        clock = ClockParams(0, 0, 1e9 / spec.rate_hz)
        for seq in range(per_s * seconds):
            data = jpegs[seq % 7]
            if not spec.encoded:
                wave = 1000 * np.sin(np.arange(seq * n, seq * n + n) / 30)
                data = (wave[:, None] + random.normal(0, 20, (n, *spec.shape))).astype(np.int16)
            arrival_ns = clock.t_ns(seq * n + n) + 5_000_000
            found.append(Chunk(spec.name, seq, seq * n, arrival_ns, 0, data, clock))
    yield from sorted(found, key=lambda chunk: chunk.arrival_ns)


if __name__ == "__main__":
    main()
