"""What is kept on disk: the oldest recordings of OK seams go first, others only when no OK one is left.

Beside the data path; the daemon calls `enforce` now and then and shows its warning in health. `plan` decides and
touches nothing; `enforce` carries it out.
"""

import dataclasses
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from drivers.mcap_codec import RecordingError, RecordingReader
from edged.config import RecordingConfig
from edged.manifest import compact_manifest, read_manifest
from edged.recording import recordings

__all__ = ["Kept", "Plan", "enforce", "plan"]

GB = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A recording as retention sees it. `finished_ns` orders by age; `is_ok` by worth."""

    path: Path
    size_bytes: int
    finished_ns: int
    is_ok: bool

    @property
    def seam_id(self) -> str:
        """The seam that it records."""
        return self.path.stem


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What goes, in this order, and by how many bytes the limits are still missed afterwards (0: they are met)."""

    remove: tuple[Kept, ...]
    missed_bytes: int

    @property
    def warning(self) -> str | None:
        """One sentence for health; None when nothing was to do."""
        parts = []
        ok = sum(kept.is_ok for kept in self.remove)
        if ok:
            parts.append(f"{ok} of the oldest OK recordings deleted")
        if others := len(self.remove) - ok:
            parts.append(f"no OK ones left: {others} of the oldest other recordings deleted too")
        if self.missed_bytes:
            parts.append(
                f"the disk is still over its limit by {self.missed_bytes / GB:.2f} GB: add space or "
                "change recording.max_gb and min_free_gb"
            )
        return "; ".join(parts) or None


def plan(
    kept: Sequence[Kept], *, max_bytes: int, free_bytes: int, min_free_bytes: int, in_use: Collection[str] = ()
) -> Plan:
    """Which recordings to delete so that all together hold `max_bytes` at most and `min_free_bytes` stay free.

    `in_use` are seam ids that are never deleted; they count towards the total.
    """
    total_bytes = sum(one.size_bytes for one in kept)
    excess = max(total_bytes - max_bytes, min_free_bytes - free_bytes)
    candidates = sorted(
        (one for one in kept if one.seam_id not in in_use),
        key=lambda one: (not one.is_ok, one.finished_ns, one.seam_id),
    )
    remove = []
    for one in candidates:
        if excess <= 0:
            break
        remove.append(one)
        excess -= one.size_bytes
    return Plan(tuple(remove), max(0, excess))


def enforce(
    folder: Path, limits: RecordingConfig, in_use: Collection[str] = (), labels: Mapping[str, str] | None = None
) -> Plan:
    """Delete what `plan` says and return it.

    `labels` gives seam id → label where it is known (the journal's), which counts where the manifest's, or else the
    recording's own, differs. Raises OSError or RecordingError when the folder cannot be changed or its manifest read.
    """
    found = plan(
        _kept(folder, labels or {}),
        max_bytes=round(limits.max_gb * GB),
        free_bytes=shutil.disk_usage(folder).free,
        min_free_bytes=round(limits.min_free_gb * GB),
        in_use=in_use,
    )
    for one in found.remove:
        one.path.unlink(missing_ok=True)
    if found.remove:
        compact_manifest(folder)
    return found


def _kept(folder: Path, labels: Mapping[str, str]) -> list[Kept]:
    manifest = read_manifest(folder)
    found = []
    for path in recordings(folder):
        stat = path.stat()
        line = manifest.get(path.stem) or _own_verdict(path)
        label = labels.get(path.stem, line.get("label"))
        if label == line.get("label"):
            # In shadow every label is INDETERMINATE; what it would have been says how much the recording is worth.
            is_ok = "OK" in (label, line.get("shadow_label"))
        else:
            is_ok = label == "OK"
        found.append(Kept(path, stat.st_size, stat.st_mtime_ns, is_ok))
    return found


def _own_verdict(path: Path) -> Mapping[str, object]:
    """The verdict inside a recording; a damaged or unjudged one counts as not OK, so it stays longest."""
    try:
        return RecordingReader(path).metadata("verdict") or {}
    except RecordingError:
        return {}
