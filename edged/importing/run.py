"""One run of a data set → its streams on one time axis → one recording.

The run id holds the class, so it ends here: what is written carries a new seam id and nothing of the run's name.
"""

import dataclasses
import hashlib
import heapq
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.base import Chunk, ClockParams, StreamSpec
from drivers.mcap_codec import OPEN_SUFFIX, RECORDING_SUFFIX, RecordingHeader, RecordingWriter
from drivers.mcap_file import fsync_folder
from edged.importing import video
from edged.importing.align import (
    AlignError,
    Alignment,
    Span,
    align_light,
    align_sound,
    current_span,
    light_span,
    sound_span,
)
from edged.importing.config import import_config, view_name
from edged.importing.mapping import Mapping
from edged.importing.photos import blanked_photo
from edged.importing.weld_log import WeldLog, read_log
from edged.recording import config_metadata
from pipelines.window import Seam

__all__ = ["Run", "Source", "find_sources", "read_run", "write_run"]

T0_NS = 1_000_000_000_000
"""Monotonic time of a log's first row; far enough from 0 for sound that begins earlier."""
SOUND_CHUNK_S = 0.02
FIRST_VIEW_S = 1.5
VIEW_STEP_S = 0.5
SPIKE_V = 60.0
"""Above any arc voltage: open circuit of the source, or a glitch of the log."""
TORCH = "1"


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The files of one run; `session` is its parent folder's name, which may hold the class as well."""

    folder: Path
    run_id: str
    session: str

    @property
    def session_id(self) -> str:
        """A name for grouping that does not show what the session's name may say about its class."""
        return "session-" + hashlib.sha256(self.session.encode()).hexdigest()[:8]


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """What a run has, aligned on its log. Arc times in s after the log's first row."""

    source: Source
    log: WeldLog
    arc: tuple[float, float]
    alignments: dict[str, Alignment] = dataclasses.field(default_factory=dict)
    sound: NDArray[np.int16] | None = None
    video: Path | None = None
    frames: int = 0
    views: list[NDArray[np.uint8]] = dataclasses.field(default_factory=list)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    """What the run lacks → why."""

    @property
    def spikes(self) -> int:
        """Rows whose voltage no arc can have."""
        voltage = self.log.channels.get("voltage")
        return 0 if voltage is None else int((np.abs(voltage) > SPIKE_V).sum())

    @property
    def set_points(self) -> dict[str, float]:
        """Medians while the arc burns: the nearest that a log without set-points has to them."""
        burning = (self.log.t_s > self.arc[0]) & (self.log.t_s < self.arc[1])
        return {name: round(float(np.median(values[burning])), 3) for name, values in self.log.channels.items()}


def find_sources(root: Path, mapping: Mapping) -> list[Source]:
    """Every folder below `root` that holds a log, sound or video named as the mapping says."""
    patterns = (mapping.log_file, mapping.sound_file, mapping.video_file)
    return [
        Source(folder, folder.name, folder.parent.name)
        for folder in sorted(path for path in root.rglob("*") if path.is_dir())
        if any((folder / pattern.format(run=folder.name)).is_file() for pattern in patterns)
    ]


def read_run(source: Source, mapping: Mapping) -> Run:
    """Read and align a run. Raises AlignError when its log cannot carry it; all else may be missing."""
    path = source.folder / mapping.log_file.format(run=source.run_id)
    if not path.is_file():
        raise AlignError("no log: without the current there is no time axis and no arc")
    log = read_log(path, mapping.log)
    span = current_span(log.t_s, log.channels["current"])
    assert span.off_s is not None  # current_span raises where the arc does not end
    run = Run(source, log, (span.on_s, span.off_s))
    for name, read in (("sound", _read_sound), ("video", _read_video), ("photos", _read_photos)):
        try:
            read(run, span, mapping)
        except (AlignError, OSError) as error:
            run.missing[name] = str(error)
    return run


def write_run(run: Run, mapping: Mapping, out: Path, seam_id: str, software: str) -> None:
    """Write the recording `<seam_id>.mcap`; after an error nothing of it is left."""
    unfinished = out / f"{seam_id}{OPEN_SUFFIX}"
    header = RecordingHeader("import", T0_NS, run.log.utc_ns, software, False, mapping.cell)
    streams = _streams(run, mapping)
    writer = RecordingWriter(unfinished, [spec for spec, _ in streams], header)
    try:
        writer.metadata("seam", dataclasses.asdict(seam_of(run, mapping, seam_id)))
        config = import_config(mapping, [spec.name for spec, _ in streams], len(run.views))
        writer.metadata("config", config_metadata(config))
        alignments = {name: dataclasses.asdict(alignment) for name, alignment in run.alignments.items()}
        writer.metadata("import", {"alignments": alignments, "missing": run.missing, "views": len(run.views)})
        controls = _controls(run, mapping, seam_id)
        for t_ns, _, event in heapq.merge(controls, *(events for _, events in streams), key=lambda e: e[:2]):
            if isinstance(event, Chunk):
                writer.chunk(event)
            else:
                writer.control(t_ns, event)
        writer.finish()
        os.rename(unfinished, out / f"{seam_id}{RECORDING_SUFFIX}")
        fsync_folder(out)
    finally:
        writer.close()
        unfinished.unlink(missing_ok=True)


def seam_of(run: Run, mapping: Mapping, seam_id: str) -> Seam:
    """The seam as the recorder would have written it."""
    on_ns, off_ns = (_ns(t_s) for t_s in run.arc)
    return Seam(
        seam_id=seam_id,
        cell=mapping.cell,
        torch=TORCH,
        program=mapping.program,
        arc_on_ns=on_ns,
        arcs=((on_ns, off_ns),),
        seam_ref=seam_id,
        session=run.source.session_id,
    )


def _read_sound(run: Run, span: Span, mapping: Mapping) -> None:
    import soundfile

    path = run.source.folder / mapping.sound_file.format(run=run.source.run_id)
    if not path.is_file():
        raise AlignError("no file")
    try:
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AlignError(str(error)) from error
    found = sound_span(samples[:, 0], rate_hz, run.arc[1] - run.arc[0])
    run.alignments["sound"] = align_sound(span, found, rate_hz)
    run.sound = samples


def _read_video(run: Run, span: Span, mapping: Mapping) -> None:
    path = run.source.folder / mapping.video_file.format(run=run.source.run_id)
    if not path.is_file():
        raise AlignError("no file")
    fps = video.header_fps(path)
    light = video.frame_light(path)
    run.alignments["video"] = align_light(span, light_span(light), fps, mapping.typical_fps)
    run.video, run.frames = path, len(light)


def _read_photos(run: Run, _: Span, mapping: Mapping) -> None:
    paths = sorted(run.source.folder.glob(mapping.photo_files.format(run=run.source.run_id)))
    if not paths:
        raise AlignError("no file")
    photos = [blanked_photo(path, mapping.photos) for path in paths]
    run.views = [photo for photo in photos if photo is not None][: mapping.photos.max_views]
    if unusable := sum(photo is None for photo in photos):
        run.missing["photos"] = f"{unusable} of {len(photos)} without a sticker that could be blanked, or no image"


_Event = tuple[int, int, Chunk | dict[str, Any]]
"""(time, rank at equal times, chunk or control message)."""


def _streams(run: Run, mapping: Mapping) -> list[tuple[StreamSpec, Iterator[_Event]]]:
    log = mapping.log
    streams = [
        _log_stream("welder", "welder", tuple(log.welder), run, mapping),
        *([_log_stream("motion", "motion", tuple(log.motion), run, mapping)] if log.motion else []),
    ]
    if run.sound is not None:
        rate_hz, channels = run.alignments["sound"].rate_hz, run.sound.shape[1]
        names = tuple(f"audio_{k}" for k in range(channels))
        sound = StreamSpec(
            "audio", "audio", rate_hz, (channels,), "int16", names, ("FS",) * channels, (1 / 32768,) * channels
        )
        streams.append((sound, _sound_events(run)))
    if run.video is not None:
        fps = run.alignments["video"].rate_hz
        streams.append((StreamSpec("video", "video", fps, (0, 0), "uint8", tick="arrival"), _video_events(run)))
    if run.views:
        result = StreamSpec("result", "result", 1 / VIEW_STEP_S, (0, 0), "uint8", tick="arrival")
        streams.append((result, _view_events(run)))
    return streams


def _log_stream(
    name: str, kind: Any, channels: tuple[str, ...], run: Run, mapping: Mapping
) -> tuple[StreamSpec, Iterator[_Event]]:
    units = tuple(mapping.log.units.get(channel, "") for channel in channels)
    spec = StreamSpec(name, kind, mapping.log.rate_hz, (len(channels),), "float32", channels, units, tick="arrival")
    data = np.stack([run.log.channels[channel] for channel in channels], axis=1).astype(np.float32)

    def events() -> Iterator[_Event]:
        # The rows' steps are uneven, so every row carries its own time.
        for k, t_s in enumerate(run.log.t_s):
            t_ns = _ns(float(t_s))
            clock = ClockParams(k, t_ns, spec.dt_ns)
            yield t_ns, 1, Chunk(name, k, k, t_ns, 0, data[k : k + 1], clock)

    return spec, events()


def _sound_events(run: Run) -> Iterator[_Event]:
    assert run.sound is not None
    alignment = run.alignments["sound"]
    clock = ClockParams(0, _ns(alignment.start_s), 1e9 / alignment.rate_hz)
    step = max(1, round(alignment.rate_hz * SOUND_CHUNK_S))
    for seq, start in enumerate(range(0, len(run.sound), step)):
        data = run.sound[start : start + step]
        arrival_ns = clock.t_ns(start + len(data))
        yield arrival_ns, 1, Chunk("audio", seq, start, arrival_ns, 0, data, clock)


def _video_events(run: Run) -> Iterator[_Event]:
    assert run.video is not None
    alignment = run.alignments["video"]
    clock = ClockParams(0, _ns(alignment.start_s), 1e9 / alignment.rate_hz)
    seq = lost = 0
    for k, jpeg in enumerate(video.frames(run.video)):
        if jpeg is None:
            lost += 1
            continue
        t_ns = clock.t_ns(k)
        yield t_ns, 1, Chunk("video", seq, k, t_ns, lost, jpeg, clock)
        seq, lost = seq + 1, 0


def _view_events(run: Run) -> Iterator[_Event]:
    clock = ClockParams(0, _view_ns(run, 0), VIEW_STEP_S * 1e9)
    for k, jpeg in enumerate(run.views):
        yield _view_ns(run, k), 1, Chunk("result", k, k, _view_ns(run, k), 0, jpeg, clock)


def _controls(run: Run, mapping: Mapping, seam_id: str) -> Iterator[_Event]:
    yield T0_NS, 0, {"op": "expect", "program": mapping.program, "seam_ref": seam_id, "torch": TORCH}
    for k in range(len(run.views)):
        yield _view_ns(run, k), 0, {"op": "view", "view": view_name(k), "seam_ref": seam_id}


def _view_ns(run: Run, k: int) -> int:
    """The photographs were taken later, nobody knows when; here they follow the arc at fixed steps."""
    return _ns(run.arc[1] + FIRST_VIEW_S + k * VIEW_STEP_S)


def _ns(t_s: float) -> int:
    return T0_NS + round(t_s * 1e9)
