"""`edged bench scan` on a small scan: the rows it writes, and that it says when it has nothing to compare with."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edged.bench import scan
from edged.cli import app
from pipelines.selective_scan import forced_backend


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LENGTH", 65), ("CHANNELS", 9), ("STATES", 3)):
        monkeypatch.setattr(scan, name, value)
    monkeypatch.setattr(scan, "BARS", {})  # how fast this machine is shall not matter here


def figures(path: Path, *options: str, code: int = 0) -> dict:  # type: ignore[type-arg]
    done = CliRunner().invoke(app, ["bench", "scan", "--json", str(path), "--rounds", "3", *options])
    assert done.exit_code == code, done.output
    return json.loads(path.read_text()) | {"said": done.output}


def test_every_form_has_a_row_for_each_number_of_threads(tmp_path: Path) -> None:
    report = figures(tmp_path / "scan.json", "--threads", "1", "--threads", "2")
    rows = report["rows"]
    assert {"numba", "torch"} <= {row["backend"] for row in rows}
    assert sorted({row["threads"] for row in rows}) == [1, 2]
    assert report["shape"] == {"batch": 1, "length": 65, "channels": 9, "states": 3, "dtype": "float32"}
    assert report["machine"]["chosen"] in {row["backend"] for row in rows}
    for row in rows:
        assert row["forward_ms_p50"] > 0
        assert row["backward_ms_p50"] > 0
        assert row["max_abs_error_vs_float64"] <= 1e-5
    with forced_backend("torch"):
        assert scan.measure((1,), 3)["machine"]["chosen"] == "torch"


def test_a_rival_gives_ratios_and_a_missed_bar_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mambapy")
    monkeypatch.setattr(scan, "BARS", {"torch": 1e9})
    report = figures(tmp_path / "scan.json", "--threads", "1", code=1)
    assert "torch with 1 thread(s) is" in report["said"]
    rows = report["rows"]
    assert rows[0]["backend"] == "mambapy"
    assert rows[0]["ratio_to_mambapy"] == 1.0
    assert all(row["ratio_to_mambapy"] > 0 and row["ratio_of_fastest"] > 0 for row in rows)


def test_without_the_rival_ratios_are_empty_and_the_way_to_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("mambapy", "mambapy.pscan"):
        monkeypatch.setitem(sys.modules, module, None)
    report = figures(tmp_path / "scan.json", "--threads", "1")
    assert all(row["ratio_to_mambapy"] is None for row in report["rows"])
    assert "'.[bench]'" in report["said"]


def test_a_ratio_is_the_median_over_rounds_of_one_rounds_ratio() -> None:
    taken = {"mambapy": [(10.0, 1.0), (100.0, 1.0), (30.0, 1.0)], "cpp": [(1.0, 1.0), (50.0, 1.0), (2.0, 1.0)]}
    assert scan._ratio(taken, "cpp", 0) == 10.0
    assert scan._fastest(taken, "cpp") == 10.0
    assert scan._fastest({"cpp": taken["cpp"]}, "cpp") is None
