"""Probes: can a supervised classifier tell a family's defects from their twins by a part that must not tell them?

Rows of the validity report (docs/virtual-cell.md). A probe is boosted trees with fixed settings, five folds by
session (a twin shares its defect's session, so they are in one fold), out-of-fold scores; its AUROC's interval
resamples sessions. Two equal rows get equal scores, so a part that a family leaves alone gives exactly 0.5.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.tables import Matrix, Side, Tables, within_program
from pipelines.metrics import auroc

__all__ = [
    "FOLDS",
    "PARTS",
    "PROBE_LIMIT",
    "PROBE_TREES",
    "Probe",
    "fit_score",
    "folds",
    "probe_rows",
    "probe_scores",
    "trees",
]

FOLDS = 5
PROBE_LIMIT = 0.55
"""What must not tell stays below this with the upper end of its 95 % interval."""
PROBE_TREES: dict[str, Any] = {
    "max_iter": 120,
    "learning_rate": 0.08,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 20,
    "l2_regularization": 1.0,
    "max_features": 0.3,
    "early_stopping": False,
    "random_state": 0,
}
RAW = {"setpoints"}
"""Parts that are constant within a program: normalised they would be empty, so trees see them as they are."""
PARTS: dict[str, Callable[[Side], Matrix]] = {
    "setpoints": lambda side: side.setpoints,
    "metadata": lambda side: side.metadata,
    "result": lambda side: side.result,
    "process": lambda side: side.process,
}
HIDDEN = {("process", "result"), ("result", "process")}
"""Family and the part in which it must not show: upper end ≤ `PROBE_LIMIT`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """One row; `ok` is None where no rule applies."""

    family: str
    probe: str
    auroc: float
    ci: tuple[float, float]
    n_per_side: int
    ok: bool | None


def trees(**changes: Any) -> Any:
    """A classifier with the probes' settings."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(**(PROBE_TREES | changes))


def folds(session: NDArray[np.str_], count: int = FOLDS) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Masks (train, test) over the seams; sessions in shuffled order dealt out to `count` folds, never divided.

    Raises ValueError when there are fewer sessions than two.
    """
    names = np.unique(session)
    if len(names) < 2:
        raise ValueError(f"{len(names)} session cannot be divided; folds by session need 2 or more")
    order = np.random.default_rng(0).permutation(names)
    for k in range(min(count, len(names))):
        test = np.isin(session, order[k::count])
        yield ~test, test


def probe_scores(
    good: Matrix, bad: Matrix, program: NDArray[np.str_], session: NDArray[np.str_], *, raw: bool = False
) -> Matrix:
    """Out-of-fold scores (2n,), goods first, of rows (n, k); row i of both sides is a pair of twins.

    Unless `raw`, rows are normalised within their program by the training folds' goods.
    """
    n = len(good)
    scores = np.empty(2 * n)
    for train, test in folds(session):
        rows = np.concatenate([good, bad])
        if not raw:
            scale = within_program(good[train], program[train], program)
            rows = scale(rows, np.tile(program, 2))
        label = np.repeat([0, 1], n)
        fitted, tested = np.tile(train, 2), np.tile(test, 2)
        scores[tested] = fit_score(rows[fitted], label[fitted], rows[tested])
    return scores


def fit_score(rows: Matrix, label: NDArray[np.int_], tested: Matrix, **changes: Any) -> Matrix:
    """Trees fitted on rows (n, k), and their probability of label 1 for the rows `tested`.

    Columns that never vary among `rows` are left out; without any other, no row can be told from another.
    """
    low, high = (np.where(np.isnan(rows), empty, rows) for empty in (np.inf, -np.inf))
    varies = low.min(0) < high.max(0)
    if not varies.any():
        return np.full(len(tested), float(label.mean()))
    model = trees(**changes).fit(rows[:, varies], label)
    return np.asarray(model.predict_proba(tested[:, varies])[:, 1], np.float64)


def probe_rows(tables: Tables, asked: Sequence[tuple[str, str]]) -> list[Probe]:
    """A row for each (family, part) asked for."""
    good = tables.sides["good"]
    out = []
    for family, part in asked:
        pick = PARTS[part]
        scores = probe_scores(pick(good), pick(tables.sides[family]), tables.program, tables.session, raw=part in RAW)
        n = len(tables.session)
        found = auroc([False] * n + [True] * n, scores.tolist(), np.tile(tables.session, 2).tolist())
        if found.value is None or found.ci is None:
            raise ValueError(f"probe {part} of family {family}: {n} seams of one session have no interval")
        out.append(Probe(family, part, found.value, found.ci, n, judge(family, part, found.value, found.ci)))
    return out


def judge(family: str, part: str, value: float, ci: tuple[float, float]) -> bool | None:
    """Whether a row holds; None where none of the rules is about it."""
    low, high = ci
    if family == "pair" and part in ("result", "process"):
        # Halves are only dealt out anew: either marginal is the goods' own.
        return low <= 0.5 <= high
    if (family, part) in HIDDEN:
        return high <= PROBE_LIMIT
    if part in ("setpoints", "metadata"):
        return high <= PROBE_LIMIT
    return None
