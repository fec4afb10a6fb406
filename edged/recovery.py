"""At the start: what a crash left. Every seam that was open, or judged but not journaled, gets its verdict.

It stands before the first chunk. A seam cut off in mid-arc, or while an input of it was still to come, becomes
INDETERMINATE(interrupted) at once; a recording that was finished with a verdict is journaled with that one; and a
recording that holds all inputs but no verdict is left to `edged.rescoring`, which scores it while the daemon runs.
A part of which a seam was open is INDETERMINATE. The journal says what is missing; neither ends in silence.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from ulid import ULID

from calibration.files import NO_CALIBRATION
from drivers.base import DeviceError
from drivers.mcap_codec import RecordingError, RecordingReader
from edged.arc import ArcStats
from edged.config import Config
from edged.decide import Case, decide
from edged.journal import Entry, Journal
from edged.recording import (
    is_complete,
    open_recordings,
    recorded_seam,
    recorded_verdict,
    recordings,
    recover_complete,
    recover_interrupted,
)
from edged.types import Label, PartSeam, PartVerdict, Verdict
from edged.verdict import Identity, Latencies, build_verdict
from edged.wire import TimePair
from pipelines.window import Seam

__all__ = ["interrupted_verdict", "parts_of", "recover_after_crash"]

STOPPED = "edged stopped while the seam was open; the recording holds what was on disk"

INTERRUPTED = {"label": "INDETERMINATE", "reason": "interrupted", "detail": STOPPED}

_Found = tuple[Verdict, TimePair | None]
"""A seam's verdict, and the clocks of the boot in which it was welded."""

log = structlog.get_logger(__name__)


def recover_after_crash(
    config: Config, folder: Path, journal: Journal, publish: Callable[[Entry], None]
) -> list[Path]:
    """Save what lies in `folder`, journal and publish the verdicts that are known; returns what is to be rescored.

    Oldest first. Raises JournalError, OSError.
    """
    verdicts = [found for path in open_recordings(folder) if (found := _save(config, path)) is not None]
    saved = {verdict.seam.seam_id for verdict, _ in verdicts}
    to_rescore = []
    for path in _unjournaled(folder, journal):
        if path.stem in saved:
            continue
        try:
            found = _verdict_of(config, path)
        except (RecordingError, DeviceError) as error:
            log.error("recording cannot be read", recording=str(path), error=str(error))
            unknown = Seam(path.stem, config.cell.name, "", "", time.monotonic_ns())
            found = interrupted_verdict(config, unknown, f"its recording cannot be read: {error}", path), None
        if found is None:
            to_rescore.append(path)
        else:
            verdicts.append(found)
    missing = [item for item in verdicts if not journal.has_seam(item[0].seam.seam_id)]
    for verdict, pair in sorted(missing, key=lambda item: item[0].seam.seam_id):
        log.warning("seam of before the restart", seam_id=verdict.seam.seam_id, label=verdict.label.name)
        publish(journal.append(verdict, pair))
    for part in parts_of(config, [verdict for verdict, _ in missing]):
        log.warning("part of before the restart", part_id=part.part_id)
        publish(journal.append(part))
    return to_rescore


def parts_of(config: Config, verdicts: Sequence[Verdict]) -> list[PartVerdict]:
    """Verdicts of the parts of which these seams were open when edged stopped: NOK or INDETERMINATE, never OK.

    Which other seams the PLC had announced for a part is forgotten.
    """
    seams: dict[str, list[PartSeam]] = {}
    for verdict in verdicts:
        if (part_id := verdict.seam.part_id) is not None:
            found = PartSeam(verdict.seam.seam_ref, verdict.seam.seam_id, verdict.label, verdict.reason)
            seams.setdefault(part_id, []).append(found)
    return [_part(config, part_id, tuple(found)) for part_id, found in seams.items()]


def _part(config: Config, part_id: str, seams: tuple[PartSeam, ...]) -> PartVerdict:
    is_nok = any(seam.label is Label.NOK for seam in seams)
    return PartVerdict(
        cell=config.cell.name,
        part_id=part_id,
        label=Label.NOK if is_nok else Label.INDETERMINATE,
        reason="seam_nok" if is_nok else "seam_indeterminate",
        detail="edged stopped while the part was open; only the seams that were open then are listed",
        seams=seams,
        config_id=config.config_id,
        is_simulated=config.cell.is_simulated,
        decided_utc_ns=time.time_ns(),
    )


def interrupted_verdict(
    config: Config, seam: Seam, detail: str, recording: Path | None, calibration_id: str = NO_CALIBRATION
) -> Verdict:
    """INDETERMINATE(interrupted) for a seam of before the restart."""
    program = config.programs.get(seam.program)
    decision = decide(Case(program, seam.program, given=("interrupted", detail)))
    identity = Identity(config.config_id, calibration_id, is_simulated=config.cell.is_simulated)
    latencies = Latencies(None, None, time.time_ns())
    verdict = build_verdict(seam, program, decision, None, {}, ArcStats(), None, latencies, identity)
    return dataclasses.replace(verdict, recording=None if recording is None else str(recording))


def _save(config: Config, path: Path) -> _Found | None:
    """Complete an `.open` file; its verdict, which says so where nothing can be read. None: all inputs are there."""
    try:
        if is_complete(path):
            recover_complete(path)
            return None
        kept = {
            "label": "INDETERMINATE",
            "reason": "interrupted",
            "detail": STOPPED,
            "decided_utc_ns": time.time_ns(),
        }
        seam, recovered = recover_interrupted(path, kept)
        reader = RecordingReader(recovered)
        return interrupted_verdict(config, seam, STOPPED, recovered, reader.header.calibration_id), _pair(reader)
    except (RecordingError, DeviceError) as error:
        unknown = Seam(path.stem, config.cell.name, "", "", time.monotonic_ns())
        return interrupted_verdict(config, unknown, f"edged stopped while the seam was open; {error}", None), None


def _unjournaled(folder: Path, journal: Journal) -> list[Path]:
    """Recordings without an entry, of seams since the journal began: older ones are another journal's or imported."""
    found = recordings(folder)
    known = journal.labels(path.stem for path in found)
    return [path for path in found if path.stem not in known and _began_ns(path) >= journal.created_utc_ns]


def _began_ns(path: Path) -> int:
    """When the seam got its id, UTC ns; a file of any other name counts by its age."""
    try:
        # An id has milliseconds only, so it may seem a little older than it is.
        return int(ULID.from_str(path.stem).milliseconds + 1) * 1_000_000
    except ValueError:
        return path.stat().st_mtime_ns


def _verdict_of(config: Config, path: Path) -> _Found | None:
    """The verdict of a recording that the journal does not know; None: it is to be scored. Raises RecordingError."""
    reader = RecordingReader(path)
    verdict = recorded_verdict(reader)
    if verdict is not None:
        return verdict, _pair(reader)
    seam = recorded_seam(reader)
    if seam.arcs and reader.metadata("verdict") is None:
        return None
    return interrupted_verdict(config, seam, STOPPED, path, reader.header.calibration_id), _pair(reader)


def _pair(reader: RecordingReader) -> TimePair:
    return TimePair(reader.header.monotonic_ns, reader.header.utc_ns)
