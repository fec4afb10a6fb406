"""The two figures that cost an hour: realised false alarms at real time, detection on fresh seams. `make bench-far`.

Part one welds good seams in the virtual cell, at real time, through the real transports and the real daemon. Part two
simulates mixed seams of a seed that no model was trained on and evaluates them. Both go into docs/results.md between
markers, with the commands that made them.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from edged.demo import DemoError, run_plan
from edged.evaluate import evaluate_model
from edged.simulate import session_names_of, simulate_recordings
from edged.types import Label
from pipelines.metrics import false_alarm_rate

__all__ = ["main"]

FAR_SEED = 20_260_301
FAR_SEAMS = 300
FAR_SESSIONS = 30
MIXED_SEED = 20_260_401
MIXED_SEAMS = 200
MIXED_SESSIONS = 20
JOBS = 2


def main(argv: list[str] | None = None) -> int:
    """Run both parts (or one, by `--only`). Returns 0, or 1 when a part could not run."""
    parser = argparse.ArgumentParser(description="False alarms at real time and detection on unseen seams.")
    parser.add_argument("--out", type=Path, required=True, help="folder for recordings and JSON")
    parser.add_argument("--results", type=Path, required=True, help="Markdown file whose marked parts are replaced")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seams", type=int, default=FAR_SEAMS, help="good seams at real time")
    parser.add_argument("--only", choices=("far", "mixed"))
    arguments = parser.parse_args(argv)
    console = Console()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        if arguments.only != "mixed":
            report = real_time_goods(arguments.out / "far", arguments.seams, arguments.model, console)
            _save(arguments.out / "far.json", report)
            _replace(arguments.results, "far", far_markdown(report))
        if arguments.only != "far":
            report = mixed_seams(arguments.out, arguments.model, console)
            _save(arguments.out / "mixed.json", report)
            _replace(arguments.results, "mixed", mixed_markdown(report))
    except DemoError as error:
        console.print(f"[red]bench-far:[/red] {error}")
        return 1
    return 0


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


def mixed_seams(out: Path, model: str, console: Console) -> dict[str, Any]:
    """Fresh mixed seams of a seed never trained on, evaluated with the set-point baseline beside."""
    from drivers.sim.demo_plan import DEMO_PROGRAMS
    from drivers.sim.plan import plan_seams

    sessions = session_names_of(MIXED_SEED, MIXED_SESSIONS)
    plan = plan_seams(MIXED_SEAMS, MIXED_SEED, "mix", DEMO_PROGRAMS, sessions=sessions)
    folder = out / "mixed"
    simulate_recordings(plan, folder, JOBS, lambda it: track(it, "simulating", console=console))
    return evaluate_model(folder, model, out / "cache", JOBS, console)


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
    return _table(("figure", "value"), rows) + _made_by("far", report["model_id"], f"seed {report['seed']}")


def mixed_markdown(report: dict[str, Any]) -> str:
    """The detection part of docs/results.md."""
    knn = report["setpoint_knn"]
    rows = [("all", report["n_bad"], _auroc(report), *_components(report, None), _auroc(knn))]
    for family, row in report["by_family"].items():
        rows.append((family, row["n"], _auroc(row), *_components(report, family), _auroc(knn["by_family"][family])))
    head = ("family", "n", "score", *report["components"], "setpoint_knn")
    types = [(name, row["n"], _auroc(row)) for name, row in report["by_type"].items()]
    far = report["far"]
    return (
        _table(head, rows)
        + "\n"
        + _table(("fault type, severities 1–5 pooled", "n", "score"), types)
        + f"\n{report['n_good']} goods, {report['n_bad']} bads, {report['indeterminate']} without a score; "
        + f"false alarms among the goods {far['value']:.3f} [{far['ci'][0]:.3f}, {far['ci'][1]:.3f}] "
        + f"at a budget of {far['budget']}.\n"
        + _made_by("mixed", report["model"], f"seed {MIXED_SEED}")
    )


def _components(report: dict[str, Any], family: str | None) -> list[str]:
    rows = report["components"].values()
    return [_auroc(row if family is None else row["by_family"][family]) for row in rows]


def _auroc(row: dict[str, Any]) -> str:
    if row["auroc"] is None:
        return "–"
    return f"{row['auroc']:.3f}" + (f" [{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]" if row["ci"] else "")


def _pair(report: dict[str, Any], median: str, worst: str) -> str:
    return "–" if report[median] is None else f"{report[median]:.0f} / {report[worst]:.0f}"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def _made_by(part: str, model: str | None, seed: str) -> str:
    command = f"python -m edged.bench_far --out bench-out --results docs/results.md --only {part}"
    return f"\nMade by `{command}`, {seed}, model {model}, on {platform.machine()} with two cores.\n"


def _save(path: Path, report: dict[str, Any]) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _replace(path: Path, part: str, text: str) -> None:
    """Put `text` between the markers of `part`. Raises DemoError when the file has none."""
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    whole = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin not in whole or end not in whole:
        raise DemoError(f"{path} has no markers {begin} … {end}; the report lies beside as JSON")
    before, _, rest = whole.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
