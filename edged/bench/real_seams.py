"""A folder of imported or recorded real seams → what `edged bench real` compares: label, features, integrity.

Every recording goes through the real engine once, as `edged train` does it; the labels come from `truth.jsonl`, which
`edged import` writes, or from a CSV that says which welds people found bad.
"""

import collections
import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from drivers.mcap_codec import RecordingError, RecordingReader
from edged.bulk_pool import bulk_pool
from edged.evaluate import read_truth
from edged.manifest import TRUTH
from edged.recorded import RecordedSeam, list_recorded, rescore
from pipelines.features.extractor import SeamFeatures
from pipelines.window import Integrity

__all__ = ["RealSeam", "alignment", "completeness", "read_labels", "read_real"]

GOOD = "good"
KINDS = ("welder", "motion", "audio", "video", "result", "profile")
MODEL = "features"
Advance = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RealSeam:
    """One recorded weld. `defect` is "good" or a name; `features` None where `why` says so.

    `imported`: what the import says that its source lacked, part → reason.
    """

    seam_id: str
    program: str
    session: str
    set_points: Mapping[str, float]
    defect: str
    arc_s: float | None
    features: SeamFeatures | None
    why: str = ""
    integrity: Mapping[str, Integrity] = dataclasses.field(default_factory=dict)
    imported: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def bad(self) -> bool:
        return self.defect != GOOD


def read_real(
    folder: Path, labels: Path | None, cache_dir: Path, jobs: int, advance: Advance = lambda *_: None
) -> list[RealSeam]:
    """All seams of the folder in order of time.

    A recording that cannot be read stays in the list, without features. Raises ValueError where there are no
    recordings, or a seam has no label.
    """
    from pipelines.features.lite0 import load_backbone

    seams = list_recorded(folder)
    defects = read_labels(folder, labels)
    unknown = [seam.seam_id for seam in seams if seam.seam_id not in defects]
    if unknown:
        where = labels or folder / TRUTH
        raise ValueError(f"{where}: no line for {', '.join(unknown[:5])}; {len(unknown)} seam(s) lack a label")
    load_backbone(cache_dir)  # exports the graph once, before all processes want it
    out = []
    with bulk_pool(jobs) as pool:
        found = pool.map(_look, seams, [defects[s.seam_id] for s in seams], [cache_dir] * len(seams))
        for done, seam in enumerate(found, start=1):
            out.append(seam)
            advance(done, len(seams))
    return out


def read_labels(folder: Path, labels: Path | None) -> dict[str, str]:
    """Seam id → "good" or the defect's name, from `labels` or else the folder's truth.

    Raises ValueError naming the file and what it lacks.
    """
    if labels is None:
        if not (folder / TRUTH).exists():
            raise ValueError(f"{folder / TRUTH}: missing; give --labels FILE.csv with the columns seam_id,label")
        truth = read_truth(folder / TRUTH)
        return {seam_id: _defect(about) for seam_id, about in truth.items() if about is not None}
    with labels.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        lacking = {"seam_id", "label"} - set(rows.fieldnames or ())
        if lacking:
            raise ValueError(f"{labels}: first line lacks {', '.join(sorted(lacking))}; it must name seam_id,label")
        found = {row["seam_id"].strip(): (row["label"] or "").strip() for row in rows}
    empty = [seam_id for seam_id, label in found.items() if not label]
    if empty:
        raise ValueError(
            f'{labels}: no label for {", ".join(empty[:5])}; write "{GOOD}" or the name of what is wrong'
        )
    return {seam_id: GOOD if label.lower() == GOOD else label for seam_id, label in found.items()}


def completeness(seams: Sequence[RealSeam]) -> dict[str, dict[str, int]]:
    """Label → seams, seams without features, and seams in which each kind of stream is missing or broken.

    Goods that lack something else than bads do is a way to tell them apart without looking at a weld.
    """
    kinds = {i.kind for seam in seams for i in seam.integrity.values()}
    kinds |= {kind for seam in seams if seam.features is not None for kind in seam.features.kinds}
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for seam in seams:
        counts[seam.defect].update({"seams": 1, "without_features": int(seam.features is None)})
        for kind in KINDS:
            if kind in kinds:
                counts[seam.defect][f"without_{kind}"] += not _has(seam, kind)
    return {label: dict(count) for label, count in sorted(counts.items(), key=lambda item: item[0] != GOOD)}


def alignment(seams: Sequence[RealSeam]) -> dict[str, dict[str, Any]]:
    """Stream → seams in which its arc strike was seen, and its |residual| against the current's, ms."""
    names = sorted({name for seam in seams for name, i in seam.integrity.items() if i.kind in ("audio", "video")})
    out = {}
    for name in names:
        there = [seam.integrity[name] for seam in seams if name in seam.integrity]
        seen = [abs(i.sync_residual_ms) for i in there if i.sync_residual_ms is not None]
        out[name] = {
            "seams": len(there),
            "strike_seen": len(seen),
            "median_ms": float(np.median(seen)) if seen else None,
            "worst_ms": max(seen, default=None),
        }
    return out


def _has(seam: RealSeam, kind: str) -> bool:
    if kind in ("result", "profile"):  # bound by triggers: no stream whose coverage of the arc could be measured
        return seam.features is not None and kind in seam.features.kinds
    return any(i.kind == kind and i.state in ("ok", "degraded") for i in seam.integrity.values())


def _defect(truth: Mapping[str, Any]) -> str:
    family = str(truth.get("family") or GOOD)
    return GOOD if family == GOOD else str(truth.get("type") or family)


_backbones: dict[Path, Any] = {}
"""One loaded backbone per extracting process."""


def _look(seam: RecordedSeam, defect: str, cache_dir: Path) -> RealSeam:
    from edged.local_scorer import FeatureCollector
    from pipelines.features.lite0 import load_backbone

    if cache_dir not in _backbones:
        _backbones[cache_dir] = load_backbone(cache_dir)
    about = (seam.seam_id, seam.program, seam.session, seam.set_points, defect)
    collector = FeatureCollector(_backbones[cache_dir])
    try:
        verdict = rescore(seam.path, collector, MODEL)
        imported = (RecordingReader(seam.path).metadata("import") or {}).get("missing") or {}
    except RecordingError as error:
        return RealSeam(*about, None, None, str(error))
    features = collector.features.get(seam.seam_id)
    if features is None:
        why = collector.failed.get(seam.seam_id, f"{verdict.reason}: {verdict.detail}")
        return RealSeam(*about, verdict.arc_s, None, why, verdict.integrity, imported)
    features = dataclasses.replace(features, session=seam.session)
    return RealSeam(*about, verdict.arc_s, features, "", verdict.integrity, imported)
