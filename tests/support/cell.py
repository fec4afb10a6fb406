"""A synthetic cell for engine tests: signals of time, real rings, an engine on a manual clock.

Signals are pure functions of the item's number, so a stream can be cut into chunks anyhow. Fakes satisfy the engine's
Protocols and remember what they were given.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, ManualClock, StreamSpec
from edged.config import Config
from edged.engine import Engine
from edged.recording import SeamRecordingError
from edged.ring import ImageRing, Ring, make_ring
from edged.scoring import LiveReply, ScoreReply
from edged.types import PartVerdict, Verdict
from pipelines.window import LivePoint, Score, Seam, SeamWindow

S = 1_000_000_000
MS = 1_000_000
T0 = 1_000 * S
"""Host time at which the synthetic world begins, ns."""

PROGRAM: dict[str, Any] = {
    "mode": "armed",
    "model": "demo",
    "travel_speed_mm_s": 10.0,
    "required": ["welder", "audio"],
    "optional": ["video"],
    "views": ["top"],
    "result_deadline_s": 5.0,
    "arc_deadline_s": 10.0,
}


def t(seconds: float) -> int:
    """World seconds → host ns."""
    return T0 + round(seconds * S)


def config(programs: Mapping[str, Mapping[str, Any]] | None = None, **sections: Any) -> Config:
    """A cell with one torch, a microphone, an arc camera and a result camera; drivers are not made."""
    raw: dict[str, Any] = {
        "streams": {
            "welder": {"driver": "welder.serial", "kind": "welder"},
            "mic": {"driver": "microphone.portaudio", "kind": "audio"},
            "arc_camera": {"driver": "camera.opencv", "kind": "video"},
            "result_camera": {"driver": "camera.opencv", "kind": "result"},
        },
        "views": {"top": {"stream": "result_camera", "settle_ms": 100.0}},
        "programs": {"fillet": dict(PROGRAM)}
        if programs is None
        else {n: {**PROGRAM, **p} for n, p in programs.items()},
        "arc": {"hold_ms": 40.0},
    }
    return Config.model_validate({**raw, **sections})


def welder_spec(name: str = "welder", torch: str | None = None, rate_hz: float = 2000.0) -> StreamSpec:
    """Current and voltage, int16 in 0.1 A and 0.01 V."""
    return StreamSpec(
        name, "welder", rate_hz, (2,), "int16", ("current", "voltage"), ("A", "V"), (0.1, 0.01), (0.0, 0.0), torch
    )


def audio_spec(name: str = "mic", rate_hz: float = 8000.0) -> StreamSpec:
    """One channel of int16."""
    return StreamSpec(name, "audio", rate_hz, (1,), "int16", ("mono",), ("1",), (1 / 32768,), (0.0,))


def camera_spec(name: str, kind: Any = "video", rate_hz: float = 30.0) -> StreamSpec:
    """JPEG frames stamped on arrival."""
    return StreamSpec(name, kind, rate_hz, (0, 0), "uint8", tick="arrival")


Arcs = list[tuple[float, float]]


def burning(seconds: NDArray[np.float64], arcs: Arcs) -> NDArray[np.bool_]:
    """Where an arc burns, world seconds."""
    on = np.zeros(seconds.shape, bool)
    for begin, end in arcs:
        on |= (seconds >= begin) & (seconds < end)
    return on


def welder_signal(spec: StreamSpec, counters: NDArray[np.int64], arcs: Arcs) -> NDArray[np.int16]:
    """180 A and 22 V while an arc burns, a little noise otherwise."""
    on = burning(counters / spec.rate_hz, arcs)
    ripple = counters % 7
    current = np.where(on, 1800 + ripple, ripple)
    voltage = np.where(on, 2200 + ripple, 10)
    return np.stack([current, voltage], axis=1).astype(np.int16)


def audio_signal(spec: StreamSpec, counters: NDArray[np.int64], arcs: Arcs) -> NDArray[np.int16]:
    """Deterministic noise, forty times louder while an arc burns."""
    noise = (counters * 2654435761 % 65521) / 65521 - 0.5
    level = np.where(burning(counters / spec.rate_hz, arcs), 8000.0, 200.0)
    return (noise * level).astype(np.int16)[:, None]


def jpeg(level: int) -> NDArray[np.uint8]:
    """A small gray image."""
    import cv2

    ok, data = cv2.imencode(".jpg", np.full((48, 64), level, np.uint8))
    assert ok
    return np.asarray(data, np.uint8).reshape(-1)


DARK, BRIGHT = jpeg(10), jpeg(200)

SIGNALS: dict[str, Callable[[StreamSpec, NDArray[np.int64], Arcs], NDArray[Any]]] = {
    "welder": welder_signal,
    "audio": audio_signal,
}


def stream_chunks(
    spec: StreamSpec,
    arcs: Arcs,
    from_s: float,
    to_s: float,
    block_s: float = 0.02,
    latency_s: float = 0.005,
    seq: int = 0,
) -> Iterator[Chunk]:
    """Stamped chunks of one stream over [from_s, to_s)."""
    first, last = round(from_s * spec.rate_hz), round(to_s * spec.rate_hz)
    clock = ClockParams(0, T0, 1e9 / spec.rate_hz)
    block = 1 if spec.encoded else max(round(block_s * spec.rate_hz), 1)
    for start in range(first, last, block):
        counters = np.arange(start, min(start + block, last))
        if spec.encoded:
            data: NDArray[Any] = BRIGHT if burning(counters / spec.rate_hz, arcs)[0] else DARK
        else:
            data = SIGNALS[spec.kind](spec, counters, arcs)
        arrival_ns = clock.t_ns(int(counters[-1]) + 1) + round(latency_s * S)
        yield Chunk(spec.name, seq, start, arrival_ns, 0, data, clock)
        seq += 1


def small_ring(spec: StreamSpec, seconds: float) -> Ring:
    """A ring for images of a few hundred bytes; the default size would be for real cameras."""
    if not spec.encoded:
        return make_ring(spec, seconds)
    return ImageRing(spec, 1 << 20, round(spec.rate_hz * seconds))


class FakeScorer:
    """Remembers every call; answers with `score` at the next poll, or with nothing while `silent`."""

    def __init__(self, score: float | None = 0.5) -> None:
        self.score = score
        self.silent = False
        self.begun: list[Seam] = []
        self.pushed: dict[str, list[Chunk]] = {}
        self.windows: list[SeamWindow] = []
        self.dropped: list[str] = []
        self.replies: list[ScoreReply] = []
        self.prepared: list[SeamWindow] = []
        self.points: list[LiveReply] = []

    def begin(self, seam: Seam, streams: tuple[StreamSpec, ...]) -> None:
        self.begun.append(seam)
        self.pushed[seam.seam_id] = []

    def push(self, seam_id: str, chunk: Chunk) -> None:
        self.pushed[seam_id].append(dataclasses.replace(chunk, data=chunk.data.copy()))

    def prepare(self, window: SeamWindow) -> None:
        self.prepared.append(window)

    def finish(self, window: SeamWindow) -> None:
        self.windows.append(window)
        if not self.silent:
            self.replies.append(ScoreReply(window.seam.seam_id, make_score(self.score)))

    def drop(self, seam_id: str) -> None:
        self.dropped.append(seam_id)

    def live(self) -> list[LiveReply]:
        points, self.points = self.points, []
        return points

    def poll(self) -> list[ScoreReply]:
        replies, self.replies = self.replies, []
        return replies

    def close(self) -> None:
        pass


def make_score(score: float | None) -> Score:
    """A score with threshold 2; None: no threshold yet."""
    threshold = None if score is None else 2.0
    raw = 1.0 if score is None else score * 2
    return Score(raw, score, 0.5, threshold, "t1", "model-1", {"s_P": 0.1})


class FakeRecorder:
    """Keeps recordings in memory; `full_after` chunks the disk is full."""

    def __init__(self, full_after: int | None = None, fail_finish: bool = False) -> None:
        self.full_after = full_after
        self.fail_finish = fail_finish
        self.specs: dict[str, tuple[StreamSpec, ...]] = {}
        self.events: dict[str, list[Chunk | tuple[int, dict[str, Any]]]] = {}
        self.finished: dict[str, dict[str, Any]] = {}
        self.abandoned: list[str] = []
        self.completed: list[str] = []
        self._chunks = 0

    def begin(self, seam: Seam, specs: tuple[StreamSpec, ...], now_ns: int) -> None:
        self.specs[seam.seam_id] = specs
        self.events[seam.seam_id] = []

    def chunk(self, seam_id: str, chunk: Chunk) -> None:
        self._chunks += 1
        if self.full_after is not None and self._chunks > self.full_after:
            raise SeamRecordingError(seam_id, f"{seam_id}.open: No space left on device")
        self.events[seam_id].append(dataclasses.replace(chunk, data=chunk.data.copy()))

    def control(self, seam_id: str, t_ns: int, message: Mapping[str, Any]) -> None:
        self.events[seam_id].append((t_ns, dict(message)))

    def sync(self, seam_id: str) -> None:
        assert seam_id in self.events

    def complete(self, seam: Seam) -> None:
        self.completed.append(seam.seam_id)

    def tick(self, now_ns: int) -> None:
        pass

    def finish(self, seam: Seam, verdict: Mapping[str, Any], now_ns: int) -> Path:
        if self.fail_finish:
            raise SeamRecordingError(seam.seam_id, f"{seam.seam_id}.open: No space left on device")
        self.finished[seam.seam_id] = dict(verdict)
        return Path(f"/recordings/{seam.seam_id}.mcap")

    def abandon(self, seam_id: str) -> None:
        self.abandoned.append(seam_id)


class Cell:
    """An engine over real rings, with a queue of what happens when."""

    def __init__(
        self,
        cfg: Config | None = None,
        specs: list[StreamSpec] | None = None,
        scorer: FakeScorer | None = None,
        recorder: FakeRecorder | None = None,
        new_id: Callable[[], str] | None = None,
        ring_s: float = 30.0,
    ) -> None:
        self.config = cfg or config()
        found = specs or [
            welder_spec(),
            audio_spec(),
            camera_spec("arc_camera"),
            camera_spec("result_camera", "result", 10),
        ]
        self.specs = {spec.name: spec for spec in found}
        self.rings: dict[str, Ring] = {spec.name: small_ring(spec, ring_s) for spec in found}
        self.scorer = scorer or FakeScorer()
        self.recorder = recorder or FakeRecorder()
        self.clock = ManualClock(T0)
        self.verdicts: list[Verdict] = []
        self.parts: list[PartVerdict] = []
        self.live: list[tuple[str, LivePoint]] = []
        self.replies: list[dict[str, Any]] = []
        self.order: list[str] = []
        numbers = itertools.count(1)
        self.engine = Engine(
            self.config,
            self.specs,
            self.rings,
            self.scorer,
            self.recorder,
            self._on_verdict,
            self.parts.append,
            utc_ns=lambda now_ns: now_ns + 1_700_000_000 * S,
            new_id=new_id or (lambda: f"seam-{next(numbers)}"),
            on_live=lambda seam, point: self.live.append((seam.seam_id, point)),
        )
        self._queue: list[tuple[int, int, Chunk | dict[str, Any]]] = []
        self._count = itertools.count()
        self._seq: dict[str, int] = {}

    def _on_verdict(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.order.append(f"verdict {verdict.seam.seam_id}")

    def add(self, chunk: Chunk) -> None:
        """Queue a stamped chunk for its arrival."""
        heapq.heappush(self._queue, (chunk.arrival_ns, next(self._count), chunk))

    def weld(
        self,
        arcs: Arcs,
        to_s: float,
        from_s: float = 0.0,
        keep: Callable[[Chunk], bool] = lambda chunk: True,
        streams: list[str] | None = None,
        block_s: float = 0.02,
    ) -> None:
        """Queue all streams over [from_s, to_s) with `arcs`; chunks that `keep` refuses never arrive."""
        for name in streams or list(self.specs):
            for chunk in stream_chunks(self.specs[name], arcs, from_s, to_s, block_s, seq=self._seq.get(name, 0)):
                self._seq[name] = chunk.seq + 1
                if keep(chunk):
                    self.add(chunk)

    def say(self, at_s: float, op: str, **fields: Any) -> None:
        """Queue a control message."""
        heapq.heappush(self._queue, (t(at_s), next(self._count), {"op": op, **fields}))

    def run(self, to_s: float, tick_s: float = 0.05) -> list[Verdict]:
        """Let time pass until `to_s`; the verdicts so far."""
        while self._queue and self._queue[0][0] <= t(to_s):
            at_ns, _, item = heapq.heappop(self._queue)
            self._tick_until(at_ns, tick_s)
            if isinstance(item, Chunk):
                self.engine.step(self.rings[item.stream].append(item), self.clock.now_ns())
            else:
                self.replies.append(self.engine.control(item, self.clock.now_ns()))
        self._tick_until(t(to_s), tick_s)
        return self.verdicts

    def _tick_until(self, at_ns: int, tick_s: float) -> None:
        while at_ns - self.clock.now_ns() > tick_s * S:
            self.clock.advance_ns(round(tick_s * S))
            self.engine.step(None, self.clock.now_ns())
        self.clock.sleep_until_ns(at_ns)

    @property
    def verdict(self) -> Verdict:
        """The only verdict. Raises AssertionError when there are more or fewer."""
        assert len(self.verdicts) == 1, [(v.seam.seam_id, v.label.name, v.reason, v.detail) for v in self.verdicts]
        return self.verdicts[0]
