"""Causal-HM: the process of a seam predicts its post-weld image, and the mismatch is part of the score.

Sits in the worker, training and evaluation. `push` extracts features and steps Mamba while the arc burns; `finish`
has only the post-weld image and the head left. Three parts, after −log p(P, R) = s_P + s_R|P:

    s_P     the process against the good process of its program                      (`pipelines/oneclass.py`)
    s_R     the result against good results: as a whole and cell by cell             (`pipelines/patches.py`)
    s_R|P   the result against what this very process predicts, in the directions    (`pipelines/mismatch.py`)
            that a process can tell; the prediction is a linear path (`pipelines/skip.py`) plus the network's
            remainder (`pipelines/causal_net.py`)

Each is a z-score on held-out goods, the largest z of its signals. `raw = log(1 + exp(max z))` is the score: the
same order as the largest z, and positive, so that `raw / threshold` is meaningful. A model directory holds
`model.toml`, `model.safetensors` (heads only; the backbone comes with its package), `thresholds.json`, which seams
taught it (`trained_on.json`) and the manifest.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines import model_files
from pipelines.along import analysed_along
from pipelines.causal_net import CausalNet, NetConfig
from pipelines.causal_sensor import SensorState
from pipelines.features.extractor import BLOCK_STEPS, SeamExtractor, SeamFeatures
from pipelines.features.grid import STEPS_PER_TOKEN
from pipelines.features.lite0 import Backbone
from pipelines.features.table import Place, Tier, load_backbone
from pipelines.gaussian import standards_from_tensors, standards_to_tensors
from pipelines.live_scorer import Live, load_live
from pipelines.model_files import (
    check_features,
    check_tier,
    part,
    prefixed,
    read_tensors,
    read_thresholds,
    write_model,
)
from pipelines.models import ModelError, model_toml
from pipelines.normaliser import CLIP, Normaliser, Process
from pipelines.oneclass import GROUPS, ProcessOneClass, timeline_points
from pipelines.patches import PatchOneClass
from pipelines.result_parts import RESULT_KINDS, JointMismatch, ResultPart, RowScores
from pipelines.seam_analysis import SeamAnalysis
from pipelines.selective_scan import scan_backend
from pipelines.skip import summary
from pipelines.thresholds import ThresholdTable
from pipelines.torch_device import model_device
from pipelines.training import Fitted, collate, on_device, result_maps, result_rows
from pipelines.window import LivePoint, Score, Seam, SeamWindow, UnknownProgramError

__all__ = ["CausalHM", "save_model", "weights_id"]

BLOCK_TOKENS = BLOCK_STEPS // STEPS_PER_TOKEN
REQUIRED = ("welder", "result")
OPTIONAL = ("video", "audio", "profile")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ProcessHalf:
    """What is known of a seam before its result: z-scores of s_P, z per token (T,), the result that its process
    predicts, (Q, 48) as deviations from the program's mean. ms: what it took."""

    s_p: Mapping[str, float]
    live: NDArray[np.float64]
    predicted: NDArray[np.float32]
    ms: float


@dataclasses.dataclass(frozen=True, slots=True)
class CausalHM:
    """A loaded model."""

    model_id: str
    fitted: Fitted
    thresholds: ThresholdTable
    backbone: Backbone
    device: str = "cpu"
    requires: tuple[str, ...] = REQUIRED
    live: Live | None = None

    @classmethod
    def load(cls, path: Path, device: str, threads: int, cache_dir: Path) -> Self:
        """Read a model directory and the backbone. Raises ModelError."""
        torch.set_num_threads(threads)
        scan_backend()  # loaded, said in the log and maybe compiled here rather than in the first seam
        model_device(path, device)
        about = model_toml(path)
        tier = check_features(path, about)
        tensors = read_tensors(path)
        try:
            fitted = _read(tensors, about, device, tier)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: cannot be read as a causal_hm model: {error!r}") from error
        thresholds = read_thresholds(path)
        place = Place(cache_dir, device="cuda" if device == "cuda" else "cpu", threads=threads)
        backbone = load_backbone(fitted.tier, place)
        model_id = weights_id(path)
        live = load_live(path, fitted.normaliser, model_id, thresholds)
        return cls(model_id, fitted, thresholds, backbone, device, live=live)

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> "CausalHMScorer":
        """Open a seam. Raises UnknownProgramError for a program the model was not trained on."""
        return CausalHMScorer(self, seam, streams)

    def program(self, name: str) -> int:
        """Index of a program. Raises UnknownProgramError naming those of the model."""
        if name not in self.fitted.programs:
            known = ", ".join(self.fitted.programs)
            raise UnknownProgramError(f"model {self.model_id} was not trained on program {name!r}; it knows {known}")
        return self.fitted.programs.index(name)

    def score(self, features: SeamFeatures, half: "ProcessHalf | None" = None) -> Score:
        """Score a seam from its features; `half` is what `process_half` made of its process, where it is there.

        Raises ValueError naming a required stream that is missing.
        """
        found = self.analyse(features, half)
        return self._answer(self._comparable(features), found)

    def process_half(self, features: SeamFeatures, states: torch.Tensor | None = None) -> "ProcessHalf":
        """All that a seam's process says without its result; `states` are Mamba's, (1, ≥ T, d), where it has run."""
        program = self.program(features.program)
        begin = time.perf_counter()
        process = self.fitted.normaliser.process(features)
        s_p, live = self.fitted.process.score(process, program)
        told = np.zeros((len(self.fitted.target_mean[program]), self.fitted.target_mean.shape[2]), np.float32)
        summed = summary(process)
        for found in self.fitted.parts.values():
            told[found.rows] = found.skip.predict(summed, program)
        predicted = told + self._predict(process, program, states)
        return ProcessHalf(s_p, live, predicted, (time.perf_counter() - begin) * 1e3)

    def analyse(self, features: SeamFeatures, half: "ProcessHalf | None" = None) -> SeamAnalysis:
        """Every signal of a seam and the score along it; arguments and errors are those of `score`."""
        program = self.program(features.program)
        check_tier(self.model_id, self.fitted.tier, features)
        features = self._comparable(features)
        absent = [kind for kind in REQUIRED if kind not in features.kinds]
        if absent:
            raise ValueError(f"seam {features.seam_id}: required stream {' and '.join(absent)} is missing")
        half = half or self.process_half(features)
        begin = time.perf_counter()
        rows, known = result_rows(self.fitted.normaliser, features, self.fitted.views)
        predicted = (half.predicted * known[:, None]).astype(np.float64)
        off = ((rows - self.fitted.target_mean[program]) * known[:, None]).astype(np.float64)
        scores = {
            kind: found.score(rows.astype(np.float64), known, off, predicted, program)
            for kind, found in self.fitted.parts.items()
        }
        maps = result_maps(features, self.fitted.normaliser.located)
        s_r = {f"cells.{name}": z for name, z in self.fitted.patches.score(maps, program).items()}
        seen = {kind: score for kind, score in scores.items() if score is not None}
        for kind, score in seen.items():
            s_r |= {f"{kind}.{name}": z for name, z in score.s_r.items()}
        s_rp = self._mismatch(seen, program)
        along = self._along(scores, known, program)
        stage_ms = {"process": half.ms, "head": (time.perf_counter() - begin) * 1e3}
        parts = {"s_P": half.s_p, "s_R": s_r, "s_RP": s_rp}
        return SeamAnalysis(program, self.fitted.standards, parts, half.live, along, stage_ms)

    def _mismatch(self, seen: Mapping[str, RowScores], program: int) -> dict[str, float]:
        """s_R|P of all kinds together where the seam has them all, else of those that it has."""
        joint = self.fitted.joint
        if joint is not None and len(seen) == len(self.fitted.parts):
            return joint.score([score.evidence for score in seen.values()], program)
        found: dict[str, float] = {}
        for score in seen.values():
            found |= {name: max(z, found.get(name, z)) for name, z in score.s_rp.items()}
        return found

    def _along(
        self, scores: Mapping[str, RowScores | None], known: NDArray[np.bool_], program: int
    ) -> dict[str, NDArray[np.float64]]:
        """`SeamAnalysis.rows`."""
        along = {}
        for kind, score in scores.items():
            if score is not None:
                part = self.fitted.parts[kind]
                shown = part.result.standards["worst"].z(score.distance, program)
                along[f"s_R.{kind}"] = np.where(known[part.rows], shown, np.nan)
                along[f"s_RP.{kind}"] = np.where(known[part.rows], score.residual, np.nan)
        return along

    def _comparable(self, features: SeamFeatures) -> SeamFeatures:
        """Without views whose markers were missed where training had them: they show another picture.

        Raises ValueError when no view is left; a seam that cannot be compared must not come out good.
        """
        located = self.fitted.normaliser.located
        views = {name: view for name, view in features.views.items() if view.located == located}
        if features.views and not views:
            raise ValueError(
                f"seam {features.seam_id}: the markers were {'not ' if located else ''}found in its post-weld image, "
                f"unlike in training; free the markers from dirt and shadow, or train without them"
            )
        return dataclasses.replace(features, views=views)

    def _answer(self, features: SeamFeatures, found: SeamAnalysis) -> Score:
        parts, components, raw = found.parts, found.components, found.raw
        kinds = self.fitted.kinds(features)
        threshold = self.thresholds.find(self.model_id, features.program, kinds)
        limit = threshold.value if threshold is not None else None
        modalities = {
            kind: max(z for key, z in parts["s_P"].items() if key.startswith(f"{group}."))
            for group, kind in GROUPS.items()
            if any(key.startswith(f"{group}.") for key in parts["s_P"])
        }
        explain = {f"{part}.{name}": z for part, signals in parts.items() for name, z in signals.items()}
        shown = {part: row for part, row in found.rows.items() if not np.isnan(row).all()}
        explain |= {f"{part}.worst_token": float(np.nanargmax(row)) for part, row in shown.items()}
        located = self.fitted.normaliser.located
        explain["result.located"] = float(located)
        views = self.fitted.views if located else ()  # without markers a photograph may lie anywhere
        return Score(
            raw=raw,
            score=None if limit is None else raw / limit,
            p_value=None if threshold is None else threshold.p_value(raw),
            threshold=limit,
            threshold_id=None if threshold is None else threshold.threshold_id,
            model_id=self.model_id,
            components=components,
            by_modality=modalities | _by_result(parts["s_R"]),
            timeline=timeline_points(found.course, features.travel_speed_mm_s, limit),
            along=analysed_along(found, views, features.frame, limit),
            explain=explain,
            stage_ms=found.stage_ms,
            streams=tuple(sorted(kinds)),
        ).checked(features.seam_id)

    def _predict(self, process: Process, program: int, states: torch.Tensor | None) -> NDArray[np.float32]:
        """What the network adds to the skip path, (Q, 48)."""
        net = self.fitted.net
        batch = on_device(collate([process], [program]), torch.device(self.device))
        with torch.inference_mode():
            if states is None:
                states, _ = net.sensor(batch.steps, None)
            sums = None
            for first in range(0, process.tokens, BLOCK_TOKENS):
                piece = slice(first, first + BLOCK_TOKENS)
                part = batch._replace(
                    video=batch.video[:, piece],
                    video_known=batch.video_known[:, piece],
                    audio=batch.audio[:, piece],
                    audio_known=batch.audio_known[:, piece],
                    tokens=batch.tokens[:, piece],
                )
                n = part.tokens.shape[1]
                tokens, known = net.encode(states[:, first : first + n], part, first)
                sums = net.accumulate(tokens, known, sums)
            assert sums is not None  # a seam has at least one token
            found: NDArray[np.float32] = net.decode(sums, batch.program)[0].cpu().numpy()
        return found


class CausalHMScorer:
    """One open seam: features as chunks come, Mamba in blocks of 1 s from arc-on."""

    def __init__(self, detector: CausalHM, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        detector.program(seam.program)
        self._detector = detector
        self._extractor = SeamExtractor(seam, streams, detector.backbone, detector.fitted.tier)
        live = detector.live
        self._live = None if live is None else live.begin(seam, streams, self._extractor)
        self._mamba: SensorState | None = None
        self._states: list[torch.Tensor] = []
        self._half: tuple[SeamFeatures, ProcessHalf] | None = None
        self._mamba_ms = 0.0

    def push(self, chunk: Chunk) -> None:
        """Take the next stamped chunk of any stream."""
        self._extractor.push(chunk)
        if self._live is not None:
            self._live.push(chunk)  # before Mamba: nothing may wait that is to be known now
        while self._extractor.steps_ready() >= (len(self._states) + 1) * BLOCK_STEPS:
            begin = len(self._states) * BLOCK_STEPS
            self._step(begin, begin + BLOCK_STEPS)

    def live(self) -> Sequence[LivePoint]:
        """Points of the live score since the last call."""
        return () if self._live is None else self._live.points()

    def prepare(self, window: SeamWindow) -> None:
        """Work on the process and on the results so far. Raises ValueError as `finish` does."""
        self._known(window)

    def finish(self, window: SeamWindow) -> Score:
        """Score the seam. Raises ValueError naming what is missing."""
        features, half = self._known(window)
        score = self._detector.score(features, half)
        stage_ms = {**self._extractor.stage_ms, "mamba": self._mamba_ms, **score.stage_ms}
        return dataclasses.replace(score, stage_ms=stage_ms)

    def _known(self, window: SeamWindow) -> tuple[SeamFeatures, ProcessHalf]:
        """Features with the results so far, and the half of the score that is the process alone: worked on once."""
        features = self._extractor.finish(window)
        if self._half is None or self._half[0].sensor is not features.sensor:
            self._half = features, self._detector.process_half(features, self._finish_mamba(features.tokens))
        return features, self._half[1]

    def _finish_mamba(self, tokens: int) -> torch.Tensor:
        """Mamba's states of the whole seam; its last, shorter block is not kept, in case the seam goes on."""
        states, mamba, stop = list(self._states), self._mamba, tokens * STEPS_PER_TOKEN
        for start in range(len(states) * BLOCK_STEPS, stop, BLOCK_STEPS):
            self._step(start, min(start + BLOCK_STEPS, stop))
        found = torch.cat(self._states, 1)[:, :tokens]
        self._states, self._mamba = states, mamba
        return found

    def _step(self, start: int, stop: int) -> None:
        begin = time.perf_counter()
        fitted = self._detector.fitted
        steps = torch.from_numpy(fitted.normaliser.steps(*self._extractor.steps(start, stop))).clamp(-CLIP, CLIP)
        with torch.inference_mode():
            states, self._mamba = fitted.net.sensor(steps[None].to(self._detector.device), self._mamba)
        self._states.append(states)
        self._mamba_ms += (time.perf_counter() - begin) * 1e3


def _by_result(s_r: Mapping[str, float]) -> dict[str, float]:
    """The largest z of each kind of result that the seam has."""
    found: dict[str, float] = {}
    for name, z in s_r.items():
        kind = RESULT_KINDS["scan" if name.startswith(("scan.", "cells.scan.")) else "photo"]
        found[kind] = max(z, found.get(kind, z))
    return found


PARTS = ("normaliser", "process", "patches")


def weights_id(path: Path) -> str:
    """The model's id: a digest of its weights, which thresholds refer to and do not change."""
    return model_files.weights_id("causal_hm", path)


def save_model(fitted: Fitted, path: Path, metrics: Mapping[str, Any]) -> str:
    """Write `model.safetensors`, `model.toml` and the manifest; returns the model's id."""
    tensors = prefixed("net", {name: value.cpu().numpy() for name, value in fitted.net.state_dict().items()})
    for name in PARTS:
        tensors |= prefixed(name, getattr(fitted, name).tensors())
    for kind, found in fitted.parts.items():
        tensors |= prefixed(kind, found.tensors())
    tensors |= prefixed("standard", standards_to_tensors(fitted.standards))
    if fitted.joint is not None:
        tensors |= prefixed("joint", fitted.joint.tensors())
    tensors["target_mean"] = fitted.target_mean
    about = {
        "detector": "causal_hm",
        "requires": list(REQUIRED),
        "optional": list(OPTIONAL),
        "programs": list(fitted.programs),
        "views": list(fitted.views),
        "net": dataclasses.asdict(fitted.net.config),
        "training": fitted.report,
        "metrics": dict(metrics),
    }
    return write_model(path, tensors, about, fitted.tier)


def _read(tensors: Mapping[str, NDArray[Any]], about: Mapping[str, Any], device: str, tier: Tier) -> Fitted:
    config = NetConfig(**about["net"])
    if config.bench_only:
        raise ValueError(f"{', '.join(config.bench_only)}: such a network is for measurements, not for a cell")
    net = CausalNet(config)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in part("net", tensors).items()}, strict=True)
    double = {name: {k: v.astype(np.float64) for k, v in part(name, tensors).items()} for name in PARTS[1:]}
    return Fitted(
        programs=tuple(about["programs"]),
        views=tuple(about["views"]),
        normaliser=Normaliser.from_tensors(part("normaliser", tensors)),
        net=net.eval().requires_grad_(False).to(device),
        target_mean=tensors["target_mean"],
        process=ProcessOneClass.from_tensors(double["process"]),
        patches=PatchOneClass.from_tensors(double["patches"]),
        standards=standards_from_tensors(part("standard", tensors)),
        joint=JointMismatch.from_tensors(part("joint", tensors)) if part("joint", tensors) else None,
        parts={kind: ResultPart.from_tensors(found) for kind in RESULT_KINDS if (found := part(kind, tensors))},
        report=dict(about["training"]),
        tier=tier,
    )
