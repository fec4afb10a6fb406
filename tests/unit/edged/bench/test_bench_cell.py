"""The study's plan, what it reuses instead of rendering, and the verb from end to end on a few seams."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from drivers.sim.faults import FAULTS
from drivers.sim.programs import PROGRAMS
from drivers.sim.render import render_process, render_result, render_seam
from drivers.sim.seam import IMAGE_PRESETS
from edged.bench.delay import WINDOW_TREES
from edged.bench.oracle import ORACLE_TREES
from edged.bench.probes import PROBE_TREES
from edged.bench.process_statistics import process_statistics
from edged.bench.result_statistics import result_statistics
from edged.bench.study import fingerprint, measure, pair_plan, plan_study
from edged.bench.tables import load_tables
from edged.cli import app

PRESET = IMAGE_PRESETS["small"]


def test_study_is_balanced_and_every_defect_has_its_twin() -> None:
    study = plan_study(1050)
    assert len({plan.session for plan in study.base}) == 48
    programs = Counter(plan.program for plan in study.base)
    assert set(programs) == set(PROGRAMS)
    assert max(programs.values()) < 1.3 * min(programs.values())
    for family, plans in study.defects.items():
        cells = Counter((plan.fault.type, plan.fault.severity) for plan in plans if plan.fault)
        types = [row.type for row in FAULTS.values() if row.family == family]
        assert len(cells) == 5 * len(types)
        assert max(cells.values()) - min(cells.values()) <= 1
        for plan, twin in zip(plans, study.base, strict=True):
            assert (plan.seed, plan.program, plan.session) == (twin.seed, twin.program, twin.session)
    lasting = [p.fault for p in study.defects["process"] if p.fault and FAULTS[p.fault.type].extends == "lasts"]
    assert 0.27 < np.mean([fault.onset_s > 0 for fault in lasting]) < 0.40


@pytest.mark.parametrize("seams", [2, 7, 20, 100, 1050])
def test_partners_are_a_derangement_within_program_and_session(seams: int) -> None:
    study = plan_study(seams)
    assert sorted(study.partner) == list(range(seams))
    for k, other in enumerate(study.partner):
        assert other != k
        assert study.base[k].program == study.base[other].program
        assert study.base[k].session == study.base[other].session


def test_same_seed_same_study_and_other_seed_other() -> None:
    assert fingerprint(plan_study(10)) == fingerprint(plan_study(10))
    assert fingerprint(plan_study(10)) != fingerprint(plan_study(10, seed=1))
    with pytest.raises(ValueError, match="needs 2 or more"):
        plan_study(1)


def test_a_rendered_pair_is_the_two_halves() -> None:
    study = plan_study(6)
    rendered = render_seam(pair_plan(study, 0), PRESET)
    own = render_process(study.base[0], PRESET)
    views, heights = render_result(study.base[study.partner[0]], PRESET)
    np.testing.assert_array_equal(rendered.welder, own.welder)
    np.testing.assert_array_equal(rendered.audio, own.audio)
    np.testing.assert_array_equal(rendered.motion, own.motion)
    assert rendered.frames == own.frames
    assert dict(rendered.views) == dict(views)
    np.testing.assert_array_equal(rendered.profile, heights)


def test_measured_rows_are_those_of_seams_rendered_whole(tmp_path: Path) -> None:
    study = plan_study(2)
    paths = measure(study, tmp_path, jobs=1)
    tables = load_tables(study, paths)
    for family, plans in study.defects.items():
        whole = render_seam(plans[1], PRESET)
        process = list(process_statistics(whole).seam.values())
        result = list(result_statistics(whole.views, whole.profile).values())
        np.testing.assert_array_equal(tables.sides[family].process[1], np.array(process, np.float32))
        np.testing.assert_array_equal(tables.sides[family].result[1], np.array(result, np.float32))
    np.testing.assert_array_equal(tables.sides["pair"].result[0], tables.sides["good"].result[study.partner[0]])
    np.testing.assert_array_equal(tables.sides["pair"].process, tables.sides["good"].process)
    # What is there is not made again.
    stamps = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in measure(study, tmp_path, jobs=1)] == stamps


def test_verb_writes_a_valid_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Few trees: the report's form is asked for here, not its figures.
    for settings in (PROBE_TREES, ORACLE_TREES, WINDOW_TREES):
        monkeypatch.setitem(settings, "max_iter", 3)
    out = tmp_path / "cell.json"
    arguments = ["bench", "cell", "--json", str(out), "--quick", "--seams", "8", "--jobs", "1"]
    done = CliRunner().invoke(app, [*arguments, "--work", str(tmp_path / "work")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    assert done.exit_code in (0, 1), done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    assert {"probes", "oracle", "pair_bayes_auroc", "r2", "physics", "sim_version", "digest", "quick"} <= set(report)
    probes = {(row["family"], row["probe"]): row for row in report["probes"]}
    for hidden in (("process", "result"), ("result", "process"), ("pair", "result"), ("pair", "process")):
        assert probes[hidden]["auroc"] == 0.5
        assert probes[hidden]["ok"] is True
    assert {"type", "family", "severity", "auroc", "ci", "n", "delay_s_p50"} <= set(report["oracle"][0])
    programs = {plan.program for plan in plan_study(8).base}
    assert len(report["r2"]) == 3 * len(programs)
    failing = any(row["ok"] is False for key in ("probes", "r2", "physics") for row in report[key])
    assert done.exit_code == int(failing)
