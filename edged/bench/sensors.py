"""`edged bench sensors`: which broken or drifting sensors are found, and how often sound ones are accused.

On the virtual cell, whose physics knows the truth. Every cell (a session and a program) learns from its first good
seams, is then asked about further ones, and after that about the same kind of seams with each sensor fault in turn,
five in a row, always from the same state.
"""

import copy
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from edged.aligner import first_at
from edged.bench.results_part import write_part
from edged.sensor_baseline import LEARNED, RECENT, SensorBaseline
from edged.sensor_health import SeamSensors, SensorHealth
from edged.sensor_report import SensorReport
from pipelines.window import ResultView

if TYPE_CHECKING:
    from drivers.sim.seam import RenderedSeam

__all__ = ["bench_sensors", "measure"]

SEED = 20_261_130
GOODS = 20
PROGRAMS = ("short-butt-3", "spray-lap-5", "pulsed-lap-4", "globular-fillet-6")
DRIFTS: Mapping[str, tuple[str, str]] = {
    "current_gain": ("welder", "current_level"),
    "lens_spatter": ("arccam", "spatter"),
    "microphone_moved": ("mic", "level"),
}
"""Fault types of the virtual cell's family *drift* → stream and finding that name it."""
PRE_ROLL_NS, POST_ROLL_NS = 500_000_000, 300_000_000
OFF_CURRENT_A = 15.0

Reports = Mapping[str, SensorReport]


def bench_sensors(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    results: Annotated[Path | None, typer.Option(help="Markdown file whose marked part is replaced.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Sessions of the virtual cell.")] = 2,
    programs: Annotated[int, typer.Option(min=1, max=len(PROGRAMS), help="Programs of each.")] = 4,
    severity: Annotated[list[int], typer.Option(min=1, max=5, help="Of drifts; again.")] = [1, 2, 3, 4, 5],  # noqa: B006
) -> None:
    """Break the virtual cell's sensors, and count what is found and what is accused wrongly."""
    report = measure(sessions, PROGRAMS[:programs], tuple(severity), Console(stderr=True))
    text = markdown(report)
    typer.echo(text)
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if results is not None:
        write_part(results, "sensors", text)


def measure(
    sessions: int, programs: tuple[str, ...], severities: tuple[int, ...], console: Console | None = None
) -> dict[str, Any]:
    """The figures of `--json`: `goods` and one row a fault and level in `faults`."""
    cells = [(f"sensors-{number:02d}", program) for number in range(sessions) for program in programs]
    goods: list[dict[str, Any]] = []
    found: dict[tuple[str, float, str], list[list[dict[str, Any]]]] = {}
    cpu_s = weld_s = 0.0
    for session, program in track(cells, "cells", console=console, disable=console is None):
        health, rendered, spent = _learned(session, program)
        cpu_s, weld_s = cpu_s + spent, weld_s + sum(seam.arc_s for seam in rendered)
        goods += [_judge(health, _reports(seam), program) for seam in rendered[LEARNED:]]
        for key, seams in _broken(session, program, severities, rendered[LEARNED : LEARNED + RECENT]):
            trial = copy.deepcopy(health)
            found.setdefault(key, []).append([_judge(trial, _reports(seam), program) for seam in seams])
    return {
        "command": f"edged bench sensors --sessions {sessions} --programs {len(programs)}"
        + "".join(f" --severity {number}" for number in severities if len(severities) < 5),
        "seed": SEED,
        "cells": len(cells),
        "learned": LEARNED,
        "cpu_percent_of_a_core": 100 * cpu_s / weld_s,
        "goods": _accused(goods),
        "faults": [_row(*key, trials) for key, trials in found.items()],
    }


def _learned(session: str, program: str) -> tuple[SensorHealth, list["RenderedSeam"], float]:
    """A cell that has learned, its good seams, and the CPU seconds that measuring their sensors took."""
    from drivers.sim.plan import plan_seams
    from drivers.sim.render import render_seam
    from drivers.sim.seam import IMAGE_PRESETS

    plans = plan_seams(LEARNED + GOODS, SEED, "good", (program,), sessions=(session,))
    rendered = [render_seam(plan, IMAGE_PRESETS["small"]) for plan in plans]
    health, spent = SensorHealth(SensorBaseline()), 0.0
    for seam in rendered[:LEARNED]:
        reports = _reports(seam)
        _judge(health, reports, program)
        for name, report in reports.items():
            health.baseline.stream(name).learn(program, report)
    for seam in rendered:
        spent += _cpu_s(seam)
    return health, rendered, spent


def _broken(
    session: str, program: str, severities: tuple[int, ...], goods: list["RenderedSeam"]
) -> Iterator[tuple[tuple[str, float, str], list["RenderedSeam"]]]:
    """(fault, level, unit) and seams in a row that have it: drifts of the cell itself, then what is injected."""
    from drivers.sim.plan import plan_seams
    from drivers.sim.render import render_seam
    from drivers.sim.seam import IMAGE_PRESETS
    from edged.bench.sensor_injections import INJECTIONS

    for name in DRIFTS:
        for severity in severities:
            plans = plan_seams(RECENT, SEED + severity, "drift", (program,), (name,), severity, (session,))
            fault = plans[0].fault
            if fault is None:
                raise RuntimeError(f"a plan of {name} has no fault")
            yield (name, fault.value, fault.unit), [render_seam(plan, IMAGE_PRESETS["small"]) for plan in plans]
    for name, row in INJECTIONS.items():
        for level in row.levels:
            yield (name, level, row.unit), [row.apply(seam, level) for seam in goods]


def _chunks(seam: "RenderedSeam") -> tuple[SeamSensors, list[Any], tuple[int, int]]:
    import numpy as np

    from drivers.base import Chunk
    from drivers.sim.chunks import seam_chunks, stream_specs
    from drivers.sim.seam import IMAGE_PRESETS

    on_ns = round(seam.lead_s * 1e9)
    off_ns = on_ns + round(seam.arc_s * 1e9)
    specs = {spec.name: spec for spec in stream_specs(IMAGE_PRESETS["small"])}
    chunks = []
    for _, item in seam_chunks(seam, 0, np.random.default_rng([seam.plan.seed, 0xC4])):
        if isinstance(item, Chunk) and specs[item.stream].kind != "result":
            # Cut to the sample, as the aligner does: where a stream begins says what was before.
            first, last = (first_at(item, t_ns) for t_ns in (on_ns - PRE_ROLL_NS, off_ns + POST_ROLL_NS))
            if first < last:
                chunks.append(item.cut(first, last) if item.data.ndim > 1 else item)
    return SeamSensors(tuple(specs.values()), on_ns, OFF_CURRENT_A, PRE_ROLL_NS), chunks, (on_ns, off_ns)


def _reports(seam: "RenderedSeam") -> Reports:
    sensors, chunks, arc = _chunks(seam)
    for chunk in chunks:
        sensors.add(chunk)
    sensors.close((arc,), _views(seam))
    return sensors.reports


def _cpu_s(seam: "RenderedSeam") -> float:
    sensors, chunks, arc = _chunks(seam)
    views, began_s = _views(seam), time.process_time()
    for chunk in chunks:
        sensors.add(chunk)
    sensors.close((arc,), views)
    return time.process_time() - began_s


def _views(seam: "RenderedSeam") -> dict[str, ResultView]:
    import numpy as np

    return {
        name: ResultView(name, "resultcam", 0, np.frombuffer(jpeg, np.uint8)) for name, jpeg in seam.views.items()
    }


def _judge(health: SensorHealth, reports: Reports, program: str) -> dict[str, Any]:
    """Stream → code → state of a seam's findings."""
    found = health.judge(program, reports, 0)
    return {name: {item.code: item.state for item in items} for name, items in found.items()}


def _accused(goods: list[dict[str, Any]]) -> dict[str, Any]:
    """How many good seams have a finding, and which."""
    codes: dict[str, int] = {}
    for seam in goods:
        for stream, items in seam.items():
            for code in items:
                codes[f"{stream}: {code}"] = codes.get(f"{stream}: {code}", 0) + 1
    states = [state for seam in goods for items in seam.values() for state in items.values()]
    return {
        "seams": len(goods),
        "with_a_finding": sum(bool(seam) for seam in goods),
        "with_a_fault": sum(any("fault" in items.values() for items in seam.values()) for seam in goods),
        "findings": len(states),
        "by_code": codes,
    }


def _row(name: str, level: float, unit: str, trials: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """`found`: cells in which one of the five seams names the fault; `faults`: seams whose label it touches."""
    from edged.bench.sensor_injections import INJECTIONS

    stream, code = DRIFTS[name] if name in DRIFTS else (INJECTIONS[name].stream, INJECTIONS[name].code)
    seams = [seam for trial in trials for seam in trial]
    named = [any(code in seam.get(stream, {}) for seam in trial) for trial in trials]
    states = [seam.get(stream, {}).get(code) for seam in seams]
    others = sum(any(set(items) - {code} for items in seam.values()) for seam in seams)
    return {
        "fault": name,
        "level": level,
        "unit": unit,
        "finding": f"{stream}: {code}",
        "cells": len(trials),
        "found": sum(named),
        "seams": len(seams),
        "warnings": states.count("warning"),
        "faults": states.count("fault"),
        "with_another_finding": others,
    }


def markdown(report: dict[str, Any]) -> str:
    """The table of docs/sensor-health.md."""
    goods = report["goods"]
    codes = ", ".join(f"{code} {count}" for code, count in goods["by_code"].items()) or "none"
    lines = [
        "| sensor fault | level | finding | found within five seams | seams with a warning / fault |",
        "|---|---|---|---|---|",
        *(_line(row) for row in report["faults"]),
        "",
        f"Sound sensors: {goods['with_a_finding']} of {goods['seams']} good seams have a finding, "
        f"{goods['with_a_fault']} a fault; by finding: {codes}.",
        "",
        f"Made by `{report['command']}`, seed {report['seed']}: {report['cells']} cells (a session and a program "
        f"each), {report['learned']} good seams learned in each. Measuring took "
        f"{report['cpu_percent_of_a_core']:.2f} % of a core (CPU time) while an arc burns.",
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    cells = [
        row["fault"],
        f"{row['level']:g} {row['unit']}",
        row["finding"],
        f"{row['found']} of {row['cells']} cells",
        f"{row['warnings']} / {row['faults']} of {row['seams']}",
    ]
    return f"| {' | '.join(cells)} |"
