"""`edged bench calibrate`: what `edged calibrate` finds in the virtual cell, against its truth.

Only process, bead and scan are rendered, no images: welder gain and offset against the untouched arc, the
microphone's distance against the session's, the lag against the pool by which the virtual metal freezes.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from calibration.lag import LaidSeam, arc_lanes, bead_lanes, fit_lag
from calibration.microphone import sound_delay_ms
from calibration.welder import fit_channel
from edged.bench.results_part import write_part
from edged.progress import progress_bars
from pipelines.bead_rows import bead_columns
from pipelines.features.geometry import flat_heights

__all__ = ["bench_calibrate", "markdown", "measure_calibrate"]

Array = NDArray[np.float64]

PROGRAMS = ("short-butt-3", "globular-fillet-6", "spray-lap-5", "pulsed-lap-4")
SESSIONS = 8
LEAD_S, TAIL_S = 0.6, 0.3
METER_S = 0.5
"""Rows of a meter's log."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Seam:
    """What one seam gives: its laid process and bead, meter and reading `(rows, 2)`, and the sound's delay."""

    program: str
    session: str
    laid: LaidSeam
    meter: Array
    reading: Array
    delay_ms: float | None


def bench_calibrate(
    seams: Annotated[int, typer.Option(min=16, help="Good seams of each program.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the first seam.")] = 10_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    results: Annotated[Path | None, typer.Option(help="Page whose section `calibrate` is written anew.")] = None,
) -> None:
    """Measure `edged calibrate` against the virtual cell's truth."""
    with progress_bars(Console(stderr=True)) as bars:
        report = measure_calibrate(seams, seed, lambda it: bars.track(list(it), description="welding"))
    text = markdown(report)
    Console().print(text, markup=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if results is not None:
        write_part(results, "calibrate", text)


def measure_calibrate(
    seams: int, seed: int, tracked: Callable[[Iterable[tuple[str, int]]], Iterable[tuple[str, int]]] = iter
) -> dict[str, Any]:
    """JSON-ready figures: `welder` by session, `microphone` over all seams, `lag` by program."""
    wanted = [(program, k) for program in PROGRAMS for k in range(seams)]
    found = [_seam(program, seed + k, f"cal-{k % SESSIONS:02d}") for program, k in tracked(wanted)]
    return {
        "seams": seams,
        "seed": seed,
        "welder": [_welder(found, name) for name in sorted({item.session for item in found})],
        "microphone": _microphone(found),
        "lag": [_lag(program, [item.laid for item in found if item.program == program]) for program in PROGRAMS],
    }


def _seam(program_name: str, seed: int, session_name: str) -> _Seam:
    from drivers.sim import arc, sound
    from drivers.sim.bead import form_bead
    from drivers.sim.profile import PROFILE_HALF_WIDTH_MM, PROFILE_MM_PER_ROW, render_profile
    from drivers.sim.programs import program_named
    from drivers.sim.sessions import session_named
    from drivers.sim.variation import LATENT_HZ, draw_latents

    program, session = program_named(program_name), session_named(session_name)
    state = draw_latents(program, session, seed)
    trace = arc.simulate_arc(program, session, state, seed)
    raw = arc.sample_welder(program, session, state, trace, seed, LEAD_S, TAIL_S)
    channels = raw.astype(np.float64) * np.array(arc.WELDER_SCALE)
    times_s = np.arange(len(raw)) / arc.WELDER_HZ - LEAD_S
    burning = (times_s >= 0) & (times_s < state.arc_s)
    audio = sound.render_sound(program, session, state, trace, seed, LEAD_S, TAIL_S)[:, 0].astype(np.float64)
    heard_s = np.arange(len(audio)) / sound.AUDIO_HZ - LEAD_S
    inside = (heard_s > 0.2) & (heard_s < state.arc_s - 0.2)
    bead = form_bead(program, session, state, seed)
    scan = (0.0, PROFILE_MM_PER_ROW, PROFILE_HALF_WIDTH_MM)
    flat, y, _ = flat_heights(render_profile(bead, seed), scan, program.length_mm)
    at_s = np.arange(len(state.position_mm)) / LATENT_HZ
    meter, reading = _meter(trace.current_a, trace.voltage_v, state.arc_s, channels[burning])
    return _Seam(
        program=program_name,
        session=session_name,
        laid=LaidSeam(
            session=session_name,
            process=arc_lanes(times_s[burning], channels[burning], at_s, state.position_mm, program.length_mm),
            bead=bead_lanes(
                bead_columns(flat.T, y, float(y[1] - y[0])), np.arange(flat.shape[1]) * scan[1], program.length_mm
            ),
        ),
        meter=meter,
        reading=reading,
        delay_ms=sound_delay_ms(
            channels[:, 0] * channels[:, 1],
            np.rint(times_s * 1e9).astype(np.int64),
            audio[inside],
            np.rint(heard_s[inside] * 1e9).astype(np.int64),
        ),
    )


def _meter(current_a: Array, voltage_v: Array, arc_s: float, channels: Array) -> tuple[Array, Array]:
    """Means over each `METER_S` of the arc, of the truth and of what the sensors say, `(rows, 2)` each."""
    truth = np.stack([current_a, voltage_v], axis=1)
    rows = int(arc_s / METER_S)

    def means(of: Array) -> Array:
        size = int(len(of) * METER_S / arc_s)
        found: Array = of[: rows * size, :2].reshape(rows, size, 2).mean(1)
        return found

    return means(truth), means(channels)


def _welder(found: Sequence[_Seam], session_name: str) -> dict[str, Any]:
    from drivers.sim.sessions import session_named

    session = session_named(session_name)
    own = [item for item in found if item.session == session_name]
    meter, reading = (np.concatenate([getattr(item, name) for item in own]) for name in ("meter", "reading"))
    line: dict[str, Any] = {"session": session_name, "points": len(meter)}
    for k, (name, unit, gain) in enumerate(
        (("current", "A", session.current_gain), ("voltage", "V", session.voltage_gain))
    ):
        fit = fit_channel(name, unit, meter[:, k], reading[:, k], with_offset=True)
        before = float(np.abs(fit.before).max() / meter[:, k].max())
        line[name] = {
            "gain": fit.gain,
            "true_gain": 1 / gain,
            "offset": fit.offset,
            "worst_share": fit.worst,
            "worst_share_before": before,
        }
    return line


def _microphone(found: Sequence[_Seam]) -> dict[str, Any]:
    from drivers.sim.sessions import session_named
    from drivers.sim.sound import SPEED_OF_SOUND_M_S

    errors = [
        1e3 * (1e-3 * item.delay_ms * SPEED_OF_SOUND_M_S - session_named(item.session).mic_distance_m)
        for item in found
        if item.delay_ms is not None
    ]
    return {
        "seams": len(found),
        "heard": len(errors),
        "error_mm_p50": float(np.median(np.abs(errors))),
        "error_mm_max": float(np.abs(errors).max()),
    }


def _lag(program_name: str, laid: Sequence[LaidSeam]) -> dict[str, Any]:
    from drivers.sim.bead import pool_length_mm
    from drivers.sim.programs import program_named

    fit, pool_mm = fit_lag(laid), pool_length_mm(program_named(program_name))
    return {
        "program": program_name,
        "lag_mm": fit.lag_mm,
        "interval_mm": list(fit.interval_mm),
        "explained": fit.explained,
        "own_mm": dict(fit.own_mm),
        "own_explained": dict(fit.own_explained),
        # Where the pool's weights balance: width freezes over all of it, metal lands mostly near the arc.
        "true_width_mm": 0.5 * pool_mm,
        "true_area_mm": 0.25 * pool_mm,
    }


def markdown(report: dict[str, Any]) -> str:
    """The generated part of docs/results.md."""
    lines = [
        "| program | truth-fed lag (width) | truth of the metal (area) | estimated lag, 95 % "
        "| width alone | area alone | explained |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["lag"]:
        low, high = row["interval_mm"]
        lines.append(
            f"| {row['program']} | {row['true_width_mm']:.2f} mm | {row['true_area_mm']:.2f} mm | "
            f"{row['lag_mm']:.2f} mm [{low:.2f}, {high:.2f}] | "
            f"{row['own_mm']['width']:.2f} mm ({row['own_explained']['width']:.0%}) | "
            f"{row['own_mm']['area']:.2f} mm ({row['own_explained']['area']:.0%}) | {row['explained']:.0%} |"
        )
    lines += [
        "",
        "| welder, over sessions | largest error of the gain | worst point before | after |",
        "|---|---|---|---|",
    ]
    for name in ("current", "voltage"):
        of = [row[name] for row in report["welder"]]
        error = max(abs(row["gain"] / row["true_gain"] - 1) for row in of)
        before, after = (max(row[key] for row in of) for key in ("worst_share_before", "worst_share"))
        lines.append(f"| {name} | {error:.2%} | {before:.2%} of the largest | {after:.2%} |")
    heard = report["microphone"]
    lines += [
        "",
        f"The microphone was heard in {heard['heard']} of {heard['seams']} seams; its distance is off by "
        f"{heard['error_mm_p50']:.1f} mm in the median and {heard['error_mm_max']:.1f} mm at most.",
        "",
        f"`edged bench calibrate --seams {report['seams']} --seed {report['seed']} --results docs/results.md`",
    ]
    return "\n".join(lines) + "\n"
