"""A recorded seam through the real engine once more, on a manual clock.

Recorded chunks enter with the stamps they were recorded with and in the order of their arrival, control messages at
the times at which they took effect: the same engine gives the same verdict, or shows what has changed.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from calibration.files import CalibrationError
from drivers.base import Chunk, ManualClock, StreamSpec
from drivers.mcap_codec import ControlEvent, RecordingError, RecordingHeader, RecordingReader
from edged.cell_calibration import CellCalibration
from edged.config import Config
from edged.engine import Engine
from edged.judge import JudgeLike
from edged.recording import recorded_calibration, recorded_config, recorded_seam
from edged.ring import Ring, make_ring
from edged.scoring import Scorer
from edged.sensor_baseline import SensorBaseline
from edged.sensor_health import SensorHealth
from edged.types import Mode, Verdict
from pipelines.window import LivePoint, Seam

__all__ = [
    "EngineFactory",
    "Pace",
    "ReplaySetup",
    "in_arrival_order",
    "replay_recording",
    "replay_steps",
    "replaying_engine",
    "strike_lateness_ns",
]

REORDER_NS = 30_000_000_000
"""A recording is written stream by stream in small pieces; nothing lies further from its place than this."""
IDLE_STEP_NS = 50_000_000
IDLE_LIMIT_NS = 120_000_000_000
"""How long after the last event a verdict may take on the manual clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class ReplaySetup:
    """What an engine needs to see a recorded seam again.

    `mode` is how far its program had come then; None where another config judges it, or nobody noted it.
    """

    seam: Seam
    header: RecordingHeader
    config: Config
    specs: Mapping[str, StreamSpec]
    rings: Mapping[str, Ring]
    calibration: CellCalibration
    sensor_baseline: Any = None
    """What the sensors were judged by; None where the recording does not say."""
    mode: Mode | None = None


EngineFactory = Callable[[ReplaySetup, Callable[[Verdict], None]], Engine]
Pace = Callable[[int], None]
"""Called with the recording's time before each event; waits as long as the user wants to."""


def replaying_engine(
    setup: ReplaySetup,
    scorer: Scorer,
    on_verdict: Callable[[Verdict], None],
    judge: JudgeLike | None = None,
    on_live: Callable[[Seam, LivePoint], None] = lambda seam, point: None,
) -> Engine:
    """An engine that sees a recorded seam again: its config, calibrations, clocks and id, recording nothing."""
    ids = iter([setup.seam.seam_id])
    return Engine(
        setup.config,
        setup.specs,
        setup.rings,
        scorer,
        None,
        on_verdict,
        lambda part: None,
        setup.header.to_utc_ns,
        # A recording holds one seam; should its current show a second arc beyond merging, that is another seam.
        lambda: next(ids, f"{setup.seam.seam_id}-next"),
        setup.calibration,
        SensorHealth(SensorBaseline.of_recording(setup.sensor_baseline)),
        judge,
        on_live,
    )


def replay_recording(
    path: Path,
    engine_factory: EngineFactory,
    config: Config | None = None,
    pace: Pace | None = None,
    calibration: CellCalibration | None = None,
    late_ns: Mapping[str, int] = MappingProxyType({}),
    between: Callable[[], None] = lambda: None,
) -> Verdict:
    """The verdict that the engine gives for a recorded seam.

    Args:
        engine_factory: makes a fresh engine for the recording; it must give the seam its recorded id.
        config, calibration: instead of the recorded ones.
        pace: see `Pace`; None plays as fast as possible.
        late_ns: per stream, how much earlier than recorded its items are taken to be; see `strike_lateness_ns`.
        between: called between small steps, for whoever has other work; must be quick.

    Raises RecordingError when the recording cannot be read, has no configuration, or gives no verdict.
    """
    steps = replay_steps(path, engine_factory, config, pace=pace, calibration=calibration, late_ns=late_ns)
    while True:
        try:
            next(steps)
            between()
        except StopIteration as done:
            verdict: Verdict = done.value
            return verdict


def replay_steps(
    path: Path,
    engine_factory: EngineFactory,
    config: Config | None = None,
    waiting: Callable[[], bool] = lambda: False,
    pace: Pace | None = None,
    calibration: CellCalibration | None = None,
    late_ns: Mapping[str, int] = MappingProxyType({}),
) -> Generator[None, None, Verdict]:
    """`replay_recording` in small steps, for whoever has other work between them.

    While `waiting()` for a scorer that takes real time, the manual clock stands still.
    """
    reader = RecordingReader(path)
    seam = recorded_seam(reader)
    mode = None if config is not None else (reader.metadata("verdict") or {}).get("mode")
    config = config or recorded_config(reader)
    if config is None:
        raise RecordingError(f"{path}: holds no configuration to judge it by; give one with --config")
    specs = {spec.name: spec for spec in reader.specs}
    if unknown := sorted(set(specs) - set(config.streams)):
        raise RecordingError(
            f"{path}: the config lacks stream {', '.join(unknown)}; give the one it was recorded with"
        )
    rings = {name: make_ring(spec, config.streams[name].ring_s) for name, spec in specs.items()}
    verdicts: list[Verdict] = []
    judged_by = (reader.metadata("verdict") or {}).get("sensor_baseline")
    if calibration is None:
        calibration = recorded_calibration(reader)
    try:
        setup = ReplaySetup(seam, reader.header, config, specs, rings, calibration, judged_by, mode)
        engine = engine_factory(setup, verdicts.append)
    except CalibrationError as error:
        raise RecordingError(f"{path}: {error}") from error

    clock = ManualClock()
    for found in _sorted(reader.events(), REORDER_NS):
        if found is not None:
            t_ns, event = found
            if pace is not None:
                pace(t_ns)
            clock.sleep_until_ns(t_ns)
            if isinstance(event, ControlEvent):
                # A message that is refused now is logged by the engine, and the verdict shows what came of it.
                engine.control(event.message, clock.now_ns())
            else:
                moved = _earlier(event, late_ns.get(event.stream, 0))
                engine.step(rings[event.stream].append(moved), clock.now_ns())
        yield
    end_ns = clock.now_ns() + IDLE_LIMIT_NS
    while not _of_seam(verdicts, seam) and clock.now_ns() < end_ns:
        if not waiting():
            clock.advance_ns(IDLE_STEP_NS)
        engine.step(None, clock.now_ns())
        yield
    if not (given := _of_seam(verdicts, seam)):
        raise RecordingError(
            f"{path}: seam {seam.seam_id} gave no verdict within {IDLE_LIMIT_NS / 1e9:.0f} s after its last chunk; "
            "its current may not cross the config's arc limits"
        )
    return given[0]


def strike_lateness_ns(verdict: Verdict) -> dict[str, int]:
    """Per stream, how late a seam's own strike shows its sound and light to be; those without one are left out."""
    return {
        name: round(found.sync_residual_ms * 1e6)
        for name, found in verdict.integrity.items()
        if found.kind in ("audio", "video") and found.sync_residual_ms is not None
    }


def _earlier(chunk: Chunk, by_ns: int) -> Chunk:
    if not by_ns or chunk.clock is None:
        return chunk
    return dataclasses.replace(chunk, clock=dataclasses.replace(chunk.clock, t0_ns=chunk.clock.t0_ns - by_ns))


def _of_seam(verdicts: Iterable[Verdict], seam: Seam) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.seam.seam_id == seam.seam_id]


def in_arrival_order(
    events: Iterable[Chunk | ControlEvent], horizon_ns: int = REORDER_NS
) -> Iterator[tuple[int, Chunk | ControlEvent]]:
    """(time, event) by arrival of chunks and effect of messages; a stream's chunks stay in order of `seq`, once each.

    Holds no more than `horizon_ns` of the recording in memory.
    """
    return (found for found in _sorted(events, horizon_ns) if found is not None)


def _sorted(
    events: Iterable[Chunk | ControlEvent], horizon_ns: int
) -> Iterator[tuple[int, Chunk | ControlEvent] | None]:
    """`in_arrival_order`, with None after every event that was only read ahead, so that nobody waits for all."""
    heap: list[tuple[int, int, Chunk | ControlEvent]] = []
    numbers = itertools.count()
    last_seq: dict[str, int] = {}
    newest_ns = 0

    def pop() -> Iterator[tuple[int, Chunk | ControlEvent]]:
        t_ns, _, event = heapq.heappop(heap)
        if isinstance(event, Chunk):
            if event.seq <= last_seq.get(event.stream, -1):
                return
            last_seq[event.stream] = event.seq
        yield t_ns, event

    for event in events:
        t_ns = event.t_ns if isinstance(event, ControlEvent) else event.arrival_ns
        heapq.heappush(heap, (t_ns, next(numbers), event))
        newest_ns = max(newest_ns, t_ns)
        while heap and heap[0][0] < newest_ns - horizon_ns:
            yield from pop()
        yield None
    while heap:
        yield from pop()
