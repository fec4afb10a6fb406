"""Sums of AUROCs over the same seams with a paired interval: what every contrast and bar is made of.

A *point* is one corpus and seed. Sessions are resampled within a corpus, with the same draws for all its seeds and
arms; a combined figure is the mean over points, replicate by replicate.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.arms import corpora_of
from edged.bench.detection.clusters import BOOTSTRAPS, Clusters, draws, interval, two_sided_p
from edged.bench.detection.scored import Run, TestSeam

__all__ = ["Combined", "Point", "Wanted", "combine", "points_of"]

Wanted = Callable[[TestSeam], bool]
"""Which bad seams count; goods always do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One run of each arm over the same seams."""

    corpus: str
    seed: int | None
    runs: tuple[Run, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Combined:
    """`value` is None, with `why`, where nothing could be compared. `n_good`, `n_bad`: summed over corpora."""

    value: float | None
    ci: tuple[float, float] | None
    p: float | None
    n_good: int
    n_bad: int
    corpora: tuple[str, ...]
    seeds: tuple[int | None, ...]
    points: tuple[dict[str, Any], ...]
    why: str | None = None


def points_of(arms: Sequence[Sequence[Run]], corpora: Sequence[str] | None = None) -> list[Point]:
    """Corpora and seeds that all arms have in common; deterministic runs (seed null) go with every seed."""
    out = []
    for corpus in corpora_of(run for arm in arms for run in arm):
        if corpora is not None and corpus not in corpora:
            continue
        tables = [{run.row.get("seed"): run for run in arm if str(run.row.get("corpus")) == corpus} for arm in arms]
        if not all(tables):
            continue
        seeded = [set(table) for table in tables if None not in table]
        shared: set[Any] = set.intersection(*seeded) if seeded else {None}
        for seed in sorted(shared, key=lambda s: -1 if s is None else s):
            runs = tuple(table[seed] if seed in table else table[None] for table in tables)
            out.append(Point(corpus, seed, runs))
    return out


def combine(
    points: Sequence[Point],
    signs: Sequence[float],
    wanted: Wanted = lambda seam: True,
    constant: float = 0.0,
    replicates: int = BOOTSTRAPS,
) -> Combined:
    """Σ signs[k] · AUROC(run k) + constant, the mean over points, with the interval and p of a paired bootstrap."""
    shown: list[dict[str, Any]] = []
    drawn: list[NDArray[np.float64]] = []
    sizes: dict[str, tuple[int, int]] = {}
    least = 0
    for point in points:
        areas, replicas, counts = _areas(point, wanted, replicates)
        if areas is None:
            continue
        value = float(np.dot(signs, areas)) + constant
        replica = np.tensordot(np.asarray(signs, np.float64), replicas, 1) + constant
        sessions, n_good, n_bad = counts
        least = sessions if not sizes else min(least, sessions)
        sizes[point.corpus] = (n_good, n_bad)
        ci = interval(replica, sessions)
        shown.append({"corpus": point.corpus, "seed": point.seed, "difference": value, "ci": ci})
        drawn.append(replica)
    if not shown:
        return Combined(None, None, None, 0, 0, (), (), (), "no seams of the kind asked for, or no good ones")
    mean = np.mean(drawn, axis=0)
    ci = interval(mean, least)
    seeds = tuple(dict.fromkeys(row["seed"] for row in shown))
    value = float(np.mean([row["difference"] for row in shown]))
    n_good, n_bad = (sum(size[k] for size in sizes.values()) for k in (0, 1))
    p = None if ci is None else two_sided_p(mean)
    return Combined(value, ci, p, n_good, n_bad, tuple(sizes), seeds, tuple(shown))


def _areas(
    point: Point, wanted: Wanted, replicates: int
) -> tuple[list[float] | None, NDArray[np.float64], tuple[int, int, int]]:
    """Each run's AUROC, its replicates (k, r) and (sessions, goods, bads), over the seams that all runs have."""
    places = [{seam.seam_id: k for k, seam in enumerate(run.seams)} for run in point.runs]
    first = point.runs[0]
    kept = [s for s in first.seams if all(s.seam_id in p for p in places) and (not s.bad or wanted(s))]
    bad = np.array([seam.bad for seam in kept], np.bool_)
    none = np.empty((0, 0))
    if len(kept) == 0 or bad.all() or not bad.any():
        return None, none, (0, 0, 0)
    session = [seam.session for seam in kept]
    values, replicas = [], []
    for run, place in zip(point.runs, places, strict=True):
        clusters = Clusters.of(bad, run.score[[place[seam.seam_id] for seam in kept]], session)
        # A corpus' own draws, whatever its seed: the same sessions were welded.
        drawn = draws(len(clusters.sessions), _seed_of(point.corpus), replicates)
        area = clusters.area()
        assert area is not None
        values.append(area)
        replicas.append(clusters.areas(drawn))
    return values, np.stack(replicas), (len(set(session)), int((~bad).sum()), int(bad.sum()))


def _seed_of(corpus: str) -> int:
    import zlib

    return zlib.crc32(corpus.encode())
