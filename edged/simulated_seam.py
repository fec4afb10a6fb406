"""One planned seam of the virtual cell through the real Engine on a manual clock, to a file: bulk simulation.

The file is its recording, or its features: then the seam goes to the extractor and to no recorder, through the same
chunks, stamps and window as a recording that is read again for training, so the features are the same to the bit.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ulid import ULID

from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import RecordingHeader
from drivers.sim.seam import IMAGE_PRESETS, ImagePreset, RenderedSeam, SeamPlan
from edged.config import Config
from edged.engine import Engine
from edged.manifest import FEATURES_DATA, RECORDING_DATA
from edged.null_scorer import NullScorer
from edged.recording import SeamRecorder, config_metadata
from edged.recording_guard import RecorderLike
from edged.ring import Ring, make_ring
from edged.scoring import Scorer
from edged.types import Verdict
from edged.virtual_cell import Profile, virtual_cell_config
from pipelines.features.table import Tier

__all__ = ["Bulk", "extraction_ms", "seam_id_of", "simulate_seam", "unscored_verdict"]

EPOCH_UTC_NS = 1_767_225_600_000_000_000
"""2026-01-01: the calendar of simulated seams starts here, so that a seed gives the same bytes any day."""
SEAM_PITCH_NS = 60_000_000_000
SETTLE_NS = 12_000_000_000
"""Beyond the last event of a seam, everything that its verdict may still wait for is over."""
TICK_NS = 50_000_000
QUIET_NS = 1_000_000_000
"""Where no stream gives anything for longer, the engine is told that time passes."""
NOWHERE = Path("/simulated")
"""The recorded configuration must not tell where the recordings were written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bulk:
    """What is made of every seam of a folder.

    `cache_dir` holds the backbone's graphs; with it a seam becomes features, without it a recording. `profiler`: with
    a laser scan of every seam. `profile`: see `edged.virtual_cell`. `tier`: of the features. `corruption`: name and
    level of one of `edged.bench.detection.corruptions`; None: what the cell's sensors give.
    """

    cache_dir: Path | None = None
    profiler: bool = False
    profile: Profile = "cell"
    tier: Tier = "default"
    corruption: tuple[str, float] | None = None

    @property
    def data(self) -> str:
        """Where in the folder a seam's file lies, {} being its id."""
        return RECORDING_DATA if self.cache_dir is None else FEATURES_DATA

    def about(self) -> dict[str, Any]:
        """What all seams of a folder must share: JSON-ready."""
        from drivers.sim import SIM_VERSION
        from drivers.sim.digest import physics_digest
        from pipelines.features.extractor import features_name

        about = {
            "sim_version": SIM_VERSION,
            "digest": physics_digest(),
            "holds": "recordings" if self.cache_dir is None else f"features of version {features_name(self.tier)}",
            "profile": self.profile,
            "profiler": self.profiler,
        }
        if self.corruption is None:
            return about
        from edged.bench.detection.corruptions import CORRUPTIONS_VERSION

        name, level = self.corruption
        return about | {"corruption": f"{name} {level:g}, version {CORRUPTIONS_VERSION}"}

    def check(self) -> None:
        """Raise ValueError where there is no such cell or corruption, before anything is written."""
        virtual_cell_config(NOWHERE, profiler=self.profiler, profile=self.profile)
        if self.corruption is not None:
            from edged.bench.detection.corruptions import check_corruption

            check_corruption(*self.corruption)

    def prepare(self) -> None:
        """Do once what every process would begin with."""
        if self.cache_dir is not None:
            _backbone(self.cache_dir, self.tier)


def seam_id_of(plan: SeamPlan) -> str:
    """A ULID that is a function of the plan; its time is the seam's simulated one."""
    digest = hashlib.sha256(repr(plan).encode()).digest()[:10]
    utc_ms = (EPOCH_UTC_NS + plan.index * SEAM_PITCH_NS) // 1_000_000
    return str(ULID.from_bytes(utc_ms.to_bytes(6, "big") + digest))


def simulate_seam(plan: SeamPlan, bulk: Bulk, folder: Path) -> dict[str, Any]:
    """Write the seam's file and its manifest line into the empty `folder`; returns the truth.

    Raises RuntimeError when the engine gives it no recorded verdict.
    """
    return _played(plan, bulk, folder)[0]


def extraction_ms(plan: SeamPlan, bulk: Bulk, folder: Path) -> tuple[float, float]:
    """Like `simulate_seam` to features; returns the time that the extractor took, pushing and finishing.

    Raises RuntimeError as it does, ValueError for a bulk that makes recordings.
    """
    if bulk.cache_dir is None:
        raise ValueError("recordings are made without an extractor; give Bulk a cache_dir")
    scorer: Any = _played(plan, bulk, folder)[1]
    spent: tuple[float, float] = scorer.spent_ms[seam_id_of(plan)]
    return spent


def unscored_verdict(plan: SeamPlan, bulk: Bulk) -> Verdict:
    """What the engine says of a seam that nobody scores: `collecting`, or what stands before every score."""
    rendered = _rendered(plan, bulk)
    verdict, said = _through_engine(rendered, bulk, _config(plan, bulk), NullScorer(), None)
    if verdict is None:
        raise RuntimeError(f"seam {seam_id_of(plan)} ({plan}) gave no verdict ({said})")
    return verdict


def _played(plan: SeamPlan, bulk: Bulk, folder: Path) -> tuple[dict[str, Any], Scorer]:
    name, config = seam_id_of(plan), _config(plan, bulk)
    rendered = _rendered(plan, bulk)
    scorer, recorder = _ends(bulk, folder, _header(config, _start_ns(plan)), config)
    verdict, said = _through_engine(rendered, bulk, config, scorer, recorder)
    if verdict is None or verdict.recording is None:
        raise RuntimeError(f"seam {name} ({plan}) gave no recorded verdict ({said})")
    return dict(rendered.truth), scorer


def _start_ns(plan: SeamPlan) -> int:
    return SEAM_PITCH_NS * (1 + plan.index)


def _through_engine(
    rendered: RenderedSeam, bulk: Bulk, config: Config, scorer: Scorer, recorder: RecorderLike | None
) -> tuple[Verdict | None, str]:
    """The seam's only verdict, None where there is none or more; and what was said of it."""
    specs = {spec.name: spec for spec in _specs(bulk, IMAGE_PRESETS["small"])}
    rings = {spec.name: make_ring(spec, 30.0) for spec in specs.values()}
    start_ns = _start_ns(rendered.plan)
    verdicts: list[Verdict] = []
    engine = Engine(
        config,
        specs,
        rings,
        scorer,
        recorder,
        verdicts.append,
        lambda part: None,
        lambda now_ns: EPOCH_UTC_NS + now_ns,
        lambda: seam_id_of(rendered.plan),
    )
    _run(_events(bulk, rendered, start_ns), engine, rings, start_ns)
    said = "; ".join(f"{verdict.reason}: {verdict.detail}" for verdict in verdicts) or "none"
    return verdicts[0] if len(verdicts) == 1 else None, said


def _rendered(plan: SeamPlan, bulk: Bulk) -> RenderedSeam:
    from drivers.sim.render import render_seam

    rendered = render_seam(plan, IMAGE_PRESETS["small"])
    if bulk.corruption is None:
        return rendered
    from edged.bench.detection.corruptions import corrupted

    return corrupted(rendered, *bulk.corruption)


def _config(plan: SeamPlan, bulk: Bulk) -> Config:
    model = None if bulk.cache_dir is None else "features"
    _, config = virtual_cell_config(NOWHERE, model=model, profiler=bulk.profiler, profile=bulk.profile)
    # Training splits by session: without it, seams of one session would lie on both sides.
    return config.model_copy(update={"cell": config.cell.model_copy(update={"session": plan.session})})


def _header(config: Config, start_ns: int) -> RecordingHeader:
    from drivers.sim import SIM_VERSION

    software = f"edged simulate {SIM_VERSION}"
    return RecordingHeader("simulated", start_ns, EPOCH_UTC_NS + start_ns, software, True, config.cell.name, "none")


def _specs(bulk: Bulk, preset: ImagePreset) -> tuple[StreamSpec, ...]:
    from drivers.sim.chunks import stream_specs
    from drivers.sim.intel import intel_specs

    return intel_specs(preset) if bulk.profile == "intel" else stream_specs(preset, profiler=bulk.profiler)


def _events(bulk: Bulk, rendered: RenderedSeam, start_ns: int) -> Iterator[tuple[int, Chunk | dict[str, Any]]]:
    """What devices and PLC give of the seam, by arrival time."""
    import numpy as np

    from drivers.sim.chunks import seam_chunks
    from drivers.sim.intel import intel_chunks

    rng = np.random.default_rng([rendered.plan.seed, 0xC4])
    if bulk.profile == "intel":
        return intel_chunks(rendered, start_ns, rng)
    return seam_chunks(rendered, start_ns, rng, profiler=bulk.profiler)


def _run(
    events: Iterator[tuple[int, Chunk | dict[str, Any]]], engine: Engine, rings: Mapping[str, Ring], start_ns: int
) -> None:
    """Feed a seam through an engine until its verdict is due."""
    now_ns = start_ns
    for at_ns, item in events:
        if at_ns - now_ns > QUIET_NS:
            _pass_time(engine, now_ns, at_ns)
        now_ns = at_ns
        if isinstance(item, Chunk):
            engine.step(rings[item.stream].append(item), now_ns)
        else:
            reply = engine.control(item, now_ns)
            if not reply["ok"]:
                raise RuntimeError(f"the virtual PLC's {item} was refused: {reply['error']}")
    _pass_time(engine, now_ns, now_ns + SETTLE_NS)


def _pass_time(engine: Engine, from_ns: int, to_ns: int) -> None:
    for now_ns in range(from_ns, to_ns, TICK_NS):
        engine.step(None, now_ns)


def _ends(bulk: Bulk, folder: Path, header: RecordingHeader, config: Config) -> tuple[Scorer, RecorderLike]:
    """Where the engine's data goes."""
    if bulk.cache_dir is None:
        return NullScorer(), SeamRecorder(folder, lambda: header, config_metadata(config))
    from edged.feature_recorder import FeatureRecorder
    from edged.local_scorer import FeatureCollector

    collector = FeatureCollector(_backbone(bulk.cache_dir, bulk.tier), bulk.tier)
    return collector, FeatureRecorder(folder, header, collector)


_backbones: dict[tuple[Path, Tier], Any] = {}
"""One loaded backbone per process and tier."""


def _backbone(cache_dir: Path, tier: Tier) -> Any:
    from pipelines.features.table import Place, load_backbone

    if (cache_dir, tier) not in _backbones:
        _backbones[cache_dir, tier] = load_backbone(tier, Place(cache_dir))
    return _backbones[cache_dir, tier]
