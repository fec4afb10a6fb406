"""What the pictures are drawn from, thinned so that a report stays small: ROC points, histograms, hits by size."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.arms import ORACLE, PRODUCT, pair_name, plain
from edged.bench.detection.pod import limit_of_goods
from edged.bench.detection.scored import Run
from edged.bench.detection.statistics import levels, pods

__all__ = ["histograms", "pod_rows", "roc_curves"]

ROC_POINTS = 61
BINS = 40
LOG_FLOOR = 1e-3

Row = dict[str, Any]


def _about(run: Run) -> Row:
    row = {name: run.row.get(name) for name in ("pipeline", "fusion", "ablation", "preset", "sensor_rate")}
    return row | {"pair": pair_name(run.row), "corpus": run.row.get("corpus"), "seed": run.row.get("seed")}


def roc_curves(runs: Sequence[Run]) -> list[Row]:
    """`fpr`, `tpr` of each plain run overall and by family, at most `ROC_POINTS` points."""
    out = []
    for run in (run for group in plain(runs) for run in group):
        bad = np.array([seam.bad for seam in run.seams], np.bool_)
        for level in levels(run, severities=False):
            if level.type is None and level.chosen.any() and not bad.all():
                fpr, tpr = _roc(run.score[~bad], run.score[level.chosen])
                out.append(_about(run) | {"family": level.family, "fpr": fpr, "tpr": tpr})
    return out


def _roc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    from sklearn.metrics import roc_curve

    label = np.repeat([0, 1], [len(good), len(bad)])
    fpr, tpr, _ = roc_curve(label, np.concatenate([good, bad]))
    # Evenly along the curve, so that both its steep and its flat end keep their points.
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(fpr), np.diff(tpr)))])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], ROC_POINTS)).clip(0, len(fpr) - 1))
    return np.round(fpr[kept], 5).tolist(), np.round(tpr[kept], 5).tolist()


def histograms(runs: Sequence[Run]) -> list[Row]:
    """Counts of log10(score) of goods and of each family, the same bins for all: of the product's runs."""
    out = []
    for run in (run for group in plain(runs) for run in group if run.row.get("pipeline") == PRODUCT):
        logs = np.log10(np.clip(run.score, LOG_FLOOR, 1 / LOG_FLOOR))
        edges = np.linspace(min(float(logs.min()), -0.1), max(float(logs.max()), 0.1), BINS + 1)
        families = np.array([seam.family for seam in run.seams])
        counts = {name: np.histogram(logs[families == name], edges)[0].tolist() for name in dict.fromkeys(families)}
        out.append(_about(run) | {"edges_log10": edges.tolist(), "counts": counts})
    return out


def pod_rows(runs: Sequence[Run]) -> list[Row]:
    """A fitted POD curve with its hits for each type of each plain run and of each of the oracle's."""
    out = []
    oracle = [run for run in runs if run.row.get("pipeline") == ORACLE and run.row.get("ablation") is not None]
    for run in [*(run for group in plain(runs) for run in group), *oracle]:
        good = np.array([not seam.bad for seam in run.seams], np.bool_)
        limit = limit_of_goods(run.score[good])
        if limit is None:
            continue
        for name, pod in pods(run).items():
            mine = [k for k, seam in enumerate(run.seams) if seam.type == name and seam.value is not None]
            row = _about(run) | {"type": name, "unit": run.seams[mine[0]].unit, "family": run.seams[mine[0]].family}
            row |= {key: getattr(pod, key) for key in ("low", "high", "b0", "b1", "a50", "a90", "a90_95", "why")}
            out.append(row | {"limit": limit, "points": _points(run, mine, limit)})
    return out


def _points(run: Run, mine: Sequence[int], limit: float) -> list[Row]:
    out = []
    for severity in sorted({run.seams[k].severity or 0 for k in mine}):
        own = [k for k in mine if (run.seams[k].severity or 0) == severity]
        value = float(np.mean([run.seams[k].value or 0.0 for k in own]))
        out.append({"severity": severity, "value": value, "n": len(own), "hits": int((run.score[own] > limit).sum())})
    return out
