"""`detection_report`: everything that is said of a set of runs, as one dictionary for JSON (docs/detection.json)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edged.bench.detection.arms import PRODUCT
from edged.bench.detection.bars import bar_rows
from edged.bench.detection.clusters import BOOTSTRAPS
from edged.bench.detection.contrasts import contrast_rows
from edged.bench.detection.curves import histograms, pod_rows, roc_curves
from edged.bench.detection.scored import Run
from edged.bench.detection.statistics import check_run, run_rows

__all__ = ["EXTRAS", "VERSION", "detection_report"]

VERSION = 1
DIGITS = 6
EXTRAS = {
    "command": "the command line that made the report",
    "quick": "true for the short protocol",
    "corruption": "rows {pipeline, pair, corruption, level, auroc, ci}; level 0 is the clean test",
    "incremental": "{rows: [{method, step, program, auroc, ci}], forgetting: [{method, value, ci}]}; step from 0, "
    "program null for the mean over those seen so far",
    "bank": "rows {pipeline, corpus, share, size, auroc, ci, state_mb, head_ms_p50, plateau}: a memory bank's AUROC "
    "against how many cells it keeps",
    "notes": "sentences for the page, in order",
}
"""What a report may hold besides; the page leaves out what is absent, and says so."""


def detection_report(
    runs: Sequence[Run],
    oracle_json: Mapping[str, Any] | None,
    extras: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """`{version, runs, rows, contrasts, bars, pod, roc, histograms, oracle, …extras}`; null: all, or not applicable.

    `oracle_json`: the report of `edged bench cell`. `extras`: see `EXTRAS`; further keys are kept as they are.
    `tell` hears what is being computed. Raises ValueError for a run that is not whole, for two runs with the same
    row, and for an extra named like a part of the report.
    """
    _check(runs)
    more = dict(extras or {})
    report: dict[str, Any] = {
        "version": VERSION, "sim_version": _versions(runs), "runs": [_run(run) for run in runs],
        "programs": sorted({seam.program for run in runs for seam in run.seams}),
        "bootstraps": BOOTSTRAPS, "rows": [], "oracle": list((oracle_json or {}).get("oracle", ())),
    }  # fmt: skip
    for number, run in enumerate(runs):
        tell(f"rows of {run.row.get('pipeline')}, run {number + 1} of {len(runs)}")
        report["rows"] += run_rows(run if _by_part(run) else dataclasses.replace(run, parts={}))
    parts: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("contrasts", lambda: contrast_rows(runs)),
        ("bars", lambda: bar_rows(runs, oracle_json)),
        ("pod", lambda: pod_rows(runs)),
        ("roc", lambda: roc_curves(runs)),
        ("histograms", lambda: histograms(runs)),
    )
    for name, make in parts:
        tell(name)
        report[name] = make()
    clash = set(more) & set(report)
    if clash:
        raise ValueError(f"extras named like parts of the report: {', '.join(sorted(clash))}; rename them")
    plain: dict[str, Any] = _plain(report | more)
    return plain


def _by_part(run: Run) -> bool:
    """Parts are told of the product as delivered only: those of every ablation would bury the page."""
    return run.row.get("pipeline") == PRODUCT and run.row.get("ablation") is None


def _check(runs: Sequence[Run]) -> None:
    seen: set[str] = set()
    for run in runs:
        check_run(run)
        key = str(sorted((name, str(value)) for name, value in run.row.items()))
        if key in seen:
            raise ValueError(f"two runs have the same row: {dict(run.row)}; give each its seed, corpus and ablation")
        seen.add(key)


def _run(run: Run) -> dict[str, Any]:
    bad = sum(seam.bad for seam in run.seams)
    counts = {"n_good": len(run.seams) - bad, "n_bad": bad, "sessions": len({seam.session for seam in run.seams})}
    return dict(run.row) | counts | {"costs": dict(run.costs)}


def _versions(runs: Sequence[Run]) -> str | None:
    return ", ".join(sorted({str(run.row["sim_version"]) for run in runs if run.row.get("sim_version")})) or None


def _plain(value: Any) -> Any:
    """JSON's own types; floats to six digits, those that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
    return value
