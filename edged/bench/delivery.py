"""`edged bench delivery`: every verdict to everybody, whoever is killed meanwhile, and how soon.

The real journal (`synchronous=FULL`), publisher and journal socket are fed with made-up verdicts in a process of
their own; eight subscribers on `edged.client` are others. Times are measured apart, at a pace that saturates nothing:
publish → handed out by the client at one subscriber, and at eight at once; beside them a thread that does nothing at
the same pace, late by the machine's own jitter.
"""

import contextlib
import json
import os
import queue
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from edged.bench.delivery_run import NAMES, Cell, DeliveryError, Plan, deliver
from edged.bench.delivery_source import COLUMNS, read_times
from edged.bench.latency import NoOp
from edged.bench.modbus_latency import modbus_latency_ms
from edged.bench.results_part import write_part
from edged.plcsim.made_up import made_up_verdict
from edged.plcsim.played import PlayedDelivery

__all__ = ["BARS_MS", "bench_delivery", "delivery_markdown", "latencies", "measure"]

PACE_HZ = 100.0
PACED_S = 20.0
JOINS_WITHIN_S = 3.0
SKIPPED = 50
"""Verdicts at the beginning of a paced run that are not counted: the first ones load code."""

FSYNCS = 200
MODBUS_COUNT = 500
TURN_S = 0.005
MARK = "delivery"
BARS_MS: Mapping[str, float] = {"latency_ms_p50": 0.3, "commit_to_publish_ms_p50": 2.0, "modbus_ms_p50": 10.0}


def bench_delivery(
    verdicts: Annotated[int, typer.Option(min=100, help="How many.")] = 100_000,
    curve: Annotated[bool, typer.Option(help="With keys on every socket.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for journals and logs.")] = Path("bench-out"),
    results: Annotated[Path | None, typer.Option(help="Markdown file whose marked part is replaced.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Deliver verdicts to eight subscribers through kills and stops. Exits with 1 where one or a bar is missed."""
    console = Console(stderr=True)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="delivery-", dir=out) as folder:
            report = measure(Path(folder), Plan(verdicts), curve=curve)
        of = "" if verdicts == Plan().verdicts else f" --verdicts {verdicts}"
        report["command"] = f"edged bench delivery{of}" + ("" if curve else " --no-curve")
        if results is not None:
            write_part(results, MARK, delivery_markdown(report))
    except (DeliveryError, ValueError) as error:
        console.print(f"[red]edged bench delivery:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print_json(json.dumps(report))
    if problems := missed(report):
        console.print("; ".join(problems))
        raise typer.Exit(1)


def measure(
    folder: Path, plan: Plan, *, curve: bool, paced_s: float = PACED_S, modbus_count: int = MODBUS_COUNT
) -> dict[str, Any]:
    """The whole report. Raises DeliveryError."""
    report: dict[str, Any] = {"curve": curve, "load_1min_before": round(os.getloadavg()[0], 1)}
    with Cell(folder / "all", curve) as cell:
        report |= deliver(cell, plan)
    report |= {"pace_hz": PACE_HZ, "paced_s": paced_s, "cores": os.cpu_count()}
    with Cell(folder / "one", curve) as cell, NoOp(round(1e9 / PACE_HZ)) as noop:
        report |= latencies(cell, NAMES[:1], paced_s)
    report |= {"noop_ms_p50": _quantile(noop.late_ms, 0.5), "noop_ms_p99": _quantile(noop.late_ms, 0.99)}
    with Cell(folder / "eight", curve) as cell:
        eight = latencies(cell, NAMES, paced_s)
    report |= {f"latency_8_ms_{p}": eight[f"latency_ms_{p}"] for p in ("p50", "p99")}
    report["fsync_ms_p50"] = _fsync_ms(folder / "fsync")
    with Cell(folder / "modbus", curve) as cell:
        late_ms = _modbus_ms(cell, modbus_count)
    report |= {"modbus_ms_p50": _quantile(late_ms, 0.5), "modbus_ms_p99": _quantile(late_ms, 0.99)}
    return report


def latencies(cell: Cell, names: Sequence[str], paced_s: float) -> dict[str, Any]:
    """Times of a paced run: decision → commit → publish → handed out by the client, in ms."""
    until = round(PACE_HZ * paced_s)
    source, theirs = cell.folder / "source.times", {name: cell.folder / f"{name}.times" for name in names}
    for name, path in theirs.items():
        cell.start_subscriber(name, until, times=path)
    cell.start_source(until, PACE_HZ, after_s=JOINS_WITHIN_S, times=source)
    end_s = time.monotonic() + JOINS_WITHIN_S + 20 * paced_s + 30
    while any(process.poll() is None for process in cell.subscribers.values()):
        cell.alive()
        if time.monotonic() > end_s:
            raise DeliveryError(f"the paced run does not end: see {cell.folder}")
        time.sleep(0.1)
    cell.end_source()
    rows = read_times(source, len(COLUMNS))[SKIPPED:]
    sent_ns = {sequence: published for sequence, _, published, _ in rows}
    received = [row for path in theirs.values() for row in read_times(path, 2) if row[0] in sent_ns]
    late_ms = [(received_ns - sent_ns[sequence]) / 1e6 for sequence, received_ns in received]
    span_s = (rows[-1][3] - rows[0][1]) / 1e9
    return {
        "latency_ms_p50": _quantile(late_ms, 0.5),
        "latency_ms_p99": _quantile(late_ms, 0.99),
        "decision_to_commit_ms_p50": _quantile([(row[2] - row[1]) / 1e6 for row in rows], 0.5),
        "decision_to_commit_ms_p99": _quantile([(row[2] - row[1]) / 1e6 for row in rows], 0.99),
        "commit_to_publish_ms_p50": _quantile([(row[3] - row[2]) / 1e6 for row in rows], 0.5),
        "commit_to_publish_ms_p99": _quantile([(row[3] - row[2]) / 1e6 for row in rows], 0.99),
        "reached_hz": round(len(rows) / span_s),
        "n": len(late_ms),
    }


def _modbus_ms(cell: Cell, count: int) -> list[float]:
    """From publish to the register, by a real bridge in a process of its own."""
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    told: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    ready, over = threading.Event(), threading.Event()

    def publish() -> tuple[int, int]:
        asked.put(None)
        return told.get()

    def feed() -> None:
        with PlayedDelivery(cell.journal, cell.verdicts, cell.keys) as delivery:
            ready.set()
            while not over.is_set():
                delivery.turn(TURN_S)
                with contextlib.suppress(queue.Empty):
                    asked.get_nowait()
                    entry = delivery.append(made_up_verdict())
                    told.put((entry.sequence, time.monotonic_ns()))
                    delivery.publisher.publish(entry)

    keys = cell.key_of("modbus") if cell.keys is not None else None
    feeder = threading.Thread(target=feed, name="delivery", daemon=True)
    feeder.start()
    try:
        if not ready.wait(JOINS_WITHIN_S):
            raise DeliveryError(f"the daemon's half does not come up in {cell.folder}")
        return modbus_latency_ms(publish, cell.verdicts, count=count, keys=keys)
    except (RuntimeError, TimeoutError) as error:
        raise DeliveryError(f"modbus: {error}") from error
    finally:
        over.set()
        feeder.join()


def missed(report: Mapping[str, Any]) -> list[str]:
    """What is not as it must be."""
    found = [
        f"{name} is {report[name]} ms, the bar is {bar:g}"
        for name, bar in BARS_MS.items()
        if report[name] is None or report[name] > bar
    ]
    found += [f"{report[name]} {name}" for name in ("missing", "duplicated") if report[name]]
    if report["identical"] != report["subscribers"]:
        found.append(f"only {report['identical']} of {report['subscribers']} hold the journal's own sequence")
    return found


def delivery_markdown(report: Mapping[str, Any]) -> str:
    """The part of docs/results.md."""
    keys = "with keys (CURVE)" if report["curve"] else "without keys"
    starts = ", ".join(f"{name} {count}" for name, count in report["starts"].items() if count > 1)
    rows = [
        ("verdicts sent / subscribers", f"{report['sent']} / {report['subscribers']}"),
        ("missing / duplicated, all subscribers", f"{report['missing']} / {report['duplicated']}"),
        ("hold the identical sequence", f"{report['identical']} of {report['subscribers']}"),
        ("daemon killed (-9)", f"{report['daemon_kills']} times"),
        ("subscribers started more than once", starts or "none"),
        ("took, s (verdicts a second)", f"{report['delivery_s']} ({report['per_s']})"),
        ("publish → handed out, one subscriber", _pair(report, "latency", "bar 0.3")),
        ("the same, eight subscribers at once", _pair(report, "latency_8")),
        ("commit → publish", _pair(report, "commit_to_publish", "bar 2")),
        ("decision → commit, fsync included", _pair(report, "decision_to_commit")),
        ("publish → read from a Modbus register", _pair(report, "modbus", "bar 10")),
        ("no-op: a thread that wakes at the same pace", _pair(report, "noop")),
        ("bare fsync of 4 KiB on this disk", _number(report["fsync_ms_p50"])),
    ]
    head = [
        f"Made by `{report['command']}` {keys} on {report['cores']} cores (load {report['load_1min_before']:.1f} "
        f"before it began). Times in ms, median / 99 %, at {report['pace_hz']:g} verdicts a second asked for and "
        f"{report['reached_hz']} reached, {report['n']} of them measured.",
        "",
        "| what | figure |",
        "|---|---|",
    ]
    return "\n".join(head + [f"| {name} | {value} |" for name, value in rows])


def _pair(report: Mapping[str, Any], name: str, bar: str = "") -> str:
    values = " / ".join(_number(report[f"{name}_ms_{p}"]) for p in ("p50", "p99"))
    return f"{values} ({bar})" if bar else values


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _quantile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.quantile(values, q)), 3) if values else None


def _fsync_ms(path: Path) -> float | None:
    took = []
    with path.open("wb") as file:
        for _ in range(FSYNCS):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return _quantile(took, 0.5)
