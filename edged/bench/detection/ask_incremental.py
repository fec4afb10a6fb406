"""Learning programs one after another on a corpus: its seams as grids, and every method's scores, each kept.

Beside the data path. A cell that starts with some programs knows nothing of later ones, so normaliser and grid scaler
are fitted on the base programs' training goods. Seams are read one at a time and only their grids are held: a corpus
is far larger than the grids of one pair.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.sim import SIM_VERSION
from edged.bench.detection.ask_grid import SHAPE
from edged.bench.detection.corpus import Corpus
from edged.manifest import FEATURES_DATA
from edged.simulated_seam import seam_id_of
from pipelines.features.extractor import SeamFeatures, load_features
from pipelines.grid_build import LOOPS
from pipelines.grids import Modality, Tell
from pipelines.ib_iumad import IbIumad, IbIumadConfig
from pipelines.incremental import IncrementalData, Learner, MethodScores, Schedule, run_learner, stages_of
from pipelines.normaliser import fit_normaliser
from pipelines.seam_grid import SeamGrid, fit_grid_scaler, seam_grid

__all__ = ["BASE", "GridsOfCorpus", "ask_incremental", "grids_of_corpus", "missing_seams", "schedule_of"]

BASE = 6
"""Programs at first, of ten; then one at a time: 6-1 × 4."""
PARTS = {"train": ("train",), "held_out": ("fit",), "test": ("test", "defect")}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GridsOfCorpus:
    """`data` as the methods take it; `left_out`: ids of seams whose scan shows no cell, by part."""

    data: IncrementalData
    left_out: dict[str, tuple[str, ...]]


def schedule_of(programs: Sequence[str], epochs: int | None = None, seed: int = 0) -> Schedule:
    """Six programs first where there are more than six, else half of them. Raises ValueError for fewer than two."""
    if len(programs) < 2:
        raise ValueError(f"learning one program after another needs two or more, got {len(programs)}")
    loop = dataclasses.replace(LOOPS["ib_iumad"], seed=seed)
    if epochs is not None:
        loop = dataclasses.replace(loop, epochs=epochs)
    return Schedule(BASE if len(programs) > BASE else len(programs) // 2, 1, loop, loop)


def missing_seams(corpus: Corpus, folder: Path) -> list[str]:
    """Ids of the seams that are not in the folder."""
    ids = [seam_id_of(plan) for plan in corpus.plans]
    return [seam_id for seam_id in ids if not (folder / FEATURES_DATA.format(seam_id)).exists()]


def grids_of_corpus(
    corpus: Corpus,
    folder: Path,
    pair: Sequence[Modality],
    base: int,
    progress: Callable[[Sequence[int]], Any] = iter,
) -> GridsOfCorpus:
    """Grids of a rendered corpus. `progress` is given the seams that are read.

    Raises ValueError where seams are missing or lack a modality.
    """
    if lacking := missing_seams(corpus, folder):
        raise ValueError(f"{folder}: {len(lacking)} of {len(corpus.plans)} seams are missing; render the corpus")
    programs = tuple(sorted(corpus.size.programs))
    first = stages_of(programs, base)[0]
    rows = {name: [k for k, p in enumerate(corpus.parts) if p in parts] for name, parts in PARTS.items()}
    early = [k for k in rows["train"] if corpus.plans[k].program in first]
    normaliser = fit_normaliser([_seam(corpus, folder, k) for k in early], 0)
    grids: dict[int, SeamGrid] = {}
    for k in progress([k for own in rows.values() for k in own]):
        grids[k] = seam_grid(_seam(corpus, folder, k), pair, normaliser, SHAPE)
    left_out = {}
    for name, own in rows.items():
        left_out[name] = tuple(seam_id_of(corpus.plans[k]) for k in own if not grids[k].valid.any())
        rows[name] = [k for k in own if grids[k].valid.any()]
    scaler = fit_grid_scaler([grids[k] for k in early])
    program = {k: programs.index(corpus.plans[k].program) for k in grids}
    parts = {
        name: scaler([grids.pop(k) for k in own], np.array([program[k] for k in own], np.int64), len(programs))
        for name, own in rows.items()
    }
    bad = np.array([corpus.parts[k] == "defect" for k in rows["test"]], np.bool_)
    session = tuple(corpus.plans[k].session for k in rows["test"])
    return GridsOfCorpus(IncrementalData(programs, **parts, bad=bad, session=session), left_out)


def _seam(corpus: Corpus, folder: Path, row: int) -> SeamFeatures:
    return load_features(folder / FEATURES_DATA.format(seam_id_of(corpus.plans[row])))


def ask_incremental(
    data: IncrementalData,
    ways: Sequence[Learner],
    schedule: Schedule,
    folder: Path,
    about: dict[str, Any],
    begin: Callable[[Learner, int], Tell],
) -> Iterator[MethodScores]:
    """Every method's scores, in order; what `folder` holds of the same schedule, method and `about` is not made anew.

    `begin(way, number)` is called for a method that has to be trained, and gives what hears of its progress.
    """
    bases: dict[IbIumadConfig, IbIumad] = {}
    for number, way in enumerate(ways):
        path = folder / f"{way.name}.npz"
        made_for = json.dumps(
            [SIM_VERSION, about, dataclasses.asdict(way), dataclasses.asdict(schedule), len(data.test)],
            sort_keys=True,
            default=str,
        )
        found = _kept(path, made_for)
        if found is None:
            found = run_learner(data, way, schedule, begin(way, number), bases)
            _keep(found, path, made_for)
        yield found


def _kept(path: Path, made_for: str) -> MethodScores | None:
    """What `_keep` wrote; None where there is nothing, or something made for another schedule."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        if str(file["made_for"]) != made_for:
            return None
        scores: NDArray[np.float64] = file["scores"]
        return MethodScores(str(file["name"]), tuple(scores), float(file["seconds"]))


def _keep(found: MethodScores, path: Path, made_for: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(
        part,
        made_for=np.array(made_for),
        name=np.array(found.name),
        scores=np.stack(found.scores),
        seconds=np.array(found.seconds),
        allow_pickle=False,
    )
    part.replace(path)
