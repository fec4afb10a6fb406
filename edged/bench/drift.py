"""`edged bench drift`: the drift alarm on simulated good seams: what it sees of a shift, and how often it cries wolf.

Scores are normal; a cell's limit is the conformal one of its own calibration goods at 1 %. The shift moves the mean
so that 3 % would be flagged. Beside the alarm stands one that counts flags (the same Shiryaev–Roberts sum over
"flagged or not", 3 % against 1 %), as whoever looks at false alarms alone would have it.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edged.bench.results_part import write_part
from pipelines.drift import ALARM, DriftTest
from pipelines.false_alarms import session_correlation
from pipelines.thresholds import calibrate

__all__ = ["bench_drift"]

BUDGET, SHIFTED_BUDGET = 0.01, 0.03
YEAR_SEAMS = 50_000
"""Of one program: a seam each five minutes, two shifts, 250 days, would be 48 000."""
AFTER_SHIFT = 2_000
GOODS = (99, 299)
SHIFTED = ((0, 0.0), (1_000, 0.0), (1_000, 0.3))
"""Good seams before the shift, and the standard deviation between sessions."""
SESSION_SEAMS = 50
SESSION_STD = (0.0, 0.1, 0.3)
SEED = 20_261_130


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One cell: seams after the shift (or since arming, without one) until each alarm, and flags in that time.

    `delay` and `counting_delay` are None where the alarm did not ring; negative where it rang before the shift.
    """

    delay: int | None
    flags: int
    counting_delay: int | None
    counting_flags: int
    realised: float


def bench_drift(
    runs: Annotated[int, typer.Option(min=2, help="Simulated cells a row.")] = 40,
    year: Annotated[int, typer.Option(min=100, help="Good seams a year without a shift.")] = YEAR_SEAMS,
    results: Annotated[Path | None, typer.Option(help="Markdown file whose marked part is replaced.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Simulate the drift alarm: delay and false alarms until it, and its own false alarms over a year."""
    console = Console(stderr=True)
    report = measure_drift(runs, year, console)
    Console().print(_table(report))
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if results is not None:
        try:
            write_part(results, "drift", _markdown(report))
        except (ValueError, OSError) as error:
            console.print(f"[red]edged bench drift:[/red] {error}")
            raise typer.Exit(1) from error


def measure_drift(runs: int, year: int, console: Console | None = None) -> dict[str, Any]:
    """The figures of `edged bench drift --json`."""
    quiet = console or Console(quiet=True)
    shifted = [
        _shifted(
            [
                one_cell(rng, goods, before, AFTER_SHIFT, _shift(), between)
                for rng in track(_generators(runs), f"shift, {goods} goods", total=runs, console=quiet)
            ],
            goods,
            before,
            between,
        )
        for goods in GOODS
        for before, between in SHIFTED
    ]
    silent = [
        _silent(
            [
                one_cell(rng, goods, 0, year, 0.0, between)
                for rng in track(_generators(runs), f"a year, {goods} goods", total=runs, console=quiet)
            ],
            goods,
            between,
        )
        for goods in GOODS
        for between in SESSION_STD
    ]
    return {
        "runs": runs,
        "year_seams": year,
        "seed": SEED,
        "alarm": ALARM,
        "shift_std": _shift(),
        "shifted": shifted,
        "silent": silent,
    }


def _shift() -> float:
    """How far the mean moves, in standard deviations."""
    normal = statistics.NormalDist()
    return normal.inv_cdf(1 - BUDGET) - normal.inv_cdf(1 - SHIFTED_BUDGET)


def _generators(runs: int) -> Iterator[np.random.Generator]:
    return iter(np.random.default_rng(seed) for seed in np.random.SeedSequence(SEED).spawn(runs))


def one_cell(rng: np.random.Generator, goods: int, before: int, after: int, shift: float, between: float) -> Outcome:
    """Learn a limit from `goods`, weld `before` good seams like them and `after` shifted ones.

    `between` is the standard deviation between sessions, where the scores' own is 1; calibration goods come in
    sessions of 25.
    """
    within = math.sqrt(1.0 - between * between)
    sizes = [25] * (goods // 25) + ([goods % 25] if goods % 25 else [])
    calibration = np.concatenate([rng.normal(rng.normal(0, between), within, n) for n in sizes])
    raw = np.exp(calibration)
    limit = calibrate("m", "p", (), raw.tolist(), BUDGET).value
    rho = session_correlation(raw.tolist(), [str(k) for k, size in enumerate(sizes) for _ in range(size)])
    n = before + after
    offsets = np.repeat(rng.normal(0, between, n // SESSION_SEAMS + 1), SESSION_SEAMS)[:n]
    scores = np.exp(offsets + rng.normal(0, within, n) + np.where(np.arange(n) >= before, shift, 0.0))
    test, counting = DriftTest.of(raw.tolist(), limit, rho), 0.0
    rang: list[int | None] = [None, None]
    flags, at = 0, [0, 0]
    for i, score in enumerate(scores.tolist()):
        flagged = score >= limit
        flags += flagged and i >= before
        ratio = SHIFTED_BUDGET / BUDGET if flagged else (1 - SHIFTED_BUDGET) / (1 - BUDGET)
        counting = min((1.0 + counting) * ratio, 1e300)
        if not flagged and rang[0] is None and test.add(score, str(i), str(i // SESSION_SEAMS)):
            rang[0], at[0] = i - before + 1, flags
        if rang[1] is None and counting >= ALARM:
            rang[1], at[1] = i - before + 1, flags
        if None not in rang:
            break
    return Outcome(rang[0], at[0], rang[1], at[1], float((scores[before:] >= limit).mean()))


def _shifted(outcomes: Sequence[Outcome], goods: int, before: int, between: float) -> dict[str, Any]:
    fair = [found for found in outcomes if found.delay is None or found.delay > 0]
    seen = [found for found in fair if found.delay is not None]
    by_count = [found for found in outcomes if found.counting_delay is not None and found.counting_delay > 0]
    delays = [float(found.delay) for found in seen if found.delay is not None]
    counts = [float(found.counting_delay) for found in by_count if found.counting_delay is not None]
    return {
        "goods": goods,
        "before": before,
        "between_sessions_std": between,
        "too_early": len(outcomes) - len(fair),
        "not_seen": len(fair) - len(seen),
        "delay_p50": _quantile(delays, 0.5),
        "delay_p90": _quantile(delays, 0.9),
        "flags_mean": float(np.mean([found.flags for found in seen])) if seen else None,
        "in_budget_mean": BUDGET * float(np.mean(delays)) if delays else None,
        "realised_mean": float(np.mean([found.realised for found in outcomes])),
        "counting_not_seen": len(outcomes) - len(by_count),
        "counting_delay_p50": _quantile(counts, 0.5),
        "counting_flags_mean": float(np.mean([found.counting_flags for found in by_count])) if by_count else None,
    }


def _silent(outcomes: Sequence[Outcome], goods: int, between: float) -> dict[str, Any]:
    from scipy.stats import beta

    n, rang = len(outcomes), sum(found.delay is not None for found in outcomes)
    counted = sum(found.counting_delay is not None for found in outcomes)
    return {
        "goods": goods,
        "between_sessions_std": between,
        "rang": rang,
        "cells": n,
        "rate": rang / n,
        "ci": [float(x) for x in beta.ppf([0.025, 0.975], rang + 0.5, n - rang + 0.5)],
        "counting_rang": counted,
    }


def _quantile(values: Sequence[float], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None


def _table(report: dict[str, Any]) -> Table:
    table = Table(
        "goods",
        "before the shift",
        "sessions' std",
        "seams to the alarm, p50 / p90",
        "flags till then",
        "by counting",
    )
    for row in report["shifted"]:
        table.add_row(*_cells(row))
    for row in report["silent"]:
        rang = f"{row['rang']} of {row['cells']} rang"
        between = f"{row['between_sessions_std']:g}"
        table.add_row(str(row["goods"]), "no shift", between, rang, "–", f"{row['counting_rang']} of {row['cells']}")
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    missed = f", {row['not_seen']} not seen" if row["not_seen"] else ""
    early = f", {row['too_early']} too early" if row["too_early"] else ""
    by_count = f"{_whole(row['counting_delay_p50'])} ({_tenth(row['counting_flags_mean'])} flags)"
    return [
        str(row["goods"]),
        str(row["before"]),
        f"{row['between_sessions_std']:g}",
        f"{_whole(row['delay_p50'])} / {_whole(row['delay_p90'])}{missed}{early}",
        f"{_tenth(row['flags_mean'])} (budget: {_tenth(row['in_budget_mean'])})",
        by_count + (f", {row['counting_not_seen']} not seen" if row["counting_not_seen"] else ""),
    ]


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _tenth(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _markdown(report: dict[str, Any]) -> str:
    head = "| calibration goods | good seams before the shift | sessions' std | seams to the alarm, p50 / p90 "
    lines = [head + "| false alarms till then | an alarm that counts flags |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in report["shifted"]]
    lines += ["", "| calibration goods | sessions' std | cells whose alarm rang in a year, no shift | by counting |"]
    lines += ["|---|---|---|---|"]
    for row in report["silent"]:
        low, high = row["ci"]
        rate = f"{row['rang']} of {row['cells']}: {row['rate']:.0%} [{low:.0%}, {high:.0%}]"
        counted = f"{row['counting_rang']} of {row['cells']}"
        lines.append(f"| {row['goods']} | {row['between_sessions_std']:g} | {rate} | {counted} |")
    lines += [
        "",
        f"Made by `edged bench drift --runs {report['runs']} --year {report['year_seams']}`: {report['runs']} cells "
        f"a row, {report['year_seams']} good seams a year; the mean moves by {report['shift_std']:.3f} standard "
        f"deviations of a score. *Sessions' std*: how much of that 1 lies between sessions of {SESSION_SEAMS} seams. "
        f"*Too early*: before the shift; *not seen*: not within {AFTER_SHIFT} seams.",
    ]
    return "\n".join(lines) + "\n"
