"""A bench verb's own part of docs/results.md: the text between its two markers."""

from pathlib import Path

__all__ = ["write_part"]


def write_part(path: Path, part: str, text: str) -> None:
    """Put `text` between the markers of `part`. Raises ValueError naming them where the file has none."""
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in whole or end not in whole:
        raise ValueError(f"{path} has no markers {begin} … {end}; add them where the figures shall stand")
    before, _, rest = whole.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", encoding="utf-8")
