"""Detection on corrupted twins of test seams: the same welds, rendered again with spoilt data; training stays clean.

A pipeline is fitted once on the clean goods and scores the clean seams and each corruption's twins of them. Its
threshold is that of the clean calibration goods: nobody tells a cell that its data went bad.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim.randomness import generator
from edged.bench.detection.answers import Answers, Scorer, SeamAnswer, run_of
from edged.bench.detection.arms import PRODUCT, pair_name
from edged.bench.detection.corpus import CORPUS_SEEDS, Corpus
from edged.bench.detection.corruptions import CORRUPTIONS
from edged.bench.detection.data import CorpusData, load_seams
from edged.bench.detection.fitted import FITTERS, fit_scorer, row_of
from edged.bench.detection.paired import combine, points_of
from edged.bench.detection.runner import MAIN_PAIR, Job, jobs_of
from edged.bench.detection.scored import Run, load_run, save_run
from edged.simulate import Progressing, simulate_features
from pipelines.features.extractor import SeamFeatures
from pipelines.grids import Tell

__all__ = [
    "CLEAN", "NOISE", "PUBLISHED", "Level", "apart", "asked_levels", "chosen_seams", "corruption_jobs",
    "corruption_rows", "corruption_runs", "only_seams", "render_twins",
]  # fmt: skip

Level = tuple[str, float]
CLEAN: Level = ("clean", 0.0)
NOISE: Level = ("sensor_noise", 0.3)
PUBLISHED = (PRODUCT, "memory_bank")
"""Level and pipelines that the protocol's sixth contrast asks for."""


def asked_levels(names: Sequence[str], levels: Sequence[float] | None = None) -> list[Level]:
    """Corruptions at their own levels, or at those given. Raises KeyError for an unknown corruption."""
    return [(name, float(level)) for name in names for level in levels or CORRUPTIONS[name].levels]


def corruption_jobs(pipelines: Sequence[str]) -> list[Job]:
    """One training of each: over the main pair where there are several. Raises ValueError for an unknown one."""
    jobs = [job for job in jobs_of(1) if job.kind in FITTERS and job.ablation is None]
    jobs = [job for job in jobs if job.pair is None or len(job.pair) == 1 or job.pair == MAIN_PAIR]
    unknown = sorted(set(pipelines) - {job.pipeline for job in jobs})
    if unknown:
        known = ", ".join(dict.fromkeys(job.pipeline for job in jobs))
        raise ValueError(f"pipeline {unknown[0]!r} cannot be asked about corrupted seams; known: {known}")
    return [job for name in pipelines for job in jobs if job.pipeline == name]


def chosen_seams(corpus: Corpus, count: int) -> NDArray[np.int64]:
    """Rows of `count` test goods and as many defects, or all there are; fewer are always among more."""
    parts = np.array(corpus.parts)
    rng = generator(CORPUS_SEEDS[corpus.number], "corrupted", corpus.size.name)
    rows = [rng.permutation(np.flatnonzero(parts == part))[:count] for part in ("test", "defect")]
    return np.sort(np.concatenate(rows))


def render_twins(
    corpus: Corpus,
    rows: NDArray[np.int64],
    level: Level,
    folder: Path,
    jobs: int,
    cache_dir: Path,
    progress: Progressing = iter,
) -> int:
    """Simulate what `folder` lacks of the twins; returns how many were made. Raises ValueError for a wrong folder."""
    plans = [corpus.plans[i] for i in rows]
    return simulate_features(plans, folder, jobs, cache_dir, progress, profiler=True, corruption=level)


def only_seams(data: CorpusData, rows: NDArray[np.int64]) -> CorpusData:
    """The same corpus with these test seams only."""
    seams = dict(zip(data.test.tolist(), data.seams, strict=True))
    return dataclasses.replace(data, test=rows, seams=tuple(seams[i] for i in rows.tolist()))


def corruption_runs(
    jobs: Sequence[Job],
    levels: Sequence[Level],
    data: CorpusData,
    twins: Callable[[Level], Path],
    kept: Path,
    threads: int,
    tell: Callable[[Job, int, int], Tell],
) -> Iterator[tuple[Job, Level, Run]]:
    """Every job's run at every level, the clean one first; made once and kept in `kept`.

    Args:
        data: with the test seams that are asked about only.
        twins: where a level's seams were rendered to.

    Raises ValueError where twins are missing.
    """
    from edged.bench.detection.ask_grid import Grids

    grids: list[Grids] = []
    for number, job in enumerate(jobs):
        files = {level: kept / job.name / f"{_file_name(level)}.npz" for level in (CLEAN, *levels)}
        missing = [level for level, path in files.items() if not path.exists()]
        if missing:
            # Standardised grids of the whole corpus serve all grid methods; others do not need them.
            if job.kind == "grid" and not grids:
                grids.append(Grids(data))
            scorer = fit_scorer(job, data, grids[0] if grids else None, threads, tell(job, number, len(jobs)))
            calibration = [scorer(data.features[i]) for i in data.split.calibration]
            for level in missing:
                features = data.testing() if level == CLEAN else _twins(data, twins(level))
                save_run(_run(job, level, data, scorer, calibration, features), files[level])
        for level, path in files.items():
            yield job, level, load_run(path)


def corruption_rows(found: Sequence[tuple[Job, Level, Run]], asked: Mapping[int, int]) -> list[dict[str, Any]]:
    """`{pipeline, pair, corruption, level, auroc, ci, n_good, n_bad, refused, corpora, schedule}`, level 0 clean.

    The mean over corpora with its interval. `asked`: corpus → how many seams were to be scored; a seam that a
    pipeline refused, for its data could not be used, has no score and counts as `refused`.
    """
    rows = []
    corruptions = list(dict.fromkeys(name for _, (name, _), _ in found if name != CLEAN[0]))
    for name in corruptions:
        for job in dict.fromkeys(job for job, _, _ in found):
            mine = [(level, run) for own, (kind, level), run in found if own == job and kind in (name, CLEAN[0])]
            values = sorted({level for level, _ in mine})
            rows += [
                _row(job, name, value, [run for level, run in mine if level == value], asked) for value in values
            ]
    return rows


def apart(one: Run, other: Run) -> float:
    """The largest relative difference of their scores on seams of both; 0 where they are not of the same row."""
    if dict(one.row) != dict(other.row):
        return 0.0
    place = {seam.seam_id: k for k, seam in enumerate(other.seams)}
    both = [(k, place[seam.seam_id]) for k, seam in enumerate(one.seams) if seam.seam_id in place]
    a, b = one.score[[k for k, _ in both]], other.score[[k for _, k in both]]
    return float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1e-9), initial=0.0))


def _row(job: Job, name: str, level: float, runs: list[Run], asked: Mapping[int, int]) -> dict[str, Any]:
    got = combine(points_of([runs]), [1.0])
    due = sum(asked[int(corpus)] for corpus in {str(run.row["corpus"]) for run in runs})
    return {
        "pipeline": job.pipeline,
        "pair": pair_name(runs[0].row),
        "corruption": f"{name.replace('_', ' ')}, {CORRUPTIONS[name].unit}",
        "level": level,
        "auroc": got.value,
        "ci": got.ci,
        "n_good": got.n_good,
        "n_bad": got.n_bad,
        "refused": due - sum(len(run.seams) for run in runs),
        "corpora": list(got.corpora),
        "schedule": runs[0].row["schedule"],
    }


def _twins(data: CorpusData, folder: Path) -> list[SeamFeatures]:
    return load_seams([data.corpus.plans[i] for i in data.test], folder)


def _run(
    job: Job,
    level: Level,
    data: CorpusData,
    scorer: Scorer,
    calibration: Sequence[SeamAnswer],
    features: Sequence[SeamFeatures],
) -> Run:
    """Of the seams that the pipeline could score."""
    answers: list[SeamAnswer] = []
    scored = []
    for k, seam in enumerate(features):
        try:
            answers.append(scorer(seam))
        except ValueError:  # what the daemon would answer INDETERMINATE to, never OK
            continue
        scored.append(k)
    row = row_of(job) | ({} if level == CLEAN else {"ablation": f"{level[0]}:{level[1]:g}"})
    return run_of(only_seams(data, data.test[scored]), row, Answers(calibration, answers, {}))


def _file_name(level: Level) -> str:
    return f"{level[0]}-{level[1]:g}"
