"""How long a seam's features take: what end to end has beyond a pipeline's head.

Measured, not estimated: a few test goods of the corpus are rendered again and go, chunk by chunk, through the engine
to the very extractor that the worker has; the time inside its `push` (all of it while the arc burns) and its `finish`
is summed. Every pipeline that reads features has the same extractor, so its end to end is this plus its head.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from drivers.sim.seam import SeamPlan
from edged.bench.detection.corpus import Corpus
from edged.simulated_seam import Bulk, extraction_ms
from pipelines.features.table import Tier

__all__ = ["SEAMS", "extraction_of"]

SEAMS = 5
FILE = "extraction.json"


def extraction_of(corpus: Corpus, folder: Path, cache_dir: Path, tier: Tier = "default") -> float:
    """Median ms of `SEAMS` test goods of the corpus; kept in the folder, for runs that are made later."""
    kept = folder / FILE
    if not kept.exists():
        tests = [plan for plan, part in zip(corpus.plans, corpus.parts, strict=True) if part == "test"]
        bulk = Bulk(cache_dir.expanduser(), profiler=True, tier=tier)
        bulk.prepare()
        measured = [_measured(plan, bulk) for plan in _spread(tests)]
        rows = [{"push_ms": push, "finish_ms": finish} for push, finish in measured[1:]]  # the first one warms up
        kept.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    rows = json.loads(kept.read_text(encoding="utf-8"))
    return float(statistics.median(row["push_ms"] + row["finish_ms"] for row in rows))


def _spread(plans: Sequence[SeamPlan]) -> list[SeamPlan]:
    """One more than `SEAMS`, evenly over the plans."""
    return [plans[k * len(plans) // (SEAMS + 1)] for k in range(SEAMS + 1)]


def _measured(plan: SeamPlan, bulk: Bulk) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as scratch:
        return extraction_ms(plan, bulk, Path(scratch))
