"""`edged bench far`: realised false alarms at real time, good seams through the real transports and the real daemon.

About an hour for 300 seams. What it finds goes into a JSON file and into docs/results.md between markers.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edged.bench.results_part import write_part
from edged.demo import DemoError, run_plan
from edged.simulate import session_names_of
from edged.types import Label
from pipelines.metrics import false_alarm_rate

__all__ = ["bench_far"]

FAR_SEED = 20_260_301
FAR_SEAMS = 300
FAR_SESSIONS = 30


def bench_far(
    out: Annotated[Path, typer.Option(help="Folder for recordings.")] = Path("bench-out"),
    results: Annotated[Path | None, typer.Option(help="Markdown file whose marked part is replaced.")] = None,
    seams: Annotated[int, typer.Option(min=1, help="Good seams, at real time.")] = FAR_SEAMS,
    model: Annotated[str, typer.Option(help='Model directory, or "demo".')] = "demo",
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Weld good seams of sessions that no model knows, and count false alarms."""
    console = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    try:
        report = real_time_goods(out / "far", seams, model, console)
        if results is not None:
            write_part(results, "far", far_markdown(report))
    except (DemoError, ValueError) as error:
        console.print(f"[red]edged bench far:[/red] {error}")
        raise typer.Exit(1) from error
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")


def real_time_goods(out: Path, seams: int, model: str, console: Console) -> dict[str, Any]:
    """Good seams at real time; the demo's report with the false-alarm rate and its interval."""
    from drivers.sim.demo_plan import DEMO_PROGRAMS
    from drivers.sim.plan import plan_seams

    plan = plan_seams(seams, FAR_SEED, "good", DEMO_PROGRAMS, sessions=session_names_of(FAR_SEED, FAR_SESSIONS))
    report = run_plan(plan, FAR_SEED, out, model, console)
    # Truth lines and verdicts are both in the order of welding; a seam's session is its plan's.
    sessions = [seam.session for seam in plan]
    judged = [
        (row["label"] == Label.NOK.name, session)
        for row, session in zip(report["seams"], sessions, strict=True)
        if row["label"] != Label.INDETERMINATE.name
    ]
    rate = false_alarm_rate([flagged for flagged, _ in judged], [session for _, session in judged])
    report["far"] = {"value": rate.value, "ci": rate.ci, "n": rate.n}
    report["indeterminate"] = len(report["seams"]) - len(judged)
    return report


def far_markdown(report: dict[str, Any]) -> str:
    """The false-alarm part of docs/results.md."""
    low, high = report["far"]["ci"]
    lost = sum(stream["lost"] for stream in report["streams"].values())
    residuals = "; ".join(
        f"{name} {stream['sync_residual_median_ms']:.2f} / {stream['sync_residual_ms']:.2f}"
        for name, stream in report["streams"].items()
        if stream["sync_residual_ms"] is not None
    )
    rows = [
        ("good seams", len(report["seams"])),
        ("false alarms (NOK)", report["false_alarms"]),
        ("INDETERMINATE", report["indeterminate"]),
        ("false-alarm rate, 95 % beta-binomial interval", f"{report['far']['value']:.4f} [{low:.4f}, {high:.4f}]"),
        ("published / received", f"{report['published']} / {report['received']}"),
        ("items lost, all streams", lost),
        ("verdict after the last view, ms, median / worst", _pair(report, "latency_median_ms", "latency_worst_ms")),
        ("strike residual against the current, ms, median / worst", residuals),
        ("edged's CPU, % of one core", f"{report['cpu_percent']:.0f}"),
        ("edged's peak memory, MB (PSS)", f"{report['peak_mb']:.0f}"),
    ]
    return _table(("figure", "value"), rows) + (
        f"\nMade by `edged bench far --out bench-out --results docs/results.md`, seed {report['seed']}, "
        f"model {report['model_id']}.\n"
    )


def _pair(report: dict[str, Any], median: str, worst: str) -> str:
    return "–" if report[median] is None else f"{report[median]:.0f} / {report[worst]:.0f}"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _save(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
