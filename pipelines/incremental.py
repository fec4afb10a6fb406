"""Learning programs one after another: six at first, then one at a time, and what is lost on the way (6-1 × 4).

Every method gives, after every stage, one score per test seam of the programs learnt so far: the mean of the worst
2 % of the cells of its error maps, each cell standardised on its program's held-out goods. Those goods are kept, so
old programs are recalibrated after each increment; only their *training* goods are gone.
Pure functions from data to figures; `edged bench incremental` makes the data and prints them.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.forgetting import Areas, Interval, areas_after_stages, contrast, forgetting, interval, mean_auroc
from pipelines.grids import Array, GridData, GridMethod, Tell
from pipelines.ib_iumad import IbIumad, IbIumadConfig, add_programs, fit_ib_iumad
from pipelines.loop import LoopConfig

__all__ = [
    "IncrementalData", "IncrementalResult", "Learner", "MethodResult", "MethodScores", "Schedule", "learners",
    "run_learner", "seam_figures", "stages_of", "summarise",
]  # fmt: skip

WORST_SHARE = 0.02
CELL_PRIOR_SEAMS = 10.0
"""The pooled spread of a program's cells counts as much as this many seams in a cell's own."""
REFERENCE = "naive"
LOOP = LoopConfig(epochs=40, batch=24)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class IncrementalData:
    """Goods that train, goods that are held out and kept, test seams; `program` indexes `programs` in all three.

    `bad` (n,) and `session` (n,) belong to `test`. Cells must be standardised on the base programs' training goods,
    for later ones are not there yet.
    """

    programs: tuple[str, ...]
    train: GridData
    held_out: GridData
    test: GridData
    bad: NDArray[np.bool_]
    session: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How many programs at first and in each later stage, and how base and increments are trained."""

    base: int = 6
    step: int = 1
    base_loop: LoopConfig = LOOP
    step_loop: LoopConfig = LOOP


@dataclasses.dataclass(frozen=True, slots=True)
class Learner:
    """A way to learn on: `replay` kept training goods per old program; `alone`: a model per program instead."""

    name: str
    config: IbIumadConfig
    replay: int = 0
    alone: bool = False


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MethodScores:
    """Per stage (n,) scores of the test seams, NaN for programs not learnt yet; seconds of training and scoring."""

    name: str
    scores: tuple[NDArray[np.float64], ...]
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class MethodResult:
    """`cells[l][j]`: AUROC of program j after stage l with its interval, None before it is learnt; `mean_auroc` per
    stage; `forgetting` per stage from 1 on, in AUROC, positive is forgotten."""

    name: str
    cells: tuple[tuple[Interval | None, ...], ...]
    mean_auroc: tuple[Interval, ...]
    forgetting: tuple[Interval, ...]
    seconds: float

    @property
    def matrix(self) -> tuple[tuple[float | None, ...], ...]:
        """The figures of `cells` alone."""
        return tuple(tuple(None if cell is None else cell.value for cell in row) for row in self.cells)


@dataclasses.dataclass(frozen=True, slots=True)
class Contrast:
    """`method` − `reference` after the last stage, paired by session."""

    method: str
    reference: str
    mean_auroc: Interval
    forgetting: Interval


@dataclasses.dataclass(frozen=True, slots=True)
class IncrementalResult:
    """`stages`: names of the programs that each stage adds; matrices have programs in that order."""

    stages: tuple[tuple[str, ...], ...]
    methods: tuple[MethodResult, ...]
    contrasts: tuple[Contrast, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values only."""
        return dataclasses.asdict(self)


def learners(config: IbIumadConfig) -> tuple[Learner, ...]:
    """What is compared: IB-IUMAD, naive fine-tunes with and without its modules, IUF-like, replay, a model each."""
    plain = dataclasses.replace(config, forgetting_guard="none")
    off = dataclasses.replace(plain, mamba=False, ibfm=False)
    return (
        Learner("ib_iumad", config),
        Learner(REFERENCE, off),
        Learner("naive_with_modules", plain),
        Learner("iuf_like", dataclasses.replace(off, forgetting_guard=config.forgetting_guard)),
        Learner("replay_20", plain, replay=20),
        Learner("per_program", plain, alone=True),
    )


def stages_of(programs: Sequence[str], base: int = 6, step: int = 1) -> tuple[tuple[str, ...], ...]:
    """The alphabetically first `base` programs, then `step` at a time. Raises ValueError for too few."""
    names = sorted(programs)
    if base < 1 or step < 1 or len(names) <= base:
        raise ValueError(f"{base} programs at first and {step} a stage need more than {len(names)} programs")
    return (tuple(names[:base]), *(tuple(names[i : i + step]) for i in range(base, len(names), step)))


def run_learner(
    data: IncrementalData,
    way: Learner,
    schedule: Schedule,
    tell: Tell,
    bases: dict[IbIumadConfig, IbIumad] | None = None,
) -> MethodScores:
    """One learner over all stages; `bases` lends and takes base models."""
    began = time.monotonic()
    data, sizes = _arranged(data, stages_of(data.programs, schedule.base, schedule.step))
    run = _run_alone if way.alone else _run_on
    scores = run(data, sizes, way, schedule, tell, {} if bases is None else bases)
    return MethodScores(way.name, tuple(scores), time.monotonic() - began)


def summarise(data: IncrementalData, runs: Sequence[MethodScores], schedule: Schedule) -> IncrementalResult:
    """Matrices, forgetting and contrasts from the scores alone."""
    stages = stages_of(data.programs, schedule.base, schedule.step)
    arranged, _ = _arranged(data, stages)
    learnt = [stage for stage, names in enumerate(stages) for _ in names]
    areas = {
        run.name: areas_after_stages(run.scores, data.bad, arranged.test.program, data.session, learnt)
        for run in runs
    }
    methods = tuple(_method_result(run, areas[run.name]) for run in runs)
    last = len(stages) - 1
    contrasts = tuple(
        Contrast(
            run.name,
            REFERENCE,
            contrast(mean_auroc(areas[run.name], last), mean_auroc(areas[REFERENCE], last)),
            contrast(forgetting(areas[run.name], last), forgetting(areas[REFERENCE], last)),
        )
        for run in runs
        if REFERENCE in areas and run.name != REFERENCE
    )
    return IncrementalResult(stages, methods, contrasts)


def _method_result(run: MethodScores, areas: Areas) -> MethodResult:
    stages = range(len(run.scores))
    cells = tuple(
        tuple(interval(areas.areas[:, stage, j]) if since <= stage else None for j, since in enumerate(areas.learnt))
        for stage in stages
    )
    return MethodResult(
        run.name,
        cells,
        tuple(interval(mean_auroc(areas, stage)) for stage in stages),
        tuple(interval(forgetting(areas, stage)) for stage in stages[1:]),
        run.seconds,
    )


def _run_on(
    data: IncrementalData,
    sizes: Sequence[int],
    way: Learner,
    schedule: Schedule,
    tell: Tell,
    bases: dict[IbIumadConfig, IbIumad],
) -> list[NDArray[np.float64]]:
    """One model that learns on."""
    structure = dataclasses.replace(way.config, forgetting_guard="none")  # the guard matters in increments only
    if structure not in bases:
        train, held = (_of_programs(part, 0, sizes[0]) for part in (data.train, data.held_out))
        bases[structure] = fit_ib_iumad(train, held, structure, schedule.base_loop, tell)
    model, known = bases[structure], sizes[0]
    scores = [_scored(model, data, 0, known)]
    for size in sizes[1:]:
        train, held = (_of_programs(part, known, known + size) for part in (data.train, data.held_out))
        replay = _first_of_each(data.train, known, known + size, way.replay) if way.replay else None
        guarded = dataclasses.replace(model.config, forgetting_guard=way.config.forgetting_guard)
        model = add_programs(model, train, held, guarded, schedule.step_loop, tell, replay)
        known += size
        scores.append(_scored(model, data, 0, known))
    return scores


def _run_alone(
    data: IncrementalData,
    sizes: Sequence[int],
    way: Learner,
    schedule: Schedule,
    tell: Tell,
    _bases: dict[IbIumadConfig, IbIumad],
) -> list[NDArray[np.float64]]:
    """A model per program: nothing is ever forgotten, and nothing shared."""
    known = np.full(len(data.test), np.nan)
    scores, program = [], 0
    for size in sizes:
        for p in range(program, program + size):
            train, held = (_of_programs(part, p, p + 1, rename=True) for part in (data.train, data.held_out))
            model = fit_ib_iumad(train, held, way.config, schedule.base_loop, tell)
            own = _scored(model, data, p, p + 1)
            known = np.where(np.isnan(own), known, own)
        program += size
        scores.append(known)
    return scores


def _scored(model: GridMethod, data: IncrementalData, first: int, stop: int) -> NDArray[np.float64]:
    """Scores of the test seams of programs first … stop − 1, NaN elsewhere."""
    held, test = (_of_programs(part, first, stop) for part in (data.held_out, data.test))
    found = np.full(len(data.test), np.nan)
    rows = (data.test.program >= first) & (data.test.program < stop)
    found[rows] = seam_figures(model.error_maps(held), held, model.error_maps(test), test)
    return found


def seam_figures(
    held_maps: Mapping[str, Array], held: GridData, maps: Mapping[str, Array], data: GridData
) -> NDArray[np.float64]:
    """(n,) mean of the worst 2 % of a seam's valid cells, over all its maps, as z-scores of its program's goods.

    Raises ValueError for a seam without a valid cell or a program without held-out goods.
    """
    if (blind := ~data.valid.any((1, 2))).any():
        raise ValueError(
            f"{int(blind.sum())} of {len(data)} seams have no valid cell: leave them out, they have no score"
        )
    z = np.full((len(data), len(maps), *data.valid.shape[1:]), -np.inf)
    for p in np.unique(data.program):
        own, goods = data.program == p, held.program == p
        if not goods.any():
            raise ValueError(f"program {p} has no held-out goods to standardise on")
        for m, name in enumerate(maps):
            mean, spread = _cell_statistics(held_maps[name][goods], held.valid[goods])
            z[own, m] = np.where(data.valid[own], (maps[name][own] - mean) / spread, -np.inf)
    ranked = -np.sort(-z.reshape(len(data), -1), axis=1)
    worst = np.ceil(WORST_SHARE * np.isfinite(ranked).sum(1)).astype(int)
    taken = np.arange(ranked.shape[1]) < worst[:, None]
    found: NDArray[np.float64] = np.where(taken, ranked, 0.0).sum(1) / worst
    return found


def _cell_statistics(maps: Array, valid: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread (H, W) of a program's goods (n, H, W); cells seen seldom take after all cells."""
    count = valid.sum(0)
    values = np.where(valid, maps, 0.0).astype(np.float64)
    pooled = values.sum() / max(count.sum(), 1)
    mean = np.where(count > 0, values.sum(0) / np.maximum(count, 1), pooled)
    off = np.where(valid, values - mean, 0.0) ** 2
    pooled_variance = off.sum() / max(count.sum(), 1)
    variance = (off.sum(0) + CELL_PRIOR_SEAMS * pooled_variance) / (count + CELL_PRIOR_SEAMS)
    return mean, np.sqrt(variance) + 1e-6 * (1.0 + pooled)


def _arranged(data: IncrementalData, stages: tuple[tuple[str, ...], ...]) -> tuple[IncrementalData, list[int]]:
    """The same with programs numbered in the order of learning, and how many each stage adds."""
    order = [name for names in stages for name in names]
    new = np.array([order.index(name) for name in data.programs], np.int64)

    def renumbered(grids: GridData) -> GridData:
        return dataclasses.replace(grids, program=new[grids.program])

    arranged = dataclasses.replace(
        data,
        programs=tuple(order),
        train=renumbered(data.train),
        held_out=renumbered(data.held_out),
        test=renumbered(data.test),
    )
    return arranged, [len(names) for names in stages]


def _of_programs(data: GridData, first: int, stop: int, rename: bool = False) -> GridData:
    """Seams of programs first … stop − 1; `rename` numbers them from 0."""
    found = data.take((data.program >= first) & (data.program < stop))
    if rename:
        return dataclasses.replace(found, program=found.program - first, programs=stop - first)
    return dataclasses.replace(found, programs=stop)


def _first_of_each(data: GridData, stop: int, programs: int, count: int) -> GridData:
    """The first `count` seams of each program before `stop`."""
    rows = np.concatenate([np.flatnonzero(data.program == p)[:count] for p in range(stop)])
    return dataclasses.replace(data.take(rows), programs=programs)
