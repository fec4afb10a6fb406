"""Weld-4M, the Intel Robotic Welding Multimodal Dataset: `<session>/<run id>/<run id>.{csv,flac,avi}`, photos.

Two splits: the published one, which the user supplies as a CSV `run_id,split,class,session`, and one by session, in
which no session is in two splits. Which file is which is said here once; `edged import intel-weld` reads it here too.
"""

import csv
import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pipelines.datasets.folders import need_folder
from pipelines.datasets.item import GOOD, SPLITS, Item

__all__ = ["CLASSES", "COLUMNS", "PARTS", "by_session", "load", "photos"]

LOG_FILE = "{run}.csv"
SOUND_FILE = "{run}.flac"
VIDEO_FILE = "{run}.avi"
PHOTO_FILES = "images/*.jpg"
CLASS_PATTERN = r"-(\d{2})$"
"""The first group in the run id is the class code."""
GOOD_CODES = ("00",)

PROGRAM = "intel"
COLUMNS = ("run_id", "split", "class", "session")
SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
CLASSES = (
    *(GOOD, "burnthrough", "crater_cracks", "excessive_convexity", "excessive_penetration", "lack_of_fusion"),
    *("overlap", "porosity", "porosity_excessive_penetration", "spatter", "undercut", "warping"),
)
"""Labels are the intended condition of the weld; nobody verified them on the weld."""
PARTS = ("log", "sound", "video", "image")
"""What `item.completeness` counts: an item of this set may lack any, and published copies do."""
TRAIN_SHARE = 0.7


def load(root: Path, split_csv: Path | None = None) -> list[Item]:
    """Items of the published split where `split_csv` is given, else of all runs below `root`, by session.

    A run of the CSV without a folder is an item without files: count them with `completeness(items, PARTS)`. Runs
    that the CSV does not name are left out. `group` is the session, `image` the first photograph. Raises ValueError
    naming a missing column, an unknown split or class, a run given twice, and a class that contradicts the run's id.
    """
    need_folder(root, "give the folder that holds <session>/<run id>/")
    found = _run_folders(root)
    if split_csv is None:
        if not found:
            raise ValueError(f"{root} has no run: expected <session>/<run id>/{LOG_FILE.format(run='<run id>')}")
        named = [_item(run, "test", _class_of(run), folder.parent.name, folder) for run, folder in found.items()]
        return by_session(named)
    return [_of_row(row, where, found) for where, row in _rows(split_csv)]


def photos(item: Item) -> list[Path]:
    """All photographs of the run, by name."""
    return [] if item.image is None else sorted(item.image.parent.glob(Path(PHOTO_FILES).name))


def by_session(items: Sequence[Item], seed: int = 0) -> list[Item]:
    """The same items with every session in one split: 70 % of the good ones train, all others are halved.

    A session with any defect never trains. Sessions are drawn by `seed` class by class, so each class with two is in
    validation and test; a class's only session goes to test. Raises ValueError where no session is left to train.
    """
    classes: dict[str, set[str]] = {}
    for item in items:
        classes.setdefault(item.group, set()).add(item.defect)
    strata: dict[str, list[str]] = {}
    for session, defects in sorted(classes.items()):
        strata.setdefault(max(defects - {GOOD}, default=GOOD), []).append(session)
    rng = np.random.default_rng(seed)
    split: dict[str, str] = {}
    for defect, sessions in sorted(strata.items()):
        order = [sessions[index] for index in rng.permutation(len(sessions))]
        train = int(TRAIN_SHARE * len(order)) if defect == GOOD else 0
        held_out = order[train:]
        split |= dict.fromkeys(order[:train], "train") | dict.fromkeys(held_out[: len(held_out) // 2], "validation")
        split |= dict.fromkeys(held_out[len(held_out) // 2 :], "test")
    if "train" not in split.values():
        raise ValueError(
            f"{len(strata.get(GOOD, []))} sessions of good welds only; 2 or more are needed to train on one"
        )
    return [dataclasses.replace(item, split=split[item.group]) for item in items]


def _run_folders(root: Path) -> dict[str, Path]:
    patterns = (LOG_FILE, SOUND_FILE, VIDEO_FILE)
    found: dict[str, Path] = {}
    for folder in sorted(path for path in root.rglob("*") if path.is_dir()):
        if any((folder / pattern.format(run=folder.name)).is_file() for pattern in patterns):
            if folder.name in found:
                raise ValueError(
                    f"run {folder.name!r} is in {found[folder.name]} and in {folder}; remove one of them"
                )
            found[folder.name] = folder
    return found


def _class_of(run: str) -> str:
    match = re.search(CLASS_PATTERN, run)
    if match is None:
        raise ValueError(f"run {run!r} does not end in its class code, as in 12-21-22-0462-00; rename the folder")
    return GOOD if match.group(1) in GOOD_CODES else f"class_{match.group(1)}"


def _rows(path: Path) -> Iterable[tuple[str, dict[str, str]]]:
    """(place, row) of each line; every column is there and no run comes twice."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"split {path} cannot be read: {error.strerror}; give a CSV {','.join(COLUMNS)}") from error
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(
            f"split {path} lacks the columns {', '.join(missing)}; its first line must be {','.join(COLUMNS)}"
        )
    seen: set[str] = set()
    for row in reader:
        where = f"split {path}, line {reader.line_num}"
        empty = [name for name in COLUMNS if not (row[name] or "").strip()]
        if empty:
            raise ValueError(f"{where}: {empty[0]} is empty; every run needs {', '.join(COLUMNS)}")
        values = {name: row[name].strip() for name in COLUMNS}
        if values["run_id"] in seen:
            raise ValueError(f"{where}: run {values['run_id']!r} was given before; keep one line for it")
        seen.add(values["run_id"])
        yield where, values
    if not seen:
        raise ValueError(f"split {path} names no run; add a line {','.join(COLUMNS)} for each")


def _of_row(row: dict[str, str], where: str, found: dict[str, Path]) -> Item:
    split = SPLIT_NAMES.get(row["split"].lower())
    if split is None:
        raise ValueError(f"{where}: split {row['split']!r} is unknown; known: {', '.join(SPLIT_NAMES)}")
    defect = re.sub(r"[^a-z]+", "_", row["class"].lower())
    if defect not in CLASSES:
        raise ValueError(f"{where}: class {row['class']!r} is unknown; known: {', '.join(CLASSES)}")
    by_name = _class_of(row["run_id"])
    if (defect == GOOD) != (by_name == GOOD):
        raise ValueError(
            f"{where}: class {row['class']!r} contradicts run id {row['run_id']!r} ({by_name}); correct one"
        )
    return _item(row["run_id"], split, defect, row["session"], found.get(row["run_id"]))


def _item(run: str, split: str, defect: str, session: str, folder: Path | None) -> Item:
    assert split in SPLITS
    if folder is None:
        return Item(run, PROGRAM, split, defect, session)
    named = {"log": LOG_FILE, "sound": SOUND_FILE, "video": VIDEO_FILE}
    paths = {part: folder / pattern.format(run=run) for part, pattern in named.items()}
    image = next(iter(sorted(folder.glob(PHOTO_FILES))), None)
    return Item(
        *(run, PROGRAM, split, defect, session),
        image=image,
        others={part: path for part, path in paths.items() if path.is_file()},
    )
