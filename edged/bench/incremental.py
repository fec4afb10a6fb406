"""`edged bench incremental`: one model that learns the cell's programs one after another, and what it forgets.

Six programs first, then one at a time (6-1 × 4), IB-IUMAD beside naive fine-tunes, an IUF-like guard, replay and a
model per program. Each method is kept when it is done; a next time goes on from there. `WORK/incremental.json` is
what `edged bench detect` takes into its report.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE

if TYPE_CHECKING:
    from edged.bench.detection.corpus import Corpus
    from pipelines.forgetting import Interval
    from pipelines.grids import Modality, Tell
    from pipelines.incremental import IncrementalResult, Learner, Schedule

__all__ = ["bench_incremental", "incremental_report", "measure_incremental"]

WORK = Path("bench-work")


def bench_incremental(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    work: Annotated[Path, typer.Option(help="Corpora and scores; a next time goes on from them.")] = WORK,
    quick: Annotated[bool, typer.Option(help="The small corpus; half of its four programs first.")] = False,
    corpus: Annotated[int, typer.Option(help="Which corpus.")] = 1,
    pair: Annotated[str, typer.Option(help="Two of rgb, geo, proc.")] = "geo,proc",
    epochs: Annotated[int | None, typer.Option(min=1, help="At most, in every stage; 40 unless given.")] = None,
    seed: Annotated[int, typer.Option(help="Of every training.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes and threads.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
) -> None:
    """Measure what a detector forgets when it learns one program after another."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported, by what runs below
    from edged.bench.detection.ask_incremental import missing_seams
    from edged.bench.detection.corpus import FULL, QUICK, corpus_in, plan_corpus

    console = Console(stderr=True)
    try:
        modalities = _pair_of(pair)
        planned = plan_corpus(corpus, QUICK if quick else FULL)
    except ValueError as error:
        console.print(f"[red]edged bench incremental:[/red] {error}")
        raise typer.Exit(2) from None
    folder = work / planned.name
    if missing_seams(planned, folder):
        corpus_in(work, planned, jobs, cache_dir, console)
    report = measure_incremental(planned, folder, work, modalities, epochs, seed, jobs, console)
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    for path in (work / "incremental.json", json_out):
        if path is not None:
            path.write_text(text, encoding="utf-8")
    Console().print(_table(report))


def _pair_of(text: str) -> "tuple[Modality, Modality]":
    from pipelines.grids import PAIRS

    names = tuple(text.replace(" ", "").split(","))
    for known in PAIRS:
        if set(known) == set(names) and len(names) == len(known):
            return known
    raise ValueError(f"--pair {text!r} is not known; known: {'; '.join(','.join(p) for p in PAIRS)}")


def measure_incremental(
    planned: "Corpus",
    folder: Path,
    work: Path,
    pair: "tuple[Modality, Modality]",
    epochs: int | None,
    seed: int,
    threads: int,
    console: Console,
) -> dict[str, Any]:
    """The report on a rendered corpus. Scores are kept in `work`/incremental."""
    import torch

    from edged.bench.detection.ask_incremental import ask_incremental, grids_of_corpus, schedule_of
    from pipelines.ib_iumad import IbIumadConfig
    from pipelines.incremental import learners, summarise

    torch.set_num_threads(threads)
    schedule = schedule_of(planned.size.programs, epochs, seed)
    about = {"corpus": planned.number, "schedule": planned.size.name, "pair": ",".join(pair), "seed": seed}
    ways = learners(IbIumadConfig.preset("cell", "cpu"))
    with progress_bars(console) as bars:
        grids = grids_of_corpus(
            planned, folder, pair, schedule.base, lambda it: bars.track(it, description="reading seams")
        )
        whole = bars.add_task("methods", total=len(ways))
        within = bars.add_task("", total=1)

        def begin(way: "Learner", number: int) -> "Tell":
            bars.update(whole, completed=number)

            def tell(stage: str, done: int, total: int, loss: float) -> None:
                bars.update(within, description=f"{way.name}: {stage}", completed=done, total=total)

            return tell

        place = work / "incremental" / f"corpus-{planned.number}-{planned.size.name}_{'+'.join(pair)}_{seed}"
        runs = list(ask_incremental(grids.data, ways, schedule, place, about, begin))
        bars.update(whole, completed=len(ways))
    bad = int(grids.data.bad.sum())
    about |= {
        "n_good": len(grids.data.bad) - bad,
        "n_bad": bad,
        "left_out": {part: list(ids) for part, ids in grids.left_out.items()},
    }
    return incremental_report(summarise(grids.data, runs, schedule), schedule, about)


def incremental_report(result: "IncrementalResult", schedule: "Schedule", about: dict[str, Any]) -> dict[str, Any]:
    """`{…about, schedule, rows, forgetting, forgetting_by_step, contrasts, seconds}`, plain values only.

    `rows`: {method, step, program, auroc, ci}, step from 0, program null for the mean over those learnt so far.
    `forgetting`: {method, value, ci} after the last step, positive is forgotten. `contrasts`: a method − naive after
    the last step, paired by session; more is better for mean_auroc, less for forgetting.
    """
    from drivers.sim import SIM_VERSION

    order = [name for names in result.stages for name in names]
    rows: list[dict[str, Any]] = []
    by_step: list[dict[str, Any]] = []
    for method in result.methods:
        for step, mean in enumerate(method.mean_auroc):
            own = {"method": method.name, "step": step}
            for j, name in enumerate(order):
                if (cell := method.cells[step][j]) is not None:
                    rows.append(own | {"program": name} | _figure("auroc", cell))
            rows.append(own | {"program": None} | _figure("auroc", mean))
        for step, lost in enumerate(method.forgetting, 1):
            by_step.append({"method": method.name, "step": step} | _figure("value", lost))
    last = len(result.stages) - 1
    contrasts = [
        {"name": f"{c.method} − {c.reference}", "figure": figure} | _figure("difference", getattr(c, figure))
        for c in result.contrasts
        for figure in ("mean_auroc", "forgetting")
    ]
    return {
        "sim_version": SIM_VERSION,
        **about,
        "schedule": _schedule(result.stages, schedule, str(about["schedule"])),
        "rows": rows,
        "forgetting": [{k: v for k, v in row.items() if k != "step"} for row in by_step if row["step"] == last],
        "forgetting_by_step": by_step,
        "contrasts": contrasts,
        "seconds": {method.name: round(method.seconds, 1) for method in result.methods},
    }


def _schedule(stages: tuple[tuple[str, ...], ...], schedule: "Schedule", corpus_size: str) -> dict[str, Any]:
    from edged.bench.detection.ask_incremental import BASE

    first, steps = len(stages[0]), len(stages) - 1
    name = f"{first}-{schedule.step}×{steps}"
    if first != BASE:
        name += f": half of the {sum(map(len, stages))} programs of the {corpus_size} corpus first"
    loops = {
        f"{part}_loop": {key: value for key, value in dataclasses.asdict(loop).items() if key in LOOP_FIELDS}
        for part, loop in (("base", schedule.base_loop), ("step", schedule.step_loop))
    }
    return {"name": name, "corpus_size": corpus_size, "stages": [list(names) for names in stages], **loops}


LOOP_FIELDS = ("epochs", "batch", "lr", "weight_decay", "optimiser", "patience", "seed")


def _figure(name: str, found: "Interval") -> dict[str, Any]:
    return {name: found.value, "ci": None if found.ci is None else list(found.ci)}


def _table(report: dict[str, Any]) -> Table:
    table = Table(title=f"{report['schedule']['name']}, corpus {report['corpus']}, {report['pair']}")
    for heading in ("method", "mean AUROC", "95 %", "− naive", "forgetting", "95 %", "− naive", "s"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    last = len(report["schedule"]["stages"]) - 1
    for row in report["forgetting"]:
        name = row["method"]
        mean = next(r for r in report["rows"] if (r["method"], r["step"], r["program"]) == (name, last, None))
        less = {c["figure"]: c for c in report["contrasts"] if c["name"].startswith(f"{name} − ")}
        table.add_row(
            name,
            _number(mean["auroc"]),
            _ends(mean["ci"]),
            _difference(less.get("mean_auroc")),
            _number(row["value"]),
            _ends(row["ci"]),
            _difference(less.get("forgetting")),
            f"{report['seconds'][name]:.0f}",
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _ends(ci: Sequence[float] | None) -> str:
    return "–" if ci is None else f"{ci[0]:.3f} … {ci[1]:.3f}"


def _difference(row: dict[str, Any] | None) -> str:
    return "–" if row is None or row["difference"] is None else f"{row['difference']:+.3f} ({_ends(row['ci'])})"
