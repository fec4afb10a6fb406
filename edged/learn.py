"""The verb `edged learn PROGRAM`: the cell's own good recordings → its own thresholds, in `DATA_DIR/thresholds`.

Then the program is in shadow, until somebody arms it: a running daemon reads the file within a second.
"""

import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drivers.mcap_codec import RecordingError
from edged.arm import interval_text
from edged.cell_thresholds import thresholds_folder, write_cell
from edged.config import ConfigError, ProgramConfig, load_config
from edged.progress import progress_bars
from edged.train import DEFAULT_CACHE, Advance, advance_of
from pipelines.models import ModelError
from pipelines.thresholds import DEFAULT_ALPHA, SESSIONS_NEEDED, Threshold, goods_needed

if TYPE_CHECKING:
    from edged.learning import Scored

__all__ = ["learn", "learn_program"]

BAD_FILE = "bad-seams.txt"


def learn(
    program: Annotated[str, typer.Argument(help="Program of the configuration.")],
    config: Annotated[Path, typer.Option(help="Configuration of the cell, TOML.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of good recordings; default: the cell's own.")
    ] = None,
    bad: Annotated[
        Path | None,
        typer.Option(help=f"Ids of bad seams, one a line; default: {BAD_FILE} in the folder of the recordings."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that extract features.")] = 2,
    cache_dir: Annotated[Path, typer.Option(help="Where features and exported graphs are kept.")] = DEFAULT_CACHE,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Learn a program's limits from the cell's good seams. Exit code 1, and nothing changed, when too few."""
    console = Console(stderr=True)
    try:
        cell = load_config(config)
        section = cell.programs.get(program)
        if section is None:
            known = ", ".join(cell.programs) or "none"
            raise ConfigError(str(config), [f"programs: no program {program!r}; known: {known}"])
        folder = recordings or cell.cell.data_dir / "recordings"
        with progress_bars(console) as bars:
            report = learn_program(
                program,
                section,
                folder,
                thresholds_folder(cell.cell.data_dir),
                _marked(bad or folder / BAD_FILE, needed=bad is not None),
                jobs,
                cache_dir.expanduser(),
                advance_of(bars),
            )
    except (ConfigError, ModelError, RecordingError, ValueError, OSError) as error:
        console.print(f"[red]edged learn:[/red] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _show(Console(), report)
    if report["written"] is None:
        raise typer.Exit(1)


def learn_program(
    program: str,
    section: ProgramConfig,
    recordings: Path,
    thresholds: Path,
    bad: frozenset[str] = frozenset(),
    jobs: int = 1,
    cache_dir: Path = DEFAULT_CACHE,
    advance: Advance | None = None,
) -> dict[str, Any]:
    """What `edged learn --json` says; writes into `thresholds` if the goods suffice for the fullest set of streams.

    Raises ModelError, RecordingError, ValueError, OSError.
    """
    from edged.learning import learned, score_goods, wanted_goods
    from edged.recorded import list_features, list_recorded

    if section.model is None:
        raise ValueError(f"programs.{program}.model: none is configured; train one first with edged train")
    alpha = section.false_alarm_budget or DEFAULT_ALPHA
    seams = list_features(recordings) or list_recorded(recordings)
    goods = wanted_goods(seams, program, section.model, bad)
    found_scores = score_goods(goods, section.model, cache_dir, jobs, advance)
    scored, failed = found_scores.scored, found_scores.failed
    utc = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    learn = functools.partial(learned, program=program, alpha=alpha, calibration_id=goods.calibration_id, utc=utc)
    outcomes = [(found, learn(found)) for found in scored]
    live = [(found, learn(found, signal="live")) for found in found_scores.live]
    # The live score warns beside a verdict: without limits for that it gets none of its own either.
    written = _written(thresholds, outcomes)
    if written is not None:
        _written(thresholds, live)
    return {
        "program": program,
        "model_id": scored[0].model_id if scored else None,
        "calibration_id": goods.calibration_id,
        "false_alarm_budget": alpha,
        "needed": goods_needed(alpha),
        "sessions_needed": SESSIONS_NEEDED,
        "goods": len(goods.seams) - len(failed),
        "left_out": goods.left_out,
        "unscored": failed,
        "held_out": goods.is_held_out,
        "sets": [_set(found, outcome, alpha) for found, outcome in outcomes],
        "live": [_set(found, outcome, alpha) for found, outcome in live],
        "highest": _highest(outcomes[0][0].raw) if outcomes else [],
        "written": written,
    }


def _written(thresholds: Path, outcomes: Sequence[tuple["Scored", Threshold | str]]) -> str | None:
    """The file, if the goods suffice for the fullest set of streams; else nothing is changed."""
    rows = [outcome for _, outcome in outcomes if isinstance(outcome, Threshold)]
    enough = bool(outcomes) and isinstance(outcomes[0][1], Threshold)
    return str(write_cell(thresholds, rows)) if enough else None


def _set(found: "Scored", outcome: Threshold | str, alpha: float) -> dict[str, Any]:
    return {
        "streams": list(found.streams),
        "goods": len(found.raw),
        "sessions": len(set(found.sessions.values())),
        "across_sessions": _across(found, alpha),
        **_figures(outcome),
    }


def _across(found: "Scored", alpha: float) -> dict[str, Any]:
    """What limits learned without a session flag in it."""
    from pipelines.false_alarms import across_sessions

    rate = across_sessions(list(found.raw.values()), list(found.sessions.values()), alpha)
    return {"rate": rate.value, "ci": rate.ci, "n": rate.n}


def _figures(outcome: Threshold | str) -> dict[str, Any]:
    if isinstance(outcome, str):
        return {"refused": outcome}
    return {
        "threshold_id": outcome.threshold_id,
        "limit": outcome.value,
        "false_alarm_budget": outcome.alpha,
        "interval": outcome.interval,
        "interval_by_session": outcome.interval_by_session,
        "refused": None,
    }


def _highest(raw: Mapping[str, float], count: int = 5) -> list[list[Any]]:
    """The seams that set the limit, for somebody to look at: a bad one among them makes it blind."""
    return [[seam_id, raw[seam_id]] for seam_id in sorted(raw, key=lambda seam: -raw[seam])[:count]]


def _marked(path: Path, *, needed: bool) -> frozenset[str]:
    """Seam ids of a file, one a line; what follows the first word is for people. Raises OSError if `needed`."""
    if not needed and not path.exists():
        return frozenset()
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return frozenset(words[0] for words in lines if words and not words[0].startswith("#"))


def _show(console: Console, report: Mapping[str, Any]) -> None:
    console.print(
        f"program {report['program']}, model {report['model_id']}: {report['goods']} good seams"
        + "".join(f", {count} {why}" for why, count in report["left_out"].items())
        + (f", {len(report['unscored'])} without a score" if report["unscored"] else ""),
        highlight=False,
    )
    if report["held_out"] is None:
        console.print(
            "[yellow]The model does not say which seams taught it: make sure that none of these did, or its limits "
            "are too low.[/yellow]"
        )
    console.print(_table(report["sets"], "limits of the verdict's score"))
    if report["live"]:
        console.print(_table(report["live"], "limits of the live score, which warns and never sets a label"))
    else:
        console.print("The model has no live score for this program.", highlight=False)
    if report["highest"]:
        seams = ", ".join(f"{seam} ({raw:.3g})" for seam, raw in report["highest"])
        console.print(f"These set the limit, look at them: {seams}", highlight=False)
    program = report["program"]
    if report["written"] is None:
        refused = report["sets"][0]["refused"] if report["sets"] else f"needs {report['needed']} more goods (has 0)"
        console.print(f"[red]program {program} {refused}[/red]: nothing was changed", highlight=False)
        return
    console.print(f"written to {report['written']}", highlight=False, soft_wrap=True)
    console.print(f"{program} is in shadow with them; when you trust it: edged arm {program}", highlight=False)


def _table(sets: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table("streams", "goods", "sessions", "limit (raw)", "false alarms", "in a session left out", title=title)
    for row in sets:
        limit = "–" if row["refused"] else f"{row['limit']:.4g}"
        text = f"[yellow]{row['refused']}[/yellow]" if row["refused"] else interval_text(row)
        left_out = row["across_sessions"]["rate"]
        shown = "–" if left_out is None else f"{left_out:.2%}"
        table.add_row("+".join(row["streams"]), str(row["goods"]), str(row["sessions"]), limit, text, shown)
    return table
