"""The live score of seams that burn, as a small table: `edged watch --live` and the demo show it.

Made from received messages only. It warns; a row says nothing of a verdict.
"""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

__all__ = ["LiveView"]

BARS = "▁▂▃▄▅▆▇█"
SHOWN_POINTS = 60
"""Six seconds."""
LIMIT_BAR = 5
"""Of the eight: a score of 1.0 and above fills more than this."""


class LiveView:
    """Points by seam; a seam leaves when its verdict comes."""

    def __init__(self) -> None:
        self._seams: dict[str, list[Mapping[str, Any]]] = {}

    def add(self, message: Mapping[str, Any]) -> None:
        """Take a received point, as the map that went over the wire."""
        points = self._seams.setdefault(message["seam_id"], [])
        points.append(message)
        del points[:-SHOWN_POINTS]

    def end(self, seam_id: str) -> None:
        """The seam's verdict is there."""
        self._seams.pop(seam_id, None)

    def table(self) -> Table:
        """One row a seam: how far it is and the last six seconds of its score."""
        table = Table("burning", "s", "mm", "live score", "its course")
        for points in self._seams.values():
            last = points[-1]
            score, mm = last["score"], last["mm"]
            style = "bold red" if score is not None and score >= 1.0 else ""
            course = "".join(_bar(point["score"]) for point in points)
            shown = ["–" if value is None else format(value, form) for value, form in ((mm, ".0f"), (score, ".2f"))]
            table.add_row(last["program"], f"{last['t_s']:.1f}", *shown, course, style=style)
        return table


def _bar(score: float | None) -> str:
    if score is None:
        return "·"
    return BARS[min(max(int(score * LIMIT_BAR), 0), len(BARS) - 1)]
