"""The tables of the detection page, each from a part of the report."""

import statistics
from collections.abc import Sequence

from edged.bench.detection.arms import PRODUCT, title
from edged.bench.detection.bars import oracle_by_type
from edged.bench.detection.page_marks import (
    Report,
    Row,
    difference,
    grouped,
    holds,
    mean,
    mean_ci,
    number,
    plain,
    table,
    with_ci,
)

__all__ = [
    "bank_table", "bars_table", "contrasts_table", "costs_table", "families_table", "forgetting_table",
    "points_table", "types_table",
]  # fmt: skip


def contrasts_table(rows: Sequence[Row]) -> str:
    def line(row: Row) -> Sequence[str]:
        remark = row["reason"] or (f"picked on {row['selected_on']}" if row.get("selected_on") else "")
        arms = " ; ".join(row.get("arms") or ())
        return (
            row["name"] + ("" if row.get("primary", True) else " (exploratory)"),
            difference(row["difference"], row["ci"]), plain(row["p"]), plain(row["p_holm"]),
            f"{row['n_good']} / {row['n_bad']}", arms, remark,
        )  # fmt: skip

    head = ("contrast", "difference of AUROC", "p", "p, Holm", "goods / bads", "runs", "remark")
    return table(head, map(line, rows))


def points_table(rows: Sequence[Row]) -> str:
    lines = [
        (row["name"], str(point["corpus"]), str(point["seed"]), difference(point["difference"], point["ci"]))
        for row in rows
        for point in row.get("points") or ()
    ]
    return table(("contrast", "corpus", "seed", "difference"), lines, "no contrast had its runs")


def bars_table(rows: Sequence[Row]) -> str:
    lines = (
        (
            r["name"],
            r["asked"] or "no bar",
            _bar_figure(r),
            holds(r["holds"]) if r["asked"] else "–",
            str(r["why"] or ""),
        )
        for r in rows
    )
    return table(("bar", "asked", "measured", "holds", "why"), lines)


def _bar_figure(row: Row) -> str:
    if row.get("unit"):
        return "–" if row["measured"] is None else f"{plain(row['measured'])} {row['unit']}"
    if row["measured"] is None or row["ci"] is None:
        return plain(row["measured"])
    return with_ci(row["measured"], row["ci"])


def families_table(rows: Sequence[Row], costs: bool = True) -> str:
    top = [row for row in rows if row["type"] is None]
    families = sorted({row["family"] for row in top if row["family"]})
    more = ("to 10 %", "F1", "false alarms") if costs else ("to 10 %",)

    def line(name: str, mine: Sequence[Row]) -> Sequence[str]:
        def cell(family: str | None) -> str:
            own = [row for row in mine if row["family"] == family]
            return with_ci(mean(own, "auroc"), mean_ci(own))

        whole = [row for row in mine if row["family"] is None]
        figures = [number(mean(whole, key)) for key in ("auroc_fpr10", "f1", "far")][: len(more)]
        runs = f"{len({str(row['corpus']) for row in whole})} / {len({str(row['seed']) for row in whole})}"
        return name, cell(None), *(cell(family) for family in families), *figures, runs

    head = ("pipeline", "all", *families, *more, "corpora / seeds")
    return table(head, (line(name, mine) for name, mine in grouped(top).items()))


def types_table(rows: Sequence[Row], report: Report) -> str:
    counts: dict[tuple[str, int], int] = {}
    for row in rows:
        if row["severity"] is not None:
            key = (row["type"], int(row["severity"]))
            counts[key] = counts.get(key, 0) + int(row["n_bad"])
    oracle = oracle_by_type({"oracle": report.get("oracle") or ()}, counts)
    lines = []
    for name, mine in grouped(rows).items():
        for kind in dict.fromkeys(row["type"] for row in mine if row["type"]):
            own = [row for row in mine if row["type"] == kind and row["severity"] is None]
            pods = [p for p in report.get("pod") or () if p["type"] == kind and title(p) == name]
            known = oracle.get(kind)
            lines.append((
                name, kind, own[0]["family"], with_ci(mean(own, "auroc"), mean_ci(own)),
                number(None if known is None else known.auroc), number(mean(own, "severity_tau"), 2),
                *(_sizes(pods, key) for key in ("a50", "a90", "a90_95")), pods[0]["unit"] if pods else "",
                number(mean(own, "pixel_auroc")), number(mean(own, "aupro")), str(own[0]["n_bad"]),
            ))  # fmt: skip
    head = ("pipeline", "type", "family", "AUROC", "oracle", "τ", "a50", "a90", "a90/95", "unit", "place AUROC",
            "place AUPRO", "n a run")  # fmt: skip
    return table(head, lines, f"no run of {PRODUCT}")


def _sizes(pods: Sequence[Row], key: str) -> str:
    """The median over corpora and seeds, "–" counting as beyond all."""
    found = sorted(float("inf") if pod[key] is None else float(pod[key]) for pod in pods)
    if not found:
        return "–"
    middle = statistics.median_high(found)
    if middle == float("inf"):
        return "–"
    return ("≤ " if middle <= min(pod["low"] for pod in pods) else "") + plain(middle)


def costs_table(rows: Sequence[Row]) -> str:
    top = [row for row in rows if row["family"] is None]
    keys = ("latency_ms_p50", "head_ms_p50", "peak_mb", "state_mb")
    lines = []
    for name, mine in grouped(top).items():
        values = [[row[key] for row in mine if row.get(key) is not None] for key in keys]
        if any(values):
            lines.append((name, *(plain(statistics.median(v) if v else None) for v in values)))
    head = ("pipeline", "end to end ms, median", "head alone ms, median", "peak MB", "state MB")
    return table(head, lines, "no run has its costs")


def bank_table(rows: Sequence[Row]) -> str:
    """A row a size; the smallest that is as good as any is marked."""
    lines = (
        (
            str(r["pipeline"]), str(r.get("corpus", "–")), f"{r['size']}{' (plateau)' if r.get('plateau') else ''}",
            with_ci(r["auroc"], r.get("ci")), plain(r.get("state_mb")), plain(r.get("head_ms_p50")),
        )
        for r in rows
    )  # fmt: skip
    head = ("memory bank", "corpus", "cells kept", "AUROC", "MB", "ms a seam")
    return table(head, lines, "AUROC of the memory bank against its size")


def forgetting_table(report: Report) -> str:
    """How much of a program's AUROC later increments cost, by method."""
    rows = (report.get("incremental") or {}).get("forgetting") or ()
    lines = ((str(row["method"]), with_ci(row["value"], row.get("ci"))) for row in rows)
    return table(("method", "forgetting measure"), lines, "forgetting of models that learn program by program")
