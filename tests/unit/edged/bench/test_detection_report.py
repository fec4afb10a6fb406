"""The report is JSON and whole; the section and its pictures come from it alone and say what is missing."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edged.bench.detection import figures
from edged.bench.detection.figures import MissingMatplotlibError, draw_figures
from edged.bench.detection.page import BEGIN, END, detection_page, write_page
from edged.bench.detection.page_text import NOT_TESTED
from edged.bench.detection.report import detection_report
from edged.bench.detection.scored import Run
from tests.support.synthetic_runs import TYPES, a_run, row, seams, with_part

LEVEL = {"process": 0.93, "result": 0.8, "pair": 0.75, "both": 0.97}
ORACLE = {
    "oracle": [
        {
            "type": name,
            "family": family,
            "severity": k,
            "auroc": 0.95,
            "ci": [0.9, 0.99],
            "n": 30,
            "delay_s_p50": None,
        }
        for family, names in TYPES.items()
        for name in names
        for k in range(1, 6)
    ]
}
EXTRAS = {
    "command": "edged bench detect --quick --json F",
    "quick": True,
    "corruption": [
        {"pipeline": p, "pair": None, "corruption": "sensor noise", "level": level, "auroc": 0.9 - slope * level,
         "ci": [0.85 - slope * level, 0.95 - slope * level]}
        for p, slope in (("causal_hm_full", 0.1), ("memory_bank", 0.5))
        for level in (0.0, 0.1, 0.3)
    ],
    "incremental": {
        "rows": [{"method": m, "step": k, "program": None, "auroc": 0.9 - 0.02 * k, "ci": None}
                 for m in ("ib_iumad", "naive") for k in range(5)],
        "forgetting": [{"method": "ib_iumad", "value": 0.031, "ci": [0.02, 0.04]}],
    },
    "bank": [{"pipeline": "memory_bank", "corpus": "c", "size": 2000, "auroc": 0.9, "state_mb": 12.0}],
}  # fmt: skip


def runs() -> list[Run]:
    tested = seams(200, 6)
    product = a_run(row(pipeline="causal_hm_full", pair="geo,proc"), LEVEL, tested, 1)
    product = with_part(product, "s_RP", {"pair": 0.9}, 2)
    place = np.tile([0.0, 100.0], (len(tested), 1))
    product = dataclasses.replace(
        product, rows=np.random.default_rng(0).random((len(tested), 14)), rows_mm=place, costs={"state_mb": 1.5}
    )
    return [product, a_run(row(pipeline="patchcore"), {"result": 0.9}, tested, 3)]


@pytest.fixture(scope="module")
def report() -> dict:
    return detection_report(runs(), ORACLE, EXTRAS)


def test_the_report_survives_json_unchanged(report: dict) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["version"] == 1
    assert {r["pipeline"] for r in report["rows"]} == {"causal_hm_full", "patchcore"}
    assert report["bank"] == EXTRAS["bank"]
    assert len(report["roc"]) == 2 * (1 + len(TYPES))
    assert all(len(curve["fpr"]) <= 61 and curve["tpr"][-1] == 1.0 for curve in report["roc"])
    assert sum(report["histograms"][0]["counts"]["good"]) == 200


def test_a_thinned_roc_has_the_area_of_the_scores(report: dict) -> None:
    for curve in report["roc"]:
        (whole,) = [r for r in report["rows"] if r["pipeline"] == curve["pipeline"] and r["family"] == curve["family"]
                    and r["type"] is None and r["ablation"] is None]  # fmt: skip
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(whole["auroc"], abs=0.01)


def test_infinite_scores_are_null_in_json_and_unlike_parts_are_refused() -> None:
    first = runs()[1]
    loud = dataclasses.replace(first, costs={"peak_mb": float("inf")})
    assert detection_report([loud], None)["runs"][0]["costs"]["peak_mb"] is None
    with pytest.raises(ValueError, match="two runs have the same row"):
        detection_report([first, first], None)
    with pytest.raises(ValueError, match="named like parts of the report: rows"):
        detection_report([first], None, {"rows": []})


def test_every_table_says_its_schedule_seeds_and_corpora(report: dict) -> None:
    text = detection_page(report, {})
    tables = re.split(r"^### ", text, flags=re.MULTILINE)
    for name in ("Contrasts", "Bars", "Pipelines", "Parts", "Types", "Speed"):
        (part,) = [t for t in tables if t.startswith(name)]
        assert "Schedule cpu-60; seeds 0; corpora 1." in part


def test_the_page_shows_the_reports_figures_and_what_failed(report: dict) -> None:
    text = detection_page(report, {})
    overall = next(r for r in report["rows"] if r["pipeline"] == "causal_hm_full" and r["family"] is None)
    assert f"| causal_hm_full (geo,proc) | {overall['auroc']:.3f} (" in text
    assert "no run of causal_hm_mismatch" in text
    assert "- **failed** causal_hm_full near the oracle: scratch" in text
    assert "picked on corpus 1, the only one, and tested on it too" in text
    assert "`--quick`" in text
    assert "causal_hm_full (geo,proc, part:s_RP)" in text
    assert "| ib_iumad | 0.031 (0.020–0.040) |" in text
    assert all(f"- {line}" in text for line in NOT_TESTED)
    assert "small random checkpoints" in text
    assert "None" not in text
    assert "nan" not in text


def test_tables_have_as_many_cells_as_their_heads(report: dict) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", detection_page(report, {}), flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block.splitlines()[0]


def test_what_is_absent_is_left_out_with_a_line() -> None:
    bare = detection_report(runs()[1:], None)
    text = detection_page(bare, {})
    assert "Left out, for the report has no figures for it: AUROC under corrupted inputs." in text
    assert "Left out: no run of causal_hm_full." in text
    assert "Left out: forgetting of models that learn program by program." in text
    with pytest.raises(KeyError, match="no bars"):
        detection_page({k: v for k, v in bare.items() if k != "bars"}, {})


def test_one_call_writes_the_section_between_its_markers_and_the_pictures(report: dict, tmp_path: Path) -> None:
    source = tmp_path / "detection.json"
    few = report | {name: report[name][:1] for name in ("roc", "pod")}  # pictures with fewer panels
    source.write_text(json.dumps(few), encoding="utf-8")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "results.md").write_text("# Results\n\nBefore.\n", encoding="utf-8")
    path = write_page(source, docs)
    once = path.read_text(encoding="utf-8")
    assert once.startswith(f"# Results\n\nBefore.\n\n{BEGIN}\n")
    assert once.endswith(f"{END}\n")
    links = re.findall(r"\]\((img/[^)]+)\)", once)
    assert sorted(links) == [f"img/detect-{name}.svg" for name in sorted(figures.FIGURES)]
    before = {link: (docs / link).read_bytes() for link in links}
    path.write_text(once + "\nAfter.\n", encoding="utf-8")
    write_page(source, docs)
    assert path.read_text(encoding="utf-8") == once + "\nAfter.\n"
    assert {link: (docs / link).read_bytes() for link in links} == before  # no dates, no random ids
    assert max(len(data) for data in before.values()) < 300_000


def test_a_marker_without_its_end_is_refused(report: dict, tmp_path: Path) -> None:
    (tmp_path / "detection.json").write_text(json.dumps(report), encoding="utf-8")
    (tmp_path / "results.md").write_text(f"{BEGIN}\nold", encoding="utf-8")
    with pytest.raises(ValueError, match="no <!-- end detection -->"):
        write_page(tmp_path / "detection.json", tmp_path)


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingMatplotlibError, match=r"pip install .*\[dev\]"):
        draw_figures({}, tmp_path)
