"""From raw features to the standardised numbers that Causal-HM works on; everything is fitted on training goods.

Nothing is ever normalised per seam: the absolute level of current, voltage, sound and gas is what decides.
lite0's channels are reduced by PCA; each kept direction is divided by its own spread.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.bead_rows import BEAD_FEATURES, bead_rows
from pipelines.features.extractor import SeamFeatures
from pipelines.features.grid import STEPS_PER_TOKEN
from pipelines.features.lite0 import FEATURES
from pipelines.features.logmel import LEVELS
from pipelines.features.result import RESULT_ROWS
from pipelines.features.scene import SCENE_FEATURES
from pipelines.features.sensor import SENSOR_FEATURES
from pipelines.features.waves import WAVE_FEATURES

__all__ = ["Normaliser", "Process", "fit_normaliser"]

Array = NDArray[np.float32]
VIDEO_DIMS = 32
AUDIO_DIMS = 32
RESULT_DIMS = 48
LEVEL_COLUMNS = [
    SENSOR_FEATURES.index(name)
    for name in ("current_mean", "voltage_mean", "power_mean", "short_circuit", "wire_feed_speed", "tcp_speed",
                 "gas_flow", "short_rate_hz", "energy_j_mm")
]  # fmt: skip
ARC_COLUMNS = [WAVE_FEATURES.index(name) for name in ("arc_voltage", "arc_current")]
"""What noise on single samples does not move: means, and how long the arc is shorted."""
PLACE_COLUMNS = [k for k, name in enumerate(SCENE_FEATURES) if not name.startswith(("cell_", "rows_", "columns_"))]
FIGURES = (
    "sensor_mean", "sensor_std", "mel_mean", "mel_std", "wave_mean", "wave_std", "place_mean", "place_std"
)  # fmt: skip
"""Arrays of a `Normaliser` that are stored as they are."""
SCAN_END_ROWS = 2
"""Rows at either end of a scan that nothing is asked of: a scan begins a row early or late, by the PLC's and the
profiler's clocks, and where the bead rises or ends a quarter of a millimetre is a large difference."""
CLIP = 8.0
"""Standardised values beyond this are cut for the network only: it never saw such values in training."""
MAX_PCA_ROWS = 20_000


Table = tuple[Array, NDArray[np.bool_]]
TABLES = {"levels": "welder", "waves": "welder", "places": "video"}
"""Further figures per token → the kind of stream behind them."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Process:
    """A seam's standardised process.

    steps (S, sensor values then their mask); video (T, 32); audio (T, 65 + 32); masks (T,) bool. tables: further
    figures per token `(T, D)` and which tokens have them `(T,)`, by name, of `TABLES`; noise_a: of the current's
    samples, None where it could not be told.
    """

    steps: Array
    video: Array
    video_known: NDArray[np.bool_]
    audio: Array
    audio_known: NDArray[np.bool_]
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    noise_a: float | None = None

    @property
    def tokens(self) -> int:
        """Number of 100 ms tokens."""
        return len(self.video)

    def without(self, kinds: frozenset[str]) -> "Process":
        """The same with the stream kinds `kinds` masked."""
        found = self
        if "video" in kinds:
            found = dataclasses.replace(
                found, video=np.zeros_like(self.video), video_known=np.zeros_like(self.video_known)
            )
        if "audio" in kinds:
            found = dataclasses.replace(
                found, audio=np.zeros_like(self.audio), audio_known=np.zeros_like(self.audio_known)
            )
        left = {name: table for name, table in self.tables.items() if TABLES[name] not in kinds}
        return dataclasses.replace(found, tables=left)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """x → (x − mean) · components, each output divided by its spread on training goods."""

    mean: Array
    components: Array  # (dims, channels)

    def __call__(self, x: NDArray[np.floating[Any]]) -> Array:
        centred: Array = x.astype(np.float32) - self.mean
        found: Array = centred @ self.components.T
        return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Normaliser:
    """The frozen statistics of a model."""

    sensor_mean: Array
    sensor_std: Array
    mel_mean: Array
    mel_std: Array
    wave_mean: Array
    wave_std: Array
    place_mean: Array
    place_std: Array
    video: Projection
    audio: Projection
    result: Projection
    scan: Projection | None
    """Of bead rows; None where no seam was scanned."""
    located: bool
    """Whether the views that it was fitted on stood between markers; others cannot be compared with them."""

    def steps(self, sensor: Array, known: NDArray[np.bool_]) -> Array:
        """Sensor steps `(S, 24)` → `(S, 48)`: z-scores (0 where not measured), then the mask."""
        z = np.where(known, (sensor - self.sensor_mean) / self.sensor_std, 0.0)
        return np.concatenate([z, known], axis=1).astype(np.float32)

    def process(self, features: SeamFeatures) -> Process:
        """The whole process of a seam."""
        audio = features.audio.astype(np.float32)
        mels = (audio[:, FEATURES:] - self.mel_mean) / self.mel_std
        sound = np.concatenate([mels, self.audio(audio[:, :FEATURES])], axis=1)
        return Process(
            steps=self.steps(features.sensor, features.sensor_known),
            video=self.video(features.video) * features.video_known[:, None],
            video_known=features.video_known,
            audio=sound * features.audio_known[:, None],
            audio_known=features.audio_known,
            tables=self._tables(features),
            noise_a=features.sensed.get("current_noise_a"),
        )

    def _tables(self, features: SeamFeatures) -> dict[str, Table]:
        known = features.waves_known
        waves = np.where(known, (features.waves - self.wave_mean) / self.wave_std, 0.0).astype(np.float32)
        steps = self.steps(features.sensor, features.sensor_known)[:, LEVEL_COLUMNS]
        means = steps.reshape(features.tokens, STEPS_PER_TOKEN, -1).mean(1)
        levels = np.concatenate([means, waves[:, ARC_COLUMNS]], axis=1)
        welded = features.sensor_known[::STEPS_PER_TOKEN, 0]
        scene, seen = features.scene.astype(np.float32), features.video_known
        places = (scene[:, PLACE_COLUMNS] - self.place_mean) / self.place_std
        return {
            "levels": (levels, welded),
            "waves": (waves, known.mean(1) > 0.5),
            "places": (places * seen[:, None], seen),
        }

    def scanned(self, features: SeamFeatures) -> tuple[Array, NDArray[np.bool_]]:
        """Rows of the laser scan `(28, 48)` and which there are `(28,)`; no rows where the model knows no scans."""
        if self.scan is None:
            return np.zeros((0, RESULT_DIMS), np.float32), np.zeros(0, np.bool_)
        if features.geo is None:
            return np.zeros((RESULT_ROWS, RESULT_DIMS), np.float32), np.zeros(RESULT_ROWS, np.bool_)
        known = np.ones(RESULT_ROWS, np.bool_)
        known[:SCAN_END_ROWS] = known[-SCAN_END_ROWS:] = False
        return self.scan(_bead_rows(features)), known

    def views(self, features: SeamFeatures, names: Sequence[str]) -> tuple[Array, NDArray[np.bool_]]:
        """Result rows of all views `(views · 28, 48)` and which there are `(views · 28,)`."""
        rows = np.zeros((len(names) * RESULT_ROWS, len(self.result.components)), np.float32)
        known = np.zeros(len(rows), np.bool_)
        for i, name in enumerate(names):
            view = features.views.get(name)
            if view is not None and view.located == self.located:
                place = slice(i * RESULT_ROWS, (i + 1) * RESULT_ROWS)
                rows[place], known[place] = self.result(view.rows()), True
        return rows, known

    def tensors(self) -> dict[str, Array]:
        """Named arrays for the model file."""
        found = {name: getattr(self, name) for name in FIGURES}
        found["located"] = np.array([self.located], np.float32)
        for name in ("video", "audio", "result", "scan"):
            projection: Projection | None = getattr(self, name)
            if projection is None:
                continue
            found |= {f"{name}.mean": projection.mean, f"{name}.components": projection.components}
        return found

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Array]) -> "Normaliser":
        """What `tensors` gave."""
        return cls(
            **{name: tensors[name] for name in FIGURES},
            video=Projection(tensors["video.mean"], tensors["video.components"]),
            audio=Projection(tensors["audio.mean"], tensors["audio.components"]),
            result=Projection(tensors["result.mean"], tensors["result.components"]),
            scan=Projection(tensors["scan.mean"], tensors["scan.components"]) if "scan.mean" in tensors else None,
            located=bool(tensors["located"][0]),
        )


def token_statistics(process: Process) -> Array:
    """Per token `(T, 48)`: mean and standard deviation over its ten steps of every sensor feature."""
    steps = process.steps[:, : len(SENSOR_FEATURES)].reshape(process.tokens, STEPS_PER_TOKEN, -1)
    return np.concatenate([steps.mean(1), steps.std(1)], axis=1)


def fit_normaliser(features: Sequence[SeamFeatures], seed: int = 0) -> Normaliser:
    """Fit on training goods. Kinds of stream that no seam has give zeros."""
    rng = np.random.default_rng(seed)
    sensor = np.concatenate([f.sensor for f in features]).astype(np.float64)
    known = np.concatenate([f.sensor_known for f in features])
    mean, std = _moments(sensor, known)
    waves, told = (np.concatenate(x) for x in zip(*((f.waves, f.waves_known) for f in features), strict=True))
    wave_mean, wave_std = _moments(waves.astype(np.float64), told)
    scene = _rows([f.scene[f.video_known] for f in features], len(SCENE_FEATURES), rng)
    audio = _rows([f.audio[f.audio_known] for f in features], FEATURES + LEVELS, rng)
    video = _rows([f.video[f.video_known] for f in features], FEATURES, rng)
    views = [(f.program, name, view) for f in features for name, view in sorted(f.views.items())]
    if not views:
        raise ValueError("no seam has a post-weld image; Causal-HM predicts the result and cannot train without")
    located = 2 * sum(view.located for *_, view in views) > len(views)
    return Normaliser(
        sensor_mean=mean.astype(np.float32),
        sensor_std=_spread(std),
        mel_mean=audio[:, FEATURES:].mean(0),
        mel_std=_spread(audio[:, FEATURES:].std(0)),
        wave_mean=wave_mean.astype(np.float32),
        wave_std=_spread(wave_std),
        place_mean=scene[:, PLACE_COLUMNS].mean(0),
        place_std=_spread(scene[:, PLACE_COLUMNS].std(0)),
        video=_pca(video, VIDEO_DIMS),
        audio=_pca(audio[:, :FEATURES], AUDIO_DIMS),
        result=_pca(_deviations([(p, n, v.rows()) for p, n, v in views if v.located == located]), RESULT_DIMS),
        scan=_scan_projection(features),
        located=located,
    )


def _moments(
    values: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of what is known in each column."""
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    return mean, np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)


def _bead_rows(features: SeamFeatures) -> Array:
    """Of a seam with a scan."""
    assert features.geo is not None
    assert features.frame is not None  # without it no scan becomes a map
    assert features.frame.scan is not None
    return bead_rows(features.geo, features.frame.scan[2])


def _scan_projection(features: Sequence[SeamFeatures]) -> Projection | None:
    """Principal directions of bead rows, each number divided by its spread first: mm and mm² are not alike."""
    scans = [(f.program, "scan", _bead_rows(f)) for f in features if f.geo is not None]
    if not scans:
        return None
    off = _deviations(scans)
    spread = off.std(0)
    spread = np.maximum(spread, 1e-2 * spread.max())
    found = _pca(off / spread, RESULT_DIMS)
    return Projection(np.zeros(BEAD_FEATURES, np.float32), found.components / spread)


def _deviations(views: Sequence[tuple[str, str, Array]]) -> Array:
    """Rows of all (program, view, rows) less the mean of their program, view and place: what differs by seam.

    With the places' own means in, the shape of the part would fill the first directions and the bead's width none.
    """
    table: dict[tuple[str, str], list[Array]] = {}
    for program, name, rows in views:
        table.setdefault((program, name), []).append(rows)
    stacks = [np.stack(rows) for rows in table.values()]
    return np.concatenate([(stack - stack.mean(0)).reshape(-1, stack.shape[-1]) for stack in stacks])


def _spread(std: NDArray[np.floating[Any]]) -> Array:
    """A channel that never moved keeps its units: any change of it then shows."""
    return np.where(std > 1e-6, std, 1.0).astype(np.float32)


def _rows(tokens: Sequence[NDArray[np.float16]], channels: int, rng: np.random.Generator) -> Array:
    """At most `MAX_PCA_ROWS` rows of all tokens, drawn evenly; one row of zeros where there is none."""
    total = sum(len(t) for t in tokens)
    if total == 0:
        return np.zeros((1, channels), np.float32)
    share = min(1.0, MAX_PCA_ROWS / total)
    picked = [t[rng.random(len(t)) < share] if share < 1.0 else t for t in tokens]
    return np.concatenate(picked).astype(np.float32)


def _pca(rows: Array, dims: int) -> Projection:
    from sklearn.decomposition import PCA

    mean = rows.mean(0)
    keep = min(dims, len(rows) - 1, rows.shape[1])
    components = np.zeros((dims, rows.shape[1]), np.float32)
    if keep > 0:
        fitted = PCA(keep, svd_solver="randomized", random_state=0).fit(rows)
        spread = np.sqrt(np.maximum(fitted.explained_variance_, 1e-12))
        components[:keep] = fitted.components_ / np.maximum(spread, 1e-3 * spread.max() + 1e-9)[:, None]
    return Projection(mean, components)
