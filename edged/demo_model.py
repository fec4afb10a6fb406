"""The models that ship with edged: simulated good welds only, then `edged train`. Run by `make demo-model`.

The corpus is a constant here, so that the training report tells all there is to know. Its sessions are shared with no
demo and no evaluation, because session names carry the seed. Every seam is scanned: one corpus serves every detector.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from drivers.sim.demo_plan import DEMO_PROGRAMS
from drivers.sim.plan import plan_seams
from edged.progress import progress_bars
from edged.simulate import session_names_of, simulate_features
from edged.train import advance_of, train_model
from pipelines.table import GRID_DETECTORS, TRAINERS

__all__ = ["main"]

CORPUS_SEED = 1
CORPUS_SEAMS = 1120
CORPUS_SESSIONS = 42
JOBS = 2
FLAGS: Mapping[str, Mapping[str, Any]] = {
    "ib_iumad": {"d": 32, "feed_forward": 64, "heads": 4, "levels": 2, "bottleneck": 16},
    "mafr": {"hidden": 64},
    "uni_rcm": {"d": 32, "codes": {"rgb": 64, "geo": 64, "proc": 64}},
}
"""Smaller networks than preset cell's at size cpu, so that no model that ships is larger than 2 MB."""
EPOCHS: Mapping[str, int] = {"mafr": 75}
"""At most; beyond it the loss of held-out goods falls by about a thousandth an epoch."""
GRID = (14, 14)
"""Cells across and along of the models that work on a pair: half as many as by default, so that they stay small."""


def main(argv: list[str] | None = None) -> int:
    """Simulate what is not there yet, train, and replace the model in `--out`. Returns 0."""
    parser = argparse.ArgumentParser(description="Make the model that ships with edged.")
    parser.add_argument("--work", type=Path, required=True, help="features and exported graphs, kept for a next time")
    parser.add_argument("--pipeline", default="causal_hm", choices=list(TRAINERS))
    parser.add_argument("--pair", help="two modalities, for the detectors that work on a pair, such as rgb,proc")
    parser.add_argument("--out", type=Path, required=True, help="directory of the model, replaced")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    goods = arguments.work / "goods"
    sessions = session_names_of(CORPUS_SEED, CORPUS_SESSIONS)
    plans = plan_seams(CORPUS_SEAMS, CORPUS_SEED, "good", DEMO_PROGRAMS, sessions=sessions)
    cache = arguments.work / "cache"
    simulate_features(plans, goods, JOBS, cache, lambda it: track(it, "simulating", console=console), profiler=True)
    choices: dict[str, Any] = {}
    if arguments.pipeline in GRID_DETECTORS:
        choices = {"shape": GRID, "half": True, "flags": FLAGS.get(arguments.pipeline, {})}
        choices["epochs"] = EPOCHS.get(arguments.pipeline)
    if arguments.pair:
        choices["pair"] = tuple(arguments.pair.split(","))
    fresh = arguments.work / f"model-{arguments.pipeline}-{arguments.pair}"
    shutil.rmtree(fresh, ignore_errors=True)
    with progress_bars(console) as bars:
        report = train_model(
            goods, fresh, arguments.pipeline, jobs=JOBS, cache_dir=cache, advance=advance_of(bars), choices=choices
        )
    shutil.rmtree(arguments.out, ignore_errors=True)
    shutil.copytree(fresh, arguments.out)
    console.print_json(json.dumps(report, default=str))
    return 0


if __name__ == "__main__":
    sys.exit(main())
