"""`edged calibrate welder` on recordings of the virtual cell, whose sensors are off by a known gain."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from calibration.files import read_calibration
from edged.cli import app
from tests.support.process_recordings import ProcessSeam


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["calibrate", "welder", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def by_time(
    path: Path, seams: list[ProcessSeam], header: str = "utc_s,current_a,voltage_v", shift_s: float = 0.0
) -> Path:
    rows = [row for seam in seams for row in seam.meter_rows()]
    path.write_text("\n".join([header, *(f"{t + shift_s:.4f},{a:.3f},{v:.4f}" for t, a, v in rows)]))
    return path


def test_gain_is_that_of_the_virtual_sensors(process_seams: list[ProcessSeam], tmp_path: Path) -> None:
    meter = by_time(tmp_path / "meter.csv", process_seams)
    code, output = run(
        "welder", "--meter", meter, "--recording", process_seams[0].path.parent, "--directory", tmp_path / "cal",
        "--json", tmp_path / "r.json", "--notes", "meter 7, certificate of March",
    )  # fmt: skip
    assert code == 0, output
    found = read_calibration(tmp_path / "cal" / "welder-welder.toml")
    session = process_seams[0].session
    lines = found.values["channels"]
    assert lines["current"]["gain"] == pytest.approx(1 / session.current_gain, abs=0.002)
    assert lines["voltage"]["gain"] == pytest.approx(1 / session.voltage_gain, abs=0.002)
    assert abs(lines["current"]["offset"]) < 0.4
    assert found.residuals["current_worst_percent"] < 1.0
    assert (found.valid_days, found.notes) == (365.0, "meter 7, certificate of March")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["written"].endswith("welder-welder.toml")
    assert len(report["points"]["current"]) == found.residuals["current_points"] >= 20
    assert set(report["points"]["current"][0]) == {"where", "reference", "reading", "residual"}


def test_a_meter_may_name_seams(process_seams: list[ProcessSeam], tmp_path: Path) -> None:
    rows = [f"{seam.seam_id};{seam.current_a.mean():.3f}".replace(".", ",") for seam in process_seams]
    (tmp_path / "m.csv").write_text("\n".join(["# a meter's means", "seam_id;Current [A]", *rows]))
    code, output = run(
        "welder", "--meter", tmp_path / "m.csv", "--recording", process_seams[0].path.parent, "--dry-run",
        "--directory", tmp_path / "cal",
    )  # fmt: skip
    assert code == 0, output
    assert not (tmp_path / "cal").exists(), "--dry-run writes nothing"


PAIRS = [(100.0, 98.0), (150.0, 147.0), (200.0, 196.5), (250.0, 245.0), (300.0, 294.0)]


def pairs(path: Path, rows: list[tuple[Any, ...]], header: str = "current_a,reading_current_a") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return path


def test_plain_pairs_need_no_recording(tmp_path: Path) -> None:
    code, output = run("w1", "--meter", pairs(tmp_path / "m.csv", PAIRS), "--directory", tmp_path)
    assert code == 0, output
    line = read_calibration(tmp_path / "welder-w1.toml").values["channels"]["current"]
    assert line["gain"] == pytest.approx(1.02, abs=0.005)
    narrow = [(ref + 500, read + 500) for ref, read in PAIRS[:2]] * 3
    code, output = run("w1", "--meter", pairs(tmp_path / "n.csv", narrow), "--directory", tmp_path)
    assert (code, "an offset needs a span of 20% of the largest: add set-points, or give --gain-only" in output) == (
        2,
        True,
    )
    code, output = run("w1", "--meter", tmp_path / "n.csv", "--directory", tmp_path, "--gain-only")
    assert code == 0, output


def test_a_point_beyond_the_limit_refuses_and_writes_nothing(tmp_path: Path) -> None:
    code, output = run("w1", "--meter", pairs(tmp_path / "m.csv", [*PAIRS, (200.0, 150.0)]), "--directory", tmp_path)
    assert (code, "not written: current_worst_percent" in output) == (1, True)
    assert not list(tmp_path.glob("*.toml"))


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("current_a,reading_current_a", PAIRS[:4], "current: 4 points, at least 5 are needed"),
        ("current_ka,reading_current_a", PAIRS, "is its unit right? Values a thousand times smaller"),
        ("current,reading_current_a", PAIRS, "column 'current': names no unit"),
        ("current_furlong,reading_current_a", PAIRS, "unit 'furlong' is unknown"),
        ("amps,reading_current_a", PAIRS, "column 'amps': is no channel"),
        ("current_a,voltage_v", PAIRS, "must be said by a column utc, seam_id or reading_…; it has none"),
        ("seam_id,reading_current_a", PAIRS, "no column of a quantity"),
        ("current_a,reading_voltage_v", PAIRS, "only the meter's value or only the reading"),
        ("current_a,reading_current_a", [*PAIRS, (1, "x")], "line 7: column 'reading_current_a': 'x' is no number"),
        ("current_a,reading_current_a", [*PAIRS, (1, 2, 3)], "line 7: 3 cells, the header has 2"),
        ("current_a,reading_current_a", [(r, 0.0) for r, _ in PAIRS], "is 0 times the stream's"),
        ("current_a,reading_current_a", [], "holds no rows"),
    ],
)
def test_a_bad_meter_file_is_named(header: str, rows: list[tuple[Any, ...]], message: str, tmp_path: Path) -> None:
    code, output = run("w1", "--meter", pairs(tmp_path / "m.csv", rows, header), "--directory", tmp_path)
    assert code == 2
    assert message in output
    assert "m.csv" in output


def test_swapped_columns_are_recognised(process_seams: list[ProcessSeam], tmp_path: Path) -> None:
    meter = by_time(tmp_path / "m.csv", process_seams, "utc_s,voltage_v,current_a")
    code, output = run("welder", "--meter", meter, "--recording", process_seams[0].path.parent)
    assert code == 2
    assert "looks like the stream's current" in output
    assert "are its columns swapped?" in output


def test_a_meter_of_another_time_is_named(process_seams: list[ProcessSeam], tmp_path: Path) -> None:
    meter = by_time(tmp_path / "m.csv", process_seams, shift_s=-86400.0)
    code, output = run("welder", "--meter", meter, "--recording", process_seams[0].path.parent)
    assert (code, "set the meter's clock, or give --clock-offset-s" in output) == (2, True)
    options = ("--recording", process_seams[0].path.parent, "--clock-offset-s", 86400, "--dry-run")
    code, output = run("welder", "--meter", meter, *options)
    assert code == 0, output


def test_a_wrong_stream_or_folder_is_named(process_seams: list[ProcessSeam], tmp_path: Path) -> None:
    meter = by_time(tmp_path / "m.csv", process_seams)
    code, output = run("mic", "--meter", meter, "--recording", process_seams[0].path.parent)
    assert (code, "has no welder stream 'mic'; it has welder" in output) == (2, True) or "is no channel" in output
    code, output = run("welder", "--meter", meter, "--recording", tmp_path)
    assert (code, "no recordings there" in output) == (2, True)
    code, output = run("welder", "--meter", tmp_path / "none.csv")
    assert (code, "cannot be read" in output) == (2, True)
