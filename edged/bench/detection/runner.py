"""Which runs the protocol asks for, in the order of their importance, and how each is made once and kept.

A run is a file; what is there is not made again, so a measurement goes on where it was interrupted and the report can
be written at any time from the runs that there are.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edged.bench.detection.answers import Answers, run_of
from edged.bench.detection.data import CorpusData
from edged.bench.detection.scored import Run, load_run, save_run
from pipelines.fusion import Rule
from pipelines.grids import PAIRS, Modality, Tell

__all__ = ["BANKS", "DONE", "MAIN_PAIR", "Job", "grid_row", "jobs_of", "load_runs", "rules_of", "run_jobs"]

RULES: tuple[Rule, ...] = ("minp", "mul", "add", "max")
MAIN_PAIR: tuple[Modality, Modality] = ("geo", "proc")
BANKS = ("memory_bank", "memory_bank_concat")
DETECTORS = ("cfm", "mafr", "uni_rcm", "ib_iumad")
RESULT_ONLY = ("patchcore", "simplenet", "efficientad", "memae", "dinomaly")
ABLATIONS = ("sensor:off", "anti_generalisation:off", "stream:noise", "stream:random_views", "streams:image")


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One training and the runs that come of it. `kind`: one of `_MAKERS`, or "oracle"."""

    kind: str
    pipeline: str
    seed: int = 0
    ablation: str | None = None
    pair: tuple[Modality, ...] | None = None
    preset: str = "cell"

    @property
    def name(self) -> str:
        """Of its file."""
        parts = (self.kind, self.pipeline, self.ablation, "+".join(self.pair or ()), self.preset, self.seed)
        return "_".join(str(part).replace(":", "-") for part in parts if part not in (None, ""))


def jobs_of(seeds: int, primary_only: bool = False, oracle: bool = False) -> list[Job]:
    """In order of importance: the product, its baselines, the primary ablations, then what is exploratory.

    `oracle`: also the supervised oracle on the corpus' own seams, for a corpus that can feed it
    (`ask_oracle.oracle_is_fed`).
    """
    jobs = [Job("product", "causal_hm_full", seed) for seed in range(seeds)]
    jobs += [Job("setpoints", "setpoint_knn"), Job("seam", "sensor_mahalanobis"), Job("seam", "late_fusion")]
    jobs += [Job("grid", name, pair=MAIN_PAIR) for name in BANKS] + [Job("grid", "patchcore", pair=("rgb",))]
    jobs += [Job("grid", "patchcore", pair=("geo",))]
    jobs += [Job("grid", name, seed, pair=MAIN_PAIR) for name in DETECTORS for seed in range(seeds)]
    jobs += [Job("direction", "causal_hm", seed) for seed in range(seeds)]
    jobs += [Job("product", "causal_hm_full", 0, ablation) for ablation in ABLATIONS]
    jobs += [Job("oracle", "oracle")] if oracle else []
    if primary_only:
        return jobs
    jobs += [Job("grid", name, pair=("rgb",)) for name in RESULT_ONLY if name != "patchcore"]
    others = [pair for pair in PAIRS if pair != MAIN_PAIR]
    jobs += [Job("grid", name, pair=pair) for pair in others for name in (*BANKS, *DETECTORS)]
    return jobs


def run_jobs(
    jobs: list[Job], data: CorpusData, folder: Path, threads: int, tell: Callable[[Job, int, int], Tell]
) -> Iterator[Run]:
    """Make what is missing and give every run, in the order of the jobs."""
    from edged.bench.detection.ask_grid import Grids

    grids = Grids(data)
    for number, job in enumerate(jobs):
        place = folder / data.corpus.name / job.name
        if not (place / DONE).exists():
            told = tell(job, number, len(jobs))
            for name, run in _made(job, data, grids, threads, told, place).items():
                save_run(run, place / f"{name}.npz")
            (place / DONE).write_text(json.dumps(dataclasses.asdict(job)) + "\n", encoding="utf-8")
        yield from _kept(place)


DONE = "done.json"


def load_runs(folder: Path) -> list[Run]:
    """Every run that was finished."""
    return [run for done in sorted(folder.glob(f"*/*/{DONE}")) for run in _kept(done.parent)]


def _kept(place: Path) -> list[Run]:
    return [load_run(path) for path in sorted(place.glob("*.npz"))]


def _made(job: Job, data: CorpusData, grids: Any, threads: int, tell: Tell, place: Path) -> dict[str, Run]:
    if job.kind == "oracle":  # no training goods, no thresholds, a part of the seams a run: nothing for `run_of`
        from edged.bench.detection.ask_oracle import oracle_runs

        return oracle_runs(data, place, threads, tell)
    row: dict[str, Any] = {"seed": job.seed, "ablation": job.ablation, "preset": job.preset, "size": "cpu"}
    maker = _MAKERS[job.kind]
    found = maker(job, data, grids, threads, tell)
    return {name: run_of(data, {**row, **own}, answers) for name, (own, answers) in found}


Named = Iterator[tuple[str, tuple[Mapping[str, Any], Answers]]]


def _product(job: Job, data: CorpusData, grids: Any, threads: int, tell: Tell) -> Named:
    from edged.bench.detection.ask_causal import ask_product

    for name, answers in ask_product(data, job.seed, job.ablation, threads, tell).items():
        yield name, ({"pipeline": name, "streams": "all"}, answers)


def _direction(job: Job, data: CorpusData, grids: Any, threads: int, tell: Tell) -> Named:
    from edged.bench.detection.ask_causal import ask_direction

    for ablation, answers in ask_direction(data, job.seed, threads, tell).items():
        yield ablation.replace(":", "-"), ({"pipeline": job.pipeline, "ablation": ablation}, answers)


def _grid(job: Job, data: CorpusData, grids: Any, threads: int, tell: Tell) -> Named:
    from edged.bench.detection.ask_grid import ask_grid

    assert job.pair is not None
    rules = rules_of(job)
    said = ask_grid(grids, data, job.pipeline, job.pair, rules, job.preset, job.seed, threads, tell)
    for rule, answers in said.items():
        yield rule, (grid_row(job, rule), answers)


def rules_of(job: Job) -> tuple[Rule, ...]:
    """Fusion rules that a grid method is asked with: all, where it has two maps to fuse."""
    return RULES if len(job.pair or ()) > 1 and job.pipeline in DETECTORS else RULES[:1]


def grid_row(job: Job, rule: Rule) -> dict[str, Any]:
    """What a grid method's run says of itself."""
    own = {"pipeline": job.pipeline, "pair": ",".join(job.pair or ())}
    return own | ({"fusion": rule} if len(rules_of(job)) > 1 else {})


def _seam(job: Job, data: CorpusData, grids: Any, threads: int, tell: Tell) -> Named:
    from edged.bench.detection.ask_seam import ask_seam

    yield job.pipeline, ({"pipeline": job.pipeline}, ask_seam(data, job.pipeline, job.seed, tell))


def _setpoints(job: Job, data: CorpusData, grids: Any, threads: int, tell: Tell) -> Named:
    from edged.bench.detection.ask_seam import ask_setpoints

    yield job.pipeline, ({"pipeline": job.pipeline, "seed": None}, ask_setpoints(data))


_MAKERS: Mapping[str, Callable[[Job, CorpusData, Any, int, Tell], Named]] = {
    "product": _product,
    "direction": _direction,
    "grid": _grid,
    "seam": _seam,
    "setpoints": _setpoints,
}
