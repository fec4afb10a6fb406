"""A pipeline trained once on a corpus' goods, as a function that scores any seam: for tests beside its own."""

from collections.abc import Callable, Mapping
from typing import Any

from edged.bench.detection.answers import Scorer
from edged.bench.detection.ask_grid import Grids
from edged.bench.detection.data import CorpusData
from edged.bench.detection.runner import Job, grid_row, rules_of
from pipelines.grids import Tell

__all__ = ["FITTERS", "fit_scorer", "row_of"]


def fit_scorer(job: Job, data: CorpusData, grids: Grids | None, threads: int, tell: Tell) -> Scorer:
    """Train what `job` names; a grid method, which alone needs the `grids` of `data`, fuses by its first rule.

    Raises KeyError for a kind of job that is not in `FITTERS`.
    """
    return FITTERS[job.kind](job, data, grids, threads, tell)


def row_of(job: Job) -> dict[str, Any]:
    """What a run of that scorer says of itself: the same as the run of the job on the corpus' own tests."""
    row: dict[str, Any] = {"seed": job.seed, "ablation": job.ablation, "preset": job.preset, "size": "cpu"}
    own: Mapping[str, Callable[[], dict[str, Any]]] = {
        "product": lambda: {"pipeline": job.pipeline, "streams": "all"},
        "grid": lambda: grid_row(job, rules_of(job)[0]),
        "seam": lambda: {"pipeline": job.pipeline},
    }
    return row | own[job.kind]()


def _product(job: Job, data: CorpusData, grids: Grids | None, threads: int, tell: Tell) -> Scorer:
    from edged.bench.detection.ask_causal import fit_product

    return fit_product(data, job.seed, job.ablation, threads, tell)[0]


def _grid(job: Job, data: CorpusData, grids: Grids | None, threads: int, tell: Tell) -> Scorer:
    from edged.bench.detection.ask_grid import fit_grid

    assert job.pair is not None
    assert grids is not None
    rule = rules_of(job)[0]
    return fit_grid(grids, data, job.pipeline, job.pair, rule, job.preset, job.seed, threads, tell)[0]


def _seam(job: Job, data: CorpusData, grids: Grids | None, threads: int, tell: Tell) -> Scorer:
    from edged.bench.detection.ask_seam import fit_seam

    return fit_seam(data, job.pipeline, job.seed, tell)[0]


FITTERS: Mapping[str, Callable[[Job, CorpusData, Grids | None, int, Tell], Scorer]] = {
    "product": _product,
    "grid": _grid,
    "seam": _seam,
}
