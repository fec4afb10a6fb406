"""The protocol's bars as rows `{name, asked, measured, ci, holds, why}`; `holds` is null where none can be judged.

Bars on a difference are judged on the figure itself, with its interval beside; bars that ask for a value "within the
interval" on the interval.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.bench.detection.arms import (
    MARGINAL,
    ORACLE,
    PRODUCT,
    Arm,
    corpora_of,
    oracle_of,
    plain,
    side_of,
    title,
    variants,
)
from edged.bench.detection.clusters import BOOTSTRAPS
from edged.bench.detection.contrasts import wanted_of
from edged.bench.detection.paired import Combined, Wanted, combine, points_of
from edged.bench.detection.scored import Run, TestSeam
from edged.bench.detection.statistics import LIMIT, pods
from pipelines.metrics import false_alarm_rate

__all__ = ["BUDGET", "bar_rows", "oracle_by_type"]

BUDGET = 0.01
ORACLE_SEES = 0.9
BELOW_ORACLE = 0.05
A90_FACTOR = 2.0
UNKNOWING_COSTS = 0.01
GOODS_FOR_RATE = 600

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Reference:
    """The oracle on one type: AUROC with the severities pooled, a90 where the report or a run tells it."""

    auroc: float | None
    a90: float | None
    says_a90: bool
    """Whether an a90 was looked for at all: then None means "beyond the grid"."""


def bar_rows(runs: Sequence[Run], oracle: Mapping[str, Any] | None, replicates: int = BOOTSTRAPS) -> list[Row]:
    """Every bar. `oracle`: the report of `edged bench cell` (its "oracle" rows), None where there is none."""
    return [
        *_against_oracle(runs, oracle, replicates),
        *_at_chance(runs, ("process", "result"), "pair", replicates),
        *_at_chance(runs, ("result",), "process", replicates, variants(runs, Arm(PRODUCT, "streams:image"))),
        *_at_chance(runs, ("process",), "result", replicates),
        *(_unknowing(runs, name, replicates) for name in ("stream:noise", "stream:random_views")),
        *_false_alarms(runs),
        *_costs(runs),
    ]


def oracle_by_type(oracle: Mapping[str, Any] | None, counts: Mapping[tuple[str, int], int]) -> dict[str, Reference]:
    """The report's AUROC per (type, severity), pooled with the severities' counts of the runs that are compared.

    AUROC is linear in the bads, so the weighted mean is what pooling gives as long as goods and scores are the same.
    """
    rows = [row for row in (oracle or {}).get("oracle", ()) if row.get("auroc") is not None]
    out = {}
    for name in dict.fromkeys(str(row["type"]) for row in rows):
        mine = [row for row in rows if row["type"] == name]
        weight = [counts.get((name, int(row["severity"])), 0) for row in mine]
        pooled = float(np.average([row["auroc"] for row in mine], weights=weight)) if sum(weight) else None
        said = [row["a90"] for row in mine if "a90" in row]
        out[name] = Reference(pooled, said[0] if said else None, bool(said))
    return out


def _bar(name: str, asked: str | None, measured: float | None, holds: bool | None, why: str, **more: Any) -> Row:
    return {"name": name, "asked": asked, "measured": measured, "ci": None, "holds": holds, "why": why} | more


def _type_is(name: str) -> Wanted:
    def wanted(seam: TestSeam) -> bool:
        return seam.type == name

    return wanted


def _against_oracle(runs: Sequence[Run], oracle: Mapping[str, Any] | None, replicates: int) -> list[Row]:
    found = variants(runs, Arm(PRODUCT))
    if not found:
        return [_bar(f"{PRODUCT} near the oracle", None, None, None, f"no run of {PRODUCT}")]
    product = found[0]
    types = list(dict.fromkeys(str(seam.type) for run in product for seam in run.seams if seam.bad and seam.type))
    judges = {name: oracle_of(runs, name) for name in types}
    seams = {seam.seam_id: seam for run in product for seam in run.seams if seam.bad and seam.severity}.values()
    counts: dict[tuple[str, int], int] = {}
    for seam in seams:
        key = (str(seam.type), int(seam.severity or 0))
        counts[key] = counts.get(key, 0) + 1
    units = {str(seam.type): seam.unit for seam in seams}
    reference = oracle_by_type(oracle, counts)
    rows = [_near(product, judges[name], reference.get(name), name, replicates) for name in types]
    reference |= {n: Reference(None, _a90(judge, n), True) for n, judge in judges.items() if judge}
    return rows + [_a90_bar(product, reference.get(name), name, units.get(name)) for name in types]


def _near(product: list[Run], judge: list[Run], said: Reference | None, name: str, replicates: int) -> Row:
    wanted, title_ = _type_is(name), f"{PRODUCT} near the oracle: {name}"
    points = points_of([product, judge]) if judge else []
    if points:
        level = combine(points, [0.0, 1.0], wanted, replicates=1).value
        found = combine(points, [1.0, -1.0], wanted, replicates=replicates)
        own = combine(points, [1.0, 0.0], wanted, replicates=1)
        how = "paired with the oracle on the same seams"
        ci = None if found.ci is None else tuple(bound + (level or 0.0) for bound in found.ci)
    else:
        level = None if said is None else said.auroc
        own = combine(points_of([product]), [1.0], wanted, replicates=replicates)
        how, ci = "against the oracle's report, not paired", own.ci
    if level is None:
        return _bar(title_, None, own.value, None, "the oracle has no figure for this type", ci=ci, type=name)
    asked = f"≥ {level - BELOW_ORACLE:.3f}"
    more = {"ci": ci, "type": name, "oracle": level}
    if own.value is None:
        return _bar(title_, asked, None, None, own.why or "no seams", **more)
    if level < ORACLE_SEES:
        why = f"the oracle has {level:.3f} itself, below {ORACLE_SEES}: no bar; {how}"
        return _bar(title_, None, own.value, None, why, **more)
    return _bar(title_, asked, own.value, own.value >= level - BELOW_ORACLE, f"oracle {level:.3f}, {how}", **more)


def _a90(group: Sequence[Run], name: str) -> float | None:
    """Median over runs; a run that never reaches 90 % counts as infinitely far."""
    found = [pods(run).get(name) for run in group]
    values = [np.inf if pod.a90 is None else pod.a90 for pod in found if pod is not None]
    middle = float(np.median(values)) if values else np.inf
    return middle if np.isfinite(middle) else None


def _a90_bar(product: list[Run], said: Reference | None, name: str, unit: str | None) -> Row:
    title_ = f"{PRODUCT} a90 within twice the oracle's: {name}"
    own = _a90(product, name)
    more = {"type": name, "unit": unit}
    if said is None or not said.says_a90:
        return _bar(
            title_, None, own, None, "the oracle's report tells no a90, and no run of the oracle is here", **more
        )
    if said.a90 is None:
        return _bar(title_, None, own, None, "the oracle itself does not reach 90 % within the grid: no bar", **more)
    asked = f"≤ {A90_FACTOR * said.a90:.3g} {unit or ''}".strip()
    if own is None:
        return _bar(title_, asked, None, False, "beyond the grid, which counts as failed", **more)
    return _bar(title_, asked, own, own <= A90_FACTOR * said.a90, f"oracle's a90 {said.a90:.3g}", **more)


def _at_chance(
    runs: Sequence[Run], sides: Sequence[str], family: str, replicates: int, more: Sequence[list[Run]] = ()
) -> list[Row]:
    """Baselines that see only `sides`, on a family that leaves no trace there."""
    groups = [g for arm in map(Arm, MARGINAL) for g in variants(runs, arm) if side_of(g[0].row) in sides]
    rows = []
    for group in (*groups, *more):
        found = combine(points_of([group]), [1.0], wanted_of((family,)), replicates=replicates)
        if found.why is None:
            rows.append(_chance(f"{title(group[0].row)} at chance on {family}", found))
    if not rows:
        rows.append(_bar(f"at chance on {family}", "0.5 within the interval", None, None, "no such run"))
    return rows


def _chance(name: str, found: Combined) -> Row:
    asked = "0.5 within the interval"
    if found.ci is None:
        return _bar(name, asked, found.value, None, "one session gives no interval")
    low, high = found.ci
    return _bar(name, asked, found.value, low <= 0.5 <= high, _sample(found), ci=found.ci)


def _sample(found: Combined) -> str:
    return f"{found.n_bad} bads, {found.n_good} goods; corpora {', '.join(found.corpora)}"


def _unknowing(runs: Sequence[Run], ablation: str, replicates: int) -> Row:
    name, asked = f"a stream that knows nothing costs little: {ablation}", f"≤ {UNKNOWING_COSTS} AUROC"
    groups = [variants(runs, Arm(PRODUCT, value)) for value in (None, ablation)]
    if not all(groups):
        return _bar(name, asked, None, None, f"no run of {PRODUCT}" + (f" [{ablation}]" if groups[0] else ""))
    found = combine(points_of([groups[0][0], groups[1][0]]), [1.0, -1.0], replicates=replicates)
    if found.value is None:
        return _bar(name, asked, None, None, "no corpus and seed in common")
    return _bar(name, asked, found.value, found.value <= UNKNOWING_COSTS, _sample(found), ci=found.ci)


def _false_alarms(runs: Sequence[Run]) -> list[Row]:
    """One row a variant and seed, the goods of all corpora pooled: seeds score the same goods again."""
    rows = []
    for group in plain(run for run in runs if run.row.get("pipeline") != ORACLE):
        for seed in dict.fromkeys(run.row.get("seed") for run in group):
            mine = [run for run in group if run.row.get("seed") == seed]
            goods = [(run.score[k] > LIMIT, f"{run.row.get('corpus')}/{s.session}")
                     for run in mine for k, s in enumerate(run.seams) if not s.bad]  # fmt: skip
            rate = false_alarm_rate([bool(flag) for flag, _ in goods], [session for _, session in goods])
            name = f"{title(group[0].row)} false alarms" + ("" if seed is None else f", seed {seed}")
            asked = f"{BUDGET:g} within the interval"
            why = f"{rate.n} goods of corpora {', '.join(corpora_of(mine))}"
            if rate.n < GOODS_FOR_RATE:
                rows.append(_bar(name, asked, rate.value, None, f"{why}; {GOODS_FOR_RATE} are needed", ci=rate.ci))
                continue
            assert rate.ci is not None
            holds = rate.ci[0] <= BUDGET <= rate.ci[1]
            rows.append(_bar(name, asked, rate.value, holds, why, ci=rate.ci))
    return rows


def _costs(runs: Sequence[Run]) -> list[Row]:
    """The product's costs beside the memory bank's: stated, no limit is asked for."""
    groups = [variants(runs, Arm(name)) for name in (PRODUCT, "memory_bank")]
    if not all(groups):
        return [_bar("speed and memory against the memory bank", None, None, None, "not both of them ran")]
    rows = []
    for cost in ("latency_ms_p50", "head_ms_p50", "peak_mb", "state_mb"):
        own, bank = (
            [float(run.costs[cost]) for run in group[0] if run.costs.get(cost) is not None] for group in groups
        )
        if own and bank:
            a, b = float(np.median(own)), float(np.median(bank))
            why = f"memory bank {b:.3g}: stated, no limit is asked for"
            rows.append(_bar(f"{PRODUCT} {cost} beside the memory bank", None, a, None, why))
    return rows or [_bar("speed and memory against the memory bank", None, None, None, "no costs were measured")]
