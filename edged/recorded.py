"""Recorded seams through the real engine with a scorer of our choice: what training and evaluation share.

The recording's own configuration cuts the seam; only the programs' model and mode are replaced, because a seam that
was recorded while collecting has none.
"""

import dataclasses
from pathlib import Path
from typing import Any

from drivers.mcap_codec import RecordingReader
from edged.cell_calibration import CellCalibration
from edged.manifest import FEATURES_DATA, read_manifest
from edged.recording import recorded_config, recordings
from edged.replay_engine import replay_recording, replaying_engine
from edged.scoring import Scorer
from edged.types import Verdict

__all__ = ["RecordedSeam", "list_features", "list_recorded", "rescore"]


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedSeam:
    """A line of the folder's index; `path` is the seam's recording, or its features where the folder holds those."""

    seam_id: str
    path: Path
    program: str
    session: str
    set_points: dict[str, float]


def list_recorded(folder: Path) -> list[RecordedSeam]:
    """The recordings of a folder in order of time. Raises ValueError when there are none or one is not indexed."""
    paths = recordings(folder)
    if not paths and _feature_files(folder):
        raise ValueError(f"{folder}: holds features and no recordings; only `edged train` can use those")
    if not paths:
        raise ValueError(f"{folder}: no recordings there; `edged record` or `edged simulate` makes some")
    return _in_time_order(folder, paths, read_manifest(folder))


def list_features(folder: Path) -> list[RecordedSeam]:
    """The seams of a folder that `edged simulate --features` filled, in order of time; empty for any other folder.

    Raises ValueError when one is not indexed.
    """
    return _in_time_order(folder, _feature_files(folder), read_manifest(folder, FEATURES_DATA))


def _feature_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(FEATURES_DATA.format("*")))


def _in_time_order(folder: Path, paths: list[Path], manifest: dict[str, dict[str, Any]]) -> list[RecordedSeam]:
    missing = [path.stem for path in paths if path.stem not in manifest]
    if missing:
        raise ValueError(f"{folder}/manifest.jsonl: no line for {', '.join(missing[:5])}; was it moved without it?")
    lines = [manifest[path.stem] for path in paths]
    found = [
        RecordedSeam(
            path.stem, path, line["program"], line.get("session") or "none", dict(line.get("set_points") or {})
        )
        for path, line in zip(paths, lines, strict=True)
    ]
    order = sorted(range(len(found)), key=lambda i: (str(lines[i].get("utc", "")), found[i].seam_id))
    return [found[i] for i in order]


def rescore(path: Path, scorer: Scorer, model: str, calibration: CellCalibration | None = None) -> Verdict:
    """The armed verdict of a recorded seam when `scorer` scores it. Raises RecordingError.

    `calibration`: instead of the one that it was recorded with.
    """
    config = recorded_config(RecordingReader(path))
    if config is not None:
        programs = {
            name: program.model_copy(update={"model": model, "mode": "armed"})
            for name, program in config.programs.items()
        }
        config = config.model_copy(update={"programs": programs})

    return replay_recording(
        path, lambda setup, say: replaying_engine(setup, scorer, say), config, calibration=calibration
    )
