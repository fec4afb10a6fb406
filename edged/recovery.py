"""At the start: what a crash left. Every seam that was open, or judged but not journaled, gets its verdict now.

It stands before the first chunk: unfinished recordings are saved, and each seam without an entry in the journal
becomes INDETERMINATE(interrupted), and its part INDETERMINATE with it, so that neither ends in silence.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from drivers.base import DeviceError
from drivers.mcap_codec import RecordingError, RecordingReader
from edged.arc import ArcStats
from edged.config import Config
from edged.decide import Case, decide
from edged.journal import Entry, Journal
from edged.recording import open_recordings, recorded_seam, recordings, recover_interrupted
from edged.types import Label, PartSeam, PartVerdict, Verdict
from edged.verdict import Identity, Latencies, build_verdict
from edged.wire import TimePair
from pipelines.window import Seam

__all__ = ["recover_after_crash"]

LAST_RECORDINGS = 64
"""More seams than this are never between their recording and their journal entry."""

_Interrupted = tuple[Verdict, TimePair | None]
"""A seam's verdict, and the clocks of the boot in which it was welded."""

log = structlog.get_logger(__name__)


def recover_after_crash(config: Config, folder: Path, journal: Journal, publish: Callable[[Entry], None]) -> int:
    """Save what lies in `folder`, journal and publish the missing verdicts; returns their number.

    Raises JournalError, OSError.
    """
    found: list[_Interrupted | None] = [_save(config, path) for path in open_recordings(folder)]
    saved = {item[0].seam.seam_id for item in found if item is not None}
    found += [
        _unjournaled(config, path)
        for path in _youngest(folder)
        if path.stem not in saved and not journal.has_seam(path.stem)
    ]
    missing = [item for item in found if item is not None and not journal.has_seam(item[0].seam.seam_id)]
    for verdict, pair in missing:
        log.warning("seam was interrupted", seam_id=verdict.seam.seam_id, recording=verdict.recording)
        publish(journal.append(verdict, pair))
    for part in _parts(config, [verdict for verdict, _ in missing]):
        log.warning("part was interrupted", part_id=part.part_id)
        publish(journal.append(part))
    return len(missing)


def _parts(config: Config, verdicts: list[Verdict]) -> list[PartVerdict]:
    """Parts of which a seam was interrupted. Which seams the PLC had announced for them is forgotten."""
    seams: dict[str, list[PartSeam]] = {}
    for verdict in verdicts:
        if (part_id := verdict.seam.part_id) is not None:
            found = PartSeam(verdict.seam.seam_ref, verdict.seam.seam_id, verdict.label, verdict.reason)
            seams.setdefault(part_id, []).append(found)
    return [
        PartVerdict(
            cell=config.cell.name,
            part_id=part_id,
            label=Label.INDETERMINATE,
            reason="seam_indeterminate",
            detail="edged stopped while the part was open; only the seams that were open then are listed",
            seams=tuple(found),
            config_id=config.config_id,
            is_simulated=config.cell.is_simulated,
            decided_utc_ns=time.time_ns(),
        )
        for part_id, found in seams.items()
    ]


def _youngest(folder: Path) -> list[Path]:
    return sorted(recordings(folder), key=lambda path: path.stat().st_mtime_ns)[-LAST_RECORDINGS:]


def _save(config: Config, path: Path) -> _Interrupted:
    """Complete an `.open` file; where nothing of it can be read, the verdict says so all the same."""
    detail = "edged stopped while the seam was open; the recording holds what was on disk"
    kept = {"label": "INDETERMINATE", "reason": "interrupted", "detail": detail, "decided_utc_ns": time.time_ns()}
    try:
        seam, recovered = recover_interrupted(path, kept)
        return _verdict(config, seam, detail, recovered), _pair(recovered)
    except (RecordingError, DeviceError) as error:
        unknown = Seam(path.stem, config.cell.name, "", "", time.monotonic_ns())
        return _verdict(config, unknown, f"edged stopped while the seam was open; {error}", None), None


def _unjournaled(config: Config, path: Path) -> _Interrupted | None:
    """A recording that is complete while its seam has no entry: the crash came in between."""
    try:
        seam = recorded_seam(RecordingReader(path))
        detail = "edged stopped between the recording and the journal; replay the recording for its score"
        return _verdict(config, seam, detail, path), _pair(path)
    except (RecordingError, DeviceError) as error:
        log.warning("recording cannot be read", recording=str(path), error=str(error))
        return None


def _pair(path: Path) -> TimePair:
    header = RecordingReader(path).header
    return TimePair(header.monotonic_ns, header.utc_ns)


def _verdict(config: Config, seam: Seam, detail: str, recording: Path | None) -> Verdict:
    program = config.programs.get(seam.program)
    decision = decide(Case(program, seam.program, given=("interrupted", detail)))
    identity = Identity(config.config_id, is_simulated=config.cell.is_simulated)
    latencies = Latencies(None, None, time.time_ns())
    verdict = build_verdict(seam, program, decision, None, {}, ArcStats(), None, latencies, identity)
    return dataclasses.replace(verdict, recording=None if recording is None else str(recording))
