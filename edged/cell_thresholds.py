"""The cell's own thresholds: `DATA_DIR/thresholds/`, one file per program, model, calibration and signal.

`edged learn` writes them, the daemon and `edged replay` read them. They count before those that came with the model.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from drivers.mcap_file import fsync_folder
from pipelines.models import model_directory
from pipelines.thresholds import Threshold, ThresholdTable

__all__ = ["CellThresholds", "changed_ns", "load_cell", "load_own", "thresholds_folder", "write_cell"]

NAME_CHARS = 60


def thresholds_folder(data_dir: Path) -> Path:
    """Where a cell keeps its thresholds."""
    return data_dir / "thresholds"


def write_cell(folder: Path, thresholds: Iterable[Threshold]) -> Path:
    """Replace the file of one program, model, calibration and signal; returns it once it is on disk.

    Raises ValueError where the thresholds are not all of one, OSError.
    """
    rows = list(thresholds)
    of = {(row.program, row.model_id, row.calibration_id, row.signal) for row in rows}
    if len(of) != 1:
        raise ValueError(f"a file holds the thresholds of one program, model and calibration, got {sorted(of)}")
    key = next(iter(of))
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', key[0])[:NAME_CHARS]}-{digest}.json"
    scratch = path.with_suffix(".new")
    ThresholdTable(rows).save(scratch)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch, path)
    fsync_folder(folder)
    return path


def load_cell(folder: Path) -> tuple[ThresholdTable, list[str]]:
    """All thresholds of a cell, and a sentence per file that cannot be read; what it held then counts as missing."""
    table, problems = ThresholdTable(), []
    try:
        paths = sorted(folder.glob("*.json"))
    except OSError as error:
        return table, [f"{folder}: cannot be read: {error.strerror}"]
    for path in paths:
        try:
            for threshold in ThresholdTable.load(path):
                table.add(threshold)
        except (OSError, ValueError) as error:
            problems.append(f"{path}: cannot be read: {error}; learn it again with edged learn")
    return table, problems


class CellThresholds:
    """A cell's thresholds as they are now; the files are read again only when their folder has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: int | None = None
        self._table = ThresholdTable()

    def now(self) -> ThresholdTable:
        """All that can be read; the daemon's health tells of the others."""
        changed = changed_ns(self._folder)
        if changed != self._seen:
            self._table, self._seen = load_cell(self._folder)[0], changed
        return self._table


def changed_ns(folder: Path) -> int | None:
    """When the folder of thresholds changed, None where there is none: each is replaced as a whole."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def load_own(model: str) -> tuple[ThresholdTable, list[str]]:
    """The thresholds that came with a model, and why they cannot be read."""
    path = model_directory(model) / "thresholds.json"
    try:
        return ThresholdTable.load(path), []
    except (OSError, ValueError) as error:
        return ThresholdTable(), [f"{path}: cannot be read: {error}; copy the model again from where it was trained"]
