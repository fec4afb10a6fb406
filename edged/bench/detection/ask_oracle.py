"""The supervised oracle over a corpus' own test seams, a run a type: for paired bars, and for the oracle's a90.

The same machine as in `edged bench cell` (`edged/bench/oracle.py`): statistics of both halves, trees and a
discriminant, out of fold by session, twins in one fold. What differs is who it learns from: this corpus' test goods
and its seams of the type. The study shows it 150 to 350 seams of a type beside 1,050 goods, a full corpus 150 beside
600. A quick corpus has 20 of a type, of which a fold leaves 16: an oracle starved like that finds less than it could,
and the product would pass for near the oracle because the oracle is bad. So there are no such runs below
`LEAST_A_TYPE` seams of a type; the bars then stand on the report of `edged bench cell`, not paired.

An oracle has no calibration goods. Its score is the odds of its probability over the odds at the conformal rank of
the test goods themselves (`pod.limit_of_goods`), so its alarms on goods are at the budget by construction and say
nothing; the bars on false alarms leave it out. AUROC and a90 do not depend on the divisor.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivers.sim import SIM_VERSION
from drivers.sim.digest import physics_digest
from drivers.sim.seam import IMAGE_PRESETS, SeamPlan
from edged.bench.detection.arms import ORACLE
from edged.bench.detection.corpus import Corpus, Size
from edged.bench.detection.data import CorpusData
from edged.bench.detection.pod import limit_of_goods
from edged.bench.detection.scored import ROW_FIELDS, Run, TestSeam
from edged.bench.oracle import Halves, scores_of_twins
from edged.bench.study import PRESET
from edged.bulk_pool import bulk_pool
from edged.simulated_seam import seam_id_of
from pipelines.grids import Tell

__all__ = ["LEAST_A_TYPE", "Statistics", "oracle_is_fed", "oracle_runs", "runs_of_statistics", "statistics_of_test"]

LEAST_A_TYPE = 100
"""Seams of a type that the oracle learns from and is judged on."""
SEVERITIES = 5
PROCESS_FAMILIES = ("good", "process", "both", "drift")
RESULT_FAMILIES = ("good", "result", "both")
"""Whose half is rendered anew; the other is the good twin's."""
ODDS = 1e-6
_HERE = Path(__file__).resolve().parent.parent

Array = NDArray[np.float64]
Statistics = tuple[Array, Array]
"""Of one seam's process and of its result."""


def oracle_is_fed(size: Size) -> bool:
    """Whether a corpus of this size has enough seams of every type for an oracle that deserves the name."""
    return size.per_cell * SEVERITIES >= LEAST_A_TYPE


def oracle_runs(data: CorpusData, folder: Path, jobs: int, tell: Tell) -> dict[str, Run]:
    """A run a type, by name. Statistics are kept in `folder`, a seam a file; what is there is not rendered again.

    Raises ValueError for a corpus whose types have too few seams.
    """
    if not oracle_is_fed(data.corpus.size):
        raise ValueError(
            f"a {data.corpus.size.name} corpus has {data.corpus.size.per_cell * SEVERITIES} seams of a type; the "
            f"oracle needs {LEAST_A_TYPE}: use the report of `edged bench cell`"
        )
    found = statistics_of_test(data.corpus, [int(i) for i in data.test], folder, jobs, tell)
    return runs_of_statistics(data, found, tell)


def runs_of_statistics(data: CorpusData, found: list[Statistics], tell: Tell) -> dict[str, Run]:
    """The runs from the statistics of the test seams, in the order of `data.seams`."""
    plans = [data.corpus.plans[i] for i in data.test]
    good = np.array([not seam.bad for seam in data.seams], np.bool_)
    at = {_key(plans[k]): int(n) for n, k in enumerate(np.flatnonzero(good))}
    goods = _halves([found[k] for k in np.flatnonzero(good)])
    program, session = (
        np.array([getattr(seam, name) for seam in data.seams if not seam.bad]) for name in ("program", "session")
    )
    types = Counter(seam.type for seam in data.seams if seam.bad and seam.type is not None)
    out = {}
    for number, name in enumerate(types):
        tell(f"type {name}", number, len(types), float("nan"))
        mine = [k for k, seam in enumerate(data.seams) if seam.bad and seam.type == name]
        twin = np.array([at[_key(plans[k])] for k in mine], np.int64)
        scores = scores_of_twins(goods, _halves([found[k] for k in mine]), twin, program, session)
        seams = (*(seam for seam in data.seams if not seam.bad), *(data.seams[k] for k in mine))
        out[f"type-{name}"] = _run(data, str(name), seams, *scores)
    return out


def _run(data: CorpusData, name: str, seams: tuple[TestSeam, ...], good: Array, bad: Array) -> Run:
    row = dict.fromkeys(ROW_FIELDS) | {
        "pipeline": ORACLE,
        "ablation": f"type:{name}",
        "corpus": data.corpus.number,
        "schedule": data.corpus.size.name,
        "sim_version": SIM_VERSION,
    }
    probability = np.clip(np.concatenate([good, bad]), ODDS, 1 - ODDS)
    odds = probability / (1 - probability)
    limit = limit_of_goods(odds[: len(good)])
    return Run(row, seams, odds / (float(odds[: len(good)].max()) if limit is None else limit))


def _halves(found: list[Statistics]) -> Halves:
    return Halves(*(np.stack(half) for half in zip(*found, strict=True)))


def _key(plan: SeamPlan) -> tuple[str, str, int]:
    """The same for a defect and its good twin."""
    return plan.program, plan.session, plan.seed


def statistics_of_test(corpus: Corpus, rows: list[int], folder: Path, jobs: int, tell: Tell) -> list[Statistics]:
    """Statistics of the seams with these rows. A half that a fault leaves alone is the good twin's.

    A *pair* is put together of its twin's process and the result of the seam whose bead it shows. Raises ValueError
    where a twin is not among the rows.
    """
    plans = [corpus.plans[row] for row in rows]
    place = folder / f"statistics-{_fingerprint()}"
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{seam_id_of(plan)}.npz" for plan in plans]
    todo = [k for k, path in enumerate(paths) if plans[k].family != "pair" and not path.exists()]
    if todo:
        with bulk_pool(min(jobs, len(todo)), _one_thread) as pool:
            for n, _ in enumerate(pool.map(_measure, [plans[k] for k in todo], [paths[k] for k in todo])):
                tell("statistics", n + 1, len(todo), float("nan"))
    twins = {_key(plan): dict(_read(path)) for plan, path in zip(plans, paths, strict=True) if plan.family == "good"}
    return [_joined(plan, path, twins) for plan, path in zip(plans, paths, strict=True)]


def _joined(plan: SeamPlan, path: Path, twins: dict[tuple[str, str, int], dict[str, Array]]) -> Statistics:
    shown = _key(plan) if plan.pair_seed is None else (plan.program, plan.session, plan.pair_seed)
    if _key(plan) not in twins or shown not in twins:
        raise ValueError(
            f"seam {seam_id_of(plan)} ({plan.family}, {plan.program}, {plan.session}): its good twin is not there"
        )
    halves = {"process": twins[_key(plan)]["process"], "result": twins[shown]["result"]}
    if plan.family != "pair":
        halves |= dict(_read(path))
    return halves["process"], halves["result"]


def _read(path: Path) -> Iterator[tuple[str, Array]]:
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            yield name, file[name].astype(np.float64)


def _measure(plan: SeamPlan, path: Path) -> None:
    """Statistics of the halves that the plan's fault may change, to a file that is whole or absent."""
    from drivers.sim.render import render_process, render_result
    from edged.bench.process_statistics import process_statistics
    from edged.bench.result_statistics import result_statistics

    preset = IMAGE_PRESETS[PRESET]
    arrays = {}
    if plan.family in PROCESS_FAMILIES:
        arrays["process"] = np.array(list(process_statistics(render_process(plan, preset)).seam.values()), np.float32)
    if plan.family in RESULT_FAMILIES:
        arrays["result"] = np.array(list(result_statistics(*render_result(plan, preset)).values()), np.float32)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, allow_pickle=False, **arrays)
    part.replace(path)


def _one_thread() -> None:
    import cv2
    from threadpoolctl import threadpool_limits

    os.nice(5)
    threadpool_limits(1)
    cv2.setNumThreads(1)


def _fingerprint() -> str:
    """Of the physics and of the code of the statistics: what is on disk belongs to it."""
    digest = hashlib.sha256(physics_digest().encode())
    for name in ("process_statistics.py", "result_statistics.py"):
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:12]
