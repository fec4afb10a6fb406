"""Pictures of docs/results.md from a detection report alone: ROC, POD, histograms, corruption and forgetting curves.

SVG without dates and with fixed ids, so the same report gives the same bytes. matplotlib comes with the extra `dev`.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edged.bench.detection.arms import MAIN_PAIR, ORACLE, PRODUCT, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "MissingMatplotlibError", "draw_figures"]

RED, GREY, GREEN = "#c0392b", "#7f8c8d", "#27ae60"
OTHERS = ("#2980b9", "#e67e22", "#27ae60", "#8e44ad", "#16a085", "#8d6e63", "#d4ac0d")
"""Red is the product's, grey the oracle's."""
COLUMNS = 5
CURVES = 8
"""Pipelines in one panel; more cannot be told apart."""

Row = Mapping[str, Any]
Report = Mapping[str, Any]


class MissingMatplotlibError(RuntimeError):
    """Pictures were asked for where matplotlib is not installed; the message says how to get it."""


def draw_figures(report: Report, folder: Path) -> dict[str, Path]:
    """Write each picture that the report has figures for; its name → its path. Raises MissingMatplotlibError."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingMatplotlibError("pictures need matplotlib: pip install -c constraints.txt '.[dev]'")
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    with matplotlib.rc_context(
        {"svg.hashsalt": "edged", "svg.fonttype": "none", "font.size": 7, "font.family": "sans-serif"}
    ):
        for name, draw in FIGURES.items():
            figure = draw(report)
            if figure is not None:
                paths[name] = folder / f"detect-{name}.svg"
                figure.savefig(paths[name], metadata={"Date": None})
    return paths


def _panels(count: int, width: float = 2.3, height: float = 2.1) -> tuple["Figure", Iterator["Axes"]]:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(columns * width, rows * height + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, iter(axes)


def first_runs(rows: Sequence[Row]) -> list[Row]:
    """Of each pipeline's curves those of one corpus and seed, over the protocol's pair where it has it."""
    out: dict[tuple[Any, ...], Row] = {}
    ranked = sorted(rows, key=lambda r: (r.get("pair") not in (None, MAIN_PAIR), str(r["corpus"]), str(r["seed"])))
    for row in ranked:
        out.setdefault((row["pipeline"], row.get("family"), row.get("type")), row)
    kept = {id(row) for row in out.values()}
    return [row for row in rows if id(row) in kept]


def _pipelines(rows: Sequence[Row]) -> list[str]:
    """The product first, at most `CURVES`."""
    names = list(dict.fromkeys(str(row["pipeline"]) for row in rows))
    return sorted(names, key=lambda name: name != PRODUCT)[:CURVES]


def _roc(report: Report) -> "Figure | None":
    rows = first_runs(report.get("roc", ()))
    if not rows:
        return None
    families = sorted({row["family"] for row in rows}, key=lambda name: (name is not None, str(name)))
    names = _pipelines(rows)
    others = iter(OTHERS * 2)
    fixed = {PRODUCT: RED, ORACLE: GREY}
    colours = {name: fixed[name] if name in fixed else next(others) for name in names}
    figure, axes = _panels(len(families))
    for cell, family in zip(axes, families, strict=False):
        for name in names:
            for row in (r for r in rows if r["pipeline"] == name and r["family"] == family):
                width = 1.6 if name == PRODUCT else 0.8
                cell.plot(row["fpr"], row["tpr"], color=colours[name], linewidth=width, label=title(row))
        cell.plot([0, 1], [0, 1], color=GREY, linewidth=0.5, linestyle=":")
        cell.set_title(family or "all families")
        cell.set_xlabel("false alarms")
    _legend(figure)
    figure.axes[0].set_ylabel("found")
    return figure


def _pod(report: Report) -> "Figure | None":
    rows = [row for row in first_runs(report.get("pod", ())) if row["pipeline"] in (PRODUCT, ORACLE)]
    types = list(dict.fromkeys(row["type"] for row in rows if row["pipeline"] == PRODUCT))
    if not types:
        return None
    figure, axes = _panels(len(types))
    for cell, name in zip(axes, types, strict=False):
        cell.set_xscale("log")
        cell.minorticks_off()
        for row in (r for r in rows if r["type"] == name):
            _pod_curve(cell, row, RED if row["pipeline"] == PRODUCT else GREY)
        cell.set_ylim(-0.03, 1.03)
        cell.axhline(0.9, color=GREY, linewidth=0.5, linestyle=":")
        unit = next(r["unit"] for r in rows if r["type"] == name)
        cell.set_title(f"{name}, {unit}")
    _legend(figure)
    figure.axes[0].set_ylabel("found at 1 % false alarms")
    return figure


def _pod_curve(cell: "Axes", row: Row, colour: str) -> None:
    values = [point["value"] for point in row["points"]]
    cell.plot(values, [p["hits"] / p["n"] for p in row["points"]], "o", color=colour, markersize=3)
    cell.set_xticks(values, [f"{value:.3g}" for value in values], fontsize=5)
    cell.minorticks_off()
    if row["b0"] is None:
        return
    steps = [row["low"] * (row["high"] / row["low"]) ** (k / 60) for k in range(61)]
    logits = [row["b0"] + row["b1"] * math.log(value) for value in steps]
    cell.plot(steps, [0.5 * (1 + math.tanh(x / 2)) for x in logits], color=colour, label=title(row), linewidth=1)
    if row["a90_95"] is not None:
        cell.axvline(row["a90_95"], color=colour, linewidth=0.6, linestyle="--")


def _histograms(report: Report) -> "Figure | None":
    rows = first_runs(report.get("histograms", ()))
    if not rows:
        return None
    row = rows[0]
    families = [name for name in row["counts"] if name != "good"]
    if not families:
        return None
    figure, axes = _panels(len(families))
    edges = [10**x for x in row["edges_log10"]]
    for cell, family in zip(axes, families, strict=False):
        for name, colour in (("good", GREEN), (family, RED)):
            counts = row["counts"].get(name, [])
            total = sum(counts) or 1
            cell.stairs([c / total for c in counts], edges, color=colour, fill=True, alpha=0.4, label=name)
        cell.set_xscale("log")
        cell.axvline(1.0, color="black", linewidth=0.6)
        cell.set_title(family)
        cell.set_xlabel("score / limit")
        cell.legend(fontsize=6)
    figure.axes[0].set_ylabel("share of seams")
    return figure


def _corruption(report: Report) -> "Figure | None":
    rows = report.get("corruption") or ()
    kinds = list(dict.fromkeys(row["corruption"] for row in rows))
    if not kinds:
        return None
    figure, axes = _panels(len(kinds))
    for cell, kind in zip(axes, kinds, strict=False):
        mine = [row for row in rows if row["corruption"] == kind]
        for name in _pipelines(mine):
            _band(
                cell,
                sorted((r for r in mine if r["pipeline"] == name), key=lambda r: float(r["level"])),
                "level",
                name,
            )
        cell.set_title(kind)
        cell.set_xlabel("level")
    _legend(figure)
    figure.axes[0].set_ylabel("AUROC, all families")
    return figure


def _forgetting(report: Report) -> "Figure | None":
    rows = [row for row in (report.get("incremental") or {}).get("rows", ()) if row.get("program") is None]
    if not rows:
        return None
    figure, axes = _panels(1, 4.5, 2.6)
    cell = next(axes)
    for name in dict.fromkeys(row["method"] for row in rows):
        _band(cell, sorted((r for r in rows if r["method"] == name), key=lambda r: int(r["step"])), "step", name)
    cell.set_xlabel("increments learnt")
    cell.set_ylabel("mean AUROC, programs seen so far")
    cell.legend(fontsize=6)
    return figure


def _band(cell: "Axes", rows: Sequence[Row], along: str, name: str) -> None:
    """A line with its intervals; rows without a figure are gaps."""
    shown = [row for row in rows if row["auroc"] is not None]
    x = [row[along] for row in shown]
    (line,) = cell.plot(x, [row["auroc"] for row in shown], marker="o", markersize=3, linewidth=1, label=name)
    bounded = [row for row in shown if row.get("ci")]
    if bounded:
        low, high = zip(*(row["ci"] for row in bounded), strict=True)
        cell.fill_between([row[along] for row in bounded], low, high, color=line.get_color(), alpha=0.12)


def _legend(figure: "Figure") -> None:
    """One legend below all panels, each label once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=4, fontsize=6)


FIGURES: dict[str, Callable[[Report], "Figure | None"]] = {
    "roc": _roc,
    "pod": _pod,
    "histograms": _histograms,
    "corruption": _corruption,
    "forgetting": _forgetting,
}
"""Name of a picture → what draws it, or None where the report has nothing for it."""
