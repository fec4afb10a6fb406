"""Rows of the methods on the seam's grid: two-modality detectors over their pairs, and result-only baselines.

One training of a pair answers for every fusion rule: error maps do not depend on it.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.answers import Answers, SeamAnswer, peak_mb
from edged.bench.detection.data import CorpusData
from pipelines.baselines.table import BASELINES
from pipelines.features.extractor import SeamFeatures
from pipelines.fusion import Fusion, Rule, fit_fusion
from pipelines.grid_build import FITS, fit_method, loop_of
from pipelines.grids import GridData, GridMethod, Modality, Tell
from pipelines.loop import LoopConfig
from pipelines.normaliser import Normaliser, fit_normaliser
from pipelines.seam_grid import GridScaler, SeamGrid, fit_grid_scaler, seam_grid

__all__ = ["GridScorer", "Grids", "ask_fitted", "ask_grid", "fit_grid", "scorer_around"]

SHAPE = (14, 14)
"""Size cpu of the protocol."""
BATCH = 64
NETWORKS = {
    "dinomaly": LoopConfig(epochs=20, batch=16, lr=1e-3, weight_decay=1e-4, schedule="cosine", patience=4),
    "simplenet": LoopConfig(epochs=20, batch=16, lr=1e-3, weight_decay=1e-5, patience=4),
    "efficientad": LoopConfig(epochs=30, batch=16, lr=1e-3, patience=5),
    "memae": LoopConfig(epochs=20, batch=16, lr=1e-3, patience=4),
}
"""Schedules of the baselines that are networks; the others have none."""
PARTS = ("train", "fit", "calibration", "test")


class Grids:
    """Standardised grids of a corpus by modalities; made once, as every method wants them."""

    def __init__(self, data: CorpusData) -> None:
        self._data = data
        self.normaliser = fit_normaliser([data.features[i] for i in data.split.train], 0)
        self._made: dict[Modality, list[SeamGrid]] = {}

    def rows(self, part: str) -> NDArray[np.int64]:
        """Rows of `features` of a part."""
        return self._data.test if part == "test" else np.asarray(getattr(self._data.split, part))

    def of(self, modalities: Sequence[Modality]) -> tuple[GridScaler, dict[str, GridData]]:
        """What standardises them, and the grids by part; every seam of the corpus has every modality."""
        data = self._data
        for name in modalities:
            if name not in self._made:
                self._made[name] = [seam_grid(f, (name,), self.normaliser, SHAPE) for f in data.features]
        grids = [
            SeamGrid({n: self._made[n][i].cells[n] for n in modalities}, self._valid(modalities, i))
            for i in range(len(data.features))
        ]
        scaler = fit_grid_scaler([grids[i] for i in data.split.train])
        program = np.array([data.programs.index(f.program) for f in data.features])
        return scaler, {
            part: scaler([grids[i] for i in self.rows(part)], program[self.rows(part)], len(data.programs))
            for part in PARTS
        }

    def _valid(self, modalities: Sequence[Modality], i: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.logical_and.reduce([self._made[name][i].valid for name in modalities])
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GridScorer:
    """A fitted grid method with all that lies before and behind it; a `Scorer` of any seam of the same cell."""

    pipeline: str
    modalities: tuple[Modality, ...]
    programs: tuple[str, ...]
    normaliser: Normaliser
    scaler: GridScaler
    method: GridMethod
    fusion: Fusion
    costs: Mapping[str, float]

    def __call__(self, features: SeamFeatures) -> SeamAnswer:
        """Raises ValueError, naming what is missing, for a seam without one of the modalities."""
        grid = seam_grid(features, self.modalities, self.normaliser, SHAPE)
        data = self.scaler([grid], np.array([self.programs.index(features.program)]), len(self.programs))
        return self.answers(_picked(self.pipeline, self.method.error_maps(data)), data)[0]

    def answers(self, maps: Mapping[str, NDArray[np.float32]], data: GridData) -> list[SeamAnswer]:
        """Of seams whose error maps are known."""
        out = []
        for k, program in enumerate(data.program.tolist()):
            found = self.fusion.score({name: m[k] for name, m in maps.items()}, data.valid[k], program)
            out.append(SeamAnswer(found.raw, dict(found.by_modality), found.map.max(0).astype(np.float64)))
        return out


def ask_grid(
    grids: Grids,
    data: CorpusData,
    pipeline: str,
    pair: Sequence[Modality],
    fusions: Sequence[Rule],
    preset: str,
    seed: int,
    threads: int,
    tell: Tell,
) -> dict[Rule, Answers]:
    """By fusion rule. Raises KeyError for an unknown pipeline."""
    fitted, parts = fit_grid(grids, data, pipeline, pair, fusions[0], preset, seed, threads, tell)
    return ask_fitted(fitted, parts, fusions)


def ask_fitted(fitted: GridScorer, parts: Mapping[str, GridData], fusions: Sequence[Rule]) -> dict[Rule, Answers]:
    """By fusion rule, of a method that is fitted already."""
    spoken = {part: _timed_maps(fitted.pipeline, fitted.method, parts[part]) for part in ("calibration", "test")}
    answers = {}
    for rule in fusions:
        scorer = dataclasses.replace(fitted, fusion=dataclasses.replace(fitted.fusion, rule=rule))
        found = {part: scorer.answers(spoken[part][0], parts[part]) for part in spoken}
        costs = {**fitted.costs, "head_ms_p50": spoken["test"][1], "peak_mb": peak_mb()}
        answers[rule] = Answers(found["calibration"], found["test"], costs)
    return answers


def fit_grid(
    grids: Grids,
    data: CorpusData,
    pipeline: str,
    pair: Sequence[Modality],
    rule: Rule,
    preset: str,
    seed: int,
    threads: int,
    tell: Tell,
) -> tuple[GridScorer, dict[str, GridData]]:
    """Train a method on the corpus' goods; also gives the grids by part. Raises KeyError for an unknown pipeline."""
    import torch

    torch.set_num_threads(threads)
    _, parts = grids.of(pair)
    began = time.monotonic()
    method = _fit(pipeline, parts, preset, seed, tell)
    costs = {"train_s": time.monotonic() - began, "state_mb": _state_mb(method)}
    return scorer_around(grids, data, pipeline, pair, method, rule, costs), parts


def scorer_around(
    grids: Grids,
    data: CorpusData,
    pipeline: str,
    pair: Sequence[Modality],
    method: GridMethod,
    rule: Rule,
    costs: Mapping[str, float],
) -> GridScorer:
    """A fitted method with what makes a score of its maps, fitted on the corpus' held-out goods."""
    scaler, parts = grids.of(pair)
    held_out = parts["fit"]
    sessions = np.unique([data.features[i].session for i in grids.rows("fit")], return_inverse=True)[1]
    maps = _picked(pipeline, _maps(method, held_out))
    fusion = fit_fusion(maps, held_out.valid, held_out.program, held_out.programs, sessions, rule)
    return GridScorer(pipeline, tuple(pair), data.programs, grids.normaliser, scaler, method, fusion, costs)


def _fit(pipeline: str, parts: Mapping[str, GridData], preset: str, seed: int, tell: Tell) -> GridMethod:
    if pipeline in FITS:
        loop = dataclasses.replace(loop_of(pipeline, preset, "cpu"), seed=seed)
        return fit_method(pipeline, parts["train"], parts["fit"], preset, "cpu", loop, tell)
    row = BASELINES[pipeline]
    loop = dataclasses.replace(NETWORKS.get(pipeline, LoopConfig()), seed=seed)
    found: GridMethod = row.fit(parts["train"], parts["fit"], row.config(preset), loop, tell)  # type: ignore[arg-type]
    return found


def _maps(method: GridMethod, data: GridData) -> dict[str, NDArray[np.float32]]:
    """In pieces, so that memory does not grow with the corpus."""
    cuts = range(0, len(data), BATCH)
    pieces = [method.error_maps(data.take(np.arange(i, min(i + BATCH, len(data))))) for i in cuts]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _timed_maps(pipeline: str, method: GridMethod, data: GridData) -> tuple[dict[str, NDArray[np.float32]], float]:
    """Maps, and the median ms that a single seam takes."""
    spent = []
    for i in range(min(len(data), 20)):
        begin = time.perf_counter()
        method.error_maps(data.take(np.array([i])))
        spent.append((time.perf_counter() - begin) * 1e3)
    return _picked(pipeline, _maps(method, data)), float(np.median(spent))


def _picked(pipeline: str, maps: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Of a memory bank's maps the one that its one-class machine fused, where there is one: it is its answer."""
    return {"joint": maps["joint"]} if "joint" in maps and pipeline.startswith("memory_bank") else maps


def _state_mb(method: GridMethod) -> float:
    return sum(value.nbytes for value in method.tensors().values()) / 1e6
