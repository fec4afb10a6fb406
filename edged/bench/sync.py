"""`edged bench sync`: how far stamps are from the truth, through real clocks and strikes, beside what others do.

Strikes are those of the virtual cell; devices with made-up clocks and delays stand before them (`sync_world`), so
that truth is known to the ns. One seam after another is stamped; delays are unknown to edged until strikes show them.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from edged.progress import progress_bars

if TYPE_CHECKING:
    from drivers.sim.seam import RenderedSeam
    from edged.bench.sync_run import Strike
    from edged.bench.sync_world import World

__all__ = ["BARS", "bench_sync", "sync_markdown"]

SEED = 20_261_201
SESSION = "bench-sync"
LEARNING = 20
"""Strikes that the trend has seen before a stream is judged."""
RATE_SECONDS = 60.0
BARS: dict[str, float] = {
    "audio_residual_ms_p99": 1.0,
    "video_residual_ms_p99": 5.0,
    "faulted_residual_ms_p99": 2.0,
    "rate_error_ppm": 1.0,
}
TRUTH = (
    "drivers.sim renders the strikes; edged.bench.sync_world takes every item at a known time by a clock of known "
    "ppm and delay: residual = (stamp − true time of the counter), less the same of the current"
)


def bench_sync(
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    seams: Annotated[int, typer.Option(min=LEARNING + 2, help="Seams a round; the first 20 only teach.")] = 40,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each with devices drawn anew.")] = 6,
    results: Annotated[Path | None, typer.Option(help="Markdown file whose part `sync` is replaced.")] = None,
    peers: Annotated[bool, typer.Option(help="Compare with pylsl and others.")] = True,
) -> None:
    """Time: residual of sound and light, drift, and the peers in the same run. Exits with 1 where a bar is missed."""
    console = Console(stderr=True)
    report = measure(seams, rounds, console, with_peers=peers)
    report["command"] = f"edged bench sync --seams {seams} --rounds {rounds}"
    _print(report, console)
    if json_out is not None:
        json_out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if results is not None:
        from edged.bench.results_part import write_part

        write_part(results, "sync", sync_markdown(report))
    if missed := [f"{key} is {report[key]:.3f}, limit {bar:g}" for key, bar in BARS.items() if report[key] > bar]:
        console.print("\n".join(missed))
        raise typer.Exit(1)


def measure(seams: int, rounds: int, console: Console, *, with_peers: bool = True) -> dict[str, Any]:
    """The figures of `edged bench sync --json`."""
    from edged.bench.sync_peers import pair_errors_ms, pylsl_errors_ms
    from edged.bench.sync_run import follow, rate_error_ppm, tracks_of
    from edged.bench.sync_world import NOISES, World

    rendered: list[RenderedSeam] = []
    usual, known, faulted, rates, others = [], [], [], [], _Others()
    with progress_bars(console) as bar:
        rendered += bar.track(_seams(seams), total=seams, description="welding")
        for number in bar.track(range(rounds), description="rounds"):
            rng = np.random.default_rng([SEED, number])
            world = World(rendered, _devices(rng))
            usual += list(follow(world, tracks_of(world, NOISES["usual"], rng, knows_latency=False), follows=True))
            tracks = tracks_of(world, NOISES["faulted"], rng, knows_latency=True)
            faulted += list(follow(world, tracks, follows=False))
            rates += [
                (device.spec.name, rate_error_ppm(device, NOISES["usual"], RATE_SECONDS, rng))
                for device in world.devices.values()
            ]
            clean = tracks_of(world, NOISES["usual"], rng, knows_latency=True)
            known += list(follow(world, clean, follows=False))
            if with_peers:
                for case, found in (("usual", clean), ("faulted", tracks)):
                    for kind in ("audio", "video"):
                        for pairing in ("nearest_50ms", "approximate_time"):
                            others.add(pairing, case, kind, pair_errors_ms(world, found, kind, pairing))
                        others.lsl(pylsl_errors_ms, case, kind, world, found)
    return _report(usual, known, faulted, rates, others, len(rendered), rounds)


class _Others:
    """Peers' errors, ms, by peer, case and kind."""

    def __init__(self) -> None:
        self.errors: dict[str, dict[str, list[float]]] = {}
        self.missing: dict[str, str] = {}

    def add(self, peer: str, case: str, kind: str, errors: list[float]) -> None:
        """Take the errors of one round."""
        self.errors.setdefault(peer, {}).setdefault(f"{case}_{kind}", []).extend(errors)

    def lsl(self, measured: Any, case: str, kind: str, world: "World", tracks: Any) -> None:
        """pylsl, where it is installed and finds itself on loopback."""
        try:
            self.add("pylsl", case, kind, measured(world, tracks, kind))
        except (ImportError, RuntimeError) as error:
            self.missing["pylsl"] = str(error)

    def as_json(self) -> dict[str, Any]:
        """Per peer: p50, p99 and n of each case."""
        return {
            peer: {case: _spread(errors) for case, errors in cases.items()} for peer, cases in self.errors.items()
        }


def _seams(count: int) -> "Iterable[RenderedSeam]":
    from drivers.sim.plan import plan_seams
    from drivers.sim.render import render_process
    from drivers.sim.seam import IMAGE_PRESETS

    return (render_process(p, IMAGE_PRESETS["small"]) for p in plan_seams(count, SEED, "good", sessions=[SESSION]))


def _devices(rng: np.random.Generator) -> Mapping[str, Any]:
    import dataclasses

    from calibration.acoustics import sound_delay_ns
    from drivers.sim.arc_camera import EXPOSURE_MS
    from drivers.sim.chunks import stream_specs
    from drivers.sim.seam import IMAGE_PRESETS
    from drivers.sim.sessions import session_named
    from drivers.sim.transports import AUDIO_BLOCK, WELDER_BLOCK
    from edged.bench.sync_world import devices_of

    # As the virtual cell is configured: its camera's frames are counted.
    specs = [dataclasses.replace(spec, tick="counter") for spec in stream_specs(IMAGE_PRESETS["small"])]
    known_ms = {"audio": sound_delay_ns(session_named(SESSION).mic_distance_m) / 1e6, "video": EXPOSURE_MS}
    return devices_of(specs, {"welder": WELDER_BLOCK, "mic": AUDIO_BLOCK}, known_ms, rng)


def _report(
    usual: "Sequence[Strike]",
    known: "Sequence[Strike]",
    faulted: "Sequence[Strike]",
    rates: Sequence[tuple[str, float]],
    others: _Others,
    seams: int,
    rounds: int,
) -> dict[str, Any]:
    learned = [strike for strike in usual if strike.index >= LEARNING]
    audio, video = (_spread([s.error_ms for s in learned if s.kind == kind]) for kind in ("audio", "video"))
    first = {
        kind: _spread([s.error_ms for s in usual if s.index == 0 and s.kind == kind]) for kind in ("audio", "video")
    }
    return {
        "audio_residual_ms_p50": audio["p50"],
        "audio_residual_ms_p99": audio["p99"],
        "video_residual_ms_p50": video["p50"],
        "video_residual_ms_p99": video["p99"],
        "known_delay_residual_ms_p99": _spread([s.error_ms for s in known])["p99"],
        "faulted_residual_ms_p99": _spread([s.error_ms for s in faulted])["p99"],
        "rate_error_ppm": max(abs(error) for _, error in rates),
        "rate_error_ppm_by_stream": {n: max(abs(e) for m, e in rates if m == n) for n in dict(rates)},
        "before_the_first_strike_ms": first,
        "strikes_not_seen": sum(s.measured_ms is None for s in usual),
        "detector_error_ms": {
            kind: _spread([s.measured_ms - s.error_ms for s in usual if s.kind == kind and s.measured_ms is not None])
            for kind in ("audio", "video")
        },
        "peers": {**others.as_json(), **({"missing": others.missing} if others.missing else {})},
        "n": {
            "audio": audio["n"],
            "video": video["n"],
            "faulted": len(faulted),
            "rate": len(rates),
            "seams": seams,
            "rounds": rounds,
        },
        "truth": TRUTH,
        "load_1min": os.getloadavg()[0],
    }


def _spread(errors: Sequence[float]) -> dict[str, float]:
    """p50 and p99 of the absolute values, and how many."""
    if not errors:
        return {"p50": 0.0, "p99": 0.0, "n": 0}
    absolute = np.abs(errors)
    return {"p50": float(np.quantile(absolute, 0.5)), "p99": float(np.quantile(absolute, 0.99)), "n": len(errors)}


def _rows(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = [(key, f"{report[key]:.3f}", f"≤ {bar:g}") for key, bar in BARS.items()]
    others = ("audio_residual_ms_p50", "video_residual_ms_p50", "known_delay_residual_ms_p99")
    rows += [(key, f"{report[key]:.3f}", "") for key in others]
    for peer, cases in report["peers"].items():
        for case, found in cases.items() if peer != "missing" else ():
            rows.append(
                (f"{peer}, {case.replace('_', ' ')}, p50 / p99 ms", f"{found['p50']:.3f} / {found['p99']:.3f}", "")
            )
    return rows


def _print(report: dict[str, Any], console: Console) -> None:
    table = Table("figure", "value", "bar", title=f"sync, {report['n']['audio']} judged strikes a stream")
    for row in _rows(report):
        table.add_row(*row)
    console.print(table)
    for peer, why in report["peers"].get("missing", {}).items():
        console.print(f"{peer} is not compared: {why}; pip install -c constraints.txt '.[bench]'", markup=False)


def sync_markdown(report: dict[str, Any]) -> str:
    """The part `sync` of docs/results.md."""
    lines = ["| figure | value | bar |", "|---|---|---|", *("| " + " | ".join(row) + " |" for row in _rows(report))]
    n = report["n"]
    text = (
        f"\nMade by `{report['command']}`: {n['rounds']} rounds of {n['seams']} seams, other devices in each; judged "
        f"are strikes after the first {LEARNING}. Truth: {report['truth']}. One strike alone is off by "
        f"{report['detector_error_ms']['video']['p50']:.1f} ms (p50) for a camera, by "
        f"{report['detector_error_ms']['audio']['p50']:.2f} for sound. Peers know the constant delays, as edged does "
        "in *known_delay* and *faulted*; in the other rows it finds them by the strikes. The mean lateness that "
        "pylsl follows is much the same in all devices here and cancels. All rounds see the same rendered strikes, "
        f"so what strikes find rests on {n['seams'] - LEARNING} of them.\n"
    )
    return "\n".join(lines) + "\n" + text
