"""Energy band: the simplest real detector. Mean current and arc energy against what good welds of the program had.

It needs the welder's stream and nothing else, no torch and no training beyond means and standard deviations, and it
is the reference for how a detector obeys the contract of `pipelines.window`. Its `model.toml`::

    detector = "energy_band"
    k = 4.0                                    # limit, in standard deviations
    [programs.T1.mean_current_a]
    mean = 180.0
    std = 2.5
    [programs.T1.arc_energy_j_mm]              # ISO/TR 18491: instantaneous U*I over the length
    mean = 520.0
    std = 9.0
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drivers.base import Chunk, StreamSpec
from pipelines.models import ModelError, model_digest, model_toml
from pipelines.window import LivePoint, Score, Seam, SeamWindow, UnknownProgramError

__all__ = ["Band", "EnergyBand"]

GRID_NS = 10_000_000
"""Sums lie on this grid from arc-on, so that they do not depend on how the stream was cut into chunks."""

GROW_BINS = 6_000


class Band(BaseModel):
    """What good welds had in one figure."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    std: float = Field(gt=0)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str
    k: float = Field(default=4.0, gt=0)
    programs: dict[str, dict[str, Band]]


@dataclasses.dataclass(frozen=True)
class EnergyBand:
    """A loaded model: `bands[program][figure]`, the limit `k` in standard deviations."""

    model_id: str
    k: float
    bands: Mapping[str, Mapping[str, Band]]
    requires: tuple[str, ...] = ("welder",)

    @classmethod
    def load(cls, path: Path, device: str, threads: int, cache_dir: Path) -> Self:
        """Read the model directory; device, threads and cache are for heavier detectors. Raises ModelError."""
        try:
            model = _Model.model_validate(model_toml(path))
        except ValidationError as error:
            raise ModelError(f"{path}/model.toml: {error}") from error
        return cls(f"energy_band-{model_digest(path)}", model.k, model.programs)

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> "_SeamSums":
        """Open a seam. Raises ValueError where its torch has no welder stream with current and voltage."""
        fitting = [s for s in streams if s.kind == "welder" and s.torch in (None, seam.torch)]
        if not fitting:
            raise ValueError(f"seam {seam.seam_id}: no welder stream of torch {seam.torch}")
        return _SeamSums(self, seam, fitting[0])


class _SeamSums:
    """Sums of current and power on the grid of one seam."""

    def __init__(self, model: EnergyBand, seam: Seam, spec: StreamSpec) -> None:
        self._model, self._seam, self._spec = model, seam, spec
        self._current, self._voltage = spec.channel("current"), spec.channel("voltage")
        self._sums: NDArray[np.float64] = np.zeros((GROW_BINS, 3))
        self._push_ms = 0.0

    def push(self, chunk: Chunk) -> None:
        """Add a chunk of the welder's stream; others are ignored."""
        if chunk.stream != self._spec.name:
            return
        start = time.perf_counter()
        bins = (chunk.times_ns() - self._seam.arc_on_ns) // GRID_NS
        inside = bins >= 0
        if inside.any():
            physical = self._spec.physical(chunk.data[inside]).astype(np.float64)
            current, voltage = physical[:, self._current], physical[:, self._voltage]
            self._add(bins[inside], np.stack([np.ones_like(current), current, current * voltage], axis=1))
        self._push_ms += 1e3 * (time.perf_counter() - start)

    def live(self) -> Sequence[LivePoint]:
        """None: two figures of a whole seam say nothing of a part of it."""
        return ()

    def prepare(self, window: SeamWindow) -> None:
        """Nothing: two sums are quick."""

    def finish(self, window: SeamWindow) -> Score:
        """Score the arcs' mean current and energy. Raises ValueError naming the program or figure that is missing."""
        start = time.perf_counter()
        bands = self._model.bands.get(window.seam.program)
        if not bands:
            known = ", ".join(self._model.bands) or "none"
            raise UnknownProgramError(
                f"{self._model.model_id} has no bands for program {window.seam.program!r}, only {known}"
            )
        figures = self._figures(window.seam)
        if absent := [name for name in bands if name not in figures]:
            raise ValueError(f"seam {window.seam.seam_id}: no {', '.join(absent)}; is the travel speed configured?")
        deviations = {name: abs(figures[name] - band.mean) / band.std for name, band in bands.items()}
        raw = max(deviations.values())
        return Score(
            raw=raw,
            score=raw / self._model.k,
            p_value=None,
            threshold=self._model.k,
            threshold_id=self._model.model_id,
            model_id=self._model.model_id,
            components=deviations,
            by_modality={"welder": 1.0},
            explain=figures,
            stage_ms={"push": self._push_ms, "finish": 1e3 * (time.perf_counter() - start)},
        )

    def _add(self, bins: NDArray[np.int64], rows: NDArray[np.float64]) -> None:
        if (last := int(bins[-1])) >= len(self._sums):
            grown = np.zeros((last + GROW_BINS, 3))
            grown[: len(self._sums)] = self._sums
            self._sums = grown
        np.add.at(self._sums, bins, rows)

    def _figures(self, seam: Seam) -> dict[str, float]:
        """Over the grid cells that lie wholly inside an arc."""
        starts = seam.arc_on_ns + np.arange(len(self._sums)) * GRID_NS
        inside = np.zeros(len(starts), bool)
        for on_ns, off_ns in seam.arcs:
            inside |= (starts >= on_ns) & (starts + GRID_NS <= off_ns)
        n, current, power = self._sums[inside].sum(axis=0)
        if n == 0:
            raise ValueError(f"seam {seam.seam_id}: no sample of {self._spec.name} inside an arc")
        figures = {"mean_current_a": float(current / n), "mean_power_w": float(power / n)}
        if seam.travel_speed_mm_s:
            figures["arc_energy_j_mm"] = float(power / n / seam.travel_speed_mm_s)
        if not all(math.isfinite(value) for value in figures.values()):
            raise ValueError(f"seam {seam.seam_id}: stream {self._spec.name} gives {figures}, not finite")
        return figures
