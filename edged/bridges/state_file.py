"""What a bridge remembers over a restart: one small JSON map, old or new after a power cut, never half."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edged.bridges.daemon_link import BridgeError
from edged.client import Position

__all__ = ["position_of", "read_state", "write_state"]

MAX_STATE_BYTES = 64 * 1024


def read_state(path: Path) -> dict[str, Any]:
    """The map that was written last, an empty one before the first. Raises BridgeError for a damaged file."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(MAX_STATE_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BridgeError(f"{path}: cannot be read: {error}; remove it to begin anew") from error
    if not isinstance(found, dict):
        raise BridgeError(f"{path}: not a bridge's state; remove it to begin anew")
    return found


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Durable when this returns. Raises BridgeError where it cannot be written."""
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BridgeError(f"{path}: cannot be written: {error.strerror}; check owner and room there") from error


def position_of(state: Mapping[str, Any]) -> Position | None:
    """The `journal_id` and `sequence` in a state; None where there are none. Raises BridgeError on nonsense."""
    journal_id, sequence = state.get("journal_id"), state.get("sequence")
    if journal_id is None and sequence is None:
        return None
    if not isinstance(journal_id, str) or type(sequence) is not int or sequence < 0:
        raise BridgeError(f"journal {journal_id!r:.80}, sequence {sequence!r:.80}: no position; remove the file")
    return Position(journal_id, sequence)


def _sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
