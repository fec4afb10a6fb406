"""How large a memory bank must be: its AUROC against how many cells it keeps, and where more cells buy nothing.

Chosen once at its largest, then cut: a coreset's first members are the smaller coreset. What makes scores of the maps
and the thresholds is fitted anew for each size, on held-out and calibration goods.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from edged.bench.detection.answers import run_of
from edged.bench.detection.ask_grid import Grids, ask_fitted, scorer_around
from edged.bench.detection.data import CorpusData
from edged.bench.detection.runner import BANKS, MAIN_PAIR
from pipelines.baselines.memory_bank import MemoryBank, plateau
from pipelines.baselines.table import BASELINES
from pipelines.grids import Tell
from pipelines.loop import LoopConfig
from pipelines.metrics import auroc

__all__ = ["SHARES", "add_bank_sizes", "bank_sizes_of"]

SHARES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
"""Of the training goods' cells; 10 % is what PatchCore's and M3DM's papers keep."""


def add_bank_sizes(path: Path, data: CorpusData, tell: Tell) -> None:
    """Measure on one corpus and put its rows into the file, in place of earlier ones of that corpus."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    others = [row for row in known if row["corpus"] != data.corpus.name]
    rows = others + bank_sizes_of(data, tell)
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def bank_sizes_of(data: CorpusData, tell: Tell, seed: int = 0) -> list[dict[str, Any]]:
    """Rows {pipeline, corpus, share, size, auroc, ci, state_mb, head_ms_p50, plateau} over the main pair.

    `size`: cells kept, of all banks and programs; `plateau`: whether this is the smallest within 0.005 of the best
    AUROC over all families. Part of the report as "bank".
    """
    grids = Grids(data)
    return [row for name in BANKS for row in _of(name, grids, data, seed, tell)]


def _of(pipeline: str, grids: Grids, data: CorpusData, seed: int, tell: Tell) -> list[dict[str, Any]]:
    parts = grids.of(MAIN_PAIR)[1]
    method = BASELINES[pipeline]
    config = dataclasses.replace(method.config("cell"), share=SHARES[0])
    whole = method.fit(parts["train"], parts["fit"], config, LoopConfig(seed=seed), tell)
    rows: list[dict[str, Any]] = []
    for done, share in enumerate(SHARES, start=1):
        bank: MemoryBank = whole.truncated(share)
        costs = {"state_mb": bank.state_mb}
        fitted = scorer_around(grids, data, pipeline, MAIN_PAIR, bank, "minp", costs)
        answers = ask_fitted(fitted, parts, ("minp",))["minp"]
        run = run_of(data, {"pipeline": pipeline, "pair": ",".join(MAIN_PAIR)}, answers)
        found = auroc([s.bad for s in run.seams], run.score.tolist(), [s.session for s in run.seams])
        rows.append(
            {
                "pipeline": pipeline,
                "corpus": data.corpus.name,
                "share": share,
                "size": sum(len(one.members) for one in bank.banks.values()),
                "auroc": found.value,
                "ci": found.ci,
                "state_mb": bank.state_mb,
                "head_ms_p50": run.costs["head_ms_p50"],
            }
        )
        tell(f"{pipeline}: sizes", done, len(SHARES), 0.0)
    enough = plateau({row["share"]: row["auroc"] for row in rows})
    return [row | {"plateau": row["share"] == enough} for row in rows]
