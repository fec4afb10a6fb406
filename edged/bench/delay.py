"""How soon the oracle can know: causal 100 ms windows of the process, labelled by the truth's onset and end.

Trees of the probes' kind score every window out of fold; a threshold lets 1 % of the good seams raise an alarm at any
time. The delay of a fault is the end of its first window above the threshold that began after onset, minus onset.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edged.bench.oracle import ORACLE_TREES
from edged.bench.probes import fit_score, folds
from edged.bench.process_statistics import WINDOW_S
from edged.bench.tables import Matrix, Side, Tables, Windows, within_program

__all__ = ["FALSE_ALARMS", "causal_rows", "delays_of", "first_alarms"]

FALSE_ALARMS = 0.01
"""Share of good seams whose highest window may be above the threshold."""
WINDOW_TREES = ORACLE_TREES | {"max_iter": 80}
RECENT = 5
"""Windows of the running mean that stands beside each window's own statistics."""


def delays_of(tables: Tables, type_name: str) -> dict[int, float | None]:
    """Severity → median delay, s; None where half of the seams were never detected. Empty: no process trace."""
    side = _side_of(tables, type_name)
    goods = tables.sides["good"].windows
    if side is None or side.windows is None or goods is None:
        return {}
    mine = side.type == type_name
    bad = _only(side.windows, mine)
    score_good, score_bad = _scores(tables, goods, bad, side.extent, mine)
    limit = _threshold(score_good, goods.seam)
    delay = first_alarms(score_bad > limit, bad, side.extent)
    out: dict[int, float | None] = {}
    for severity in np.unique(side.severity[mine]):
        median = float(np.median([delay[int(k)] for k in np.flatnonzero(mine & (side.severity == severity))]))
        out[int(severity)] = median if np.isfinite(median) else None
    return out


def first_alarms(alarm: NDArray[np.bool_], windows: Windows, extent: Matrix) -> dict[int, float]:
    """Seam → delay, s, infinite without an alarm: only windows that end after the onset count."""
    out = dict.fromkeys(np.unique(windows.seam).tolist(), float("inf"))
    ends = (windows.number + 1) * WINDOW_S
    for row in np.flatnonzero(alarm):
        seam = int(windows.seam[row])
        late = float(ends[row] - extent[seam, 0])
        if late > 0:
            out[seam] = min(out[seam], late)
    return out


def causal_rows(windows: Windows) -> NDArray[np.float32]:
    """(m, 3k): each window, the mean of the last `RECENT`, and its step from the mean of all before it."""
    rows = windows.rows.astype(np.float64)
    first = np.searchsorted(windows.seam, windows.seam)
    total = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    at = np.arange(len(rows)) + 1
    begin = np.maximum(at - RECENT, first)
    recent = (total[at] - total[begin]) / (at - begin)[:, np.newaxis]
    before = (total[begin] - total[first]) / np.maximum(begin - first, 1)[:, np.newaxis]
    step = np.where((begin > first)[:, np.newaxis], recent - before, 0.0)
    return np.hstack([rows, recent, step]).astype(np.float32)


def _side_of(tables: Tables, type_name: str) -> Side | None:
    sides = [side for side in tables.sides.values() if side.family != "good" and (side.type == type_name).any()]
    return sides[0] if sides else None


def _only(windows: Windows, mine: NDArray[np.bool_]) -> Windows:
    keep = mine[windows.seam]
    return dataclasses.replace(windows, rows=windows.rows[keep], seam=windows.seam[keep], number=windows.number[keep])


def _scores(
    tables: Tables, goods: Windows, bad: Windows, extent: Matrix, mine: NDArray[np.bool_]
) -> tuple[Matrix, Matrix]:
    """Out-of-fold scores of all good windows and of the defects' windows. Training: defects and their own twins."""
    rows_good, rows_bad = causal_rows(goods).astype(np.float64), causal_rows(bad).astype(np.float64)
    begin = bad.number * WINDOW_S
    inside = (begin + WINDOW_S > extent[bad.seam, 0]) & (begin < extent[bad.seam, 1])
    score_good, score_bad = np.zeros(len(rows_good)), np.zeros(len(rows_bad))
    for train, test in folds(tables.session):
        twins = (train & mine)[goods.seam]
        inner = train[bad.seam] & inside
        if not inner.any():
            continue
        used = train[goods.seam]
        scale = within_program(rows_good[used], tables.program[goods.seam][used], tables.program)
        x_good, x_bad = (
            scale(rows, tables.program[w.seam]).astype(np.float32)
            for rows, w in ((rows_good, goods), (rows_bad, bad))
        )
        rows = np.concatenate([x_good[twins], x_bad[inner]])
        label = np.repeat([0, 1], [twins.sum(), inner.sum()])
        now_good, now_bad = test[goods.seam], test[bad.seam]
        found = fit_score(rows, label, np.concatenate([x_good[now_good], x_bad[now_bad]]), **WINDOW_TREES)
        score_good[now_good], score_bad[now_bad] = np.split(found, [int(now_good.sum())])
    return score_good, score_bad


def _threshold(score: Matrix, seam: NDArray[np.int64]) -> float:
    """What 1 % of the good seams exceed somewhere: the next lower of their ordered maxima."""
    highest = np.zeros(int(seam.max()) + 1)
    np.maximum.at(highest, seam, score)
    return float(np.quantile(highest, 1 - FALSE_ALARMS, method="higher"))
