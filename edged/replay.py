"""The verb `edged replay`: recorded seams judged again, beside what was said when they were welded."""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from calibration.files import CalibrationError, load_calibrations
from drivers.base import MONOTONIC
from drivers.mcap_codec import RECORDING_SUFFIX, RecordingError, RecordingReader
from edged.cell_calibration import CellCalibration
from edged.cell_thresholds import load_cell, load_own, thresholds_folder
from edged.config import Config, ConfigError, load_config
from edged.endpoints import EndpointError
from edged.engine import Engine
from edged.journal import DuplicateSeam
from edged.judge import Judge
from edged.recording import recorded_config, recordings
from edged.replay_engine import (
    EngineFactory,
    Pace,
    ReplaySetup,
    replay_recording,
    replaying_engine,
    strike_lateness_ns,
)
from edged.types import Verdict
from pipelines.models import ModelError, load_detector
from pipelines.window import Detector, LivePoint, Score, Seam

if TYPE_CHECKING:
    from edged.replay_outlet import ReplayOutlet

__all__ = ["local_engine", "replay", "report_line"]

STEP_NS = 1_000_000_000
CACHE_DIR = Path.home() / ".cache" / "edged"
SAME_LIMIT = 1e-6
HOLD_S = 3.0
"""As long as a subscriber waits for a heartbeat: whoever is there gets the last verdict, and may ask for others."""
SPEED_HELP = "max, a factor of real time such as 1.0, or step: Enter each second"


def local_engine(
    model: str | None = None,
    cache_dir: Path = CACHE_DIR,
    on_live: Callable[[Seam, LivePoint], None] = lambda seam, point: None,
) -> EngineFactory:
    """Makes engines that score in this process and record nothing; `model` instead of the programs' own.

    `on_live` is called with each point of the live score, as the daemon would publish it.

    A model is loaded once, however many recordings it judges. The engines raise ModelError when it cannot be.
    """
    # With the feature extractors, which other verbs need not wait for.
    from edged.local_scorer import LocalScorer
    from pipelines.live_scorer import use_cell_limits

    loaded: dict[str, Detector] = {}

    def detector(name: str) -> Detector:
        if name not in loaded:
            loaded[name] = load_detector(name, cache_dir=cache_dir)
        return loaded[name]

    def make(setup: ReplaySetup, on_verdict: Callable[[Verdict], None]) -> Engine:
        config = with_model(setup.config, model)
        wanted = config.programs.get(setup.seam.program)
        used = {} if wanted is None or wanted.model is None else {setup.seam.program: detector(wanted.model)}
        setup = dataclasses.replace(setup, config=config)
        judge = _judge(setup)
        for one in used.values():
            use_cell_limits(one, judge.cell, setup.calibration.calibration_id)
        return replaying_engine(setup, LocalScorer(used), on_verdict, judge, on_live)

    return make


def _judge(setup: ReplaySetup) -> Judge:
    """The thresholds of the cell, where this is its box, and how far the program had come when it was welded."""
    config, program = setup.config, setup.seam.program
    section = config.programs.get(program)
    cell, _ = load_cell(thresholds_folder(config.cell.data_dir))
    own = {} if section is None or section.model is None else {program: load_own(section.model)[0]}
    mode = setup.mode or (None if section is None else section.mode)
    return Judge(config, cell, own, fixed={} if mode is None else {program: mode})


def with_model(config: Config, model: str | None) -> Config:
    """The config with every program's model replaced; unchanged for None."""
    if model is None:
        return config
    programs = {name: program.model_copy(update={"model": model}) for name, program in config.programs.items()}
    return config.model_copy(update={"programs": programs})


def replay(
    paths: Annotated[list[Path], typer.Argument(help="recordings, or folders of them")],
    model: Annotated[str | None, typer.Option(help="model directory or 'demo' instead of the recorded one")] = None,
    speed: Annotated[str, typer.Option(help=SPEED_HELP)] = "max",
    config: Annotated[Path | None, typer.Option(help="judge by this config instead of the recorded one")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="folder of calibrations instead of the recorded ones; an empty one is none")
    ] = None,
    realign: Annotated[bool, typer.Option(help="set sound and light by each seam's own arc strike first")] = False,
    publish: Annotated[str | None, typer.Option(help="publish the verdicts here, marked as simulated")] = None,
    hold_s: Annotated[
        float, typer.Option("--hold", min=0, help="with --publish: seconds to stay after the last verdict")
    ] = HOLD_S,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the report here")] = None,
) -> None:
    """Judge recorded seams again and compare with the recorded verdicts."""
    console = Console(stderr=True)
    try:
        files = _files(paths)
        pace = _pace(speed, console)
        own_config = load_config(config) if config else None
        own_calibration = _calibration(calibration) if calibration else None
        outlet = None if publish is None else _outlet(publish, files, own_config)
    except (RecordingError, ConfigError, CalibrationError, EndpointError, ValueError) as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        raise typer.Exit(2) from error
    factory = local_engine(model)

    def judged(file: Path) -> Verdict:
        between = (lambda: None) if outlet is None else outlet.serve
        pace_now = pace() if pace else None
        verdict = replay_recording(file, factory, own_config, pace_now, own_calibration, between=between)
        if realign:
            late_ns = strike_lateness_ns(verdict)
            verdict = replay_recording(file, factory, own_config, None, own_calibration, late_ns, between)
        if outlet is not None:
            outlet.publish(verdict)
        return verdict

    with contextlib.nullcontext() if outlet is None else contextlib.closing(outlet):
        lines, failed = _judge_all(_with_progress(files, console, quiet=speed == "step"), judged)
        if outlet is not None:
            outlet.hold(hold_s)
    report = _report(lines, failed)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    Console().print(_table(lines))
    for failure in failed:
        console.print(f"[red]{escape(failure['error'])}[/red]", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


Lines = list[dict[str, Any]]
Failed = list[dict[str, str]]


def _judge_all(files: Iterator[Path], judged: Callable[[Path], Verdict]) -> tuple[Lines, Failed]:
    lines: Lines = []
    failed: Failed = []
    for file in files:
        try:
            lines.append(report_line(judged(file), RecordingReader(file).metadata("verdict") or {}))
        except (RecordingError, ModelError, DuplicateSeam) as error:
            failed.append({"path": str(file), "error": str(error)})
    return lines, failed


def _report(lines: Lines, failed: Failed) -> dict[str, Any]:
    diffs = [line["diff"] for line in lines if line["diff"] is not None]
    along = [line["along_diff"] for line in lines if line["along_diff"] is not None]
    return {
        "seams": lines,
        "max_diff": max(diffs, default=None),
        "max_along_diff": max(along, default=None),
        "failed": failed,
    }


def _outlet(endpoint: str, files: list[Path], own_config: Config | None) -> "ReplayOutlet":
    """Raises ValueError where the endpoint is one that the config, or a recording's, gives to live verdicts."""
    from edged.daemon import software_version  # with the whole daemon, which other replays need not wait for
    from edged.replay_outlet import ReplayOutlet, must_be_apart

    configs = [own_config] if own_config else [recorded_config(RecordingReader(file)) for file in files]
    nets = [config.net for config in configs if config is not None]
    must_be_apart(endpoint, {there for net in nets for there in (net.verdicts, net.journal_endpoint)})
    return ReplayOutlet(endpoint, f"edged {software_version()} replay")


def _with_progress(files: list[Path], console: Console, quiet: bool) -> Iterator[Path]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet) as progress:
        yield from progress.track(files, description="replaying")


def report_line(verdict: Verdict, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """One seam of the report.

    `diff` is relative, 1 where only one side has a score; None where another model or calibration judged or neither
    side has one. Where a program had no threshold yet, or another limit, the raw scores are compared. `along_diff` is
    the largest difference of the scores along the seam, in units of the limit; None where another model or
    calibration judged or the recording holds none.
    """
    score = verdict.score
    now = {"score": score.score, "raw": score.raw} if score else {"score": None, "raw": None}
    limit = score.threshold if score else None
    then = _recorded_limit(recorded)
    other_limit = limit is not None and then is not None and not math.isclose(limit, then, rel_tol=SAME_LIMIT)
    key = "raw" if other_limit or (now["score"] is None and recorded.get("score") is None) else "score"
    same = all(getattr(verdict, name) == recorded.get(name, "none") for name in ("model_id", "calibration_id"))
    diff = _relative(now[key], recorded.get(key)) if same else None
    return {
        "seam_id": verdict.seam.seam_id,
        "program": verdict.seam.program,
        "label": verdict.label.name,
        "reason": verdict.reason,
        "score": now["score"],
        "p_value": score.p_value if score else None,
        "model_id": verdict.model_id,
        "calibration_id": verdict.calibration_id,
        "recorded": {key: recorded.get(key) for key in ("label", "reason", "score", "model_id", "calibration_id")},
        "diff": diff,
        "along": [[p.mm, p.score] for p in score.along] if score else [],
        "along_diff": _along_diff(score, recorded) if same else None,
    }


def _along_diff(score: Score | None, recorded: Mapping[str, Any]) -> float | None:
    """Against the recorded verdict's; 1 where the places differ."""
    was = ((recorded.get("whole") or {}).get("score") or {}).get("along")
    if was is None or score is None:
        return None
    if [p["mm"] for p in was] != [p.mm for p in score.along]:
        return 1.0
    return max((abs(old["score"] - new.score) for old, new in zip(was, score.along, strict=True)), default=0.0)


def _recorded_limit(recorded: Mapping[str, Any]) -> float | None:
    raw, score = recorded.get("raw"), recorded.get("score")
    return raw / score if raw is not None and score else None


def _relative(new: float | None, old: float | None) -> float | None:
    if new is None or old is None:
        return None if new is old else 1.0
    return abs(new - old) / max(abs(old), 1e-12) if new != old else 0.0


def _files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        found = recordings(path) if path.is_dir() else [path]
        if not found:
            raise RecordingError(f"{path}: holds no *{RECORDING_SUFFIX} file")
        if missing := [file for file in found if not file.exists()]:
            raise RecordingError(f"{missing[0]}: there is no such recording")
        files += found
    return files


def _calibration(folder: Path) -> CellCalibration:
    if not folder.is_dir():
        raise CalibrationError(f"--calibration {folder}: is no folder; an empty one stands for no calibration")
    return CellCalibration(load_calibrations(folder))


def _pace(speed: str, console: Console) -> Callable[[], Pace] | None:
    if speed == "max":
        return None
    if speed == "step":
        return lambda: _Stepper(console).wait
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise ValueError(f"--speed {speed}: must be max, step or a factor above 0 such as 1.0")
    return lambda: _RealTime(factor).wait


@dataclasses.dataclass(slots=True)
class _RealTime:
    """Waits so that the recording runs at `factor` of real time."""

    factor: float
    start: tuple[int, int] | None = None

    def wait(self, t_ns: int) -> None:
        if self.start is None:
            self.start = (t_ns, time.monotonic_ns())
        MONOTONIC.sleep_until_ns(self.start[1] + round((t_ns - self.start[0]) / self.factor))


@dataclasses.dataclass(slots=True)
class _Stepper:
    """Waits for Enter after each second of the recording."""

    console: Console
    next_ns: int | None = None
    second: int = 0

    def wait(self, t_ns: int) -> None:
        if self.next_ns is None:
            self.next_ns = t_ns + STEP_NS
        while t_ns >= self.next_ns:
            self.second += 1
            self.next_ns += STEP_NS
            self.console.input(f"{self.second} s; Enter goes on ")


def _table(lines: list[dict[str, Any]]) -> Table:
    table = Table("seam", "program", "label", "recorded", "reason", "score", "recorded", "difference")
    for line in lines:
        recorded = line["recorded"]
        style = None if line["label"] == recorded["label"] else "bold yellow"
        table.add_row(
            line["seam_id"],
            line["program"],
            line["label"],
            recorded["label"] or "–",
            line["reason"],
            _number(line["score"], ".4f"),
            _number(recorded["score"], ".4f"),
            _number(line["diff"], ".1e"),
            style=style,
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
