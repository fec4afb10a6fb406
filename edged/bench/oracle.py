"""The oracle: how well supervised boosted trees, shown every kind of defect with its label, tell it from goods.

It is the upper reference that detectors are measured against (docs/virtual-cell.md), so it may use what no detector
has: labels, twins, the statistics of both halves and what the process leaves unexplained of the result. Everything
that is fitted sees training folds alone; folds keep sessions whole.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.probes import fit_score, folds
from edged.bench.tables import Matrix, Side, Tables, within_program
from pipelines.metrics import auroc

__all__ = [
    "DESIGN",
    "ORACLE_SPAN",
    "ORACLE_TREES",
    "Halves",
    "OracleRow",
    "oracle_rows",
    "oracle_scores",
    "residuals",
    "scores_of_twins",
    "span",
    "spans",
    "types_of",
]

ORACLE_SPAN = (0.6, 0.99)
"""The grid of severities reaches from what is hardly found to what is always found: at most, and at least, this."""

ORACLE_TREES: dict[str, Any] = {"max_iter": 200, "learning_rate": 0.05, "max_leaf_nodes": 6, "min_samples_leaf": 10}
KEPT = 80
"""Columns that the trees see: those in which defects differ most from their twins, in spreads of the goods."""
INNER = 4
LEAST = 5
"""Seams of either kind below which no discriminant is fitted."""
RIDGE = 30.0
DESIGN = "stacked"
"""`plain`: trees on all statistics and residuals. `twins`: on the `KEPT` columns that set defects most apart from
their own twins. `stacked`: besides, a linear discriminant of those columns, cross-fitted within the training folds.
Mean AUROC over twelve types on 100 base seams of the three-program cell 0.1: 0.961, 0.966, 0.968; on pairs
0.657, 0.643, 0.646. One run each, differences within its noise."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """Statistics of both halves of the same seams, a row a seam; NaN where a program has none."""

    process: Matrix
    result: Matrix


@dataclasses.dataclass(frozen=True, slots=True)
class OracleRow:
    """One type and severity against all goods. `delay_s_p50` is None where half were never detected in time, or where
    the process has no trace by definition."""

    type: str
    family: str
    severity: int
    auroc: float | None
    ci: tuple[float, float] | None
    n: int
    delay_s_p50: float | None


def oracle_rows(
    tables: Tables,
    delays: Callable[[str], dict[int, float | None]],
    asked: Sequence[tuple[str, str]],
    design: str = DESIGN,
) -> list[OracleRow]:
    """Every severity of each (family, type) asked for. `delays(type)`: severity → median delay, s."""
    out = []
    for family, type_name in asked:
        side = tables.sides[family]
        scores = oracle_scores(tables, side, type_name, design)
        n = len(tables.session)
        late = delays(type_name)
        for severity in np.unique(side.severity[side.type == type_name]):
            mine = np.flatnonzero((side.type == type_name) & (side.severity == severity))
            picked = np.concatenate([scores[:n], scores[n + mine]])
            session = [*tables.session, *tables.session[mine]]
            found = auroc([False] * n + [True] * len(mine), picked.tolist(), session)
            row = OracleRow(
                type_name, family, int(severity), found.value, found.ci, len(mine), late.get(int(severity))
            )
            out.append(row)
    return out


def types_of(tables: Tables) -> list[tuple[str, str]]:
    """(family, type) of every kind of defect in the tables."""
    return [(f, str(t)) for f, side in tables.sides.items() if f != "good" for t in np.unique(side.type)]


def span(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Lowest and highest AUROC of the report's oracle rows; those without one do not count."""
    found = [row["auroc"] for row in rows if row["auroc"] is not None]
    return min(found), max(found)


def spans(low: float, high: float) -> bool:
    """Whether the grid reaches as far as `ORACLE_SPAN` both ways."""
    return low <= ORACLE_SPAN[0] and high >= ORACLE_SPAN[1]


def oracle_scores(tables: Tables, side: Side, type_name: str, design: str = DESIGN) -> Matrix:
    """Out-of-fold scores (2n,): all goods, then all of the side's seams; those of other types stay NaN."""
    n = len(tables.session)
    mine = np.flatnonzero(side.type == type_name)
    goods = tables.sides["good"]
    bads = Halves(side.process[mine], side.result[mine])
    found = scores_of_twins(Halves(goods.process, goods.result), bads, mine, tables.program, tables.session, design)
    scores = np.full(2 * n, np.nan)
    scores[:n], scores[n + mine] = found
    return scores


def scores_of_twins(
    goods: Halves,
    bads: Halves,
    twin: NDArray[np.int64],
    program: NDArray[np.str_],
    session: NDArray[np.str_],
    design: str = DESIGN,
) -> tuple[Matrix, Matrix]:
    """Out-of-fold scores of goods (n,) and of one type's bads (m,), probabilities; bad k's good twin is `twin[k]`.

    `program` and `session` are the goods'; a bad has its twin's and stands in its fold.
    """
    out_good, out_bad = np.full(len(session), np.nan), np.full(len(twin), np.nan)
    for train, test in folds(session):
        good, bad = _inputs(goods, bads, twin, program, session, train)
        fitted, tested = train[twin], test[twin]
        rows = np.concatenate([good[train], bad[fitted]])
        label = np.repeat([0, 1], [train.sum(), fitted.sum()])
        unseen = np.concatenate([good[test], bad[tested]])
        if fitted.sum() == 0:
            found = np.zeros(len(unseen))
        else:
            if design != "plain":
                best = _most_moved(good[twin][fitted], bad[fitted], good[train])
                rows, unseen = rows[:, best], unseen[:, best]
            if design == "stacked":
                both = np.concatenate([session[train], session[twin][fitted]])
                rows, unseen = _with_discriminant(rows, label, both, unseen)
            found = fit_score(rows, label, unseen, class_weight="balanced", **ORACLE_TREES)
        out_good[test], out_bad[tested] = np.split(found, [int(test.sum())])
    return out_good, out_bad


def _inputs(
    goods: Halves,
    bads: Halves,
    twin: NDArray[np.int64],
    program: NDArray[np.str_],
    session: NDArray[np.str_],
    train: NDArray[np.bool_],
) -> tuple[Matrix, Matrix]:
    """Rows of goods (n, k) and bads (m, k): process, result, and the result's residual given the process."""
    process = within_program(goods.process[train], program[train], program)
    result = within_program(goods.result[train], program[train], program)
    p_good, p_bad = process(goods.process, program), process(bads.process, program[twin])
    r_good, r_bad = result(goods.result, program), result(bads.result, program[twin])
    e_good, e_bad = residuals(p_good, r_good, p_bad, r_bad, twin, session, train)
    return np.hstack([p_good, r_good, e_good]), np.hstack([p_bad, r_bad, e_bad])


def residuals(
    p_good: Matrix,
    r_good: Matrix,
    p_bad: Matrix,
    r_bad: Matrix,
    twin: NDArray[np.int64],
    session: NDArray[np.str_],
    train: NDArray[np.bool_],
) -> tuple[Matrix, Matrix]:
    """What ridge regression on the process leaves of the result, goods (n, j) and bads (m, j), in its own spreads.

    The last column is the root mean square of the others. Training seams get theirs from regressions that saw neither
    them nor their twins, so that they are no smaller than those of unseen seams.
    """
    p_good, p_bad = _process_means(p_good), _process_means(p_bad)
    r_good, r_bad = (np.clip(np.nan_to_num(r), -8, 8) for r in (r_good, r_bad))
    out_good, out_bad = r_good.copy(), r_bad.copy()
    where = np.flatnonzero(train)
    plans = [(train, ~train)]
    for fitted, tested in folds(session[train], INNER):
        plans.append((_mask(len(train), where[fitted]), _mask(len(train), where[tested])))
    for fitted, tested in plans:
        weights = _ridge(p_good[fitted], r_good[fitted])
        out_good[tested] -= p_good[tested] @ weights
        of_bad = tested[twin]
        out_bad[of_bad] -= p_bad[of_bad] @ weights
    spread = np.maximum(out_good[train].std(0), 1e-6)
    out_good, out_bad = (np.clip(o / spread, -12, 12) for o in (out_good, out_bad))
    size = [np.sqrt((o**2).mean(1, keepdims=True)) for o in (out_good, out_bad)]
    return np.hstack([out_good, size[0]]), np.hstack([out_bad, size[1]])


def _process_means(rows: Matrix) -> Matrix:
    return np.hstack([np.ones((len(rows), 1)), np.clip(np.nan_to_num(rows), -8, 8)])


def _ridge(x: Matrix, y: Matrix) -> Matrix:
    """Weights (k, j); the more columns, the more they are held down."""
    gram = x.T @ x
    return np.asarray(np.linalg.solve(gram + RIDGE * np.eye(len(gram)), x.T @ y))


def _mask(n: int, where: NDArray[np.int64]) -> NDArray[np.bool_]:
    out = np.zeros(n, bool)
    out[where] = True
    return out


def _most_moved(twin: Matrix, bad: Matrix, good: Matrix) -> NDArray[np.int64]:
    """Columns where defects lie farthest from their twins, in spreads of the goods: nuisances cancel between twins.

    Both the mean shift and the mean size of the shift count, since some faults move a column either way.
    """
    spread = np.nanstd(np.where(np.isnan(good).all(0), 0.0, good), axis=0)
    step = np.nan_to_num((bad - twin) / np.where(spread > 1e-9, spread, 1.0))
    step = np.clip(step, -6, 6)
    # A pair has no mean shift: what it moves is the size of its residuals.
    apart = np.abs(step.mean(0)) / (1 + step.std(0) / np.sqrt(len(step))) + 0.25 * np.abs(step).mean(0)
    return np.asarray(np.sort(np.argsort(-apart)[:KEPT]))


def _with_discriminant(
    rows: Matrix, label: NDArray[np.int_], session: NDArray[np.str_], unseen: Matrix
) -> tuple[Matrix, Matrix]:
    """Both with a linear discriminant's score as one more column, cross-fitted for the rows that it is fitted on."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    def fitted(x: Matrix, y: NDArray[np.int_]) -> Any:
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, y)

    filled, filled_unseen = np.nan_to_num(rows), np.nan_to_num(unseen)
    column = np.zeros(len(rows))
    for train, test in folds(session, INNER):
        if min(np.bincount(label[train], minlength=2)) >= LEAST:
            column[test] = fitted(filled[train], label[train]).decision_function(filled[test])
    if min(np.bincount(label)) < LEAST:
        return rows, unseen
    last = fitted(filled, label).decision_function(filled_unseen)
    return np.column_stack([rows, column]), np.column_stack([unseen, last])
