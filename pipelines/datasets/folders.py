"""What the loaders of `<class>/<split>/<defect>/` trees share: listing, and refusing what does not belong.

A file that is silently left out changes a published number as much as one that is counted twice, so whatever a layout
does not know is an error that names it.
"""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["class_folders", "files", "folders", "matched", "need_folder"]


def need_folder(path: Path, fix: str) -> Path:
    """`path`. Raises ValueError with `fix` where it is no folder."""
    if not path.is_dir():
        raise ValueError(f"{path} is no folder; {fix}")
    return path


def folders(path: Path) -> list[Path]:
    """Sub-folders by name, hidden ones left out."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def files(path: Path, suffix: str) -> list[Path]:
    """Files with `suffix` by name. Raises ValueError where there is none, or another kind of file."""
    found = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    strange = [entry.name for entry in found if not entry.is_file() or entry.suffix != suffix]
    if strange:
        raise ValueError(f"{path} holds {strange[0]!r}; only {suffix} files belong there: move it elsewhere")
    if not found:
        raise ValueError(f"{path} has no {suffix} file; unpack the data set again")
    return found


def class_folders(root: Path, known: Sequence[str], classes: Sequence[str] | None) -> list[Path]:
    """The folders to load: `classes`, each of which must be there, or all, each of which must be one of `known`."""
    need_folder(root, "give the folder that holds the class folders")
    if classes is not None:
        return [need_folder(root / name, f"class {name!r} was asked for: unpack it there") for name in classes]
    present = folders(root)
    extra = [folder.name for folder in present if folder.name not in known]
    if extra:
        raise ValueError(
            f"{root} has the extra class {extra[0]!r}; known: {', '.join(known)}: move it away, "
            "or name the classes to load with classes=(...)"
        )
    if not present:
        raise ValueError(f"{root} has no class folder; expected {', '.join(known)}")
    return present


def matched(wanted: Sequence[Path], folder: Path, suffix: str, ending: str = "") -> list[Path]:
    """`folder/<stem><ending><suffix>` for every file of `wanted`, and no other file.

    Raises ValueError naming the first that is missing (and how many are) or that belongs to none.
    """
    need_folder(folder, f"{wanted[0].parent} needs it: unpack the data set again")
    expected = [folder / f"{path.stem}{ending}{suffix}" for path in wanted]
    missing = [path for path in expected if not path.is_file()]
    if missing:
        raise ValueError(
            f"{missing[0]} is missing ({len(missing)} of {len(expected)} in {folder}); unpack the data set again"
        )
    left = sorted(set(files(folder, suffix)) - set(expected))
    if left:
        raise ValueError(f"{left[0]} belongs to no file of {wanted[0].parent}; move it elsewhere")
    return expected
