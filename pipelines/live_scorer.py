"""The live score of one open seam, beside any detector: chunks in, a point per 100 ms out.

Sits in the worker and its in-process twin, between a detector's extractor and `pipelines/live.py`. A token is judged
as soon as its streams have passed its end; a camera or microphone that is late is waited for until the welder's
stream is `PATIENCE_TOKENS` ahead, and then the token is judged without it, and says so, until the stream has caught
up. Apart from such tokens a point is a function of the chunks alone, so a replay gives it again.

A model's live part is `live.safetensors` beside its weights: it decides no verdict, so the model's id leaves it out.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.features.extractor import SeamExtractor
from pipelines.features.grid import STEPS_PER_TOKEN, TOKEN_NS
from pipelines.features.logmel import MELS
from pipelines.live import LiveModel, LiveSeam
from pipelines.live_tokens import GROUP_KINDS, RawToken
from pipelines.models import ModelError
from pipelines.normaliser import Normaliser
from pipelines.thresholds import Signal, Threshold, ThresholdTable
from pipelines.window import Detector, LivePoint, Seam

__all__ = [
    "LIVE_FILE",
    "LIVE_SIGNAL",
    "Live",
    "LiveScorer",
    "load_live",
    "process_kinds",
    "save_live",
    "use_cell_limits",
]

LIVE_FILE = "live.safetensors"
LIVE_SIGNAL: Signal = "live"
"""`signal` of its thresholds."""
PATIENCE_TOKENS = 2
MOST_POINTS = 36_000
"""An hour of arc, as everywhere."""


@dataclasses.dataclass(slots=True)
class Live:
    """A loaded live part with its detector's thresholds; the `cell`'s for its `calibration_id` come first."""

    model: LiveModel
    model_id: str
    thresholds: ThresholdTable
    cell: ThresholdTable = dataclasses.field(default_factory=ThresholdTable)
    calibration_id: str = "none"

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...], extractor: SeamExtractor) -> "LiveScorer | None":
        """For an open seam whose chunks `extractor` takes; None for a program that was not trained on."""
        if seam.program not in self.model.programs:
            return None
        return LiveScorer(self, seam, streams, extractor)

    def threshold(self, program: str, kinds: frozenset[str]) -> Threshold | None:
        """The limit of the highest score of a seam with these kinds of stream."""
        own = self.thresholds.find(self.model_id, program, kinds, signal=LIVE_SIGNAL)
        return self.cell.find(self.model_id, program, kinds, self.calibration_id, LIVE_SIGNAL) or own


class LiveScorer:
    """Points of one seam. Push each chunk here after the extractor has had it."""

    def __init__(self, live: Live, seam: Seam, streams: tuple[StreamSpec, ...], extractor: SeamExtractor) -> None:
        self._seam, self._extractor = seam, extractor
        self._scorer: LiveSeam = live.model.begin(seam.program)
        self._input = live.model.input
        kinds = process_kinds(live.model) & {spec.kind for spec in streams}
        threshold = live.threshold(seam.program, frozenset(kinds))
        self._limit = None if threshold is None else threshold.value
        self._stream_kinds = {spec.name: spec.kind for spec in streams if spec.kind in kinds}
        self._seen_ns = dict.fromkeys(kinds, seam.arc_on_ns)
        self._given_up: set[str] = set()
        self._loud: list[NDArray[np.float32] | None] = []
        self._mel: list[NDArray[np.float32] | None] = []
        self._next = 0
        self._points: list[LivePoint] = []

    def push(self, chunk: Chunk) -> None:
        """Judge what has become possible with this chunk."""
        kind = self._stream_kinds.get(chunk.stream)
        if kind is None:
            return
        self._seen_ns[kind] = max(self._seen_ns[kind], chunk.end_ns if kind != "video" else chunk.t_ns)
        if kind == "audio":
            self._hear()
        while self._next < MOST_POINTS and self._is_ready(self._next):
            self._judge(self._next)
            self._next += 1

    def points(self) -> list[LivePoint]:
        """Those since the last call."""
        points, self._points = self._points, []
        return points

    def _hear(self) -> None:
        """Keep levels as soon as the sound is there: it is given up once its picture is complete."""
        _, _, audio = self._extractor.parts
        for rows, levels in ((self._loud, audio.loudness), (self._mel, audio.levels)):
            while (found := levels(len(rows))) is not None:
                rows.append(found if audio.heard(len(rows)) else None)

    def _is_ready(self, token: int) -> bool:
        if self._extractor.steps_ready() < (token + 1) * STEPS_PER_TOKEN:
            return False
        end_ns = self._seam.arc_on_ns + (token + 1) * TOKEN_NS
        patient = self._seen_ns["welder"] < end_ns + PATIENCE_TOKENS * TOKEN_NS
        late = {kind for kind in self._seen_ns if kind != "welder" and not self._has(kind, token, end_ns)}
        self._given_up &= late
        if late - self._given_up and patient:
            return False
        self._given_up |= late
        return True

    def _has(self, kind: str, token: int, end_ns: int) -> bool:
        """Whether a stream has given, or will never give, what this token needs of it."""
        if kind == "audio":
            return len(self._loud) > token and len(self._mel) >= token
        _, frames, _ = self._extractor.parts
        return self._seen_ns[kind] >= end_ns or frames.has(token)

    def _judge(self, token: int) -> None:
        waves, frames, _ = self._extractor.parts
        sensor, known = self._extractor.steps(token * STEPS_PER_TOKEN, (token + 1) * STEPS_PER_TOKEN)
        wave, wave_known = waves.get(token, token + 1)
        video, video_known = frames.get(token, token + 1)
        mel = self._mel[token - 1] if 0 < token <= len(self._mel) else None
        raw = RawToken(
            sensor,
            known,
            wave[0] if wave_known.any() else None,
            self._loud[token] if token < len(self._loud) else None,
            None if mel is None else mel[:MELS],
            video[0] if video_known[0] else None,
        )
        value = self._scorer.add(self._input.token(raw))
        if value is None:
            return
        t_s = (token + 1) * TOKEN_NS / 1e9
        speed = self._seam.travel_speed_mm_s
        nominal = None if speed is None else t_s * speed
        measured = value.travelled_mm
        self._points.append(
            LivePoint(
                t_s=t_s,
                mm=nominal if measured is None else measured,
                mm_is_nominal=measured is None,
                raw=value.raw,
                score=None if self._limit is None else value.raw / self._limit,
                components=value.parts,
                without=tuple(sorted(self._given_up)),
            )
        )


def use_cell_limits(detector: Detector, cell: ThresholdTable, calibration_id: str) -> None:
    """From the next seam on a live score is held against what the cell itself has learned, where it has."""
    live = getattr(detector, "live", None)
    if isinstance(live, Live):
        live.cell, live.calibration_id = cell, calibration_id


def process_kinds(model: LiveModel) -> frozenset[str]:
    """Kinds of stream that the live score looks at."""
    return frozenset(GROUP_KINDS[group] for group in model.groups)


def save_live(model: LiveModel, path: Path) -> None:
    """Write the live part into a model directory, in single precision; its manifest is the caller's."""
    from safetensors.numpy import save_file

    arrays = {
        name: np.ascontiguousarray(value, value.dtype if value.dtype.kind in "iu" else np.float32)
        for name, value in model.tensors().items()
    }
    save_file(arrays, path / LIVE_FILE, {"programs": "\n".join(model.programs)})
    (path / LIVE_FILE).chmod(0o644)  # safetensors makes it private; the worker may be another user


def load_live(path: Path, normaliser: Normaliser, model_id: str, thresholds: ThresholdTable) -> Live | None:
    """A model directory's live part; None where it has none. Raises ModelError where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    if not (path / LIVE_FILE).exists():
        return None
    try:
        with safe_open(path / LIVE_FILE, framework="numpy") as file:
            programs = file.metadata()["programs"].split("\n")
            tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = LiveModel.from_tensors(programs, normaliser, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}/{LIVE_FILE}: cannot be read: {error!r}; train the model again") from error
    return Live(model, model_id, thresholds)
