"""`manifest.jsonl` of a recordings folder: one line per seam with program, session and set-points.

An index for people and for training; the recordings themselves are the truth.
"""

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivers.mcap_codec import RECORDING_SUFFIX, RecordingError
from drivers.mcap_file import fsync_folder

__all__ = [
    "FEATURES_DATA",
    "MANIFEST",
    "RECORDING_DATA",
    "TRUTH",
    "append_manifest",
    "compact_manifest",
    "read_manifest",
]

MANIFEST = "manifest.jsonl"
TRUTH = "truth.jsonl"
"""Beside the manifest where the truth is known; only evaluation opens it."""
RECORDING_DATA = f"{{}}{RECORDING_SUFFIX}"
"""Where a seam's file lies in the folder, {} being its id; in a folder of features `FEATURES_DATA`."""
FEATURES_DATA = "features/{}.safetensors"
_LOCK = threading.Lock()
"""Retention may rewrite the manifest while the engine adds a line."""


def append_manifest(folder: Path, line: Mapping[str, Any]) -> None:
    """Add a line and wait until it is on disk; cuts off a line that a crash left half written.

    Raises OSError when the disk fails, with the manifest as it was before.
    """
    data = (json.dumps(line, allow_nan=False) + "\n").encode()
    with _LOCK:
        _append(folder, data)


def _append(folder: Path, data: bytes) -> None:
    descriptor = os.open(folder / MANIFEST, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        end = _end_of_last_line(descriptor)
        os.ftruncate(descriptor, end)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], end + written)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
    finally:
        os.close(descriptor)


def _end_of_last_line(descriptor: int, block: int = 4096) -> int:
    size = os.fstat(descriptor).st_size
    while size > 0:
        start = max(0, size - block)
        newline = os.pread(descriptor, size - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        size = start
    return 0


def compact_manifest(folder: Path) -> None:
    """Drop the lines of recordings that are gone. Raises RecordingError like `read_manifest`, OSError as the disk."""
    with _LOCK:
        if not (folder / MANIFEST).exists():
            return
        lines = read_manifest(folder)
        scratch = folder / f"{MANIFEST}.new"
        with scratch.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines.values())
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, folder / MANIFEST)
        fsync_folder(folder)


def read_manifest(folder: Path, data: str = RECORDING_DATA) -> dict[str, dict[str, Any]]:
    """Lines by seam id, of several the last, where the recording still exists; empty when there is no manifest.

    `data`: where in the folder a seam's file lies, with {} for its id.

    Raises RecordingError naming the line that is not JSON; a last line without an end is one that a crash cut off.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            line = json.loads(text)
            seam_id = line["seam_id"]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingError(f"{path}: line {number} {text!r:.80} is no manifest line: remove it") from error
        if (folder / data.format(seam_id)).exists():
            found[seam_id] = line
    return found
