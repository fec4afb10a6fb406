"""`edged import intel-weld DIR --out RECORDINGS`: a data set of runs → a recordings folder.

The folder has one `<seam_id>.mcap` a run, `manifest.jsonl`, and `truth.jsonl` with the labels, which only
evaluation opens. What a run lacks is said in its recording, in the table and in the report.
"""

import collections
import dataclasses
import datetime
import importlib.metadata
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from ulid import ULID

from drivers.mcap_codec import RECORDING_SUFFIX, RecordingError
from edged.importing.align import AlignError
from edged.importing.mapping import Mapping, MappingError, load_mapping
from edged.importing.run import Run, Source, find_sources, read_run, write_run
from edged.manifest import TRUTH, append_manifest

__all__ = ["import_app", "import_runs", "intel_weld"]

PARTS = ("sound", "video", "photos")

import_app = typer.Typer(name="import", no_args_is_help=True, help="Make recordings of data that others recorded.")


def import_runs(root: Path, out: Path, mapping: Mapping) -> list[dict[str, Any]]:
    """Import every run below `root` that `out` does not have yet; one report line a run.

    Raises RecordingError or OSError when `out` cannot be written: then no later run could be either.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = _imported(out)
    software = f"edged {importlib.metadata.version('edged')}" if _is_installed() else "edged"
    lines: list[dict[str, Any]] = []
    for source in track(find_sources(root, mapping), description="importing", console=Console(stderr=True)):
        if source.run_id in done:
            lines.append({"run": source.run_id, "seam_id": done[source.run_id], "status": "already there"})
            continue
        try:
            defect = mapping.class_of(source.run_id)
            run = read_run(source, mapping)
        except (AlignError, MappingError, OSError) as error:
            lines.append({"run": source.run_id, "seam_id": None, "status": f"left out: {error}"})
            continue
        seam_id = str(ULID.from_timestamp(run.log.utc_ns / 1e9))
        # The lines go first: one without a recording is skipped, a recording without its label would be a trap.
        append_manifest(out, _manifest_line(run, mapping, seam_id))
        _append_truth(out, source, seam_id, defect)
        write_run(run, mapping, out, seam_id, software)
        lines.append(_report_line(run, seam_id, defect))
    return lines


@import_app.command("intel-weld")
def intel_weld(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of <session>/<run id>/.")],
    out: Annotated[Path, typer.Option("--out", help="Recordings folder to write into.")],
    mapping_path: Annotated[
        Path | None, typer.Option("--mapping", help="TOML that names another set's files and columns.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
) -> None:
    """Import the Intel Robotic Welding Multimodal Dataset, or any CSV/sound/video/photo set through a mapping."""
    errors = Console(stderr=True)
    try:
        mapping = load_mapping(mapping_path)
    except MappingError as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(2) from error
    if not folder.is_dir():
        errors.print(f"{folder} is no folder; give the one that holds <session>/<run id>/", markup=False)
        raise typer.Exit(2)
    try:
        lines = import_runs(folder, out, mapping)
    except (RecordingError, OSError) as error:
        errors.print(f"import stopped: {error}; start it again to go on where it stopped", markup=False)
        raise typer.Exit(1) from error
    _show(lines, out)
    if json_path is not None:
        json_path.write_text(json.dumps(_summary(lines), indent=2) + "\n", encoding="utf-8")
    if not any(line["seam_id"] for line in lines):
        raise typer.Exit(1)


def _report_line(run: Run, seam_id: str, defect: str | None) -> dict[str, Any]:
    return {
        "run": run.source.run_id,
        "seam_id": seam_id,
        "status": "imported",
        "class": defect or "good",
        "rows": len(run.log.t_s),
        "bad_rows": run.log.bad_rows,
        "voltage_spikes": run.spikes,
        "arc_s": round(run.arc[1] - run.arc[0], 3),
        "sound_s": None if run.sound is None else round(len(run.sound) / run.alignments["sound"].rate_hz, 2),
        "frames": run.frames,
        "photos": len(run.views),
        "alignments": {name: dataclasses.asdict(alignment) for name, alignment in run.alignments.items()},
        "missing": run.missing,
    }


def _summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all runs, and per class how many runs lack what."""
    by_class: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for line in lines:
        if line["status"] == "imported":
            by_class[line["class"]].update({"runs": 1, **{f"without_{part}": 1 for part in line["missing"]}})
    return {
        "imported": sum(line["status"] == "imported" for line in lines),
        "left_out": sum(line["seam_id"] is None for line in lines),
        "by_class": {name: dict(counts) for name, counts in sorted(by_class.items())},
        "runs": lines,
    }


def _show(lines: list[dict[str, Any]], out: Path) -> None:
    table = Table(title="completeness per run")
    columns = ("run", "rows", "arc s", "sound s", "± ms", "fps", "video s", "photos", "remarks")
    for column in columns:
        left = column in ("run", "remarks")
        table.add_column(column, justify="left" if left else "right", no_wrap=column == "run", overflow="fold")
    for line in lines:
        if line["status"] != "imported":
            table.add_row(line["run"], *[""] * 7, line["status"])
            continue
        sound, video = (line["alignments"].get(name, {}) for name in ("sound", "video"))
        remarks = [f"{part}: {why}" for part, why in line["missing"].items()]
        remarks += ["sound ends before the arc"] if sound.get("truncated") else []
        table.add_row(
            line["run"],
            str(line["rows"]),
            f"{line['arc_s']:.1f}",
            *(
                _number(value, digits)
                for value, digits in (
                    (sound.get("lead_s"), 2),
                    (sound.get("residual_ms"), 0),
                    (video.get("rate_hz"), 2),
                    (video.get("lead_s"), 2),
                )
            ),
            str(line["photos"]),
            "; ".join(remarks),
        )
    console = Console()
    console.print(table)
    console.print("sound s, video s: how much earlier than the log they show arc-on; ±: misfit of the arc's length")
    summary = _summary(lines)
    console.print(f"{summary['imported']} imported into {out}, {summary['left_out']} left out", markup=False)
    for name, counts in summary["by_class"].items():
        lacks = ", ".join(f"{counts.get(f'without_{part}', 0)} without {part}" for part in PARTS)
        console.print(f"  {name}: {counts['runs']} runs, {lacks}", markup=False, highlight=False)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _manifest_line(run: Run, mapping: Mapping, seam_id: str) -> dict[str, Any]:
    utc = datetime.datetime.fromtimestamp(run.log.utc_ns / 1e9 + run.arc[0], datetime.UTC)
    return {
        "seam_id": seam_id,
        "program": mapping.program,
        "session": run.source.session_id,
        "set_points": run.set_points,
        "utc": utc.isoformat(timespec="milliseconds"),
        "label": None,
    }


def _append_truth(out: Path, source: Source, seam_id: str, defect: str | None) -> None:
    family = "good" if defect is None else "real"
    truth = {"family": family, "type": defect, "severity": None, "unit": None}
    line = {"seam_id": seam_id, "truth": truth, "run": source.run_id, "session": source.session}
    with (out / TRUTH).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _imported(out: Path) -> dict[str, str]:
    """Run id → seam id of what an earlier import finished."""
    path = out / TRUTH
    if not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {
        line["run"]: line["seam_id"]
        for line in lines
        if "run" in line and (out / f"{line['seam_id']}{RECORDING_SUFFIX}").exists()
    }


def _is_installed() -> bool:
    return any(True for _ in importlib.metadata.distributions(name="edged"))
