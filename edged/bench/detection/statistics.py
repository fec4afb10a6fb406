"""One run's rows: overall, a family, a type, a type and severity; then the same of each part of its score.

Pure arithmetic on `Run`. What a row says is defined here once:
`auroc` of the bads against all goods, its `ci` resampling sessions; `auroc_fpr10` the area up to a false-positive
rate of 10 %, standardised after McClish (0.5 knows nothing, 1 is perfect); `f1` and `far` at the limit 1.0, which was
fixed on goods alone (F1 moves with the share of bads in the test: compare it within a column only);
`severity_tau` Kendall's tau-b of score against severity; `a50`, `a90` after `pod.py`; `pixel_auroc`, `aupro` of the
score along the seam (limit 0.3), for types and above.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.along import along_seam, stretches
from edged.bench.detection.clusters import BOOTSTRAPS, Clusters, draws, interval
from edged.bench.detection.pod import FALSE_ALARMS, Pod, fit_pod, limit_of_goods
from edged.bench.detection.scored import ROW_FIELDS, Run

__all__ = [
    "COST_FIELDS",
    "FIELDS",
    "LIMIT",
    "PARTIAL_FPR",
    "Level",
    "check_run",
    "levels",
    "part_runs",
    "pods",
    "run_rows",
]

LIMIT = 1.0
PARTIAL_FPR = 0.1
COST_FIELDS = ("latency_ms_p50", "head_ms_p50", "peak_mb", "state_mb")
FIELDS = (
    "pipeline", "preset", "size", "tier", "pair", "fusion", "ablation", "streams", "sensor_rate", "family", "type",
    "severity", "auroc", "auroc_fpr10", "pixel_auroc", "aupro", "ci", "f1", "far", "severity_tau", "a50", "a90",
    "n_good", "n_bad", *COST_FIELDS, "seed", "corpus", "schedule", "sim_version",
)  # fmt: skip
"""Every key of a row, in order; null: all, or not applicable."""

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Which bads a row is about; `chosen` (n,) is false for goods."""

    family: str | None
    type: str | None
    severity: int | None
    chosen: Mask


def check_run(run: Run) -> None:
    """Raises ValueError, naming the run, for arrays of other lengths than its seams, a NaN score or a seam twice."""
    name = f"run {run.row.get('pipeline')} (corpus {run.row.get('corpus')}, seed {run.row.get('seed')})"
    ids = [seam.seam_id for seam in run.seams]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{name}: {len(ids) - len(set(ids))} seams stand twice; every test seam counts once")
    for part, values in {"score": run.score, **run.parts}.items():
        if values.shape != (len(ids),):
            raise ValueError(f"{name}: {part} is {values.shape} for {len(ids)} seams")
        if np.isnan(values).any():
            seam = ids[int(np.flatnonzero(np.isnan(values))[0])]
            raise ValueError(f"{name}: {part} of seam {seam} is NaN; a seam without a score cannot be left out here")


def levels(run: Run, severities: bool = True) -> Iterator[Level]:
    """All, then each family, type and (type, severity) that the run has, in the order of its seams."""
    bads = [(seam.family, seam.type, seam.severity) if seam.bad else (None, None, None) for seam in run.seams]
    keys: dict[tuple[str | None, str | None, int | None], None] = {(None, None, None): None}
    depths = (1, 2, 3) if severities else (1, 2)
    for depth in depths:
        for key in sorted(bads, key=str):
            if None not in key[:depth]:
                keys[key[0], key[1] if depth > 1 else None, key[2] if depth > 2 else None] = None
    bad = np.array([seam.bad for seam in run.seams], np.bool_)
    for family, kind, severity in keys:
        asked = tuple(part for part in (family, kind, severity) if part is not None)
        chosen = np.array([key[: len(asked)] == asked for key in bads], np.bool_) & bad
        yield Level(family, kind, severity, chosen)


def run_rows(run: Run, replicates: int = BOOTSTRAPS) -> list[Row]:
    """Every row of a run and of its parts (`ablation` "part:NAME", without severities). Raises as `check_run`."""
    check_run(run)
    rows = _rows(run, run.row.get("ablation"), True, replicates)
    for part in part_runs(run).values():
        rows += _rows(part, part.row["ablation"], False, replicates)
    return rows


def part_runs(run: Run) -> dict[str, Run]:
    """Each part of a score as a run of its own, without limit, place or costs."""
    out = {}
    for name, values in run.parts.items():
        ablation = "+".join(filter(None, (run.row.get("ablation"), f"part:{name}")))
        out[name] = dataclasses.replace(
            run, row={**run.row, "ablation": ablation}, score=values, parts={}, rows=None, rows_mm=None, costs={}
        )
    return out


def pods(run: Run) -> dict[str, Pod]:
    """A POD curve for each type whose faults have a physical value; empty with too few goods to tell 1 %."""
    goods = np.array([not seam.bad for seam in run.seams], np.bool_)
    limit = limit_of_goods(run.score[goods], FALSE_ALARMS)
    if limit is None:
        return {}
    out: dict[str, Pod] = {}
    for name in dict.fromkeys(seam.type for seam in run.seams if seam.bad and seam.type is not None):
        mine = [k for k, seam in enumerate(run.seams) if seam.type == name and seam.value is not None]
        if mine:
            value = np.array([run.seams[k].value for k in mine], np.float64)
            out[name] = fit_pod(value, run.score[mine] > limit, [run.seams[k].session for k in mine])
    return out


def _rows(run: Run, ablation: str | None, own_limit: bool, replicates: int) -> list[Row]:
    about = {name: run.row.get(name) for name in ROW_FIELDS} | {"ablation": ablation}
    costs = {name: run.costs.get(name) for name in COST_FIELDS}
    bad = np.array([seam.bad for seam in run.seams], np.bool_)
    clusters = Clusters.of(bad, run.score, [seam.session for seam in run.seams])
    drawn = draws(len(clusters.sessions), replicates=replicates)
    curves = pods(run)
    mask = None if run.rows is None else stretches(run)
    out = []
    for level in levels(run, severities=own_limit):
        chosen = level.chosen[bad]
        found: Row = {"family": level.family, "type": level.type, "severity": level.severity}
        found |= {"n_good": int((~bad).sum()), "n_bad": int(chosen.sum()), "auroc": clusters.area(chosen)}
        found["ci"] = None
        if found["auroc"] is not None:
            found["ci"] = interval(clusters.areas(drawn, chosen), len(clusters.sessions))
        found |= _at_limit(run, bad, level.chosen) if own_limit else {"f1": None, "far": None}
        found["auroc_fpr10"] = _partial(run, bad, level.chosen)
        found |= {"severity_tau": None, "a50": None, "a90": None, "pixel_auroc": None, "aupro": None}
        if level.type is not None and level.severity is None:
            found["severity_tau"] = _tau(run, level.chosen)
            curve = curves.get(level.type)
            found |= {"a50": curve and curve.a50, "a90": curve and curve.a90}
        if mask is not None and level.severity is None:
            found["pixel_auroc"], found["aupro"] = along_seam(run, level.chosen, mask)
        row = about | costs | found
        out.append({name: row[name] for name in FIELDS})
    return out


def _at_limit(run: Run, bad: Mask, chosen: Mask) -> Row:
    flagged = run.score > LIMIT
    alarms, hits = int((flagged & ~bad).sum()), int((flagged & chosen).sum())
    misses = int(chosen.sum()) - hits
    counted = 2 * hits + alarms + misses
    far = alarms / int((~bad).sum()) if not bad.all() else None
    return {"f1": 2 * hits / counted if counted and chosen.any() else None, "far": far}


def _partial(run: Run, bad: Mask, chosen: Mask) -> float | None:
    from sklearn.metrics import roc_auc_score

    if bad.all() or not chosen.any():
        return None
    kept = ~bad | chosen
    return float(roc_auc_score(chosen[kept], run.score[kept], max_fpr=PARTIAL_FPR))


def _tau(run: Run, chosen: Mask) -> float | None:
    """None where only one severity was tried or every score is the same."""
    from scipy.stats import kendalltau

    pairs = [
        (seam.severity, s) for seam, s, c in zip(run.seams, run.score, chosen, strict=True) if c and seam.severity
    ]
    if len({severity for severity, _ in pairs}) < 2:
        return None
    tau = float(kendalltau([severity for severity, _ in pairs], [s for _, s in pairs]).statistic)
    return tau if np.isfinite(tau) else None
