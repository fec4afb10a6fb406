"""`edged bench cell`: the virtual cell's validity report, with difficulty measured by no detector of edged's.

Plans a study, renders and measures it, then asks: do probes find what must be hidden, how well does an oracle do,
what bounds *pair*, do physical figures lie in their ranges? Exit code 1 when one of the validity rows does not hold.
"""

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from edged.bulk_pool import bulk_pool
from edged.progress import progress_bars

__all__ = ["DEFAULT_WORK", "cell", "report_of"]

DEFAULT_WORK = Path("bench-work")
BAYES_SEED = 20_270_102
BAYES_DRAWS = 400
BAYES_DRAWS_QUICK = 150


def cell(
    json_out: Annotated[Path, typer.Option("--json", help="Write the report here.")],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seams; at most half an hour on two cores.")] = False,
    work: Annotated[
        Path, typer.Option(help="Where measured seams are kept; a second run goes on there.")
    ] = DEFAULT_WORK,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    docs: Annotated[Path | None, typer.Option(help="Write virtual-cell.md and its figures into this folder.")] = None,
    seams: Annotated[
        int | None, typer.Option(min=4, help="Base seams, instead of 1,050 or the quick number.")
    ] = None,
) -> None:
    """Validity report of the virtual cell: probes, oracle, pairs, physical ranges."""
    from edged.bench.page import write_page

    console = Console(stderr=True)
    began = time.monotonic()
    try:
        report = report_of(quick, work, jobs, seams, console)
    except ValueError as error:
        console.print(f"[red]edged bench cell:[/red] {error}")
        raise typer.Exit(2) from error
    report["minutes"] = round((time.monotonic() - began) / 60, 1)
    report["command"] = _command(quick, seams)
    json_out.parent.mkdir(parents=True, exist_ok=True)
    json_out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if docs is not None:
        write_page(report, docs)
    for table in tables_of(report):
        console.print(table)
    broken = failures(report)
    if broken:
        console.print(f"[red]edged bench cell:[/red] {len(broken)} rows do not hold: {'; '.join(broken)}")
        raise typer.Exit(1)


def report_of(quick: bool, work: Path, jobs: int, seams: int | None, console: Console) -> dict[str, Any]:
    """The report without its command and minutes. Raises ValueError when the study cannot be planned or judged."""
    from drivers.sim import SIM_VERSION
    from drivers.sim.digest import physics_digest
    from edged.bench import study as of
    from edged.bench.pairs import pair_bayes, r2_rows
    from edged.bench.physics import physics_rows
    from edged.bench.study import STUDY_SEED, fingerprint, measure, plan_study
    from edged.bench.tables import load_tables

    count = seams or (of.QUICK_SEAMS if quick else of.FULL_SEAMS)
    study = plan_study(count)
    # A share of bead variance needs more good seams a program than the probes do.
    goods = of.plan_goods(seams or (of.QUICK_GOODS if quick else of.FULL_GOODS))
    console.print(f"{count} base seams, seed {STUDY_SEED}, {jobs} processes")
    with progress_bars(console) as bar:
        paths = measure(study, work / fingerprint(study), jobs, lambda it, n: _shown(bar, it, "welding", n))
        welded = measure(goods, work / fingerprint(goods), jobs, lambda it, n: _shown(bar, it, "goods", n))
        tables = load_tables(study, paths)
        draws = BAYES_DRAWS_QUICK if quick else BAYES_DRAWS
        bayes = pair_bayes(study, BAYES_SEED, draws, lambda it: _shown(bar, it, "pairs", len(it)))
        probes, oracle = _judge(paths, study, tables, jobs, bar)
    return {
        "probes": probes,
        "oracle": oracle,
        "pair_bayes_auroc": bayes.value,
        "pair_bayes_ci": bayes.ci,
        "r2": [dataclasses.asdict(row) for row in r2_rows(load_tables(goods, welded))],
        "physics": physics_rows(quick),
        "sim_version": SIM_VERSION,
        "digest": physics_digest(),
        "seeds": {"study": STUDY_SEED, "pair_bayes": BAYES_SEED, "r2": goods.seed},
        "n": {"base": count, "seams": count * len(tables.sides), "sessions": len(set(tables.session.tolist()))},
        "quick": quick,
    }


def _judge(
    paths: Sequence[Path], study: Any, tables: Any, jobs: int, bar: Progress
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Probe and oracle rows; each family × part and each type is a task of its own for `jobs` processes."""
    from edged.bench.oracle import types_of
    from edged.bench.probes import PARTS

    asked = [("probe", f, part) for f in tables.sides if f != "good" for part in PARTS]
    asked += [("oracle", f, name) for f, name in types_of(tables)]
    with bulk_pool(jobs, _load, study, paths) as pool:
        answers = list(_shown(bar, pool.map(_answer, asked), "judging", len(asked)))
    rows = {kind: [r for (k, _, _), rows in zip(asked, answers, strict=True) if k == kind for r in rows]
            for kind in ("probe", "oracle")}  # fmt: skip
    return rows["probe"], rows["oracle"]


_LOADED: dict[str, Any] = {}
"""A worker's tables, read once."""


def _load(study: Any, paths: Sequence[Path]) -> None:
    from threadpoolctl import threadpool_limits

    from edged.bench.tables import load_tables

    threadpool_limits(1)
    # scikit-learn's trees ask OpenMP, whose number of threads is only bounded from outside or before its first use.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _LOADED["tables"] = load_tables(study, paths)


def _answer(asked: tuple[str, str, str]) -> list[dict[str, Any]]:
    from edged.bench.delay import delays_of
    from edged.bench.oracle import oracle_rows
    from edged.bench.probes import probe_rows

    kind, family, name = asked
    tables = _LOADED["tables"]
    if kind == "probe":
        return [dataclasses.asdict(row) for row in probe_rows(tables, [(family, name)])]
    rows = oracle_rows(tables, lambda t: delays_of(tables, t), [(family, name)])
    return [dataclasses.asdict(row) for row in rows]


def _shown(bars: Progress, items: Iterable[Any], name: str, total: int) -> Iterable[Any]:
    return bars.track(items, total=total, description=name)


def _command(quick: bool, seams: int | None) -> str:
    parts = ["edged bench cell --json F", "--quick" if quick else "", f"--seams {seams}" if seams else ""]
    return " ".join(part for part in parts if part)


def failures(report: dict[str, Any]) -> list[str]:
    """The rows that do not hold, in words."""
    from edged.bench.oracle import ORACLE_SPAN, span, spans

    out = [
        f"{row['probe']} probe on {row['family']} {row['auroc']:.3f} [{row['ci'][0]:.3f}, {row['ci'][1]:.3f}]"
        for row in report["probes"]
        if row["ok"] is False
    ]
    out += [f"R² of {row['quantity']} in {row['program']} {row['r2']:.2f}" for row in report["r2"] if not row["ok"]]
    out += [f"{row['name']} {row['value']} {row['unit']}" for row in report["physics"] if row["ok"] is False]
    low, high = span(report["oracle"])
    if not spans(low, high):
        out.append(f"the oracle's AUROC spans {low:.2f} to {high:.2f}, not {ORACLE_SPAN[0]} to {ORACLE_SPAN[1]}")
    return out


def tables_of(report: dict[str, Any]) -> Iterator[Table]:
    """What the console shows."""
    mark = {True: "[green]holds[/green]", False: "[red]fails[/red]", None: "–"}
    probes = Table("family", "probe", "AUROC", "95 %", "n a side", "rule", title="Probes")
    for row in report["probes"]:
        probes.add_row(
            row["family"],
            row["probe"],
            f"{row['auroc']:.3f}",
            _interval(row["ci"]),
            str(row["n_per_side"]),
            mark[row["ok"]],
        )
    yield probes
    oracle = Table("type", "family", "severity", "AUROC", "95 %", "n", "delay s", title="Oracle")
    for row in report["oracle"]:
        value, late = row["auroc"], row["delay_s_p50"]
        colour = "white" if value is None else "red" if value < 0.6 else "yellow" if value < 0.9 else "green"
        shown = "–" if value is None else f"[{colour}]{value:.3f}[/{colour}]"
        oracle.add_row(
            row["type"], row["family"], str(row["severity"]), shown, _interval(row["ci"]), str(row["n"]),
            "–" if late is None else f"{late:.2f}",
        )  # fmt: skip
    yield oracle
    r2 = Table(
        "program", "quantity", "R²", "95 %", "n", "0.4–0.8", title="Bead from observed process, within program"
    )
    for row in report["r2"]:
        r2.add_row(
            row["program"], row["quantity"], f"{row['r2']:.2f}", _interval(row["ci"]), str(row["n"]), mark[row["ok"]]
        )
    yield r2
    pair = Table("figure", "value", "95 %", title="Pairs")
    pair.add_row("Bayes AUROC on latents", f"{report['pair_bayes_auroc']:.3f}", _interval(report["pair_bayes_ci"]))
    yield pair


def _interval(ci: Sequence[float] | None) -> str:
    return "–" if ci is None else f"{ci[0]:.3f}–{ci[1]:.3f}"
