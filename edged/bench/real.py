"""`edged bench real DIR`: real welds, one session left out at a time, beside rows that hardly look at a weld.

For a folder that `edged import` or `edged record` made. With the tens of welds that people have, an interval is all
that can be had, so it is printed, with a permutation p, and what would make a figure look better than it is:
set-points, arc time, streams that bads lack, sessions of one class only.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from drivers.mcap_codec import RecordingError
from edged.bench.detection.page_marks import number, with_ci
from edged.bench.real_rows import ROWS, Fit, RowError, one_session_out
from edged.bench.real_seams import RealSeam, alignment, completeness, read_real
from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE
from pipelines.metrics import auroc
from pipelines.permutation import permutation_p

__all__ = ["bench_real", "measure_real"]

DECIDABLE_PER_SIDE = 200
"""From this many goods and this many bads the standard error at .8 falls below .025."""

Advance = Callable[[str, int, int], None]


def bench_real(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Recordings, manifest.jsonl and truth.jsonl.")],
    labels: Annotated[
        Path | None, typer.Option(help='CSV seam_id,label instead of truth.jsonl; label "good" or what is wrong.')
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="A row that would take longer is left out.")] = 20.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that extract features.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Leave one session of real welds out at a time, with its interval and what could flatter it."""
    console = Console(stderr=True)
    try:
        with progress_bars(console) as bars:
            tasks: dict[str, Any] = {}

            def advance(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total)
                bars.update(tasks[stage], completed=done)

            report = measure_real(folder, labels, cache_dir.expanduser(), minutes, jobs, advance)
    except (ValueError, OSError, RecordingError) as error:
        console.print(f"[red]edged bench real:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    _print(report, console)
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def measure_real(
    folder: Path,
    labels: Path | None,
    cache_dir: Path,
    minutes: float = 20.0,
    jobs: int = 1,
    advance: Advance = lambda *_: None,
) -> dict[str, Any]:
    """The figures of `edged bench real --json`. Raises ValueError or RecordingError."""
    began = time.monotonic()
    seams = read_real(folder, labels, cache_dir, jobs, lambda done, total: advance("seams", done, total))
    rows = []
    for name, fit in ROWS.items():
        budget_s = minutes * 60 - (time.monotonic() - began)
        rows.append(_row(name, fit, seams, cache_dir, budget_s, advance))
    goods, bads = sum(not seam.bad for seam in seams), sum(seam.bad for seam in seams)
    return {
        "folder": str(folder),
        "n_good": goods,
        "n_bad": bads,
        **_sessions(seams),
        "rows": rows,
        "standard_error_at_0.8": _standard_error(0.8, goods, bads),
        "decidable": min(goods, bads) >= DECIDABLE_PER_SIDE,
        "alignment": alignment(seams),
        "completeness": completeness(seams),
        "import_missing": {seam.seam_id: dict(seam.imported) for seam in seams if seam.imported},
        "without_features": {seam.seam_id: seam.why for seam in seams if seam.features is None},
        "seconds": round(time.monotonic() - began, 1),
    }


def _row(
    name: str, fit: Fit, seams: Sequence[RealSeam], cache_dir: Path, budget_s: float, advance: Advance
) -> dict[str, Any]:
    row: dict[str, Any] = {"pipeline": name, "auroc": None, "ci": None, "p": None, "p_within_sessions": None}
    try:
        scores = one_session_out(seams, fit, cache_dir, budget_s, lambda done, total: advance(name, done, total))
    except RowError as error:
        return row | {"n_good": 0, "n_bad": 0, "why": str(error)}
    known = [(seam, score) for seam, score in zip(seams, scores, strict=True) if score is not None]
    bad, values, sessions = [s.bad for s, _ in known], [x for _, x in known], [s.session for s, _ in known]
    row |= {"n_good": bad.count(False), "n_bad": bad.count(True), "why": ""}
    if not any(bad) or all(bad):
        return row | {"why": "it needs goods and bads with a score"}
    found = auroc(bad, values, sessions)
    return row | {
        "auroc": found.value,
        "ci": None if found.ci is None else list(found.ci),
        "p": permutation_p(bad, values),
        "p_within_sessions": permutation_p(bad, values, sessions),
    }


def _sessions(seams: Sequence[RealSeam]) -> dict[str, int]:
    """How many sessions there are, and how many hold goods and bads: the others compare welds of different days."""
    classes: dict[str, set[bool]] = {}
    for seam in seams:
        classes.setdefault(seam.session, set()).add(seam.bad)
    return {"sessions": len(classes), "sessions_with_both": sum(len(found) == 2 for found in classes.values())}


def _standard_error(area: float, goods: int, bads: int) -> float | None:
    """Of an AUROC of `area`, seams independent (Hanley & McNeil 1982); sessions make it larger."""
    if not goods or not bads:
        return None
    both_bad, both_good = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (bads - 1) * (both_bad - area**2) + (goods - 1) * (both_good - area**2)
    return math.sqrt(spread / (goods * bads))


def _print(report: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"{report['n_good']} good, {report['n_bad']} bad of {report['sessions']} sessions")
    for column in ("row", "good", "bad", "AUROC (95 %)", "p", "p within sessions", "remark"):
        table.add_column(column, no_wrap=column != "remark")
    for row in report["rows"]:
        table.add_row(
            row["pipeline"],
            str(row["n_good"]),
            str(row["n_bad"]),
            with_ci(row["auroc"], row["ci"]),
            number(row["p"], 4),
            number(row["p_within_sessions"], 4),
            row["why"],
        )
    console.print(table)
    for line in _remarks(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _remarks(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know beside the table."""
    out = []
    error = report["standard_error_at_0.8"]
    if error is not None and not report["decidable"]:
        out.append(
            f"{report['n_good']} goods and {report['n_bad']} bads: an AUROC of .8 has standard error {error:.3f} "
            "or more. With this many welds no AUROC bar is decidable: read the interval."
        )
    apart = report["sessions"] - report["sessions_with_both"]
    if apart:
        out.append(f"{apart} of {report['sessions']} sessions hold one class only: session and fault look alike.")
    out += [
        f"{name}: strike seen in {row['strike_seen']} of {row['seams']} seams, residual against the current "
        f"median {number(row['median_ms'], 2)} ms, worst {number(row['worst_ms'], 2)} ms"
        for name, row in report["alignment"].items()
    ]
    for label, counts in report["completeness"].items():
        lacks = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in counts.items() if what != "seams" and n)
        out.append(f"{label}: {counts['seams']} seams, {lacks or 'nothing missing'}")
    out += [f"{seam_id}: no features: {why}" for seam_id, why in list(report["without_features"].items())[:5]]
    return out
