"""How figures are written on the detection page: numbers, intervals, tables, and what runs lie behind them."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edged.bench.detection.arms import PRODUCT, title

__all__ = [
    "FAILED", "Report", "Row", "difference", "grouped", "holds", "is_part", "mean", "mean_ci", "number", "plain",
    "table", "used", "with_ci",
]  # fmt: skip

FAILED = "**failed**"

Row = Mapping[str, Any]
Report = Mapping[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], none: str = "nothing was measured") -> str:
    lines = list(rows)
    if not lines:
        return f"Left out: {none}."
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def plain(value: float | None) -> str:
    """Three significant figures, plainly."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def with_ci(value: float | None, ci: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" + ("" if ci is None else f" ({ci[0]:.3f}–{ci[1]:.3f})")


def difference(value: float | None, ci: Sequence[float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:+.3f}" + ("" if ci is None else f" ({ci[0]:+.3f} to {ci[1]:+.3f})")


def holds(value: bool | None) -> str:
    return "undecided" if value is None else "yes" if value else FAILED


def is_part(row: Row) -> bool:
    return "part:" in str(row["ablation"] or "")


def used(rows: Iterable[Row]) -> str:
    """Schedule, seeds and corpora behind a table."""
    mine = list(rows)
    if not mine:
        return "No runs behind this table."

    def said(name: str) -> str:
        found = sorted({str(row[name]) for row in mine if row.get(name) is not None})
        return ", ".join(found) if found else "not said"

    return f"Schedule {said('schedule')}; seeds {said('seed')}; corpora {said('corpus')}."


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of one pipeline and variant, over its corpora and seeds; the product first."""
    out: dict[str, list[Row]] = {}
    for row in rows:
        out.setdefault(title(row), []).append(row)
    return dict(sorted(out.items(), key=lambda item: not item[0].startswith(PRODUCT)))


def mean(rows: Iterable[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.fmean(values) if values else None


def mean_ci(rows: Iterable[Row]) -> tuple[float, float] | None:
    found = [row["ci"] for row in rows if row.get("ci") is not None]
    if not found:
        return None
    return statistics.fmean(low for low, _ in found), statistics.fmean(high for _, high in found)
