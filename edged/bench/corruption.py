"""`edged bench corruption`: how much detection loses when test data are spoilt and training was not.

Renders corrupted twins of test seams of the corpora of `edged bench detect`, fits each pipeline once and scores clean
seams and twins; goes on where it was interrupted. `edged bench detect` puts what it finds into its report.
"""

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edged.bench.detect import WORK
from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE

if TYPE_CHECKING:
    from edged.bench.detection.corrupted import Level
    from edged.bench.detection.runner import Job
    from edged.bench.detection.scored import Run
    from pipelines.grids import Tell

__all__ = ["bench_corruption"]

PIPELINES = ("causal_hm_full", "memory_bank", "cfm")
SAME = 1e-3
"""Scores of one seam, alone or among many, differ by rounding alone."""


def bench_corruption(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the rows here too.")] = None,
    work: Annotated[Path, typer.Option(help="Corpora and runs; a next time goes on from them.")] = WORK,
    quick: Annotated[bool, typer.Option(help="Corpora of the quick protocol's size.")] = False,
    corpus: Annotated[list[int] | None, typer.Option(help="Which corpora; 1 alone unless given.")] = None,
    seams: Annotated[int, typer.Option(min=2, help="So many test goods, and as many defects, of each corpus.")] = 100,
    corruption: Annotated[list[str] | None, typer.Option(help="Only these; all unless given.")] = None,
    level: Annotated[list[float] | None, typer.Option(help="Only these levels of every corruption.")] = None,
    pipeline: Annotated[list[str] | None, typer.Option(help=f"Which; {', '.join(PIPELINES)} unless given.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes and threads.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
) -> None:
    """Measure what corrupted test data cost."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported, by what runs below
    from edged.bench.detection.corpus import FULL, QUICK, plan_corpus
    from edged.bench.detection.corrupted import asked_levels, chosen_seams, corruption_jobs, corruption_rows
    from edged.bench.detection.corruptions import CORRUPTIONS, check_corruption

    console = Console(stderr=True)
    size = QUICK if quick else FULL
    found: list[tuple[Job, Level, Run]] = []
    asked: dict[int, int] = {}
    try:
        for name in corruption or ():
            check_corruption(name, 0.0)
        levels = asked_levels(corruption or list(CORRUPTIONS), level)
        for one in levels:
            check_corruption(*one)
        wanted = corruption_jobs(pipeline or PIPELINES)
        for number in corpus or [1]:
            found += _measure(number, quick, seams, levels, wanted, work, jobs, cache_dir.expanduser(), console)
            asked[number] = len(chosen_seams(plan_corpus(number, size), seams))
    except ValueError as error:
        console.print(f"[red]edged bench corruption:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    rows = corruption_rows(found, asked)
    for said in _publish(found, work):
        console.print(f"[yellow]edged bench corruption:[/yellow] {said}", soft_wrap=True)
    _write(rows, work / "corruption.json", json_out)
    console.print(_table(rows))


def _measure(
    number: int,
    quick: bool,
    seams: int,
    levels: "Sequence[Level]",
    wanted: "Sequence[Job]",
    work: Path,
    jobs: int,
    cache_dir: Path,
    console: Console,
) -> "list[tuple[Job, Level, Run]]":
    from edged.bench.detection.corpus import FULL, QUICK, corpus_in, plan_corpus
    from edged.bench.detection.corrupted import chosen_seams, corruption_runs, only_seams, render_twins
    from edged.bench.detection.data import load_corpus

    planned = plan_corpus(number, QUICK if quick else FULL)
    name = planned.name
    rows = chosen_seams(planned, seams)

    def twins(level: "Level") -> Path:
        return work / "corruption" / name / f"{level[0]}-{level[1]:g}"

    corpus_in(work, planned, jobs, cache_dir, console)
    with progress_bars(console) as bars:
        for level in levels:
            shown = functools.partial(bars.track, description=f"{level[0]} {level[1]:g}")
            render_twins(planned, rows, level, twins(level), jobs, cache_dir, shown)
    data = only_seams(load_corpus(planned, work / name), rows)
    with progress_bars(console) as bars:
        within = bars.add_task("", total=1)

        def begin(job: "Job", at: int, total: int) -> "Tell":
            def tell(stage: str, done: int, total: int, loss: float) -> None:
                bars.update(within, description=f"{job.name}: {stage}", completed=done, total=total)

            return tell

        # What was scored belongs to this choice of seams; the twins serve any.
        kept = work / "corruption" / name / f"runs-{seams}"
        return list(corruption_runs(wanted, levels, data, twins, kept, jobs, begin))


def _publish(found: "Sequence[tuple[Job, Level, Run]]", work: Path) -> list[str]:
    """Lay what the sixth contrast asks for beside the runs of `edged bench detect`; its seams are paired by name.

    Returns what is wrong with comparing the two: clean scores of this training that are not those of that one.
    """
    from edged.bench.detection.corrupted import CLEAN, NOISE, PUBLISHED, apart
    from edged.bench.detection.runner import DONE
    from edged.bench.detection.scored import load_run, save_run

    said = []
    for job, level, run in found:
        runs = work / "runs" / f"corpus-{run.row['corpus']}-{run.row['schedule']}"
        if level == CLEAN:
            off = max((apart(run, load_run(path)) for path in (runs / job.name).glob("*.npz")), default=0.0)
            if off > SAME:
                said.append(
                    f"clean scores of {job.name} differ by up to {off:.1%} from {runs / job.name}; make it anew"
                )
        if level == NOISE and job.pipeline in PUBLISHED:
            place = runs / f"{job.name}_{level[0]}-{level[1]:g}"
            save_run(run, place / f"{job.pipeline}.npz")
            about = {"job": job.name, "seams": len(run.seams)}
            (place / DONE).write_text(json.dumps(about) + "\n", encoding="utf-8")
    return said


def _write(rows: list[dict[str, Any]], path: Path, json_out: Path | None) -> None:
    """Rows of corruptions that were not asked about this time stay, as far as they are of the same schedule."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    mine, schedules = {row["corruption"] for row in rows}, {row["schedule"] for row in rows}
    kept = [row for row in old if row["corruption"] not in mine and row["schedule"] in schedules]
    text = json.dumps([*kept, *rows], indent=1, allow_nan=False) + "\n"
    for target in filter(None, (path, json_out)):
        target.write_text(text, encoding="utf-8")


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("corruption", "pipeline", "pair", "level", "AUROC", "95 %", "goods", "bads", "refused")

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    for row in rows:
        interval = "–" if row["ci"] is None else " … ".join(map(shown, row["ci"]))
        table.add_row(
            row["corruption"], row["pipeline"], row["pair"] or "", f"{row['level']:g}", shown(row["auroc"]), interval,
            str(row["n_good"]), str(row["n_bad"]), str(row["refused"]),
        )  # fmt: skip
    return table
