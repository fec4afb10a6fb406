"""Stands in the recorder's place in bulk simulation: what reaches the disk of a seam is its features."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.base import Chunk, StreamSpec
from drivers.mcap_codec import RecordingHeader
from edged.local_scorer import FeatureCollector
from edged.manifest import FEATURES_DATA, append_manifest
from edged.recording import manifest_line
from pipelines.features.extractor import save_features
from pipelines.window import Seam

__all__ = ["FeatureRecorder"]


class FeatureRecorder:
    """Satisfies `RecorderLike`; writes the features that `collector` has of a seam, and its line of the manifest."""

    def __init__(self, folder: Path, header: RecordingHeader, collector: FeatureCollector) -> None:
        self._folder, self._header, self._collector = folder, header, collector
        self._set_points: dict[str, float] = {}

    def begin(self, seam: Seam, specs: tuple[StreamSpec, ...], now_ns: int) -> None:
        """Nothing to open."""

    def chunk(self, seam_id: str, chunk: Chunk) -> None:
        """The extractor has it already."""

    def control(self, seam_id: str, t_ns: int, message: Mapping[str, Any]) -> None:
        """Keep the set-points."""
        if message.get("op") == "expect":
            self._set_points = dict(message.get("set_points") or {})

    def sync(self, seam_id: str) -> None:
        """Nothing is on the way to the disk."""

    def complete(self, seam: Seam) -> None:
        """Nothing to note."""

    def tick(self, now_ns: int) -> None:
        """Nothing to flush."""

    def finish(self, seam: Seam, verdict: Mapping[str, Any], now_ns: int) -> Path:
        """Write the features. Raises RuntimeError when the extractor gave none."""
        seam_id = seam.seam_id
        if seam_id not in self._collector.features:
            raise RuntimeError(
                f"seam {seam_id} has no features: {self._collector.failed.get(seam_id, 'never asked')}"
            )
        path = self._folder / FEATURES_DATA.format(seam_id)
        save_features(self._collector.features.pop(seam_id), path)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        append_manifest(self._folder, manifest_line(seam, self._header, verdict, self._set_points))
        return path

    def abandon(self, seam_id: str) -> None:
        """Nothing to remove: a failed seam ends the run, and its folder goes."""
