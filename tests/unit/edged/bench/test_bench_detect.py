"""`edged bench detect`: what it says where it cannot measure, and that corpora of two sizes are never mixed."""

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from edged.bench.app import bench_app
from edged.bench.detection.runner import DONE
from edged.bench.detection.scored import ROW_FIELDS, Run, TestSeam, save_run

SEAMS = tuple(
    TestSeam(f"s{k}", "p1", f"session-{k % 4}", *(("good",) if k % 2 else ("both", "undercut", 3, 1.0, "mm")))
    for k in range(40)
)


def kept(work: Path, schedule: str, name: str) -> None:
    row = dict.fromkeys(ROW_FIELDS) | {"pipeline": name, "corpus": 1, "schedule": schedule, "sim_version": "1.0"}
    score = np.array([0.1 + k / 100 + seam.bad for k, seam in enumerate(SEAMS)])
    place = work / "runs" / f"corpus-1-{schedule}" / name
    save_run(Run(row, SEAMS, score), place / f"{name}.npz")
    (place / DONE).write_text("{}\n")


def ran(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(bench_app, ["detect", *arguments])
    return found.exit_code, found.output


def test_a_report_holds_runs_of_one_size_only(tmp_path: Path) -> None:
    kept(tmp_path, "quick", "causal_hm_full")
    kept(tmp_path, "full", "patchcore")
    out = tmp_path / "d.json"
    notes = tmp_path / "notes.txt"
    notes.write_text("first\nsecond\n")
    code, said = ran("--quick", "--report-only", "--work", str(tmp_path), "--json", str(out), "--notes", str(notes))
    assert code == 0, said
    report = json.loads(out.read_text())
    assert {row["pipeline"] for row in report["rows"]} == {"causal_hm_full"}
    assert report["rows"][0]["auroc"] == 1.0
    assert report["notes"] == ["first", "second"]


def test_what_is_missing_or_unknown_is_said_without_a_traceback(tmp_path: Path) -> None:
    code, said = ran("--report-only", "--work", str(tmp_path), "--json", str(tmp_path / "d.json"))
    assert code == 2
    assert "holds no finished run of size full" in said
    code, said = ran("--corpus", "7", "--work", str(tmp_path), "--json", str(tmp_path / "d.json"))
    assert code == 2
    assert "there is no corpus 7; known: 0, 1, 2" in said
