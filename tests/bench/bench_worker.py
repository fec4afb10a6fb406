"""Worker ms by stage for one seam: what runs while the arc burns and what is left after the last view.

A rendered seam's chunks are pushed as fast as possible; the model is trained for an instant on noise, because its
time does not depend on what it learned. Run: `python tests/bench/bench_worker.py`.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.build import build_causal_hm
from pipelines.features.lite0 import load_backbone
from pipelines.models import load_detector
from pipelines.training import TrainConfig
from tests.support import seam_chunks as cell
from tests.support.law_seams import goods

ARC_S = 8.0
SEAMS = 5


def main() -> None:
    """Print a table of medians."""
    with tempfile.TemporaryDirectory() as name:
        cache, directory = Path(name) / "cache", Path(name) / "model"
        began = time.perf_counter()
        load_backbone(cache)
        exported_s = time.perf_counter() - began
        build_causal_hm(goods(60), [{}] * 60, directory, TrainConfig(epochs=1), alpha=0.2)
        began = time.perf_counter()
        detector = load_detector(directory, cache_dir=cache)
        loaded_s = time.perf_counter() - began
        rows: dict[str, list[float]] = {}
        for seed in range(SEAMS):
            rng = np.random.default_rng(seed)
            chunks = [c for stream in cell.seam_chunks(rng, ARC_S).values() for c in stream]
            scorer = detector.begin(cell.seam(), cell.STREAMS)
            began = time.perf_counter()
            for chunk in chunks:
                scorer.push(chunk)
            pushed = time.perf_counter()
            score = scorer.finish(cell.window(rng, ARC_S))
            done = time.perf_counter()
            stages = {**score.stage_ms, "all of push": (pushed - began) * 1e3, "all of finish": (done - pushed) * 1e3}
            for stage, value in stages.items():
                rows.setdefault(stage, []).append(value)
    table = Table(title=f"one seam of {ARC_S:g} s, one thread; export {exported_s:.1f} s, load {loaded_s:.2f} s")
    for column in ("stage", "ms (median)", "% of the arc's time"):
        table.add_column(column, justify="right")
    for stage, values in rows.items():
        table.add_row(stage, f"{np.median(values):.1f}", f"{np.median(values) / ARC_S / 10:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
