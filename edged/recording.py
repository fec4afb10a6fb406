"""The recorder: one file per seam, beside the data path, on disk before its verdict is published.

A seam is written to `<seam_id>.open`, which reaches the disk at least each second; `finish` completes it, renames
it to `<seam_id>.mcap` and adds a line to `manifest.jsonl`. What a crash leaves as `.open` is saved by
`recover_interrupted`. Times come as arguments; only `host_header` reads clocks.
"""

import dataclasses
import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from calibration.files import CalibrationError
from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import (
    OPEN_SUFFIX,
    RECORDING_SUFFIX,
    RecordingError,
    RecordingHeader,
    RecordingReader,
    RecordingWriter,
    recover_recording,
)
from drivers.mcap_file import fsync_folder, unfinished_metadata
from edged.cell_calibration import CellCalibration
from edged.config import Config
from edged.manifest import append_manifest, read_manifest
from edged.types import Verdict
from pipelines.window import Seam

__all__ = [
    "LOST_SUFFIX",
    "SeamRecorder",
    "SeamRecordingError",
    "config_metadata",
    "host_header",
    "is_complete",
    "manifest_line",
    "open_recordings",
    "recorded_calibration",
    "recorded_config",
    "recorded_seam",
    "recorded_verdict",
    "recordings",
    "recover_complete",
    "recover_interrupted",
    "relabel",
    "verdict_metadata",
]

SYNC_EVERY_NS = 900_000_000
"""Below the promised second by more than one step of the engine."""
LOST_SUFFIX = ".lost"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SEAM = TypeAdapter(Seam)
_VERDICT = TypeAdapter(Verdict)


class SeamRecordingError(RecordingError):
    """The recording of the seam `seam_id` failed; the seam is INDETERMINATE(not_recorded). Call `abandon`."""

    def __init__(self, seam_id: str, message: str) -> None:
        self.seam_id = seam_id
        super().__init__(message)


def host_header(cell: str, software: str, *, is_simulated: bool, calibration_id: str = "none") -> RecordingHeader:
    """A header of this host and boot, with monotonic time and UTC read one right after the other."""
    boot_id = BOOT_ID.read_text().strip() if BOOT_ID.exists() else "unknown"
    return RecordingHeader(boot_id, time.monotonic_ns(), time.time_ns(), software, is_simulated, cell, calibration_id)


@dataclasses.dataclass(slots=True)
class _Open:
    writer: RecordingWriter
    header: RecordingHeader
    synced_ns: int
    settling: "Future[None] | None" = None
    """The disk at work on what was flushed; nobody waits for it but who must."""

    def settled(self) -> None:
        """Wait for the disk where it is at work. Raises RecordingError where it failed."""
        settling, self.settling = self.settling, None
        if settling is not None:
            settling.result()

    set_points: dict[str, float] = dataclasses.field(default_factory=dict)


class SeamRecorder:
    """Writes the open seams' files; single-threaded, called by the engine's step.

    Every method raises SeamRecordingError (a RecordingError that knows its seam) when the disk fails.

    Args:
        folder: where recordings lie; made when missing.
        header: called at every arc-on for a fresh header, see `host_header`.
        config: what `config_metadata` makes; without it `edged replay` needs one to cut and judge the seam by.
        calibration: what `CellCalibration.content` makes; empty: the streams are as their devices gave them.
    """

    def __init__(
        self,
        folder: Path,
        header: Callable[[], RecordingHeader],
        config: Mapping[str, Any] | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._calibration = calibration
        self._folder = folder
        self._header = header
        self._open: dict[str, _Open] = {}
        self._beside = ThreadPoolExecutor(max_workers=2, thread_name_prefix="recorder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f"{folder}: cannot be made: {error.strerror}; set cell.data_dir") from error

    @property
    def open_seams(self) -> tuple[str, ...]:
        """Ids of the seams that are being written."""
        return tuple(self._open)

    def path(self, seam_id: str) -> Path:
        """Where the finished recording of a seam lies."""
        return self._folder / f"{seam_id}{RECORDING_SUFFIX}"

    def begin(self, seam: Seam, specs: Sequence[StreamSpec], now_ns: int) -> None:
        """Open the seam's file; the disk works beside whoever calls on bringing its name and header down."""
        header = self._header()
        path = self._open_path(seam.seam_id)
        try:
            writer = RecordingWriter(path, specs, header)
        except RecordingError as error:
            raise SeamRecordingError(seam.seam_id, str(error)) from error
        self._open[seam.seam_id] = _Open(writer, header, now_ns)

        def start() -> None:
            writer.metadata("seam", _seam_values(seam))
            if self._config is not None:
                writer.metadata("config", self._config)
            if self._calibration:
                writer.metadata("calibration", self._calibration)
            writer.flush()
            self._open[seam.seam_id].settling = self._beside.submit(settle)

        def settle() -> None:
            writer.settle()
            fsync_folder(self._folder)

        self._guarded(seam.seam_id, start)

    def chunk(self, seam_id: str, chunk: Chunk) -> None:
        """Append a stamped chunk to the seam's file."""
        self._guarded(seam_id, lambda: self._entry(seam_id).writer.chunk(chunk))

    def control(self, seam_id: str, t_ns: int, message: Mapping[str, Any]) -> None:
        """Append a control message that took effect at `t_ns` to the seam's file; `expect` also tells set-points."""
        entry = self._entry(seam_id)
        if message.get("op") == "expect":
            entry.set_points = dict(message.get("set_points") or {})
        self._guarded(seam_id, lambda: entry.writer.control(t_ns, message))

    def sync(self, seam_id: str) -> None:
        """Let the disk begin with what there is of the seam, so that little is left when its verdict waits."""
        entry = self._entry(seam_id)

        def begin() -> None:
            entry.settled()
            entry.writer.flush()
            entry.settling = self._beside.submit(entry.writer.settle)

        self._guarded(seam_id, begin)

    def complete(self, seam: Seam) -> None:
        """Note that all of the seam's inputs are in its file: from here on a crash costs no more than its scoring.

        The inputs reach the disk first, so that whoever reads the note can rely on them.
        """
        entry = self._entry(seam.seam_id)

        def note() -> None:
            entry.settled()
            entry.writer.sync()
            entry.writer.metadata("seam", _seam_values(seam))

        self._guarded(seam.seam_id, note)

    def tick(self, now_ns: int) -> None:
        """Bring every file to disk that has not been there for a second; the disk works beside whoever calls.

        Raises SeamRecordingError for the first seam that fails, after the others have been tried.
        """
        failures = []
        for seam_id, entry in self._open.items():
            if now_ns - entry.synced_ns < SYNC_EVERY_NS:
                continue
            entry.synced_ns = now_ns
            try:
                self.sync(seam_id)
            except SeamRecordingError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def finish(self, seam: Seam, verdict: Mapping[str, Any], now_ns: int) -> Path:
        """Complete the seam's recording; when this returns its path, disk and folder have it.

        `verdict` is what `verdict_metadata` makes. `now_ns` is noted as the time of finishing.
        """
        entry = self._entry(seam.seam_id)
        path = self.path(seam.seam_id)

        def complete() -> None:
            entry.settled()
            entry.writer.metadata("seam", {**_seam_values(seam), "finished_ns": now_ns})
            entry.writer.metadata("verdict", verdict)
            # Before the rename: a line without a file is skipped by readers, a file without a line is not listed.
            # Beside the file's end, because a verdict waits, and a disk takes as long for two as for one.
            line = manifest_line(seam, entry.header, verdict, entry.set_points)
            listed = self._beside.submit(append_manifest, self._folder, line)
            try:
                entry.writer.finish()
            finally:
                listed.result()
            os.rename(entry.writer.path, path)
            fsync_folder(self._folder)

        self._guarded(seam.seam_id, complete)
        del self._open[seam.seam_id]
        return path

    def abandon(self, seam_id: str) -> None:
        """Give up a seam's recording and free its space: its verdict says not_recorded. Unknown ids are ignored."""
        entry = self._open.pop(seam_id, None)
        if entry is None:
            return
        if entry.settling is not None:
            wait([entry.settling])
        entry.writer.close()
        entry.writer.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave open seams as `.open` files; the next start reports them as interrupted."""
        self._beside.shutdown()
        for entry in self._open.values():
            entry.writer.close()
        self._open.clear()

    def _open_path(self, seam_id: str) -> Path:
        return self._folder / f"{seam_id}{OPEN_SUFFIX}"

    def _entry(self, seam_id: str) -> _Open:
        entry = self._open.get(seam_id)
        if entry is None:
            raise SeamRecordingError(seam_id, f"seam {seam_id} is not being recorded in {self._folder}; begin it")
        return entry

    def _guarded(self, seam_id: str, write: Callable[[], None]) -> None:
        try:
            write()
        except SeamRecordingError:
            raise
        except RecordingError as error:
            raise SeamRecordingError(seam_id, str(error)) from error
        except OSError as error:
            raise SeamRecordingError(
                seam_id, f"{self._open_path(seam_id)}: {error.strerror}; free space in {self._folder}"
            ) from error


def open_recordings(folder: Path) -> list[Path]:
    """What a crash left unfinished, oldest seam first (ULIDs sort by time)."""
    return sorted(folder.glob(f"*{OPEN_SUFFIX}"))


def recordings(folder: Path) -> list[Path]:
    """The finished recordings of a folder by name, which for ULIDs is by time."""
    return sorted(folder.glob(f"*{RECORDING_SUFFIX}"))


def recorded_seam(reader: RecordingReader) -> Seam:
    """The seam as it was last written to the recording. Raises RecordingError when there is none."""
    values = reader.metadata("seam")
    if values is None:
        raise RecordingError(f"{reader.path}: does not say which seam it is (no metadata 'seam')")
    try:
        return _SEAM.validate_python({key: values[key] for key in values if key != "finished_ns"})
    except ValueError as error:
        raise RecordingError(f"{reader.path}: metadata 'seam' {values} is not a seam: {error}") from error


def recover_interrupted(path: Path, verdict: Mapping[str, Any]) -> tuple[Seam, Path]:
    """Save an `.open` file of an earlier run: complete it with `verdict` (what the daemon will publish for it).

    Returns the seam and the path of its recording. Raises RecordingError when nothing of it can be read; the file
    is then renamed to `<seam_id>.lost`, so that it is reported once, and the seam id is `path.stem`.
    """
    try:
        recovered = recover_recording(path, {"verdict": verdict})
        reader = RecordingReader(recovered)
        seam = recorded_seam(reader)
    except RecordingError as error:
        if not path.exists():
            raise
        lost = path.with_suffix(LOST_SUFFIX)
        path.rename(lost)
        raise RecordingError(f"{error}; kept as {lost}") from error
    append_manifest(path.parent, manifest_line(seam, reader.header, verdict, {}))
    return seam, recovered


def is_complete(path: Path) -> bool:
    """Whether an `.open` file holds all of its seam's inputs (`SeamRecorder.complete` was reached)."""
    return bool((unfinished_metadata(path).get("seam") or {}).get("arcs"))


def recover_complete(path: Path) -> Path:
    """Finish an `.open` file that holds all of its seam's inputs; returns its recording. Raises RecordingError."""
    recovered = recover_recording(path)
    reader = RecordingReader(recovered)
    verdict = reader.metadata("verdict") or {}
    append_manifest(path.parent, manifest_line(recorded_seam(reader), reader.header, verdict, {}))
    return recovered


def relabel(path: Path, verdict: Verdict) -> None:
    """Let the manifest say what a recording's seam was judged after it had been finished."""
    reader = RecordingReader(path)
    line = read_manifest(path.parent).get(path.stem) or manifest_line(verdict.seam, reader.header, {}, {})
    values = verdict_metadata(verdict)
    append_manifest(path.parent, {**line, "label": values["label"], "shadow_label": values["shadow_label"]})


def recorded_verdict(reader: RecordingReader) -> Verdict | None:
    """The verdict that a recording was finished with, whole; None where it has none. Raises RecordingError."""
    whole = (reader.metadata("verdict") or {}).get("whole")
    if whole is None:
        return None
    try:
        verdict: Verdict = _VERDICT.validate_python(whole)
    except ValueError as error:
        raise RecordingError(f"{reader.path}: metadata 'verdict' is no verdict of this version: {error}") from error
    return dataclasses.replace(verdict, recording=str(reader.path))


def config_metadata(config: Config) -> dict[str, Any]:
    """What a recording keeps of the configuration: how seams are cut and judged.

    Driver options stay out: they can hold a camera's password, and replay opens no device.
    """
    values = config.model_dump(
        mode="json", exclude={"streams": {"__all__": {"options"}}, "net": True, "children": True}
    )
    return {**values, "config_id": config.config_id}


def recorded_config(reader: RecordingReader) -> Config | None:
    """The configuration a seam was recorded under; None where the recording has none."""
    values = reader.metadata("config")
    if values is None:
        return None
    try:
        return Config.model_validate({key: value for key, value in values.items() if key != "config_id"})
    except ValueError as error:
        raise RecordingError(
            f"{reader.path}: its config does not fit this version: {error}; give --config"
        ) from error


def recorded_calibration(reader: RecordingReader) -> CellCalibration:
    """The calibrations a seam was recorded with; none where the recording has none. Raises RecordingError."""
    values = reader.metadata("calibration") or {}
    try:
        return CellCalibration.from_content(values, f"{reader.path}: metadata 'calibration'")
    except CalibrationError as error:
        raise RecordingError(f"{error}; give others with --calibration") from error


def verdict_metadata(verdict: Verdict) -> dict[str, Any]:
    """What a recording keeps of its verdict: JSON-ready, read by replay and retention."""
    score = verdict.score
    return {
        "label": verdict.label.name,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "mode": verdict.mode,
        "shadow_label": None if verdict.shadow_label is None else verdict.shadow_label.name,
        "score": None if score is None else score.score,
        "raw": None if score is None else score.raw,
        "p_value": None if score is None else score.p_value,
        "model_id": verdict.model_id,
        "threshold_id": verdict.threshold_id,
        "calibration_id": verdict.calibration_id,
        "config_id": verdict.config_id,
        "decided_utc_ns": verdict.decided_utc_ns,
        # What is published if a crash comes between this file and the journal.
        "whole": _VERDICT.dump_python(verdict, mode="json"),
    }


def _seam_values(seam: Seam) -> dict[str, Any]:
    return dataclasses.asdict(seam)


def manifest_line(
    seam: Seam, header: RecordingHeader, verdict: Mapping[str, Any], set_points: Mapping[str, float]
) -> dict[str, Any]:
    """What the folder's manifest says of a seam; `verdict` is what `verdict_metadata` makes."""
    utc = datetime.datetime.fromtimestamp(header.to_utc_ns(seam.arc_on_ns) / 1e9, datetime.UTC)
    return {
        "seam_id": seam.seam_id,
        "program": seam.program,
        # Welds of one day share more than welds of two; training must never split inside a session.
        "session": seam.session or utc.date().isoformat(),
        "set_points": dict(set_points),
        "utc": utc.isoformat(timespec="milliseconds"),
        "label": verdict.get("label"),
        "shadow_label": verdict.get("shadow_label"),
    }
