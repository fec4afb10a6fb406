"""Causal-HM's rows: the product and its parts from one training, its ablations, both directions of the network."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edged.bench.detection.answers import Answers, Scorer, SeamAnswer, ask
from edged.bench.detection.blind import BLIND
from edged.bench.detection.data import CorpusData
from pipelines.build import NoBackbone
from pipelines.causal_data import CausalData, centre_rows, fit_process_rows
from pipelines.causal_hm import CausalHM
from pipelines.causal_residual import CausalResidual, fit_residual
from pipelines.causal_train import CausalTraining, net_config, train_net
from pipelines.features.extractor import SeamFeatures
from pipelines.gaussian import raw_score
from pipelines.grids import Tell
from pipelines.loop import LoopConfig
from pipelines.normaliser import Normaliser, fit_normaliser
from pipelines.thresholds import ThresholdTable
from pipelines.training import Fitted, TrainConfig, fit, result_rows, session_groups

__all__ = ["DIRECTIONS", "ask_direction", "ask_product", "fit_product"]

DIRECTIONS = ("direction:p_to_r", "direction:r_to_p", "direction:symmetric")
PARTS = {"causal_hm": "residual", "causal_hm_mismatch": "mismatch", "process_oneclass": "s_P"}
"""Further rows from the same training → the part that is their score."""
NETWORK = {"anti_generalisation:off": {"mask_ratio": 0.0, "noise_std": 0.0, "decoder": "softmax_tokens"}}


def ask_product(data: CorpusData, seed: int, ablation: str | None, threads: int, tell: Tell) -> dict[str, Answers]:
    """By pipeline. `ablation`: one of `BLIND` or `NETWORK`, None: as delivered. Raises KeyError for another."""
    score, costs = fit_product(data, seed, ablation, threads, tell)
    found = ask(data, score, costs)
    if ablation is not None:
        return {"causal_hm_full": found}
    return {"causal_hm_full": found} | {name: _part(found, part) for name, part in PARTS.items()}


def fit_product(
    data: CorpusData, seed: int, ablation: str | None, threads: int, tell: Tell
) -> tuple[Scorer, dict[str, float]]:
    """The product, trained on the corpus' goods, and what that cost; arguments and errors are `ask_product`'s."""
    began = time.monotonic()
    change = BLIND[ablation] if ablation is not None and ablation not in NETWORK else None
    seen = data.features if change is None else [change(f) for f in data.features]
    network = NETWORK.get(ablation or "", {})
    config = TrainConfig(seed=seed, threads=threads, network=network)
    fitted = fit(seen, data.split, config, tell)
    costs = {"train_s": time.monotonic() - began, "state_mb": _state_mb(fitted)}
    detector = CausalHM("bench", fitted, ThresholdTable(), NoBackbone())
    return lambda features: _whole(detector, features if change is None else change(features)), costs


def _part(found: Answers, part: str) -> Answers:
    calibration, test = (
        [SeamAnswer(raw_score(answer.parts[part])) for answer in answers]
        for answers in (found.calibration, found.test)
    )
    return Answers(calibration, test, found.costs)


def _whole(detector: CausalHM, features: SeamFeatures) -> SeamAnswer:
    found = detector.analyse(features)
    parts = dict(found.components) | dict(found.parts["s_RP"])
    return SeamAnswer(found.raw, parts, found.along())


def _state_mb(fitted: Fitted) -> float:
    net = sum(p.numel() * 4 for p in fitted.net.parameters())
    tables: list[Mapping[str, NDArray[Any]]] = [fitted.normaliser.tensors(), fitted.process.tensors()]
    tables.append(fitted.patches.tensors())
    tables += [part.tensors() for part in fitted.parts.values()]
    return (net + sum(v.size * 4 for table in tables for v in table.values())) / 1e6


def ask_direction(data: CorpusData, seed: int, threads: int, tell: Tell) -> dict[str, Answers]:
    """Process → result, result → process and the sum of both, by ablation: the network alone, nothing beside it.

    Both predict as many numbers with the same decoder, and both residuals are weighed by held-out goods' covariance.
    """
    import torch

    torch.set_num_threads(threads)
    normaliser = fit_normaliser([data.features[i] for i in data.split.train], seed)
    parts = _causal_data(data, normaliser)
    answers: dict[str, Answers] = {}
    for ablation, direction in (("direction:p_to_r", "forward"), ("direction:r_to_p", "reverse")):
        began = time.monotonic()
        config = net_config(parts["train"], target="frozen_cov", direction=direction)
        loop = LoopConfig(
            epochs=60, batch=32, lr=5e-4, weight_decay=3e-2, schedule="one_cycle", patience=6, seed=seed
        )
        trained = train_net(parts["train"], parts["fit"], config, CausalTraining(), loop, tell)
        residual = fit_residual(trained, parts["fit"])
        costs = {"train_s": time.monotonic() - began}
        answers[ablation] = Answers(
            _residuals(residual, parts["calibration"]), _residuals(residual, parts["test"]), costs
        )
    both = [answers["direction:p_to_r"], answers["direction:r_to_p"]]
    train_s = sum(side.costs["train_s"] for side in both)
    answers["direction:symmetric"] = Answers(
        _sums([a.calibration for a in both]),
        _sums([a.test for a in both]),
        {"train_s": train_s},
    )
    return answers


def _residuals(residual: CausalResidual, data: CausalData) -> list[SeamAnswer]:
    scores = residual.score(data).parts
    return [
        SeamAnswer(raw_score(float(scores["s_RP"][k])), {name: float(v[k]) for name, v in scores.items()})
        for k in range(len(data))
    ]


def _sums(sides: Any) -> list[SeamAnswer]:
    return [SeamAnswer(raw_score(a.parts["s_RP"] + b.parts["s_RP"])) for a, b in zip(*sides, strict=True)]


def _causal_data(data: CorpusData, normaliser: Normaliser) -> Mapping[str, CausalData]:
    """Every part of the corpus as the network meets it, with process rows for the reverse direction."""
    views = tuple(sorted({name for f in data.features for name in f.views}))
    programs = data.programs
    groups = session_groups(data.features)
    places = {name: getattr(data.split, name) for name in ("train", "fit", "calibration")} | {"test": data.test}
    found: dict[str, CausalData] = {}
    means = None
    for name, rows in places.items():
        pairs = [result_rows(normaliser, data.features[i], views) for i in rows]
        tokens, known = (np.stack(x) for x in zip(*pairs, strict=True))
        program = np.array([programs.index(data.features[i].program) for i in rows])
        off, means = centre_rows(tokens, known, program, means, len(programs))
        processes = [normaliser.process(data.features[i]) for i in rows]
        found[name] = CausalData(processes, off, known, program, groups[rows], len(programs))
    reverse = fit_process_rows(found["train"])
    return {name: reverse.add(part) for name, part in found.items()}
