"""What calibrations do in a cell: raw is recorded, physical is judged, what is missing or expired shows."""

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calibration.files import CalibrationSet, write_calibration
from drivers.base import StreamSpec
from drivers.mcap_codec import RecordingHeader, RecordingReader
from edged.cell_calibration import CellCalibration, Scope, read_cell_calibration, read_folder
from edged.cli import app
from edged.config import Config, FrameConfig, parse_config
from edged.local_scorer import LocalScorer
from edged.recording import SeamRecorder, config_metadata, recorded_calibration, recordings
from edged.types import Label
from pipelines.models import write_manifest
from tests.support.calibrations import MADE_UTC, made
from tests.support.cell import Cell, FakeScorer, audio_spec, config, welder_spec

S = 1_000_000_000


def cell_of(*items: Any, unusable: dict[str, str] | None = None, cfg: Config | None = None) -> Cell:
    """A synthetic cell that has welded one seam with these calibrations."""
    calibration = CellCalibration(CalibrationSet.of(items), unusable or {})
    cell = Cell(cfg or config({"fillet": {"views": []}}), scorer=FakeScorer(), calibration=calibration)
    cell.weld([(2.0, 3.0)], 5.0)
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.run(6.0)
    return cell


def test_the_recorder_gets_raw_specs_and_everybody_else_calibrated_ones() -> None:
    plain = cell_of().verdict
    cell = cell_of(made("welder", "welder"), made("microphone", "mic"))
    verdict = cell.verdict
    assert plain.mean_current_a is not None
    assert verdict.mean_current_a == pytest.approx(1.1 * plain.mean_current_a + 2.0, rel=1e-5)
    assert verdict.mean_voltage_v == pytest.approx(0.9 * (plain.mean_voltage_v or 0.0), rel=1e-5)
    assert cell.recorder.specs["seam-1"][:2] == (welder_spec(), audio_spec())
    (window,) = cell.scorer.windows
    calibrated = {spec.name: spec for spec in window.streams}
    assert calibrated["welder"].scale == pytest.approx((0.11, 0.009))
    assert calibrated["mic"].gain == pytest.approx(1.995, abs=1e-3)
    assert window.calibration_id == verdict.calibration_id != "none"
    assert plain.calibration_id == "none"
    assert (verdict.label, verdict.degraded, verdict.calibration_warnings) == (Label.OK, False, ())


def test_a_calibrated_current_decides_when_there_is_an_arc() -> None:
    """The arc limits are physical: 30 A of a meter that shows a fifth are 150 raw."""
    values = {"channels": {"current": {"gain": 0.2, "offset": -10.0, "unit": "A", "range": [1.0, 50.0]}}}
    assert len(cell_of(made("welder", "welder", values=values)).verdicts) == 0


def test_what_has_expired_degrades_and_never_stops() -> None:
    old = made("welder", "welder", valid_days=10.0)
    verdict = cell_of(old).verdict
    line = "calibration welder:welder is 14 days old and has expired"
    assert (verdict.label, verdict.degraded, verdict.calibration_warnings) == (Label.OK, True, (line,))
    assert verdict.detail.endswith(f"; {line}")
    limited = config({"fillet": {"views": []}}, calibration={"max_age_days": {"welder": 13.0}})
    assert cell_of(made("welder", "welder"), cfg=limited).verdict.calibration_warnings == (line,)
    assert cell_of(made("welder", "another", valid_days=10.0)).verdict.degraded is False


def test_a_seam_that_lacks_a_required_calibration_has_no_verdict() -> None:
    required = config(
        {"fillet": {"views": []}, "other": {}}, calibration={"required": ["welder:welder", "lag:other"]}
    )
    verdict = cell_of(cfg=required).verdict
    assert (verdict.label, verdict.reason) == (Label.INDETERMINATE, "calibration")
    assert verdict.detail == "welder:welder is missing, run 'edged calibrate'"
    assert verdict.score is not None, "it is attached, never lost"
    assert cell_of(made("welder", "welder"), cfg=required).verdict.label is Label.OK, "lag:other is of other seams"


def test_a_damaged_calibration_of_the_seam_leaves_it_without_a_verdict() -> None:
    verdict = cell_of(unusable={"microphone:mic": "mic.toml: digest"}).verdict
    assert (verdict.reason, verdict.detail) == ("calibration", "mic.toml: digest")
    assert cell_of(unusable={"microphone:other": "other.toml: digest"}).verdict.label is Label.OK


def test_a_folder_with_a_damaged_file_gives_the_others(tmp_path: Path) -> None:
    write_calibration(tmp_path, made("microphone", "mic"))
    path = write_calibration(tmp_path, made("welder", "weld er/1"))
    path.write_text(path.read_text().replace("gain = 1.1", "gain = 1.2"))
    found = read_folder(tmp_path)
    assert [item.name for item in found.found.ordered()] == ["microphone:mic"]
    assert list(found.unusable) == ["welder:weld er/1"]
    assert f"{path}: digest" in found.unusable["welder:weld er/1"]


def test_a_calibration_that_does_not_fit_its_stream_is_damaged(tmp_path: Path) -> None:
    write_calibration(tmp_path, made("welder", "welder"))
    assert not read_folder(tmp_path, [welder_spec()]).unusable
    other = dataclasses.replace(welder_spec(), channels=("current", "power"))
    assert "no channel 'voltage'" in read_folder(tmp_path, [other]).unusable["welder:welder"]
    kiloamps = dataclasses.replace(welder_spec(), units=("kA", "V"))
    assert "is in kA, calibrated in A" in read_folder(tmp_path, [kiloamps]).unusable["welder:welder"]


def test_offset_and_scale_of_the_device_are_kept() -> None:
    raw = np.array([[0, 0], [1000, 2000]], np.int16)
    spec = dataclasses.replace(welder_spec(), offset=(5.0, 0.0))
    device = spec.physical(raw)
    found = CellCalibration(CalibrationSet.of([made("welder", "welder")])).spec(spec).physical(raw)
    np.testing.assert_allclose(found[:, 0], 1.1 * device[:, 0] + 2.0, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], 0.9 * device[:, 1], rtol=1e-6)
    bare = StreamSpec("welder", "welder", 10.0, (2,), "float32", ("current", "voltage"), ("A", "V"))
    found = CellCalibration(CalibrationSet.of([made("welder", "welder")])).spec(bare).physical(raw)
    np.testing.assert_allclose(found[1], [1102.0, 1800.0], rtol=1e-6)


def test_a_measured_lag_stands_before_the_configured_one() -> None:
    calibration = CellCalibration(CalibrationSet.of([made("lag", "fillet")]))
    frame = FrameConfig(length_mm=40.0, lag_mm=1.0)
    scopes = {name: Scope(name, frozenset(), frozenset()) for name in ("fillet", "lap")}
    found = {name: calibration.frame(frame, scope) for name, scope in scopes.items()}
    assert {name: frame and frame.lag_mm for name, frame in found.items()} == {"fillet": 3.0, "lap": 1.0}
    assert calibration.frame(None, scopes["fillet"]) is None


def test_without_the_section_nothing_about_the_config_changes() -> None:
    assert "calibration" not in json.loads(config().model_dump_json())
    said = config(calibration={"required": ["welder:welder"]})
    assert said.config_id != config().config_id == config(calibration={}).config_id
    assert Config.model_validate(json.loads(said.model_dump_json())) == said
    assert config_metadata(said)["calibration"]["required"] == ["welder:welder"]
    assert config().calibration_directory == Path("/var/lib/edged/calibration")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"required": ["welder"]}, "calibration.required: 'welder': no stream ''; known: welder"),
        ({"required": ["toaster:a"]}, "'toaster:a': give KIND:DEVICE; kinds: "),
        ({"required": ["welder:w2"]}, "'welder:w2': no stream 'w2'; known: welder"),
        ({"required": ["lag:lap"]}, "'lag:lap': no program 'lap'; known: "),
        ({"required": ["welder:welder"] * 2}, "'welder:welder' is listed twice"),
        ({"max_age_days": {"toaster": 3}}, "calibration.max_age_days.toaster: no such kind"),
        ({"max_age_days": {"welder": 0}}, "calibration.max_age_days.welder: Input should be greater than 0"),
    ],
)
def test_a_wrong_section_is_named(section: dict[str, Any], message: str) -> None:
    raw = {"streams": {"welder": {"driver": "welder.serial", "kind": "welder", "options": {"port": "/dev/null"}}}}
    with pytest.raises(Exception, match=r"\d problem") as caught:
        parse_config({**raw, "calibration": section})
    assert message in str(caught.value)


def test_health_names_what_is_missing_damaged_and_expired() -> None:
    calibration = CellCalibration(
        CalibrationSet.of([made("welder", "welder")]), {"microphone:mic": "mic.toml: digest"}
    )
    wanted = config(calibration={"required": ["lag:fillet", "microphone:mic", "welder:welder"]}).calibration
    soon, late = (MADE_UTC + datetime.timedelta(days=days) for days in (1, 400))
    missing = "calibration lag:fillet is required and missing, run 'edged calibrate'"
    assert calibration.warnings(wanted, round(soon.timestamp() * 1e9)) == [missing, "mic.toml: digest"]
    assert calibration.warnings(wanted, round(late.timestamp() * 1e9))[2:] == [
        "calibration welder:welder is 400 days old and has expired"
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seam that was recorded and judged with a calibrated welder, and the folder of that calibration."""
    root = tmp_path_factory.mktemp("recorded")
    write_calibration(root / "calibration", made("welder", "welder"))
    (model := root / "model").mkdir()
    text = 'detector = "energy_band"\n[programs.fillet.mean_current_a]\nmean = 195.0\nstd = 1.0\n'
    (model / "model.toml").write_text(text)
    write_manifest(model)
    cfg = config({"fillet": {"model": str(model), "views": []}}, cell={"data_dir": str(root)})
    calibration = read_cell_calibration(cfg)
    header = RecordingHeader("boot", 0, 1_700_000_000 * S, "0", True, "cell", calibration.calibration_id)
    recorder = SeamRecorder(root / "recordings", lambda: header, config_metadata(cfg), calibration.content())
    scorer = LocalScorer.load({"fillet": str(model)}, root)
    cell = Cell(cfg, scorer=scorer, recorder=recorder, calibration=calibration)  # type: ignore[arg-type]
    cell.weld([(2.0, 3.0)], 5.0)
    cell.say(0.5, "expect", program="fillet", seam_ref="A")
    cell.run(6.0)
    assert cell.verdict.calibration_id == calibration.calibration_id != "none"
    return root


def replayed(root: Path, json_file: Path, *more: str) -> dict[str, Any]:
    arguments = ["replay", str(root / "recordings"), "--json", str(json_file), *more]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (seam,) = json.loads(json_file.read_text())["seams"]
    return dict(seam)


def test_a_recording_is_replayed_with_the_calibration_it_was_made_with(recorded: Path, tmp_path: Path) -> None:
    seam = replayed(recorded, tmp_path / "r.json")
    assert seam["diff"] == 0.0
    assert seam["score"] == seam["recorded"]["score"] is not None
    assert seam["calibration_id"] == seam["recorded"]["calibration_id"] != "none"


def test_a_recording_can_be_recalibrated(recorded: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").mkdir()
    raw = replayed(recorded, tmp_path / "r.json", "--calibration", str(empty))
    assert (raw["calibration_id"], raw["diff"]) == ("none", None)
    assert raw["score"] != raw["recorded"]["score"], "the current is not the calibrated one any more"
    other = {"channels": {"current": {"gain": 1.0, "offset": 0.0, "unit": "A", "range": [50.0, 250.0]}}}
    write_calibration(tmp_path / "new", made("welder", "welder", values=other))
    new = replayed(recorded, tmp_path / "r.json", "--calibration", str(tmp_path / "new"))
    assert new["score"] == raw["score"]
    assert new["calibration_id"] not in ("none", raw["recorded"]["calibration_id"])


def test_a_wrong_folder_of_calibrations_ends_with_2(recorded: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(recorded / "recordings"), "--calibration", str(tmp_path / "no")])
    assert (result.exit_code, "is no folder" in result.output) == (2, True)


def test_the_recording_holds_raw_data_and_the_calibration(recorded: Path) -> None:
    (path,) = recordings(recorded / "recordings")
    reader = RecordingReader(path)
    assert {spec.name: spec for spec in reader.specs}["welder"] == welder_spec()
    assert recorded_calibration(reader) == read_folder(recorded / "calibration")
    assert reader.header.calibration_id == recorded_calibration(reader).calibration_id


def test_check_names_what_is_missing_and_expired(tmp_path: Path) -> None:
    write_calibration(tmp_path / "calibration", made("microphone", "mic", valid_days=1.0))
    text = f"""
cell.data_dir = "{tmp_path}"
calibration.required = ["welder:welder"]
[streams.welder]
driver = "welder.serial"
kind = "welder"
options.port = "/dev/null"
"""
    (tmp_path / "cell.toml").write_text(text)
    result = CliRunner().invoke(app, ["check", "--config", str(tmp_path / "cell.toml")])
    assert result.exit_code == 0, result.output
    assert "calibration welder:welder is required and missing" in result.output
    assert "calibration microphone:mic is" in result.output
    assert "has expired" in result.output
