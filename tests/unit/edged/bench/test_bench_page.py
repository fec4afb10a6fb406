"""docs/virtual-cell.md is made of the report: its figures are there, and what failed stands as failed."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from drivers.sim.faults import FAULTS
from edged.bench.gallery import GALLERIES
from edged.bench.page import page


def report() -> dict[str, Any]:
    oracle = [
        {
            "type": name,
            "family": row.family,
            "severity": k,
            "n": 40,
            "delay_s_p50": 0.4 if row.family == "both" else None,
        }
        | {"auroc": 0.5 + 0.0985 * k, "ci": [0.46 + 0.0985 * k, 0.505 + 0.0985 * k]}
        for name, row in FAULTS.items()
        for k in range(1, 6)
    ]
    shorts = {
        "name": "short circuits",
        "value": 61.0,
        "low": 30,
        "high": 150,
        "unit": "/s",
        "source": "esab-mig, hermans",
    }
    height = {"name": "bead height", "value": 9.0, "low": 0.3, "high": 2.5, "unit": "mm", "source": "en-25817"}
    hidden = {"family": "process", "probe": "result", "auroc": 0.51, "ci": [0.49, 0.53], "n_per_side": 1000}
    leak = {"family": "result", "probe": "metadata", "auroc": 0.61, "ci": [0.58, 0.64], "n_per_side": 1000}
    return {
        "sim_version": "9.8",
        "digest": "0123456789abcdef0123",
        "physics": [shorts | {"ok": True}, height | {"ok": False}],
        "probes": [hidden | {"ok": True}, leak | {"ok": False}],
        "oracle": oracle,
        "pair_bayes_auroc": 0.912,
        "r2": [
            {"program": "short-butt-3", "quantity": "width_mm", "r2": 0.55, "ci": [0.5, 0.6], "ok": True},
            {"program": "short-butt-3", "quantity": "height_mm", "r2": 0.93, "ci": [0.9, 0.95], "ok": False},
        ],
    }


def test_failed_rows_stand_at_the_top_and_in_their_tables() -> None:
    text = page(report())
    top = text[: text.index("## Order of causes")]
    for name in ("physics: bead height", "probe: result, metadata", "R²: short-butt-3, height_mm"):
        assert f"- **failed** {name}" in top
    assert "3 rows do not hold" in top
    assert "| bead height | 9 | 0.3 to 2.5 | mm | en-25817 | **failed** |" in text
    assert "| short circuits | 61 | 30 to 150 | /s | esab-mig, hermans | yes |" in text
    assert re.search(r"result \| metadata \| 0\.610 \(0\.580–0\.640\) \| 1000 \| \*\*failed\*\*", text)
    assert "0.93 (0.90–0.95) **failed**" in text


def test_when_all_holds_the_page_says_so_and_nothing_is_marked() -> None:
    good = copy.deepcopy(report())
    good["physics"].pop()
    good["probes"].pop()
    good["r2"].pop()
    text = page(good)
    assert "**failed**" not in text
    assert "All 1 physics rows" in text


def test_an_oracle_that_does_not_span_the_range_is_marked() -> None:
    flat = report()
    for row in flat["oracle"]:
        row["auroc"] = 0.9
    assert "it spans 0.90 to 0.90; 0.6 to 0.99 is wanted: **failed**" in page(flat)


def test_figures_version_sources_and_faults_come_from_the_report() -> None:
    text = page(report())
    for piece in ("Version 9.8", "`0123456789abcdef`", "0.912", "0.55"):
        assert piece in text
    assert "| esab-mig |" in text
    assert "| poopat |" not in text
    for name, row in FAULTS.items():
        assert f"| {name} | {row.family} | {row.unit} |" in text
    assert "gas_loss 5" in text[text.index("Faults that the oracle finds") :]


def test_every_picture_of_the_page_is_one_that_is_drawn() -> None:
    shown = set(re.findall(r"\(img/([^)]+)\)", page(report())))
    assert shown == {*GALLERIES, "cell-oracle.png"}


def test_links_lead_somewhere() -> None:
    docs = Path(__file__).parents[4] / "docs"
    for target in re.findall(r"\]\((adr/[^)]+)\)", page(report())):
        assert (docs / target).exists(), target


def test_a_report_without_its_parts_is_refused_by_name() -> None:
    broken = report()
    del broken["oracle"]
    with pytest.raises(KeyError, match="oracle"):
        page(broken)
