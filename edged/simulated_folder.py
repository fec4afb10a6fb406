"""The folder that bulk simulation fills: whole seams only, in the order of the plan, whatever became of earlier runs.

A seam is made in a scratch folder beside its place. Its lines go first and its file is moved into place last: a line
without a file counts as nothing and is dropped by the next run, so a run that was killed can be started again and
leaves the same bytes as one that was not.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edged.manifest import MANIFEST, TRUTH

__all__ = ["ABOUT_NAME", "SCRATCH_NAME", "SimulatedFolder", "simulated_folder"]

ABOUT_NAME = "simulation.json"
SCRATCH_NAME = ".simulating"


class SimulatedFolder:
    """Made by `simulated_folder`. `known` holds the ids of the seams that are there."""

    def __init__(self, path: Path, data: str) -> None:
        self._path, self._data = path, data
        shutil.rmtree(path / SCRATCH_NAME, ignore_errors=True)
        self.scratch = path / SCRATCH_NAME
        self.scratch.mkdir()
        (path / data).parent.mkdir(exist_ok=True)
        whole = {seam_id for seam_id in _ids(path / TRUTH) if (path / data.format(seam_id)).exists()}
        self.known: frozenset[str] = frozenset(whole & set(_ids(path / MANIFEST)))
        self.sort()

    def add(self, seam_id: str, made_in: Path, truth: Mapping[str, Any]) -> None:
        """Move a seam that was made in the folder `made_in` to its place."""
        _append(self._path / MANIFEST, (made_in / MANIFEST).read_text(encoding="utf-8"))
        _append(self._path / TRUTH, json.dumps({"seam_id": seam_id, "truth": truth}, sort_keys=True) + "\n")
        (made_in / self._data.format(seam_id)).replace(self._path / self._data.format(seam_id))
        shutil.rmtree(made_in)
        self.known |= {seam_id}

    def sort(self) -> None:
        """Let manifest and truth hold one line of every seam that is there, by time, whichever run added it."""
        for path in (self._path / MANIFEST, self._path / TRUTH):
            lines = _lines(path)
            kept = [text for seam_id, text in sorted(lines.items()) if seam_id in self.known]
            wanted = "".join(kept).encode()
            if path.exists() and path.read_bytes() == wanted:
                continue
            scratch = self.scratch / path.name
            scratch.write_bytes(wanted)
            scratch.replace(path)


@contextlib.contextmanager
def simulated_folder(path: Path, data: str, about: Mapping[str, Any]) -> Iterator[SimulatedFolder]:
    """The folder to add seams to, made when missing; nobody else adds to it meanwhile.

    Args:
        data: where in the folder a seam's file lies, {} being its id.
        about: what all its seams share; kept beside them in `ABOUT_NAME`.

    Raises ValueError where another run is at it, or where what lies there is something else.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not (path / ABOUT_NAME).exists() and (path / MANIFEST).exists():
        raise ValueError(f"{path} holds seams that were not simulated by this version; give another folder")
    with (path / ABOUT_NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{path}: another simulation is writing into it; wait for it to end") from error
        _agree(path, file, about)
        folder = SimulatedFolder(path, data)
        yield folder
        folder.sort()
        shutil.rmtree(folder.scratch)


def _agree(path: Path, file: Any, about: Mapping[str, Any]) -> None:
    """Compare `about` with what the file says, or write it where it says nothing whole."""
    file.seek(0)
    text = file.read()
    wanted = json.dumps(dict(about), indent=2, sort_keys=True) + "\n"
    if text == wanted:
        return
    if not text.endswith("}\n"):
        file.truncate(0)
        file.write(wanted)
        file.flush()
        os.fsync(file.fileno())
        return
    found = json.loads(text)
    # Either may say what the other does not: only corrupted seams speak of a corruption.
    keys = dict.fromkeys((*about, *found))
    differ = [f"{key} is {found.get(key)}, not {about.get(key)}" for key in keys if found.get(key) != about.get(key)]
    raise ValueError(f"{path} holds other seams ({'; '.join(differ)}); give another folder")


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _ids(path: Path) -> list[str]:
    return list(_lines(path))


def _lines(path: Path) -> dict[str, str]:
    """Whole lines of a file by seam id; a last one without an end was cut off by a crash."""
    if not path.exists():
        return {}
    texts = path.read_text(encoding="utf-8").split("\n")[:-1]
    return {json.loads(text)["seam_id"]: f"{text}\n" for text in texts}
