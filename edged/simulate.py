"""`edged simulate`: the virtual cell in bulk, faster than real time, to a folder of recordings.

Every seam goes through the real Engine and SeamRecorder on a manual clock, so a bulk recording differs from a live
one only in that its transports were not opened. Same seed, same bytes, on any number of processes.
"""

import concurrent.futures
import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from ulid import ULID

from drivers.base import Chunk
from drivers.mcap_codec import RecordingHeader
from drivers.sim.seam import IMAGE_PRESETS, RenderedSeam, SeamPlan
from edged.engine import Engine
from edged.manifest import MANIFEST
from edged.null_scorer import NullScorer
from edged.recorded import quiet
from edged.recording import SeamRecorder, config_metadata
from edged.ring import make_ring
from edged.types import Verdict
from edged.virtual_cell import virtual_cell_config

__all__ = ["TRUTH_NAME", "run_engine", "session_names_of", "simulate", "simulate_recordings"]

TRUTH_NAME = "truth.jsonl"
EPOCH_UTC_NS = 1_767_225_600_000_000_000
"""2026-01-01: the calendar of simulated recordings starts here, so that a seed gives the same bytes any day."""
SEAM_PITCH_NS = 60_000_000_000
SETTLE_NS = 12_000_000_000
"""Longer than every deadline of the virtual cell's programs: after it, each seam has its verdict."""
TICK_NS = 50_000_000
NOWHERE = Path("/simulated")
"""The recorded configuration must not tell where the recordings were written."""


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the recordings, manifest.jsonl and truth.jsonl.")],
    seams: Annotated[int, typer.Option(min=1, help="How many seams.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the plan.")] = 0,
    family: Annotated[str, typer.Option(help="good, process, result, pair, both, or mix (half good).")] = "mix",
    program: Annotated[list[str] | None, typer.Option(help="Only these programs.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Spread over this many sessions.")] = 8,
    severity: Annotated[int | None, typer.Option(min=1, max=5, help="Only this severity.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    profiler: Annotated[bool, typer.Option("--profiler", help="With a laser scan of every seam.")] = False,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write a summary here.")] = None,
) -> None:
    """Write recordings of the virtual cell, faster than real time."""
    from drivers.sim.plan import plan_seams

    console = Console(stderr=True)
    try:
        names = session_names_of(seed, sessions)
        plans = plan_seams(seams, seed, family, program, severity=severity, sessions=names)
    except ValueError as error:
        console.print(f"[red]edged simulate:[/red] {error}")
        raise typer.Exit(2) from error
    made = simulate_recordings(
        plans,
        out,
        jobs,
        lambda it: track(it, "simulating", total=len(plans), console=console),
        profiler=profiler,
    )
    console.print(f"{len(plans)} recordings in {out} ({made} new)")
    if json_out is not None:
        summary = {"recordings": str(out), "seams": len(plans), "new": made, "seed": seed, "family": family}
        json_out.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def simulate_recordings(
    plans: Sequence[SeamPlan],
    out: Path,
    jobs: int,
    progress: Callable[[Iterator[tuple[str, dict[str, Any]]]], Any] = iter,
    *,
    profiler: bool = False,
) -> int:
    """Write one recording per plan into `out`; those already there are kept. Returns how many were made."""
    out.mkdir(parents=True, exist_ok=True)
    truth_path = out / TRUTH_NAME
    known = _known_ids(truth_path)
    todo = [(index, plan) for index, plan in enumerate(plans) if seam_id(plan) not in known]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=quiet) as pool:
        results = pool.map(_simulate_one, [plan for _, plan in todo], [out] * len(todo), [profiler] * len(todo))
        # In plan order, so that manifest and truth do not depend on which process was faster.
        for name, truth in progress(results):
            part = out / f".{name}"
            shutil.move(part / f"{name}.mcap", out / f"{name}.mcap")
            with (out / MANIFEST).open("a", encoding="utf-8") as manifest:
                manifest.write((part / MANIFEST).read_text(encoding="utf-8"))
            with truth_path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"seam_id": name, "truth": truth}, sort_keys=True) + "\n")
            shutil.rmtree(part)
    return len(todo)


def session_names_of(seed: int, count: int) -> list[str]:
    """Names of a seed's sessions: recordings of two seeds share none."""
    return [f"s{seed}-{index:02d}" for index in range(count)]


def seam_id(plan: SeamPlan) -> str:
    """A ULID that is a function of the plan; its time is the seam's simulated one."""
    digest = hashlib.sha256(repr(plan).encode()).digest()[:10]
    utc_ms = (EPOCH_UTC_NS + plan.index * SEAM_PITCH_NS) // 1_000_000
    return str(ULID.from_bytes(utc_ms.to_bytes(6, "big") + digest))


def run_engine(rendered: RenderedSeam, engine: Engine, rings: dict[str, Any], start_ns: int) -> None:
    """Feed one rendered seam through an engine as its devices and its PLC would, until its verdict is due.

    `rings` with a "profiler" want a scan.
    """
    import numpy as np

    from drivers.sim.chunks import seam_chunks

    rng = np.random.default_rng([rendered.plan.seed, 0xC4])
    now_ns = start_ns
    for now_ns, item in seam_chunks(rendered, start_ns, rng, profiler="profiler" in rings):
        if isinstance(item, Chunk):
            engine.step(rings[item.stream].append(item), now_ns)
        else:
            reply = engine.control(item, now_ns)
            if not reply["ok"]:
                raise RuntimeError(f"the virtual PLC's {item} was refused: {reply['error']}")
    for late_ns in range(now_ns, now_ns + SETTLE_NS, TICK_NS):
        engine.step(None, late_ns)


def _simulate_one(plan: SeamPlan, out: Path, profiler: bool) -> tuple[str, dict[str, Any]]:
    from drivers.sim.chunks import stream_specs
    from drivers.sim.render import SIM_VERSION, render_seam

    name = seam_id(plan)
    folder = out / f".{name}"
    shutil.rmtree(folder, ignore_errors=True)
    preset = IMAGE_PRESETS["small"]
    rendered = render_seam(plan, preset)
    specs = {spec.name: spec for spec in stream_specs(preset, profiler=profiler)}
    rings = {spec.name: make_ring(spec, 30.0) for spec in specs.values()}
    _, config = virtual_cell_config(NOWHERE, profiler=profiler)
    # Training splits by session: without it, seams of one session would lie on both sides.
    config = config.model_copy(update={"cell": config.cell.model_copy(update={"session": plan.session})})
    start_ns = SEAM_PITCH_NS * (1 + plan.index)
    header = RecordingHeader(
        "simulated",
        start_ns,
        EPOCH_UTC_NS + start_ns,
        f"edged simulate {SIM_VERSION}",
        True,
        config.cell.name,
        "none",
    )
    verdicts: list[Verdict] = []
    engine = Engine(
        config,
        specs,
        rings,
        NullScorer(),
        SeamRecorder(folder, lambda: header, config_metadata(config)),
        verdicts.append,
        lambda part: None,
        lambda now_ns: EPOCH_UTC_NS + now_ns,
        lambda: name,
    )
    run_engine(rendered, engine, rings, start_ns)
    if len(verdicts) != 1 or verdicts[0].recording is None:
        raise RuntimeError(f"seam {name} ({plan}) gave {len(verdicts)} verdicts instead of one recorded one")
    return name, dict(rendered.truth)


def _known_ids(truth_path: Path) -> set[str]:
    if not truth_path.exists():
        return set()
    return {json.loads(line)["seam_id"] for line in truth_path.read_text(encoding="utf-8").splitlines()}
