"""The extractor half of a detector: the chunks of one seam go in, features on fixed grids come out.

Live, replay, training and evaluation all push chunks through `SeamExtractor`, so they see the same features;
these do not depend on how the streams were cut into chunks (a property test says so).
"""

import dataclasses
import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, StreamSpec
from pipelines.features.finite import FiniteCounts
from pipelines.features.frames import FrameTokens
from pipelines.features.geometry import GeoMap, geometry_map
from pipelines.features.grid import STEPS_PER_TOKEN, TOKEN_NS
from pipelines.features.lite0 import Backbone
from pipelines.features.logmel import AudioTokens
from pipelines.features.result import LEVELS, ResultMap, result_map
from pipelines.features.scene import SCENE_FEATURES
from pipelines.features.sensor import SensorSteps
from pipelines.features.table import Tier
from pipelines.features.waves import WAVE_FEATURES, WaveTokens
from pipelines.window import ResultView, Seam, SeamFrame, SeamWindow

__all__ = [
    "BLOCK_STEPS",
    "FEATURES_VERSION",
    "SeamExtractor",
    "SeamFeatures",
    "content_key",
    "features_name",
    "load_features",
    "one_tier",
    "save_features",
]

FEATURES_VERSION = "5"
"""Part of every cache key and model: features of another version do not fit a model."""

BLOCK_STEPS = 100
"""Sensor steps are handed on in blocks of 1 s from arc-on, never in other pieces."""

UNUSABLE = ("broken", "missing")
MASKS = (
    ("video", "video_known"), ("audio", "audio_known"), ("welder", "sensor_known"), ("welder", "waves_known")
)  # fmt: skip

MAX_TOKENS = 36_000
"""One hour of arc; a longer seam is refused rather than left to fill the memory."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SeamFeatures:
    """Everything a detector knows of one seam, for T tokens of 100 ms.

    sensor, sensor_known: `(10 T, 24)` float32 and bool; waves, waves_known: `(T, 41)` float32 and bool, the waveform
    below a millisecond and its noise (`waves.WAVE_FEATURES`); video: `(T, 1280)` float16, audio: `(T, 1345)`
    float16, each with a `(T,)` mask; scene: `(T, 296)` float16, where things stand in the camera's frames
    (`scene.SCENE_FEATURES`), masked as video; views: name → map of the post-weld image; geo: map of the laser
    scan, None without one; frame: where both lie on the seam, None where nobody said; tier: of the backbone behind
    all of it.

    sensed: what the sensors say of themselves rather than of the weld, each only where its stream gave it:
    `current_idle_a`, `current_idle_std_a` and `sound_idle_db` of the 100 ms before arc-on; `current_noise_a`,
    `voltage_noise_v`: white noise on single samples while the arc burns, median over tokens; `glass_spread`,
    `glass_dark`, `glass_spots`: what stands still before the arc camera; `arc_x`, `arc_y`: where the arc stands in
    its picture, in picture widths, median over tokens.
    """

    seam_id: str
    program: str
    session: str
    sensor: NDArray[np.float32]
    sensor_known: NDArray[np.bool_]
    video: NDArray[np.float16]
    video_known: NDArray[np.bool_]
    audio: NDArray[np.float16]
    audio_known: NDArray[np.bool_]
    views: Mapping[str, ResultMap]
    travel_speed_mm_s: float | None = None
    geo: GeoMap | None = None
    frame: SeamFrame | None = None
    tier: Tier = "default"
    waves: NDArray[np.float32] = dataclasses.field(kw_only=True)
    waves_known: NDArray[np.bool_] = dataclasses.field(kw_only=True)
    scene: NDArray[np.float16] = dataclasses.field(kw_only=True)
    sensed: Mapping[str, float] = dataclasses.field(kw_only=True, default_factory=dict)

    @property
    def tokens(self) -> int:
        """T, the number of 100 ms tokens."""
        return len(self.video)

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of stream that gave something."""
        found = {
            "welder": bool(self.sensor_known[:, 0].any()),
            "video": bool(self.video_known.any()),
            "audio": bool(self.audio_known.any()),
            "result": bool(self.views),
            "profile": self.geo is not None,
        }
        return frozenset(kind for kind, there in found.items() if there)

    def without(self, kinds: Set[str]) -> "SeamFeatures":
        """The same, as if the streams of these kinds had given nothing."""
        changes: dict[str, Any] = {}
        for kind, name in MASKS:
            if kind in kinds:
                changes[name] = np.zeros_like(getattr(self, name))
        if "result" in kinds:
            changes["views"] = {}
        if "profile" in kinds:
            changes["geo"] = None
        return dataclasses.replace(self, **changes) if changes else self


class SeamExtractor:
    """Features of one open seam. `stage_ms` says where the time went."""

    def __init__(
        self, seam: Seam, streams: tuple[StreamSpec, ...], backbone: Backbone, tier: Tier = "default"
    ) -> None:
        self.seam, self._backbone, self._tier = seam, backbone, tier
        video = next((s.name for s in streams if s.kind == "video"), None)
        audio = next((s for s in streams if s.kind == "audio"), None)
        self._sensor = SensorSteps(seam.arc_on_ns, streams)
        self._waves = WaveTokens(seam.arc_on_ns, streams)
        self._finite = FiniteCounts(seam.arc_on_ns, streams)
        self._frames = FrameTokens(video, seam.arc_on_ns, backbone)
        self._audio = AudioTokens(audio, seam.arc_on_ns, backbone)
        self._kinds = {s.name: s.kind for s in streams}
        self._parts: dict[str, SensorSteps | FrameTokens | AudioTokens] = {
            "welder": self._sensor,
            "motion": self._sensor,
            "video": self._frames,
            "audio": self._audio,
        }
        self._encoded_views: dict[tuple[str, str, int], ResultMap] = {}
        self._prepared: tuple[Any, SeamFeatures] | None = None
        self.stage_ms: dict[str, float] = {}

    def push(self, chunk: Chunk) -> None:
        """Take the next stamped chunk of any stream. A scan comes whole with the window, so its rows are ignored."""
        self._prepared = None
        kind = self._kinds.get(chunk.stream)
        part = self._parts.get(kind) if kind is not None else None
        if part is None or kind is None:
            return
        if chunk.t_ns > self.seam.arc_on_ns + MAX_TOKENS * TOKEN_NS:
            raise ValueError(f"seam {self.seam.seam_id}: longer than {MAX_TOKENS * TOKEN_NS / 6e10:.0f} min")
        begin = time.perf_counter()
        self._finite.push(chunk)
        part.push(chunk)
        self._waves.push(chunk)
        self._spent(kind, begin)

    def steps_ready(self) -> int:
        """Number of 10 ms sensor steps that can no longer change."""
        return self._sensor.ready()

    def steps(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Sensor steps `start..stop`, assembled in blocks of `BLOCK_STEPS`."""
        edges = [*range(start, stop, BLOCK_STEPS), stop]
        blocks = [self._sensor.get(a, b) for a, b in itertools.pairwise(edges)]
        if not blocks:
            return self._sensor.get(0, 0)
        return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])

    @property
    def parts(self) -> tuple[WaveTokens, FrameTokens, AudioTokens]:
        """What is known so far of waveforms, pictures and sound: the live score cannot wait for `finish`."""
        return self._waves, self._frames, self._audio

    def finish(self, window: SeamWindow) -> SeamFeatures:
        """The seam's features up to arc-off, without the streams that integrity found unusable.

        May be called ahead with the results that there are: the process and every view are worked on once.

        Raises ValueError when the arc is shorter than a token, or where too much of a stream is NaN or infinite.
        """
        broken = {i.kind for i in window.integrity.values() if i.state in UNUSABLE} | set(window.missing)
        process = self._process(window.seam, broken - {"result", "profile"})
        begin = time.perf_counter()
        views = {name: self._encoded(view) for name, view in sorted(window.views.items())}
        self._spent("result", begin)
        begin = time.perf_counter()
        geo = self._geometry(window)
        self._spent("geometry", begin)
        found = dataclasses.replace(process, views=views, geo=geo, frame=window.frame)
        return found.without(broken & {"result", "profile"})

    def _encoded(self, view: ResultView) -> ResultMap:
        """The view's map; encoded once, when it comes."""
        key = view.view, view.stream, view.t_ns
        if key not in self._encoded_views:
            self._encoded_views[key] = result_map(view.jpeg, self._backbone)
        return self._encoded_views[key]

    def _process(self, seam: Seam, broken: Set[str]) -> SeamFeatures:
        """The process half, without `broken` kinds of stream; the same object until something of it changes."""
        key = seam.arc_on_ns, seam.arc_off_ns, frozenset(broken)
        if self._prepared is None or self._prepared[0] != key:
            begin = time.perf_counter()
            self._prepared = key, self._assembled(seam, broken)
            self._spent("assembly", begin)
        return self._prepared[1]

    def _assembled(self, seam: Seam, broken: Set[str]) -> SeamFeatures:
        tokens = (seam.arc_off_ns - seam.arc_on_ns) // TOKEN_NS
        if tokens < 1:
            raise ValueError(f"seam {seam.seam_id}: its arc is shorter than one token of {TOKEN_NS // 10**6} ms")
        self._finite.check(seam.seam_id, tokens, {name for name, kind in self._kinds.items() if kind in broken})
        sensor, sensor_known = self.steps(0, tokens * STEPS_PER_TOKEN)
        waves, waves_known = self._waves.get(0, tokens)
        video, video_known = self._frames.get(0, tokens)
        scene = self._frames.scenes(0, tokens)
        audio, audio_known = self._audio.get(0, tokens)
        found = SeamFeatures(
            seam_id=seam.seam_id,
            program=seam.program,
            session=seam.session or "none",
            sensor=sensor,
            sensor_known=sensor_known,
            video=video.astype(np.float16),
            video_known=video_known,
            audio=audio.astype(np.float16),
            audio_known=audio_known,
            views={},
            travel_speed_mm_s=seam.travel_speed_mm_s,
            tier=self._tier,
            waves=waves,
            waves_known=waves_known,
            scene=scene.astype(np.float16),
        )
        usable = found.without(broken)
        return dataclasses.replace(usable, sensed=self._sensed(usable, broken))

    def _sensed(self, found: SeamFeatures, broken: Set[str]) -> dict[str, float]:
        """`SeamFeatures.sensed`; nothing of streams that are unusable."""
        out: dict[str, float] = {}
        if "welder" not in broken:
            out |= self._waves.idle()
            for name, of in (("current_noise_a", "current_noise"), ("voltage_noise_v", "voltage_noise")):
                column = WAVE_FEATURES.index(of)
                told = found.waves[found.waves_known[:, column], column]
                out |= {name: float(10 ** np.median(told))} if len(told) else {}
        if "audio" not in broken:
            out |= self._audio.idle()
        if "video" not in broken:
            out |= self._frames.glass()
            scene = found.scene[found.video_known].astype(np.float64)
            if len(scene):
                for axis in ("x", "y"):
                    out[f"arc_{axis}"] = float(np.median(scene[:, SCENE_FEATURES.index(f"{axis}_250")]))
        return out

    def _geometry(self, window: SeamWindow) -> GeoMap | None:
        """None without a scan, or where nobody said which part of the seam it shows."""
        if window.height_map_mm is None or window.frame is None or window.frame.scan is None:
            return None
        return geometry_map(window.height_map_mm, window.frame.scan, window.frame.length_mm, self._backbone)

    def _spent(self, stage: str, begin: float) -> None:
        self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (time.perf_counter() - begin) * 1e3


ARRAYS = (
    "sensor", "sensor_known", "waves", "waves_known", "video", "video_known", "scene", "audio", "audio_known"
)  # fmt: skip
VIEW_ARRAYS = (*LEVELS, "profile")
GEO_ARRAYS = tuple(field.name for field in dataclasses.fields(GeoMap))


def save_features(features: SeamFeatures, path: Path) -> None:
    """Write features to a safetensors file; whole or not at all. The same features give the same bytes."""
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(getattr(features, name)) for name in ARRAYS}
    for name, view in features.views.items():
        tensors |= {f"{part}.{name}": np.ascontiguousarray(getattr(view, part)) for part in VIEW_ARRAYS}
        tensors[f"located.{name}"] = np.array([view.located])
    if features.geo is not None:
        tensors |= {f"geo.{part}": np.ascontiguousarray(getattr(features.geo, part)) for part in GEO_ARRAYS}
    speed = features.travel_speed_mm_s
    about = {
        "version": FEATURES_VERSION,
        "tier": features.tier,
        "seam_id": features.seam_id,
        "program": features.program,
        "session": features.session,
        "travel_speed_mm_s": "" if speed is None else repr(speed),
        "sensed": json.dumps(dict(features.sensed), sort_keys=True),
        "frame": "" if features.frame is None else json.dumps(dataclasses.asdict(features.frame), sort_keys=True),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_bytes(_with_sorted_header(save(tensors, about)))
    temporary.replace(path)


def _with_sorted_header(data: bytes) -> bytes:
    """A safetensors file's bytes with the keys of its header in order; the library writes metadata in any order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def load_features(path: Path, tier: Tier = "default") -> SeamFeatures:
    """Read what `save_features` wrote. Raises ValueError when it is of another version or tier."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        about = file.metadata()
        if about.get("version") != FEATURES_VERSION:
            raise ValueError(f"{path}: features of version {about.get('version')}, expected {FEATURES_VERSION}")
        found = about.get("tier", "default")
        if found != tier:
            raise ValueError(
                f"{path}: features of tier {found}, expected {tier}; say --tier {found}, or make them again"
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    names = [name.removeprefix("located.") for name in tensors if name.startswith("located.")]
    views = {
        name: ResultMap(
            **{part: tensors[f"{part}.{name}"] for part in VIEW_ARRAYS}, located=bool(tensors[f"located.{name}"][0])
        )
        for name in names
    }
    return SeamFeatures(
        seam_id=about["seam_id"],
        program=about["program"],
        session=about["session"],
        views=views,
        travel_speed_mm_s=float(about["travel_speed_mm_s"]) if about["travel_speed_mm_s"] else None,
        geo=GeoMap(*(tensors[f"geo.{part}"] for part in GEO_ARRAYS)) if "geo.fine" in tensors else None,
        frame=_frame(json.loads(about["frame"])) if about["frame"] else None,
        tier=tier,
        sensed=json.loads(about["sensed"]),
        **{name: tensors[name] for name in ARRAYS},
    )


def _frame(plain: Mapping[str, Any]) -> SeamFrame:
    views = {name: (float(a), float(b), float(c), float(d)) for name, (a, b, c, d) in plain["views"].items()}
    scan = plain["scan"]
    place = None if scan is None else (float(scan[0]), float(scan[1]), float(scan[2]))
    return SeamFrame(plain["length_mm"], plain["lag_mm"], views, place)


def features_name(tier: Tier) -> str:
    """Version and tier, the latter where it is not `default`: what features must share to be compared."""
    return FEATURES_VERSION if tier == "default" else f"{FEATURES_VERSION}, tier {tier}"


def one_tier(features: Sequence[SeamFeatures]) -> Tier:
    """The tier of all these features. Raises ValueError where there are two."""
    by_tier = {f.tier: f.seam_id for f in features}
    if len(by_tier) != 1:
        said = ", ".join(f"seam {seam_id} of {tier}" for tier, seam_id in sorted(by_tier.items())) or "no seam"
        raise ValueError(f"features of one tier are needed, got {said}; extract all with the same --tier")
    return next(iter(by_tier))


def content_key(path: Path, tier: Tier = "default") -> str:
    """Cache key of a recording: digest of its bytes and of the features' version and tier."""
    digest = hashlib.sha256(features_name(tier).encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:24]
