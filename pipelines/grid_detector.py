"""The detector around a grid method (MAFR, Uni-RCM, IB-IUMAD, …): chunks in, one score out, like any other.

Features come from the same extractor as Causal-HM's. `finish` lays them onto the seam's grid, asks the method for its
error maps and joins them by the model's fusion rule. The label rests on the pair alone; the live score beside it is
the process one-class, as for every detector.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.along import fused_along, points
from pipelines.features.extractor import SeamExtractor, SeamFeatures
from pipelines.features.lite0 import Backbone
from pipelines.features.table import Place, Tier, load_backbone
from pipelines.fusion import Fusion
from pipelines.grid_methods import METHODS, method_class
from pipelines.grids import NEEDS, GridMethod, Modality, requires_of
from pipelines.live_scorer import Live, load_live
from pipelines.model_files import (
    check_features,
    check_tier,
    part,
    prefixed,
    read_tensors,
    read_thresholds,
    weights_id,
    write_model,
)
from pipelines.models import ModelError, model_toml
from pipelines.normaliser import Normaliser
from pipelines.oneclass import ProcessOneClass, timeline_points
from pipelines.per_program import restore_method
from pipelines.seam_grid import GridScaler, seam_grid
from pipelines.thresholds import ThresholdTable
from pipelines.torch_device import model_device
from pipelines.window import LivePoint, Score, Seam, SeamWindow, UnknownProgramError

__all__ = ["METHODS", "NEEDS", "FittedGrid", "GridDetector", "method_class", "requires_of"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FittedGrid:
    """Everything a grid detector's model is made of, thresholds aside."""

    detector: str
    pair: tuple[Modality, ...]
    shape: tuple[int, int]
    programs: tuple[str, ...]
    normaliser: Normaliser
    scaler: GridScaler
    method: GridMethod
    fusion: Fusion
    process: ProcessOneClass
    report: Mapping[str, Any]
    tier: Tier = "default"

    def maps(self, features: SeamFeatures) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
        """Error maps of one seam by modality (H, W), and where its cells are valid. Raises ValueError."""
        grid = seam_grid(features, self.pair, self.normaliser, self.shape)
        index = np.array([self.programs.index(features.program)])
        data = self.scaler([grid], index, len(self.programs))
        return {name: found[0] for name, found in self.method.error_maps(data).items()}, grid.valid

    def save(self, path: Path, *, half: bool = False) -> str:
        """Write the model directory; returns the model's id. `half`: see `write_model`."""
        tensors = (
            prefixed("normaliser", self.normaliser.tensors())
            | prefixed("scaler", self.scaler.tensors())
            | prefixed("method", self.method.tensors())
            | prefixed("fusion", self.fusion.tensors())
            | prefixed("process", self.process.tensors())
        )
        about = {
            "detector": self.detector,
            "pair": list(self.pair),
            "requires": list(requires_of(self.pair)),
            "grid": list(self.shape),
            "programs": list(self.programs),
            "method": self.method.about(),
            "fusion": self.fusion.rule,
            "training": dict(self.report),
        }
        return write_model(path, tensors, about, self.tier, half=half)

    @classmethod
    def read(cls, path: Path, about: Mapping[str, Any], device: str = "cpu") -> Self:
        """What `save` wrote, its networks on a device. Raises ModelError."""
        tier = check_features(path, about)
        model_device(path, device)
        tensors = read_tensors(path)
        try:
            detector = str(about["detector"])
            double = {k: v.astype(np.float64) for k, v in part("process", tensors).items()}
            return cls(
                detector=detector,
                pair=tuple(about["pair"]),
                shape=(int(about["grid"][0]), int(about["grid"][1])),
                programs=tuple(about["programs"]),
                normaliser=Normaliser.from_tensors(part("normaliser", tensors)),
                scaler=GridScaler.from_tensors(part("scaler", tensors), about["pair"]),
                method=restore_method(detector, about["method"], part("method", tensors), device),
                fusion=Fusion.from_tensors(about["fusion"], part("fusion", tensors)),
                process=ProcessOneClass.from_tensors(double),
                report=dict(about["training"]),
                tier=tier,
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: cannot be read as a {about.get('detector')} model: {error!r}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class GridDetector:
    """A loaded model."""

    model_id: str
    fitted: FittedGrid
    thresholds: ThresholdTable
    backbone: Backbone
    requires: tuple[str, ...]
    live: Live | None = None

    @classmethod
    def load(cls, path: Path, device: str, threads: int, cache_dir: Path) -> Self:
        """Read a model directory and the backbone. Raises ModelError."""
        import torch

        torch.set_num_threads(threads)
        about = model_toml(path)
        fitted = FittedGrid.read(path, about, device)
        thresholds = read_thresholds(path)
        place = Place(cache_dir, device="cuda" if device == "cuda" else "cpu", threads=threads)
        backbone = load_backbone(fitted.tier, place)
        model_id = weights_id(fitted.detector, path)
        live = load_live(path, fitted.normaliser, model_id, thresholds)
        return cls(model_id, fitted, thresholds, backbone, requires_of(fitted.pair), live)

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> "GridScorer":
        """Open a seam. Raises UnknownProgramError for a program the model was not trained on."""
        self._program(seam.program)
        return GridScorer(self, seam, streams)

    def score(self, features: SeamFeatures) -> Score:
        """Score a seam from its features. Raises ValueError naming what is missing."""
        program = self._program(features.program)
        check_tier(self.model_id, self.fitted.tier, features)
        absent = [kind for kind in self.requires if kind not in features.kinds]
        if absent:
            raise ValueError(f"seam {features.seam_id}: required stream {' and '.join(absent)} is missing")
        begin = time.perf_counter()
        maps, valid = self.fitted.maps(features)
        for name, errors in maps.items():
            if not np.isfinite(errors).all():  # fusion looks at the worst few, where a NaN may not be among them
                raise ValueError(
                    f"seam {features.seam_id}: the error map of {name} is not finite; look at its streams"
                )
        fused = self.fitted.fusion.score(maps, valid, program)
        along = fused_along(self.fitted.fusion, maps, valid, program, fused.raw)
        assert features.frame is not None  # there would be no maps
        head_ms = (time.perf_counter() - begin) * 1e3
        threshold = self.thresholds.find(self.model_id, features.program, self.requires)
        limit = None if threshold is None else threshold.value
        live = self.fitted.process.score(self.fitted.normaliser.process(features), program)[1]
        done = time.perf_counter()
        return Score(
            raw=fused.raw,
            score=None if limit is None else fused.raw / limit,
            p_value=None if threshold is None else threshold.p_value(fused.raw),
            threshold=limit,
            threshold_id=None if threshold is None else threshold.threshold_id,
            model_id=self.model_id,
            components=dict(fused.by_modality),
            by_modality={kind: fused.by_modality[n] for n, kind in NEEDS.items() if n in fused.by_modality},
            timeline=timeline_points(live, features.travel_speed_mm_s, None),
            along=points(along, features.frame.length_mm, limit),
            explain={"worst_row_mm": _worst_row_mm(fused.map, features)},
            stage_ms={"head": head_ms, "process": (done - begin) * 1e3 - head_ms},
            streams=tuple(sorted(self.requires)),
        ).checked(features.seam_id)

    def _program(self, name: str) -> int:
        if name not in self.fitted.programs:
            known = ", ".join(self.fitted.programs)
            raise UnknownProgramError(f"model {self.model_id} was not trained on program {name!r}; it knows {known}")
        return self.fitted.programs.index(name)


class GridScorer:
    """One open seam: features as chunks come; the method has its say once the result is there."""

    def __init__(self, detector: GridDetector, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        self._detector = detector
        self._extractor = SeamExtractor(seam, streams, detector.backbone, detector.fitted.tier)
        live = detector.live
        self._live = None if live is None else live.begin(seam, streams, self._extractor)

    def push(self, chunk: Chunk) -> None:
        """Take the next stamped chunk of any stream."""
        self._extractor.push(chunk)
        if self._live is not None:
            self._live.push(chunk)

    def live(self) -> Sequence[LivePoint]:
        """Points of the live score since the last call."""
        return () if self._live is None else self._live.points()

    def prepare(self, window: SeamWindow) -> None:
        """Work on the process and on the results so far. Raises ValueError as `finish` does."""
        self._extractor.finish(window)

    def finish(self, window: SeamWindow) -> Score:
        """Score the seam. Raises ValueError naming what is missing."""
        features = self._extractor.finish(window)
        score = self._detector.score(features)
        return dataclasses.replace(score, stage_ms={**self._extractor.stage_ms, **score.stage_ms})


def _worst_row_mm(cells: NDArray[np.float32], features: SeamFeatures) -> float:
    """Where along the seam the map is highest."""
    assert features.frame is not None  # there would be no map
    column = int(np.argmax(cells.max(0)))
    return float((column + 0.5) / cells.shape[1] * features.frame.length_mm)
