"""`edged simulate`: the virtual cell in bulk, faster than real time, to a folder of recordings or of features.

Every seam goes through the real Engine on a manual clock, so a bulk seam differs from a live one only in that its
transports were not opened. Same seed, same bytes, on any number of processes and over any number of interruptions.
"""

import json
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from drivers.sim.seam import SeamPlan
from edged.bulk_pool import bulk_pool
from edged.progress import progress_bars
from edged.simulated_folder import simulated_folder
from edged.simulated_seam import Bulk, seam_id_of, simulate_seam
from edged.train import DEFAULT_CACHE
from edged.virtual_cell import PROFILES, Profile, profile_named
from pipelines.features.table import Tier, tier_of

__all__ = ["session_names_of", "simulate", "simulate_features", "simulate_recordings"]


def simulate(
    out: Annotated[Path, typer.Option(help="Folder to fill; one that a run left unfinished is resumed.")],
    seams: Annotated[int, typer.Option(min=1, help="How many seams.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the plan.")] = 0,
    family: Annotated[str, typer.Option(help="One family of seams, or mix: half good.")] = "mix",
    program: Annotated[list[str] | None, typer.Option(help="Only these programs.")] = None,
    fault: Annotated[list[str] | None, typer.Option("--type", help="Only these fault types.")] = None,
    severity: Annotated[list[int] | None, typer.Option(help="Only these severities, 1 to 5.")] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Spread over this many sessions.")] = 8,
    session: Annotated[
        list[str] | None, typer.Option(help="Only these sessions' seams of the plan, the same to the byte.")
    ] = None,
    profile: Annotated[str, typer.Option(help=f"Shape of the data: {' or '.join(PROFILES)}.")] = "cell",
    features: Annotated[bool, typer.Option("--features", help="Features for `edged train`, no recordings.")] = False,
    tier: Annotated[str, typer.Option(help="Of the features: default, or tiny (no weights needed).")] = "default",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    profiler: Annotated[bool, typer.Option("--profiler", help="With a laser scan of every seam.")] = False,
    cache_dir: Annotated[Path, typer.Option(help="Where exported graphs are kept.")] = DEFAULT_CACHE,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write a summary here.")] = None,
) -> None:
    """Write recordings of the virtual cell, or their features, faster than real time."""
    from drivers.sim.plan import plan_seams

    console = Console(stderr=True)
    begin = time.perf_counter()
    try:
        if tier != "default" and not features:
            raise ValueError(f"--tier {tier} is of features, and recordings have none; add --features")
        bulk = Bulk(cache_dir.expanduser() if features else None, profiler, profile_named(profile), tier_of(tier))
        names = session_names_of(seed, sessions)
        plans = plan_seams(seams, seed, family, program, fault, severity, names)
        plans = _of_sessions(plans, session, names)
        with progress_bars(console) as bars:
            made = _simulate(plans, out, jobs, bulk, lambda it: bars.track(it, description="simulating"))
    except ValueError as error:
        console.print(f"[red]edged simulate:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from error
    except OSError as error:
        console.print(f"[red]edged simulate:[/red] {error}; start it again to go on", soft_wrap=True)
        raise typer.Exit(1) from error
    wall_s, cpu_s = time.perf_counter() - begin, _cpu_s()
    holds = "features" if features else "recordings"
    console.print(f"{len(plans)} seams in {out} ({made} new {holds}, {wall_s:.0f} s, {cpu_s:.0f} s of CPU)")
    if json_out is not None:
        asked = {
            "out": str(out),
            "seed": seed,
            "family": family,
            "types": fault,
            "severities": severity,
            "jobs": jobs,
        }
        cost = {"new": made, "jobs": jobs, "wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2)}
        json_out.write_text(json.dumps(asked | _made(plans, bulk) | cost, indent=2) + "\n", encoding="utf-8")


Progressing = Callable[[Iterable[str]], Iterable[str]]
"""Shows progress over the ids of the seams that are made; their number is the iterable's `len`."""


def simulate_recordings(
    plans: Sequence[SeamPlan],
    out: Path,
    jobs: int,
    progress: Progressing = iter,
    *,
    profiler: bool = False,
    profile: Profile = "cell",
) -> int:
    """Write one recording per plan into `out`; those already there are kept. Returns how many were made.

    Raises ValueError where `out` holds something else.
    """
    return _simulate(plans, out, jobs, Bulk(None, profiler, profile), progress)


def simulate_features(
    plans: Sequence[SeamPlan],
    out: Path,
    jobs: int,
    cache_dir: Path,
    progress: Progressing = iter,
    *,
    profiler: bool = False,
    profile: Profile = "cell",
    tier: Tier = "default",
    corruption: tuple[str, float] | None = None,
) -> int:
    """Like `simulate_recordings`, but of each seam its features only; `cache_dir` is for exported graphs.

    `corruption`: see `Bulk`.
    """
    return _simulate(plans, out, jobs, Bulk(cache_dir, profiler, profile, tier, corruption), progress)


def session_names_of(seed: int, count: int) -> list[str]:
    """Names of a seed's sessions: recordings of two seeds share none."""
    return [f"s{seed}-{index:02d}" for index in range(count)]


def _of_sessions(plans: list[SeamPlan], wanted: Sequence[str] | None, names: Sequence[str]) -> list[SeamPlan]:
    """The plans of the wanted sessions. Raises ValueError for a session that the plan does not have."""
    unknown = [name for name in wanted or () if name not in names]
    if unknown:
        raise ValueError(f"session {unknown[0]!r} is not in the plan; known: {', '.join(names)}")
    return [plan for plan in plans if wanted is None or plan.session in wanted]


class _Counted:
    """An iterator that knows its length, for progress bars."""

    def __init__(self, items: Iterator[str], n: int) -> None:
        self._items, self._n = items, n

    def __iter__(self) -> Iterator[str]:
        return self._items

    def __len__(self) -> int:
        return self._n


def _simulate(plans: Sequence[SeamPlan], out: Path, jobs: int, bulk: Bulk, progress: Progressing) -> int:
    bulk.check()
    with simulated_folder(out, bulk.data, bulk.about()) as folder:
        todo = [plan for plan in plans if seam_id_of(plan) not in folder.known]
        if not todo:
            return 0
        bulk.prepare()
        rooms = [folder.scratch / seam_id_of(plan) for plan in todo]
        with bulk_pool(min(jobs, len(todo))) as pool:
            # In plan order, so that manifest and truth do not depend on which process was faster.
            truths = pool.map(simulate_seam, todo, [bulk] * len(todo), rooms)

            def added() -> Iterator[str]:
                for room, truth in zip(rooms, truths, strict=True):
                    folder.add(room.name, room, truth)
                    yield room.name

            for _ in progress(_Counted(added(), len(todo))):
                pass
    return len(todo)


def _made(plans: Sequence[SeamPlan], bulk: Bulk) -> dict[str, Any]:
    """What the folder holds of these plans, for the summary."""
    programs, sessions = ({getattr(plan, of) for plan in plans} for of in ("program", "session"))
    return {"seams": len(plans), "programs": sorted(programs), "sessions": sorted(sessions), **bulk.about()}


def _cpu_s() -> float:
    """CPU seconds of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
