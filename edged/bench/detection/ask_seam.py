"""Rows of the baselines that see no result: set-points alone, sensor statistics, sound and picture."""

import dataclasses
import time

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.answers import Answers, Scorer, SeamAnswer, ask
from edged.bench.detection.data import CorpusData
from pipelines.baselines.seam_method import SeamGoods
from pipelines.baselines.table import BASELINES
from pipelines.features.extractor import SeamFeatures
from pipelines.gaussian import raw_score
from pipelines.grids import Tell
from pipelines.loop import LoopConfig
from pipelines.normaliser import fit_normaliser
from pipelines.setpoint_knn import SetpointKnn

__all__ = ["ask_seam", "ask_setpoints", "fit_seam"]

LOOP = LoopConfig(epochs=30, batch=32, lr=1e-3, patience=5)


def ask_setpoints(data: CorpusData) -> Answers:
    """Nearest neighbours on what the program told the machine."""
    goods = [(data.features[i].program, data.set_points[i]) for i in (*data.split.train, *data.split.fit)]
    knn = SetpointKnn.fit(goods)
    points = {f.seam_id: p for f, p in zip(data.features, data.set_points, strict=True)}
    found = ask(data, lambda f: SeamAnswer(raw_score(knn.score(f.program, points[f.seam_id]))))
    # It needs no features, so its head is all that it takes.
    return dataclasses.replace(found, costs={**found.costs, "latency_ms_p50": found.costs["head_ms_p50"]})


def ask_seam(data: CorpusData, pipeline: str, seed: int, tell: Tell) -> Answers:
    """A seam method of `pipelines.baselines`."""
    return ask(data, *fit_seam(data, pipeline, seed, tell))


def fit_seam(data: CorpusData, pipeline: str, seed: int, tell: Tell) -> tuple[Scorer, dict[str, float]]:
    """The method, trained on the corpus' goods, and what that cost."""
    began = time.monotonic()
    normaliser = fit_normaliser([data.features[i] for i in data.split.train], seed)
    programs = data.programs

    def goods(rows: NDArray[np.int64]) -> SeamGoods:
        index = np.array([programs.index(data.features[i].program) for i in rows])
        return SeamGoods([normaliser.process(data.features[i]) for i in rows], index, len(programs))

    row = BASELINES[pipeline]
    loop = dataclasses.replace(LOOP, seed=seed)
    method = row.fit(goods(data.split.train), goods(data.split.fit), row.config("cell"), loop, tell)
    state_mb = sum(value.nbytes for value in method.tensors().values()) / 1e6

    def score(features: SeamFeatures) -> SeamAnswer:
        return SeamAnswer(method.score(normaliser.process(features), programs.index(features.program)))

    return score, {"train_s": time.monotonic() - began, "state_mb": state_mb}
