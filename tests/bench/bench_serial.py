"""CPU of the serial driver in % of one core, at 10 and 25 kHz through a pty: `python -m tests.bench.bench_serial`.

A child process plays the board in real time, so that what is measured in this process is the reader alone.
"""

import multiprocessing
import os
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from drivers.serial_frame import encode_block
from drivers.welder_serial import WelderSerial, WelderSerialOptions
from tests.support.pty_board import PtyBoard

N = 50
SECONDS = 5.0
RATES_HZ = (10_000, 25_000)


def play(fd: int, rate_hz: int, seconds: float) -> None:
    """Write blocks to the pty at `rate_hz`, each when it is due."""
    samples = np.random.default_rng(0).integers(-2000, 2000, (N, 3)).astype(np.int16)
    start = time.monotonic()
    for seq in range(round(rate_hz * seconds / N)):
        time.sleep(max(0.0, start + seq * N / rate_hz - time.monotonic()))
        os.write(fd, encode_block(seq, samples))


def measure(rate_hz: int, seconds: float = SECONDS) -> dict[str, float]:
    """CPU % of one core, samples read and lost, chunks a second."""
    with PtyBoard() as board:
        options = WelderSerialOptions(port=board.port, baud=3_000_000, rate_hz=rate_hz, block_samples=N)
        driver = WelderSerial("welder", options)
        driver.open()
        sender = multiprocessing.get_context("fork").Process(target=play, args=(board.far, rate_hz, seconds))
        sender.start()
        cpu_s, wall_s = time.process_time(), time.monotonic()
        samples = lost = chunks = 0
        while samples + lost < rate_hz * seconds - N and time.monotonic() - wall_s < 3 * seconds:
            if (chunk := driver.read()) is not None:
                samples, lost, chunks = samples + chunk.n, lost + chunk.lost_before, chunks + 1
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
        sender.join()
        driver.close()
    return {
        "rate_hz": rate_hz,
        "cpu_percent": 100 * cpu_s / wall_s,
        "samples": samples,
        "lost": lost,
        "chunks_per_s": chunks / wall_s,
    }


def main() -> None:
    """Measure each rate and print the table."""
    table = Table(title=f"welder.serial, 3 channels, N = {N}, through a pty")
    for column in ("rate kHz", "CPU % of a core", "samples", "lost", "chunks/s"):
        table.add_column(column, justify="right")
    for rate_hz in RATES_HZ:
        found = measure(rate_hz)
        table.add_row(
            f"{rate_hz / 1000:g}",
            f"{found['cpu_percent']:.1f}",
            f"{found['samples']:.0f}",
            f"{found['lost']:.0f}",
            f"{found['chunks_per_s']:.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
