"""`edged bench detect`: every detector and baseline on fresh corpora of the virtual cell, after the protocol.

Renders the corpora that are missing, trains and scores what was not yet, and writes one report; each of the three
goes on where it was interrupted. The page and its pictures come from the report alone.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE

if TYPE_CHECKING:
    from edged.bench.detection.corpus import Size
    from edged.bench.detection.runner import Job
    from pipelines.grids import Tell

__all__ = ["bench_detect"]

WORK = Path("bench-work")
ORACLE = Path("docs/virtual-cell.json")
NOTES = Path("docs/detection-notes.txt")


def bench_detect(
    json_out: Annotated[Path, typer.Option("--json", help="The report.")] = Path("docs/detection.json"),
    work: Annotated[Path, typer.Option(help="Corpora and runs; a next time goes on from them.")] = WORK,
    quick: Annotated[bool, typer.Option(help="One small corpus, one seed: under an hour on two cores.")] = False,
    corpus: Annotated[list[int] | None, typer.Option(help="Which corpora; 1 and 2 unless --quick.")] = None,
    small: Annotated[bool, typer.Option(help="Corpora of the quick protocol's size.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every network of the main pair.")] = 3,
    primary: Annotated[bool, typer.Option(help="Only what the primary contrasts ask for.")] = False,
    report_only: Annotated[bool, typer.Option(help="Only write the report, from the runs that there are.")] = False,
    docs: Annotated[Path | None, typer.Option(help="Write the page and its pictures into this folder.")] = None,
    bank_sizes: Annotated[
        bool, typer.Option("--bank-sizes", help="Also the memory banks' AUROC against their size.")
    ] = False,
    oracle: Annotated[Path, typer.Option(help="Report of `edged bench cell`.")] = ORACLE,
    notes: Annotated[Path, typer.Option(help="What must be known of the figures, a line a sentence.")] = NOTES,
    jobs: Annotated[int, typer.Option(min=1, help="Processes and threads.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
) -> None:
    """Measure detection on the virtual cell."""
    from edged.bench.detection.corpus import FULL, QUICK
    from edged.bench.detection.figures import MissingMatplotlibError
    from edged.bench.detection.page import write_page
    from edged.bench.detection.report import detection_report
    from edged.bench.detection.runner import load_runs

    console = Console(stderr=True)
    size = QUICK if quick or small else FULL
    try:
        if not report_only:
            for number in corpus or ([1] if quick else [1, 2]):
                _measure(number, size, 1 if quick else seeds, primary, work, jobs, cache_dir, console, bank_sizes)
        # Corpora of another size are another measurement, whatever else lies in the folder.
        runs = [run for run in load_runs(work / "runs") if run.row["schedule"] == size.name]
        if not runs:
            raise ValueError(f"{work / 'runs'} holds no finished run of size {size.name}; leave out --report-only")
        known = json.loads(oracle.read_text(encoding="utf-8")) if oracle.exists() else None
        said = {"command": _command(quick, small, seeds, primary, corpus or ()), "quick": size is QUICK}
        report = detection_report(
            runs, known, said | _extras(work, notes), lambda text: console.print(f"[dim]{text}[/dim]")
        )
        json_out.write_text(json.dumps(report, allow_nan=False) + "\n", encoding="utf-8")
        console.print(f"{len(runs)} runs, {len(report['rows'])} rows in {json_out}")
        if docs is not None:
            console.print(f"page: {write_page(json_out, docs)}")
    except (ValueError, OSError, MissingMatplotlibError) as error:
        console.print(f"[red]edged bench detect:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error


def _command(quick: bool, small: bool, seeds: int, primary: bool, corpora: Sequence[int]) -> str:
    flags = ["--quick"] if quick else (["--small"] if small else []) + [f"--seeds {seeds}"]
    flags += [f"--corpus {number}" for number in corpora]
    return " ".join(["edged bench detect --json docs/detection.json", *flags, *(["--primary"] if primary else [])])


def _extras(work: Path, notes: Path) -> dict[str, object]:
    """What must be known of the figures; what `edged bench corruption`, `incremental` and `--bank-sizes` gave."""
    found: dict[str, object] = {}
    if notes.exists():
        found["notes"] = notes.read_text(encoding="utf-8").splitlines()
    for name in ("corruption", "incremental", "bank"):
        path = work / f"{name}.json"
        if path.exists():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _measure(
    number: int,
    size: "Size",
    seeds: int,
    primary: bool,
    work: Path,
    jobs: int,
    cache_dir: Path,
    console: Console,
    bank_sizes: bool,
) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is first imported, by what runs below
    from edged.bench.detection.ask_oracle import oracle_is_fed
    from edged.bench.detection.corpus import corpus_in, plan_corpus
    from edged.bench.detection.data import load_corpus
    from edged.bench.detection.extraction import extraction_of
    from edged.bench.detection.runner import jobs_of, run_jobs

    planned = plan_corpus(number, size)
    folder = corpus_in(work, planned, jobs, cache_dir, console)
    data = dataclasses.replace(load_corpus(planned, folder), extract_ms=extraction_of(planned, folder, cache_dir))
    wanted = jobs_of(seeds, primary, oracle_is_fed(planned.size))
    with progress_bars(console) as bars:
        whole = bars.add_task(f"runs on corpus {number}", total=len(wanted))
        within = bars.add_task("", total=1)

        def begin(job: "Job", at: int, total: int) -> "Tell":
            bars.update(whole, completed=at)

            def tell(stage: str, done: int, total: int, loss: float) -> None:
                bars.update(within, description=f"{job.name}: {stage}", completed=done, total=total)

            return tell

        for _ in run_jobs(wanted, data, work / "runs", jobs, begin):
            pass
        bars.update(whole, completed=len(wanted))
        if bank_sizes:
            from edged.bench.detection.bank_size import add_bank_sizes

            def banks(stage: str, done: int, total: int, loss: float) -> None:
                bars.update(within, description=stage, completed=done, total=total)

            add_bank_sizes(work / "bank.json", data, banks)
