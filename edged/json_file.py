"""Small state that the daemon keeps as JSON in the data directory: replaced as a whole, never half."""

import json
import os
from pathlib import Path
from typing import Any

from drivers.mcap_file import fsync_folder

__all__ = ["replace_json"]


def replace_json(path: Path, value: Any) -> None:
    """Write `value` beside `path` and put it in its place once it is on disk. Raises OSError."""
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    fsync_folder(path.parent)
