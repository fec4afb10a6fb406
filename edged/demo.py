"""`edged demo`: a whole virtual cell through the real daemon, seen as a subscriber sees it.

Three processes: the virtual cell (devices and PLC), `edged run` with its children, and this one, which only
subscribes, shows the verdicts and at the end compares them with the truth that the cell kept to itself.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgpack
import tomli_w
import typer
import zmq
from rich.console import Console, Group
from rich.live import Live

from drivers.sim.seam import SeamPlan
from edged.demo_report import DemoReport, verdict_table
from edged.model_problems import model_problems
from edged.usage import ProcessTree
from edged.virtual_cell import CellEndpoints, virtual_cell_config
from pipelines.models import model_directory
from pipelines.table import GRID_DETECTORS

__all__ = ["DemoError", "demo", "run_plan"]

DEMO_SEED = 20_260_101
READY_TIMEOUT_S = 120.0
"""The first start compiles the arc's kernel and exports the backbone."""
SEAM_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
MARKER = ".edged-demo"
PIPELINES = ("causal_hm", *GRID_DETECTORS)
PAIRS_OF_CELL = {False: ("rgb", "proc"), True: ("geo", "proc")}
"""With a profiler or without → the modalities of the models that ship."""


class DemoError(Exception):
    """The demo could not run; the message says which process failed and where its log lies."""


def demo(
    seams: Annotated[int, typer.Option(help="How many seams to weld; half of them good.", min=1)] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the plan.")] = DEMO_SEED,
    out: Annotated[Path, typer.Option(help="Folder for recordings, journal and logs.")] = Path("demo-out"),
    pipeline: Annotated[str, typer.Option(help=f"Detector: one of {', '.join(PIPELINES)}.")] = "causal_hm",
    model: Annotated[str | None, typer.Option(help="Model directory instead of the pipeline's that ships.")] = None,
    profiler: Annotated[bool, typer.Option("--profiler", help="With a laser scan of every seam.")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the report here.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write the final table as SVG here.")] = None,
) -> None:
    """Weld in a virtual cell and watch the verdicts arrive: real drivers, real daemon, real ZeroMQ."""
    from drivers.sim.demo_plan import demo_plan

    console = Console(record=picture is not None, width=118 if picture is not None else None)
    try:
        chosen = model or shipped_model(pipeline, profiler=profiler)
        report = run_plan(demo_plan(seams, seed), seed, out, chosen, console, profiler=profiler)
    except DemoError as error:
        console.print(f"[red]demo failed:[/red] {error}")
        raise typer.Exit(1) from error
    if picture is not None:
        console.save_svg(str(picture), title="edged demo")
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if report["published"] != report["received"] or report["received"] < seams:
        raise typer.Exit(1)


def shipped_model(pipeline: str, *, profiler: bool) -> str:
    """Name of the model of a detector that ships, for a cell with or without profiler. Raises DemoError."""
    if pipeline not in PIPELINES:
        raise DemoError(f"no pipeline {pipeline!r}; known: {', '.join(PIPELINES)}")
    if pipeline not in GRID_DETECTORS:
        return "demo"
    pair = PAIRS_OF_CELL[profiler]
    name = f"demo:{pipeline}-{'-'.join(pair)}"
    if not model_directory(name).is_dir():
        raise DemoError(
            f"no model of {pipeline} for ({','.join(pair)}) ships with this edged; make one with "
            f"python -m edged.demo_model --pipeline {pipeline} --pair {','.join(pair)} --work demo-model-work "
            "--out DIR and give --model DIR"
        )
    return name


def run_plan(
    plan: Sequence[SeamPlan],
    seed: int,
    out: Path,
    model: str,
    console: Console,
    *,
    profiler: bool = False,
    on_message: Callable[[str, dict[str, Any]], None] = lambda topic, message: None,
) -> dict[str, Any]:
    """Run cell and daemon until every seam has its verdict; returns the report. Raises DemoError.

    `on_message` is told of every message once it has been received, which `received_utc_ns` in it tells.
    """
    from drivers.sim.rendered_file import plans_to_json

    # A model that the cell cannot serve would only give INDETERMINATE; better said before anything is rendered.
    if problems := model_problems(virtual_cell_config(out, "armed", model, profiler=profiler)[1]):
        raise DemoError("; ".join(dict.fromkeys(text.partition(": ")[2] for text in problems)))
    out = _fresh_folder(out)
    seams = len(plan)
    with contextlib.ExitStack() as stack:
        # Sockets and FIFOs have short path limits; the output folder may lie deep.
        run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edged-demo-")))
        control = f"ipc://{run_dir}/control.sock"
        verdicts = f"ipc://{run_dir}/verdicts.sock"
        plan_path = out / "plan.json"
        plan_path.write_text(plans_to_json(list(plan)), encoding="utf-8")
        command = ["drivers.sim.cell", "--plan", str(plan_path), "--workdir", str(run_dir), "--control", control]
        command += ["--profiler"] * profiler
        cell = stack.enter_context(_process("cell", [*command, "--truth", str(out / "truth.jsonl")], out))
        with console.status("starting the virtual cell: rendering the first seam …"):
            endpoints = _wait_for_cell(cell, run_dir / "cell.json", out)
        raw, _ = virtual_cell_config(out / "data", "armed", model, endpoints, verdicts, profiler=profiler)
        raw["net"]["control"] = control
        config_path = out / "edged.toml"
        config_path.write_text(tomli_w.dumps(raw), encoding="utf-8")
        subscriber = stack.enter_context(_subscriber(verdicts))
        daemon = stack.enter_context(_process("daemon", ["edged.cli", "run", "--config", str(config_path)], out))
        report = DemoReport(seed=seed, model=model, planned=seams, recordings=out / "data" / "recordings")
        usage = ProcessTree(daemon.pid)
        with Live(verdict_table(report), console=console, refresh_per_second=4) as live:
            for topic, message in _messages(subscriber, report, (cell, daemon), out):
                report.add(topic, message)
                on_message(topic, message)
                if topic == "live":
                    continue  # drawn with the next heartbeat at the latest; this process must not hold up the others
                usage.sample()
                if topic.startswith("verdict/"):
                    report.cpu_s.append(usage.cpu_s)
                live.update(Group(verdict_table(report), report.burning.table()))
        console.print()  # the live table ends without a line break
        report.add_truth(out / "truth.jsonl")
        report.usage = usage
    result = report.as_json()
    report.print_summary(console, result)
    return result


def _fresh_folder(out: Path) -> Path:
    """An empty folder; an earlier demo's is emptied, anybody else's is refused."""
    out = out.resolve()
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise DemoError(f"{out} is not empty and not from an earlier demo; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()
    return out


@contextlib.contextmanager
def _process(name: str, module: list[str], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, its output in `out/NAME.log`; stopped and, if it must be, killed."""
    with (out / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *module], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


@contextlib.contextmanager
def _subscriber(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(endpoint)
        yield socket
    finally:
        socket.close(linger=0)
        context.term()


def _wait_for_cell(cell: subprocess.Popen[bytes], path: Path, out: Path) -> CellEndpoints:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not path.exists():
        _must_run(cell, "the virtual cell", out / "cell.log")
        if time.monotonic() > deadline:
            raise DemoError(f"the virtual cell was not ready within {READY_TIMEOUT_S:.0f} s; see {out / 'cell.log'}")
        time.sleep(0.1)
    return CellEndpoints(**json.loads(path.read_text(encoding="utf-8")))


def _must_run(child: subprocess.Popen[bytes], name: str, log: Path) -> None:
    if (code := child.poll()) is not None and code != 0:
        raise DemoError(f"{name} ended with exit code {code}; see {log}")


def _messages(
    socket: "zmq.Socket[bytes]",
    report: DemoReport,
    children: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]],
    out: Path,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every message until all verdicts are in and a heartbeat after the last one has told the daemon's count."""
    cell, daemon = children
    last_verdict_s = time.monotonic() + READY_TIMEOUT_S
    while not report.complete:
        _must_run(cell, "the virtual cell", out / "cell.log")
        _must_run(daemon, "the daemon", out / "daemon.log")
        if time.monotonic() > last_verdict_s + SEAM_TIMEOUT_S:
            raise DemoError(
                f"no verdict for {SEAM_TIMEOUT_S:.0f} s after {len(report.seams)} of {report.planned} seams; "
                f"see {out / 'daemon.log'} and {out / 'cell.log'}"
            )
        if not socket.poll(500):
            continue
        topic, payload = socket.recv_multipart()
        message = msgpack.unpackb(payload)
        message["received_utc_ns"] = time.time_ns()
        if topic.startswith(b"verdict/"):
            last_verdict_s = max(time.monotonic(), last_verdict_s - READY_TIMEOUT_S)
        yield topic.decode(), message
